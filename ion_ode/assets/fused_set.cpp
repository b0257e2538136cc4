// Curves of the field that all ions share, by N Tsitouras steps with dense output, and their exact adjoint, a tile of
// curves at a time.
//
// nbs/02f_set_field.ipynb derives what stands here. Curves of a tile hold about as many ions, which are moved together:
// an ion that is absent costs nothing. All rows lie [row][ion][curve], so that the ions and curves of a tile are the
// columns of every matrix, and weights are read one number at a time.
// All exported functions work on float or double (suffix _f32, _f64), allocate nothing that outlives them, share nothing.
#include "vectors.h"

#include <algorithm>
#include <numeric>

// What decides the shape of the work; the same struct as in ion_ode/attention_odenet/fused_set.py
struct Shape {
  int32_t members, batch, points, steps, ions, told, width, heads, d_k, depth, own_data, own_dense, threads;
};

namespace {

template <class T> struct Given {  // Inputs, each with the member first
  const T *data, *flux, *dense, *cap, *told, *move, *attend;
  const T* const* linears;  // weight and bias of every layer, first to last
};
template <class T> struct Gradients {
  T *told, *move, *attend;
  T* const* linears;
};

constexpr int MOVED = 4, FLUX = 3;  // what moves a token: two of the state, two of the flux; with the speed of the curve

// to[k] = sum over the lanes of v[k], for a multiple of LANES vectors
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLE 1
#endif
#endif
#if defined(SHUFFLE)
template <class V, size_t... I> inline V folded(V a, V b, std::index_sequence<I...>) {
  return __builtin_shufflevector(a, b, (2 * I)...) + __builtin_shufflevector(a, b, (2 * I + 1)...);
}
template <class T, int N> inline void fold(Vec<T>* v) {
  for (int size = LANES<T>, n = N; size > 1; size /= 2, n /= 2)
    for (int k = 0; k < n / 2; ++k) v[k] = folded(v[2 * k], v[2 * k + 1], std::make_index_sequence<LANES<T>>{});
}
#else
template <class T, int N> inline void fold(Vec<T>* v) {
  alignas(VECTOR_BYTES) T all[N];
  for (int k = 0; k < N; ++k) all[k] = sum<T>(v[k]);
  for (int k = 0; k < N; k += LANES<T>) v[k / LANES<T>] = at(all + k);
}
#endif

// Gradient of a matrix, kept in blocks of SIDE x SIDE: G[o][i] += sum_c D[o][c] X[i][c]
constexpr int SIDE = 4;
inline int sides(int n) { return (n + SIDE - 1) / SIDE; }
inline size_t blocked(int rows, int columns) { return size_t(sides(rows)) * sides(columns) * SIDE * SIDE; }

template <class T> inline void outer(int rows, int columns, int length, const T* D, const T* X, T* G) {
  for (int o = 0; o < rows; o += SIDE)
    for (int i = 0; i < columns; i += SIDE, G += SIDE * SIDE) {
      Vec<T> acc[SIDE * SIDE] = {};
      const T *d[SIDE], *x[SIDE];
      for (int k = 0; k < SIDE; ++k) {  // beyond the last row stands the last row again
        d[k] = D + size_t(std::min(o + k, rows - 1)) * length;
        x[k] = X + size_t(std::min(i + k, columns - 1)) * length;
      }
      for (int c = 0; c < length; c += LANES<T>)
        for (int r = 0; r < SIDE; ++r)
          for (int k = 0; k < SIDE; ++k) acc[r * SIDE + k] += at(d[r] + c) * at(x[k] + c);
      fold<T, SIDE * SIDE>(acc);
      for (int k = 0; k < SIDE * SIDE / LANES<T>; ++k) at(G + k * LANES<T>) += acc[k];
    }
}
template <class T> void unblock(int rows, int columns, const T* G, T* to) {
  for (int o = 0; o < rows; ++o)
    for (int i = 0; i < columns; ++i) {
      const size_t block = size_t(o / SIDE) * sides(columns) + i / SIDE;
      to[size_t(o) * columns + i] = G[block * SIDE * SIDE + o % SIDE * SIDE + i % SIDE];
    }
}

template <class T> struct Sizes {  // That follow from a shape
  Shape s;
  int asked, rows, per, layers, points_pad, stages, stages_pad, evaluations, data;
  explicit Sizes(const Shape& shape) : s(shape) {
    asked = s.heads * s.d_k, rows = 2 * asked + s.width, per = s.width / s.heads, layers = s.depth - 1;
    points_pad = padded(s.points, LANES<T>), stages = 7 * s.steps, stages_pad = padded(stages, LANES<T>);
    evaluations = 6 * s.steps + 1, data = 2 + s.told;
  }
  int inputs(int l) const { return l ? s.width : 2 * s.width; }
  int outputs(int l) const { return l == layers - 1 ? 1 : s.width; }
  int tiles() const { return (s.batch + LANES<T> - 1) / LANES<T>; }
};

// Where an evaluation leaves what the way back needs, for a tile of n ions
template <class T> struct Record {
  int n, cols;
  size_t y, h, g, moved, token, asks, tilt, weight, act, size, tile;
  Record(const Sizes<T>& L, int ions) : n(ions), cols(ions * LANES<T>) {
    size_t to = 0;
    auto take = [&](size_t k) { size_t a = to; to += k; return a; };
    const size_t pairs = size_t(L.s.heads) * n * cols;
    y = take(size_t(n + 1) * LANES<T>), h = take(cols), g = take(cols), moved = take(size_t(MOVED) * cols);
    token = take(size_t(2) * L.s.width * cols);  // what is attended to behind the token
    asks = take(size_t(L.rows) * cols), tilt = take(pairs), weight = take(pairs);
    act = take(size_t(L.layers - 1) * L.s.width * cols);
    size = to, tile = size * L.evaluations + size_t(LANES<T>) * (n + 1) * L.points_pad;
  }
};

// Which curves of a member lie side by side: those of most ions first
struct Order {
  std::vector<int> curves, ions;
  template <class T> Order(const Sizes<T>& L, const T* data) : curves(L.s.batch), ions(L.s.batch) {
    for (int b = 0; b < L.s.batch; ++b)
      for (int i = 0; i < L.s.ions; ++i) ions[b] += data[(size_t(b) * L.s.ions + i) * L.data] > T(0);
    std::iota(curves.begin(), curves.end(), 0);
    std::stable_sort(curves.begin(), curves.end(), [&](int a, int b) { return ions[a] > ions[b]; });
  }
};

template <class T> inline Vec<T> between(Vec<T> x, T low, T high) {  // in this order a NaN stays one
  x = x > high ? splat<T>(high) : x;
  return x < low ? splat<T>(low) : x;
}

// One tile of curves of one member
template <class T> struct Tile {
  using V = Vec<T>;
  static constexpr int B = LANES<T>;
  const Sizes<T>& L;
  const Given<T>& in;
  size_t member;
  int curve[B], slot[64][B], count, n, cols;
  Record<T> at_;
  Buffer<T> own = zeros<T>(0);
  T *here, *inverse, *share, *plus, *size, *unsize, *y0, *told, *tokens, *flux;
  T cap, steep;

  Tile(const Sizes<T>& sizes, const Given<T>& given, const Order& order, size_t m, int tile)
      : L(sizes), in(given), member(m), count(std::min(L.s.batch - tile * B, int(B))),
        n(std::max(order.ions[order.curves[tile * B]], 1)), cols(n * B), at_(L, n) {
    const auto& s = L.s;
    own = zeros<T>(size_t(cols) * (6 + s.told + 1 + s.width) + size_t(n + 1) * B + size_t(L.evaluations) * FLUX * B);
    T* p = own.get();
    auto take = [&](size_t k) { T* a = p; p += k; return a; };
    here = take(cols), inverse = take(cols), share = take(cols), plus = take(cols), size = take(cols), unsize = take(cols);
    y0 = take(size_t(n + 1) * B), told = take(size_t(s.told + 1) * cols), tokens = take(size_t(s.width) * cols);
    flux = take(size_t(L.evaluations) * FLUX * B);
    cap = in.cap[0], steep = T(1 / (double(cap) * std::sqrt(double(s.d_k))));
    std::fill(unsize, unsize + cols, T(1));
    for (int b = 0; b < count; ++b) read(b, curve[b] = order.curves[tile * B + b]);
    product<T>(s.width, cols, s.told + 1, in.told + m * s.width * (s.told + 1), s.told + 1, 1, told, cols, nullptr, 0, tokens, cols, as_is<T>);
  }

  void read(int b, int c) {
    const auto& s = L.s;
    const size_t lead = s.own_data ? member : 0;
    const T* ion = in.data + (lead * s.batch + c) * s.ions * L.data;
    int k = 0;
    T charge = 0;
    for (int i = 0; i < s.ions; ++i, ion += L.data) {
      if (!(ion[0] > T(0))) continue;
      const int to = k * B + b;
      slot[k++][b] = i;
      const T z = std::abs(ion[1]), e = ion[0] * z;
      here[to] = 1, inverse[to] = T(1) / ion[0], share[to] = e, plus[to] = ion[1] > T(0), size[to] = z, unsize[to] = T(1) / z;
      y0[to] = std::log(e), charge += e;
      for (int f = 0; f < s.told; ++f) told[size_t(f) * cols + to] = ion[2 + f];
      told[size_t(s.told) * cols + to] = 1;
    }
    for (; k < n; ++k) slot[k][b] = -1;
    y0[n * B + b] = charge > T(0) ? std::log(T(0.5) * charge) : T(0);
    const T* path = in.flux + lead * FLUX * L.evaluations * s.batch + c;
    for (int f = 0; f < FLUX; ++f)
      for (int e = 0; e < L.evaluations; ++e) flux[(size_t(e) * FLUX + f) * B + b] = path[(size_t(f) * L.evaluations + e) * s.batch];
  }
  V speed(int e) const { return at(flux + (size_t(e) * FLUX + 2) * B); }

  // Concentrations of what the integrator carries, in n rows a stride apart; `of` reads a property of an ion
  template <class P> void decode(const T* y, T* h, long stride, P of) const {
    V up{}, down{};
    for (int i = 0; i < n; ++i) {
      const V e = exponential<T>(between<T>(at(y + i * stride), -80, 80)) * of(here, i);
      at(h + i * stride) = e;
      up += e * of(plus, i), down += e * (T(1) - of(plus, i));
    }
    const V charge = exponential<T>(between<T>(at(y + n * stride), -30, 6)), tiny = splat<T>(Of<T>::tiny);
    up = charge / larger(up, tiny), down = charge / larger(down, tiny);
    for (int i = 0; i < n; ++i) at(h + i * stride) *= (of(plus, i) * up + (T(1) - of(plus, i)) * down) * of(unsize, i);
  }
  // d_y, given what the concentrations are asked for
  template <class P> void decode_adjoint(const T* y, const T* h, const T* d_h, T* d_y, long stride, P of) const {
    V up{}, down{}, all_up{}, all_down{};
    for (int i = 0; i < n; ++i) {
      const V x = at(h + i * stride), d = x * at(d_h + i * stride), e = x * of(size, i), p = of(plus, i);
      up += p * d, down += (T(1) - p) * d, all_up += p * e, all_down += (T(1) - p) * e;
    }
    const V tiny = splat<T>(Of<T>::tiny), by_up = up / larger(all_up, tiny), by_down = down / larger(all_down, tiny);
    for (int i = 0; i < n; ++i) {
      const V x = at(y + i * stride), p = of(plus, i);
      const V d = at(h + i * stride) * (at(d_h + i * stride) - (p * by_up + (T(1) - p) * by_down) * of(size, i));
      at(d_y + i * stride) = (x > T(80)) | (x < T(-80)) ? V{} : d;
    }
    const V x = at(y + n * stride);
    at(d_y + n * stride) = (x > T(6)) | (x < T(-30)) ? V{} : up + down;
  }
  V by_ion(const T* of, int i) const { return at(of + i * B); }

  // Rate of the state; `to` holds the state and keeps what the way back needs
  void field(T* to, int e, T* out) const {
    const auto& s = L.s;
    const auto& R = at_;
    T *h = to + R.h, *g = to + R.g, *moved = to + R.moved, *token = to + R.token, *asks = to + R.asks;
    decode(to + R.y, h, B, [&](const T* of, int i) { return by_ion(of, i); });
    for (int i = 0; i < cols; i += B) {
      const V r = at(h + i) * at(inverse + i), x = T(50) * r;  // a positive form: r is no less than 0
      at(moved + i) = T(2) * r / (T(1) + r);
      at(moved + cols + i) = T(0.2) * logarithm<T>(x + root<T>(x * x + T(1)));
      for (int f = 0; f < 2; ++f) at(moved + (2 + f) * cols + i) = at(flux + (size_t(e) * FLUX + f) * B);
    }
    product<T>(s.width, cols, MOVED, in.move + member * s.width * MOVED, MOVED, 1, moved, cols, tokens, cols, token, cols,
               [](V x, int, int) { return tangent<T>(x); });
    product<T>(L.rows, cols, s.width, in.attend + member * L.rows * s.width, s.width, 1, token, cols, nullptr, 0, asks, cols, as_is<T>);
    attend(to);
    const T* x = token;
    for (int l = 0; l < L.layers; ++l) {
      const int ins = L.inputs(l), outs = L.outputs(l);
      const T *weight = in.linears[2 * l] + member * outs * ins, *bias = in.linears[2 * l + 1] + member * outs;
      if (l == L.layers - 1) {
        product<T>(1, cols, ins, weight, ins, 1, x, cols, nullptr, 0, g, cols, [&](V v, int, int c) { return limited(v + bias[0]) * at(here + c); });
      } else {
        T* act = to + R.act + size_t(l) * s.width * cols;
        product<T>(outs, cols, ins, weight, ins, 1, x, cols, nullptr, 0, act, cols, [&](V v, int r, int) { return tangent<T>(v + bias[r]); });
        x = act;
      }
    }
    V net{}, whole{};
    const V fast = speed(e);
    for (int i = 0; i < n; ++i) {
      const V charge = at(h + i * B) * at(size + i * B);
      net += charge * at(g + i * B), whole += charge;
      at(out + i * B) = at(g + i * B) * fast;
    }
    at(out + n * B) = T(2) * net / larger(whole, splat<T>(Of<T>::tiny)) * fast;
  }
  static V limited(V y) { return y > T(0) ? tangent<T>(y) : T(3) * tangent<T>(y * T(1.0 / 3)); }

  void attend(T* to) const {  // share-weighted, under a cap
    const auto& s = L.s;
    const T *q = to + at_.asks, *k = q + size_t(L.asked) * cols, *v = k + size_t(L.asked) * cols;
    T* out = to + at_.token + size_t(s.width) * cols;
    for (int a = 0; a < s.heads; ++a)
      for (int i = 0; i < n; ++i) {
        T *tilt = to + at_.tilt + size_t(a * n + i) * cols, *weight = to + at_.weight + size_t(a * n + i) * cols;
        V total{};
        for (int j = 0; j < n; ++j) {
          V x{};
          for (int d = a * s.d_k; d < (a + 1) * s.d_k; ++d) x += at(q + size_t(d) * cols + i * B) * at(k + size_t(d) * cols + j * B);
          const V t = tangent<T>(x * steep), e = exponential<T>(cap * t) * at(share + j * B);
          at(tilt + j * B) = t, at(weight + j * B) = e;
          total += e;
        }
        total = T(1) / larger(total, splat<T>(Of<T>::tiny));
        for (int j = 0; j < n; ++j) at(weight + j * B) *= total;
        for (int f = a * L.per; f < (a + 1) * L.per; ++f) {
          V x{};
          for (int j = 0; j < n; ++j) x += at(weight + j * B) * at(v + size_t(f) * cols + j * B);
          at(out + size_t(f) * cols + i * B) = x;
        }
      }
  }
};

// Dense output: weights of one curve, (point, stage)
template <class T> const T* dense_of(const Sizes<T>& L, const Given<T>& in, size_t m, int curve) {
  return in.dense + ((L.s.own_dense ? m * L.s.batch : 0) + curve) * L.s.points * L.stages;
}

template <class T> void forward_tile(const Tile<T>& tile, T* out, T* error, T* tape) {
  using V = Vec<T>;
  const auto& L = tile.L;
  const auto& R = tile.at_;
  const auto& s = L.s;
  constexpr int B = LANES<T>;
  const int n = tile.n, size = (n + 1) * B;
  const size_t points = size_t(n + 1) * L.points_pad;
  Buffer<T> own = zeros<T>(size_t(L.stages + 2) * size + size_t(L.stages) * L.points_pad + points + (tape ? 0 : R.size + points));
  T *K = own.get(), *y = K + size_t(L.stages) * size, *wrong = y + size, *turned = wrong + size, *h_at = turned + size_t(L.stages) * L.points_pad;
  T* scratch = h_at + points;
  auto record = [&](int e) { return tape ? tape + e * R.size : scratch; };
  std::memcpy(y, tile.y0, size * sizeof(T));
  march(s.steps, size, y, K, wrong, [&](int e) { return record(e) + R.y; }, [&](int e, T* to) { tile.field(record(e), e, to); });
  for (int b = 0; b < tile.count; ++b) {
    const size_t curve = tile.member * s.batch + tile.curve[b];
    T *mine = error + curve * (s.ions + 1), *to = out + curve * s.points * s.ions;
    std::fill(mine, mine + s.ions, T(0));
    std::fill(to, to + size_t(s.points) * s.ions, T(0));
    mine[s.ions] = wrong[n * B + b];
    T* y_at = tape ? tape + R.size * L.evaluations + b * points : scratch + R.size;
    transpose(dense_of(L, tile.in, tile.member, tile.curve[b]), L.stages, turned, L.points_pad, s.points, L.stages);
    for (int i = 0; i <= n; ++i)
      for (int p = 0; p < L.points_pad; p += B) at(y_at + i * L.points_pad + p) = splat<T>(tile.y0[i * B + b]);
    product<T>(n + 1, L.points_pad, L.stages, K + b, B, size, turned, L.points_pad, y_at, L.points_pad, y_at, L.points_pad, as_is<T>);
    for (int p = 0; p < L.points_pad; p += B)
      tile.decode(y_at + p, h_at + p, L.points_pad, [&](const T* of, int i) { return splat<T>(of[i * B + b]); });
    for (int i = 0; i < n; ++i) {
      const int slot = tile.slot[i][b];
      if (slot < 0) break;
      mine[slot] = wrong[i * B + b];
      for (int p = 0; p < s.points; ++p) to[size_t(p) * s.ions + slot] = h_at[i * L.points_pad + p];
    }
  }
}

// Gradients of the weights of one member, as they are gathered
template <class T> struct Gathered {
  const Sizes<T>& L;
  std::vector<size_t> weight, bias;
  size_t n = 0;
  size_t told, move, attend;
  Buffer<T> own = zeros<T>(0);
  size_t take(size_t k) { size_t a = n; n += k; return a; }
  explicit Gathered(const Sizes<T>& sizes) : L(sizes) {
    const auto& s = L.s;
    told = take(blocked(s.width, s.told + 1)), move = take(blocked(s.width, MOVED)), attend = take(blocked(L.rows, s.width));
    for (int l = 0; l < L.layers; ++l)
      weight.push_back(take(blocked(L.outputs(l), L.inputs(l)))), bias.push_back(take(size_t(L.outputs(l)) * LANES<T>));
    own = zeros<T>(n);
  }
  T* operator[](size_t at) { return own.get() + at; }
  void write(const Gradients<T>& to, size_t m) {
    const auto& s = L.s;
    unblock(s.width, s.told + 1, (*this)[told], to.told + m * s.width * (s.told + 1));
    unblock(s.width, MOVED, (*this)[move], to.move + m * s.width * MOVED);
    unblock(L.rows, s.width, (*this)[attend], to.attend + m * L.rows * s.width);
    for (int l = 0; l < L.layers; ++l) {
      const int ins = L.inputs(l), outs = L.outputs(l);
      unblock(outs, ins, (*this)[weight[l]], to.linears[2 * l] + m * outs * ins);
      for (int o = 0; o < outs; ++o) to.linears[2 * l + 1][m * outs + o] = sum<T>(at((*this)[bias[l]] + o * LANES<T>));
    }
  }
};

// Adjoint of one tile; adds to the gradients of its member
template <class T> struct Adjoint {
  using V = Vec<T>;
  static constexpr int B = LANES<T>;
  const Tile<T>& tile;
  const Sizes<T>& L;
  Gathered<T>& to;
  int n, cols;
  Buffer<T> own = zeros<T>(0);
  T *d_tokens, *delta, *delta2, *d_token, *d_asks, *d_moved, *d_h;

  Adjoint(const Tile<T>& t, Gathered<T>& gathered) : tile(t), L(t.L), to(gathered), n(t.n), cols(t.cols) {
    const int w = L.s.width;
    own = zeros<T>(size_t(cols) * (5 * w + L.rows + MOVED + 1));
    T* p = own.get();
    auto take = [&](size_t k) { T* a = p; p += k * cols; return a; };
    d_tokens = take(w), delta = take(w), delta2 = take(w), d_token = take(2 * w), d_asks = take(L.rows), d_moved = take(MOVED), d_h = take(1);
  }

  // kappa, gradient of the rate, becomes d_y, gradient of the state
  void field(const T* rec, int e, const T* kappa, T* d_y) {
    const auto& s = L.s;
    const auto& R = tile.at_;
    const T *h = rec + R.h, *g = rec + R.g, *token = rec + R.token, *moved = rec + R.moved;
    V net{}, whole{};
    for (int i = 0; i < cols; i += B) {
      const V charge = at(h + i) * at(tile.size + i);
      net += charge * at(g + i), whole += charge;
    }
    whole = larger(whole, splat<T>(Of<T>::tiny));
    const V fast = tile.speed(e), mean = net / whole, up = T(2) * at(kappa + n * B) * fast / whole;
    for (int i = 0; i < cols; i += B) {
      const V y = at(g + i), third = y * T(1.0 / 3);
      const V d_g = (at(kappa + i) * fast + up * at(h + i) * at(tile.size + i)) * at(tile.here + i);
      at(d_h + i) = up * (y - mean) * at(tile.size + i);
      at(delta + i) = d_g * (y > T(0) ? T(1) - y * y : T(1) - third * third);
    }
    for (int l = L.layers - 1; l >= 0; --l) {
      const int ins = L.inputs(l), outs = L.outputs(l);
      const T *weight = tile.in.linears[2 * l] + tile.member * outs * ins, *x = l ? rec + R.act + size_t(l - 1) * s.width * cols : token;
      T* bias = to[to.bias[l]];
      for (int o = 0; o < outs; ++o)
        for (int c = 0; c < cols; c += B) at(bias + o * B) += at(delta + size_t(o) * cols + c);
      outer<T>(outs, ins, cols, delta, x, to[to.weight[l]]);
      if (l)
        product<T>(ins, cols, outs, weight, 1, ins, delta, cols, nullptr, 0, delta2, cols, [&](V v, int r, int c) {
          const V y = at(x + size_t(r) * cols + c);
          return v * (T(1) - y * y);
        });
      else
        product<T>(ins, cols, outs, weight, 1, ins, delta, cols, nullptr, 0, d_token, cols, as_is<T>);
      std::swap(delta, delta2);
    }
    attend(rec);
    outer<T>(L.rows, s.width, cols, d_asks, token, to[to.attend]);
    product<T>(s.width, cols, L.rows, tile.in.attend + tile.member * L.rows * s.width, 1, s.width, d_asks, cols, d_token, cols, delta, cols,
               [&](V v, int r, int c) {
                 const V y = at(token + size_t(r) * cols + c);
                 return v * (T(1) - y * y);
               });
    for (size_t i = 0; i < size_t(s.width) * cols; i += B) at(d_tokens + i) += at(delta + i);
    outer<T>(s.width, MOVED, cols, delta, moved, to[to.move]);
    product<T>(2, cols, s.width, tile.in.move + tile.member * s.width * MOVED, 1, MOVED, delta, cols, nullptr, 0, d_moved, cols, as_is<T>);
    for (int i = 0; i < cols; i += B) {
      const V r = at(h + i) * at(tile.inverse + i), one = T(1) + r, x = T(50) * r;
      const V d_r = at(d_moved + i) * T(2) / (one * one) + at(d_moved + cols + i) * T(10) / root<T>(x * x + T(1));
      at(d_h + i) += d_r * at(tile.inverse + i);
    }
    tile.decode_adjoint(rec + R.y, h, d_h, d_y, B, [&](const T* of, int i) { return tile.by_ion(of, i); });
  }

  void attend(const T* rec) {
    const auto& s = L.s;
    const auto& R = tile.at_;
    const size_t second = size_t(L.asked) * cols;
    const T *q = rec + R.asks, *k = q + second, *v = k + second, *d_out = d_token + size_t(s.width) * cols;
    T *d_q = d_asks, *d_k = d_q + second, *d_v = d_k + second;
    std::memset(d_asks, 0, size_t(L.rows) * cols * sizeof(T));
    const T scale = T(1 / std::sqrt(double(s.d_k)));
    V d_w[64];
    for (int a = 0; a < s.heads; ++a)
      for (int i = 0; i < n; ++i) {
        const T *tilt = rec + R.tilt + size_t(a * n + i) * cols, *weight = rec + R.weight + size_t(a * n + i) * cols;
        V mean{};
        for (int j = 0; j < n; ++j) {
          V x{};
          const V w = at(weight + j * B);
          for (int f = a * L.per; f < (a + 1) * L.per; ++f) {
            const V d = at(d_out + size_t(f) * cols + i * B);
            x += d * at(v + size_t(f) * cols + j * B);
            at(d_v + size_t(f) * cols + j * B) += w * d;
          }
          d_w[j] = x, mean += w * x;
        }
        for (int j = 0; j < n; ++j) {
          const V t = at(tilt + j * B), d = at(weight + j * B) * (d_w[j] - mean) * (T(1) - t * t) * scale;
          for (int f = a * s.d_k; f < (a + 1) * s.d_k; ++f) {
            at(d_q + size_t(f) * cols + i * B) += d * at(k + size_t(f) * cols + j * B);
            at(d_k + size_t(f) * cols + j * B) += d * at(q + size_t(f) * cols + i * B);
          }
        }
      }
  }

  // Gradient of the stages [stage][state][curve], given that of the curves
  void dense(const T* tape, const T* d_out, T* dK) const {
    const auto& s = L.s;
    const auto& R = tile.at_;
    const size_t points = size_t(n + 1) * L.points_pad;
    Buffer<T> buffer = zeros<T>(3 * points + size_t(s.points + n + 1) * L.stages_pad);
    T *h_at = buffer.get(), *d_h = h_at + points, *d_y = d_h + points, *weights = d_y + points, *mine = weights + size_t(s.points) * L.stages_pad;
    for (int b = 0; b < tile.count; ++b) {
      const T *y_at = tape + R.size * L.evaluations + b * points, *given = dense_of(L, tile.in, tile.member, tile.curve[b]);
      const T* from = d_out + (tile.member * s.batch + tile.curve[b]) * s.points * s.ions;
      for (int p = 0; p < s.points; ++p) std::memcpy(weights + size_t(p) * L.stages_pad, given + size_t(p) * L.stages, L.stages * sizeof(T));
      for (int i = 0; i < n; ++i)
        for (int p = 0; p < s.points; ++p) d_h[i * L.points_pad + p] = tile.slot[i][b] < 0 ? T(0) : from[size_t(p) * s.ions + tile.slot[i][b]];
      for (int p = 0; p < L.points_pad; p += B) {
        auto of = [&](const T* property, int i) { return splat<T>(property[i * B + b]); };
        tile.decode(y_at + p, h_at + p, L.points_pad, of);
        tile.decode_adjoint(y_at + p, h_at + p, d_h + p, d_y + p, L.points_pad, of);
      }
      product<T>(n + 1, L.stages_pad, s.points, d_y, L.points_pad, 1, weights, L.stages_pad, nullptr, 0, mine, L.stages_pad, as_is<T>);
      for (int i = 0; i <= n; ++i)
        for (int k = 0; k < L.stages; ++k) dK[(size_t(k) * (n + 1) + i) * B + b] = mine[size_t(i) * L.stages_pad + k];
    }
  }

  void run(const T* tape, const T* d_out) {
    const auto& s = L.s;
    const auto& R = tile.at_;
    const int size = (n + 1) * B;
    Buffer<T> dK = zeros<T>(size_t(L.stages) * size);
    dense(tape, d_out, dK.get());
    march_back(s.steps, size, dK.get(), [&](int e, const T* kappa, T* to) { field(tape + size_t(e) * R.size, e, kappa, to); });
    outer<T>(s.width, s.told + 1, cols, d_tokens, tile.told, to[to.told]);
  }
};

template <class T> size_t tape_step(const Sizes<T>& L) { return Record<T>(L, L.s.ions).tile; }

template <class T, class F> void over_tiles(const Sizes<T>& L, const Given<T>& in, size_t m, F f) {
  const Order order(L, in.data + (L.s.own_data ? m * L.s.batch * L.s.ions * L.data : 0));
  for (int t = 0; t < L.tiles(); ++t) f(Tile<T>(L, in, order, m, t), (m * L.tiles() + t) * tape_step(L));
}

template <class T> void forward(const Shape& s, const Given<T>& in, T* out, T* error, T* tape) {
  const Sizes<T> L(s);
  over_members(s.members, s.threads, [&](int m) {
    over_tiles(L, in, m, [&](const Tile<T>& tile, size_t place) { forward_tile(tile, out, error, tape ? tape + place : nullptr); });
  });
}

template <class T> void backward(const Shape& s, const Given<T>& in, const T* d_out, T* tape, const Gradients<T>& to) {
  const Sizes<T> L(s);
  over_members(s.members, s.threads, [&](int m) {
    Gathered<T> gathered(L);
    over_tiles(L, in, m, [&](const Tile<T>& tile, size_t place) { Adjoint<T>(tile, gathered).run(tape + place, d_out); });
    gathered.write(to, m);
  });
}

}  // namespace

#define EXPORT(T, NAME)                                                                                                                    \
  extern "C" int64_t tape_##NAME(const Shape* s) { /* numbers that forward stores for backward, at most */                                 \
    const Sizes<T> L(*s);                                                                                                                  \
    return int64_t(tape_step(L)) * L.tiles() * s->members;                                                                                 \
  }                                                                                                                                        \
  extern "C" void forward_##NAME(const Shape* s, const Given<T>* in, T* out, T* error, T* tape) { forward<T>(*s, *in, out, error, tape); } \
  extern "C" void backward_##NAME(const Shape* s, const Given<T>* in, const T* d_out, T* tape, const Gradients<T>* to) {                   \
    backward<T>(*s, *in, d_out, tape, *to);                                                                                                \
  }

EXPORT(float, f32)
EXPORT(double, f64)
