// Curves of an attention ODENet by N Tsitouras steps with dense output, and their exact adjoint, a tile of curves at a time.
//
// nbs/02d_fused.ipynb derives what stands here, builds it and holds it against automatic differentiation.
// Two layouts: what belongs to ions (state, tokens, attention, constraint) lies with the curves of a tile side by side,
// [row][curve]; what belongs to the linear layers lies curve by curve, [curve][feature], so that every matrix product,
// weight gradients included, reads and writes whole vectors. One evaluation of the field transposes once between them.
// All exported functions work on float or double (suffix _f32, _f64), allocate nothing that outlives them and share nothing.
#include "vectors.h"

namespace {

enum Form { BALANCED = 0, WEIGHTED = 1, EQUIVALENTS = 2 };

}  // namespace

// What decides the shape of the work; the same struct as in ion_ode/attention_odenet/fused.py
struct Shape {
  int32_t members, batch, points, steps, ions, token, heads, width, depth, features, context;
  int32_t form, attention, residual, ratio, fed, own_data, own_dense, threads;
};

namespace {

template <class T> struct Given {  // Inputs, each with the member first; see ion_ode/attention_odenet/fused.py
  const T *data, *flux, *dense, *strength, *valence, *tokens, *mix;
  const T* const* linears;  // weight and bias of every layer, first to last
};
template <class T> struct Gradients {
  T *tokens, *mix;
  T* const* linears;
};

template <class T> struct Layout {  // Sizes that follow from a shape
  Shape s;
  int state, evaluations, rows, state_rows, columns, in, in_pad, w_pad, out_pad, points_pad, scores, n_data;
  size_t record, y, h, g, x, act;       // what an evaluation leaves for the way back
  size_t passing, row, score, tile;      // what it needs for a moment, and is made again on the way back
  explicit Layout(const Shape& shape) : s(shape) {
    state = s.ions + (s.form == EQUIVALENTS);
    evaluations = 6 * s.steps + 1;
    rows = s.token * (s.attention ? 2 + s.heads : 1);
    state_rows = s.ratio ? 3 : 1, columns = state_rows + (s.fed ? 2 : 0);
    n_data = (5 + (s.fed ? 2 : 0)) * s.ions + state + s.context;
    points_pad = padded(s.points, LANES<T>);
    in = s.token * s.ions + s.features;
    in_pad = padded(in, LANES<T>), w_pad = padded(s.width, LANES<T>), out_pad = padded(s.ions, LANES<T>);
    scores = s.attention ? s.heads * s.ions * s.ions : 0;
    size_t n = 0;
    auto take = [&](size_t k) { size_t a = n; n += k * TILE<T>; return a; };
    y = take(state), h = take(s.ions), g = take(s.ions);
    x = take(in_pad), act = take(size_t(s.depth - 1) * w_pad);
    record = n, n = 0;
    row = take(rows * s.ions), score = take(scores);
    passing = n;
    tile = record * evaluations + size_t(state) * points_pad * TILE<T>;
  }
  int tiles() const { return (s.batch + TILE<T> - 1) / TILE<T>; }
};

// Weights of one member in the orders the products want
template <class T> struct Weights {
  const Layout<T>& L;
  Buffer<T> down = zeros<T>(0), up = zeros<T>(0), biases = zeros<T>(0), context = zeros<T>(0);  // context (context, width)
  size_t down_size(int l) const { return size_t(l == 0 ? L.in : L.s.width) * (l == L.s.depth - 1 ? L.out_pad : L.w_pad); }
  size_t up_size(int l) const { return size_t(l == L.s.depth - 1 ? L.s.ions : L.s.width) * (l == 0 ? L.in_pad : L.w_pad); }
  int inputs(int l) const { return l == 0 ? L.in : L.s.width; }
  int inputs_pad(int l) const { return l == 0 ? L.in_pad : L.w_pad; }
  int outputs(int l) const { return l == L.s.depth - 1 ? L.s.ions : L.s.width; }
  int outputs_pad(int l) const { return l == L.s.depth - 1 ? L.out_pad : L.w_pad; }
  std::vector<size_t> down_at, up_at;
  Weights(const Layout<T>& layout, const Given<T>& in, size_t m, bool adjoint) : L(layout) {
    const auto& s = L.s;
    size_t d = 0, u = 0;
    for (int l = 0; l < s.depth; ++l) down_at.push_back(d), up_at.push_back(u), d += down_size(l), u += up_size(l);
    const int most = L.w_pad > L.out_pad ? L.w_pad : L.out_pad;
    biases = zeros<T>(size_t(s.depth) * most), context = zeros<T>(size_t(s.context) * L.w_pad);
    down = zeros<T>(adjoint ? 1 : d), up = zeros<T>(adjoint ? u : 1);
    for (int l = 0; l < s.depth; ++l) {
      const int o = outputs(l), i = inputs(l), row = l ? i : i + s.context;
      const T *weight = in.linears[2 * l] + m * o * row, *bias = in.linears[2 * l + 1] + m * o;
      std::memcpy(biases.get() + size_t(l) * most, bias, o * sizeof(T));
      T* to = adjoint ? up.get() + up_at[l] : down.get() + down_at[l];
      const int ld = adjoint ? inputs_pad(l) : outputs_pad(l);
      for (int c = 0; c < i; ++c) {
        const T* from = weight + (l ? c : column_of(c));
        for (int r = 0; r < o; ++r) (adjoint ? to[size_t(r) * ld + c] : to[size_t(c) * ld + r]) = from[size_t(r) * row];
      }
      if (l == 0) transpose(weight + i, row, context.get(), L.w_pad, o, s.context);
    }
  }
  // The layer counts tokens ion by ion, here they lie feature by feature; the flux and the context follow
  int column_of(int c) const { return c < L.s.token * L.s.ions ? c % L.s.ions * L.s.token + c / L.s.ions : c; }
  const T* bias(int l) const { return biases.get() + size_t(l) * (L.w_pad > L.out_pad ? L.w_pad : L.out_pad); }
};

// One tile of curves of one member
template <class T> struct Tile {
  using V = Vec<T>;
  static constexpr int B = TILE<T>, N = LANES<T>;
  const Layout<T>& L;
  const Given<T>& in;
  int first, count;  // Curves of this tile
  size_t member;
  Buffer<T> own = zeros<T>(0);
  T *here, *inverse, *share, *scale, *weight, *fed, *y0, *context, *tokens, *rest, *speed, *wide, *narrow, *passing;
  const T* mix;
  T strength;

  Tile(const Layout<T>& layout, const Given<T>& given, const Weights<T>& w, size_t m, int tile) : L(layout), in(given), first(tile * B), member(m) {
    const auto& s = L.s;
    count = s.batch - first < B ? s.batch - first : B;
    own = zeros<T>(size_t(B) * (L.n_data + L.rows * s.ions + L.w_pad + 1 + s.token * s.ions + L.out_pad) + L.passing);
    T* p = own.get();
    auto take = [&](size_t n) { T* a = p; p += n * B; return a; };
    T* data = p;
    here = take(s.ions), inverse = take(s.ions), share = take(s.ions), scale = take(s.ions), weight = take(s.ions);
    fed = take(s.fed ? 2 * s.ions : 0), y0 = take(L.state), context = take(s.context);
    tokens = take(L.rows * s.ions), rest = take(L.w_pad), speed = take(1), wide = take(s.token * s.ions), narrow = take(L.out_pad), passing = p;
    const T* from = in.data + (s.own_data ? m * L.n_data * s.batch : 0) + first;
    for (int r = 0; r < L.n_data; ++r) std::memcpy(data + r * B, from + size_t(r) * s.batch, count * sizeof(T));
    mix = in.mix + m * L.rows * L.columns;
    strength = in.strength[m];
    const T* base = in.tokens + m * L.rows * s.ions;
    for (int r = 0; r < L.rows; ++r)  // what of the tokens does not change along a curve
      for (int i = 0; i < s.ions; ++i)
        for (int q = 0; q < 2; ++q) {
          V v = splat<T>(base[r * s.ions + i]);
          if (s.fed)
            for (int k = 0; k < 2; ++k) v += mix[r * L.columns + L.state_rows + k] * lane(fed, k * s.ions + i, q);
          lane(tokens, r * s.ions + i, q) = lane(here, i, q) != T(0) ? v : V{};
        }
    product<T>(B, L.w_pad, s.context, context, 1, B, w.context.get(), L.w_pad, w.bias(0), 0, rest, L.w_pad, as_is<T>);
  }

  V& lane(T* base, int row, int q) const { return at(base + row * B + q * N); }
  const V& lane(const T* base, int row, int q) const { return at(base + row * B + q * N); }

  // Flux of evaluation e: features behind the tokens, and how fast it changes; (member, features + 1, evaluation, batch)
  const T* flux(int f, int e) const {
    return in.flux + (((L.s.own_data ? member * (L.s.features + 1) : 0) + f) * L.evaluations + e) * L.s.batch + first;
  }
  void features(int e, T* x) const {
    for (int f = 0; f < L.s.features; ++f)
      for (int b = 0; b < B; ++b) x[b * L.in_pad + L.s.token * L.s.ions + f] = b < count ? flux(f, e)[b] : T(0);  // a tape is not clean
  }
  void speeds(int e) { std::memcpy(speed, flux(L.s.features, e), count * sizeof(T)); }

  // Concentrations, given what the integrator carries
  template <class H, class Y, class M> void decode(H h, Y y, M mask) const {
    const int n = L.s.ions;
    if (L.s.form != EQUIVALENTS) {
      for (int i = 0; i < n; ++i) h(i) = mask(i) != T(0) ? y(i) : V{};
      return;
    }
    V plus{}, minus{};
    for (int i = 0; i < n; ++i) {
      V x = y(i);
      x = x > T(80) ? splat<T>(80) : x;
      x = x < T(-80) ? splat<T>(-80) : x;
      const V e = exponential<T>(x) * mask(i);
      h(i) = e;
      (in.valence[i] > 0 ? plus : minus) += e;
    }
    V x = y(n);
    x = x > T(6) ? splat<T>(6) : x;
    x = x < T(-30) ? splat<T>(-30) : x;
    const V charge = exponential<T>(x), tiny = splat<T>(Of<T>::tiny);
    plus = charge / larger(plus, tiny), minus = charge / larger(minus, tiny);
    for (int i = 0; i < n; ++i) h(i) *= (in.valence[i] > 0 ? plus : minus) * T(1 / std::abs(in.valence[i]));
  }

  // Gradient of what the integrator carries, given that of the concentrations
  template <class G, class H, class Y, class D> void decode_adjoint(G d_y, H h, Y y, D d_h) const {
    const int n = L.s.ions;
    if (L.s.form != EQUIVALENTS) {
      for (int i = 0; i < n; ++i) d_y(i) = d_h(i);
      return;
    }
    V plus{}, minus{}, all_plus{}, all_minus{};
    for (int i = 0; i < n; ++i) {
      const V e = h(i), d = e * d_h(i);
      (in.valence[i] > 0 ? plus : minus) += d;
      (in.valence[i] > 0 ? all_plus : all_minus) += e * std::abs(in.valence[i]);
    }
    const V tiny = splat<T>(Of<T>::tiny);
    const V by_plus = plus / larger(all_plus, tiny), by_minus = minus / larger(all_minus, tiny);
    for (int i = 0; i < n; ++i) {
      const V x = y(i), d = h(i) * (d_h(i) - (in.valence[i] > 0 ? by_plus : by_minus) * std::abs(in.valence[i]));
      d_y(i) = (x > T(80)) | (x < T(-80)) ? V{} : d;
    }
    const V x = y(n);
    d_y(n) = (x > T(6)) | (x < T(-30)) ? V{} : plus + minus;
  }

  // Concentrations, tokens and attention of one vector of curves; attended tokens into out [token ion][curve]
  void encode(T* tape, T* out, int q) {
    const auto& s = L.s;
    const int n = s.ions;
    const T* y = tape + L.y;
    T *h = tape + L.h, *rows = passing + L.row, *scores = passing + L.score;
    const T* mask = here;
    decode([&](int i) -> V& { return lane(h, i, q); }, [&](int i) { return lane(y, i, q); }, [&](int i) { return lane(mask, i, q); });
    for (int i = 0; i < n; ++i) {
      V st[3];
      state(lane(h, i, q), i, q, st);
      for (int r = 0; r < L.rows; ++r) {
        V v = lane(tokens, r * n + i, q);
        for (int k = 0; k < L.state_rows; ++k) v += mix[r * L.columns + k] * st[k];
        lane(rows, r * n + i, q) = v;
      }
    }
    if (!s.attention) {
      for (int r = 0; r < L.rows * n; ++r) lane(out, r, q) = lane(rows, r, q);
      return;
    }
    const int per = s.token / s.heads;
    const T* values = rows + size_t(s.token) * (1 + s.heads) * n * B;
    for (int a = 0; a < s.heads; ++a) {
      const T* asks = rows + size_t(s.token) * (1 + a) * n * B;
      for (int i = 0; i < n; ++i) {
        T* w = scores + size_t(a * n + i) * n * B;
        V top = splat<T>(-1e30f);
        groups(n, [&](auto size, int j) {
          constexpr int S = decltype(size)::value;
          V acc[S] = {};
          for (int f = 0; f < s.token; ++f) {
            const V ask = lane(asks, f * n + i, q);
            for (int t = 0; t < S; ++t) acc[t] += ask * lane(rows, f * n + j + t, q);
          }
          for (int t = 0; t < S; ++t) {
            const V x = lane(here, j + t, q) != T(0) ? acc[t] : splat<T>(-1e30f);
            lane(w, j + t, q) = x;
            top = larger(top, x);
          }
        });
        V total{};
        for (int j = 0; j < n; ++j) {
          const V e = lane(here, j, q) != T(0) ? exponential<T>(lane(w, j, q) - top) : V{};
          lane(w, j, q) = e;
          total += e;
        }
        total = lane(here, i, q) / larger(total, splat<T>(Of<T>::tiny));
        for (int j = 0; j < n; ++j) lane(w, j, q) *= total;
        groups(per, [&](auto size, int f) {
          constexpr int S = decltype(size)::value;
          V acc[S];
          const int row = a * per + f;
          for (int t = 0; t < S; ++t) acc[t] = s.residual ? lane(rows, (row + t) * n + i, q) : V{};
          for (int j = 0; j < n; ++j) {
            const V e = lane(w, j, q);
            for (int t = 0; t < S; ++t) acc[t] += e * lane(values, (row + t) * n + j, q);
          }
          for (int t = 0; t < S; ++t) lane(out, (row + t) * n + i, q) = acc[t];
        });
      }
    }
  }

  template <class F> static void groups(int n, F f) {
    int j = 0;
    for (; j + 4 <= n; j += 4) f(std::integral_constant<int, 4>{}, j);
    for (; j < n; ++j) f(std::integral_constant<int, 1>{}, j);
  }

  void state(V h, int i, int q, V* st) const {  // how an ion enters its token
    if (!L.s.ratio) {
      st[0] = h;
      return;
    }
    const V r = h * lane(inverse, i, q), x = T(50) * r, size = x < T(0) ? -x : x;
    const V arc = logarithm<T>(size + root<T>(size * size + T(1)));
    st[0] = r, st[1] = (x < T(0) ? -arc : arc) * T(0.2), st[2] = r * lane(share, i, q);
  }

  void field(T* tape, int e, const Weights<T>& w, T* out) {  // tape holds the state; out [state][curve]
    const auto& s = L.s;
    T* x = tape + L.x;
    for (int q = 0; q < 2; ++q) encode(tape, wide, q);
    transpose(wide, B, x, L.in_pad, s.token * s.ions, B);
    features(e, x);
    const T* input = x;
    long ld = L.in_pad;
    for (int l = 0; l + 1 < s.depth; ++l) {
      T* y = tape + L.act + size_t(l) * L.w_pad * B;
      product<T>(B, L.w_pad, w.inputs(l), input, ld, 1, w.down.get() + w.down_at[l], L.w_pad, l ? w.bias(l) : rest, l ? 0 : L.w_pad, y, L.w_pad,
                 [](Vec<T> v, int, int) { return tangent<T>(v); });
      input = y, ld = L.w_pad;
    }
    const int l = s.depth - 1;
    product<T>(B, L.out_pad, s.width, input, ld, 1, w.down.get() + w.down_at[l], L.out_pad, w.bias(l), 0, narrow, L.out_pad, as_is<T>);
    transpose(narrow, L.out_pad, tape + L.g, B, B, s.ions);
    speeds(e);
    for (int q = 0; q < 2; ++q) rate(tape, out, q);
  }

  void rate(const T* tape, T* out, int q) const {
    const int n = L.s.ions;
    const T *g = tape + L.g, *h = tape + L.h;
    const V fast = lane(speed, 0, q), tiny = splat<T>(Of<T>::tiny);
    V net{}, whole{};
    if (L.s.form == EQUIVALENTS) {
      for (int i = 0; i < n; ++i) {
        const V e = lane(h, i, q) * std::abs(in.valence[i]), rel = lane(g, i, q) * lane(scale, i, q);
        net += e * rel, whole += e;
        lane(out, i, q) = rel * fast;
      }
      lane(out, n, q) = T(2) * net / larger(whole, tiny) * fast;
      return;
    }
    for (int i = 0; i < n; ++i) {
      const T z = in.valence[i];
      const V m = metric(h, i, q), f = proposal(g, h, i, q);
      net += f * z, whole += m * (z * z);
    }
    net = net / larger(whole, tiny) * strength;
    for (int i = 0; i < n; ++i) lane(out, i, q) = (proposal(g, h, i, q) - metric(h, i, q) * in.valence[i] * net) * fast;
  }
  static V magnitude(V x) { return x < T(0) ? -x : x; }
  V size_of(const T* h, int i, int q) const { return magnitude(lane(h, i, q)); }

  // Net charge of a finished curve, taken from the ions in proportion to what they carry
  template <class H> void settle(H h) const {
    V net{}, whole{};
    for (int i = 0; i < L.s.ions; ++i) {
      const T z = in.valence[i];
      net += h(i) * z, whole += magnitude(h(i)) * (z * z);
    }
    net = strength * net / larger(whole, splat<T>(Of<T>::tiny));
    for (int i = 0; i < L.s.ions; ++i) h(i) -= magnitude(h(i)) * in.valence[i] * net;
  }
  // d becomes the gradient of what was settled; y is that
  template <class D, class Y> void settle_adjoint(D d, Y y) const {
    V net{}, whole{}, pulled{};
    for (int i = 0; i < L.s.ions; ++i) {
      const T z = in.valence[i];
      net += y(i) * z, whole += magnitude(y(i)) * (z * z), pulled += d(i) * magnitude(y(i)) * z;
    }
    whole = larger(whole, splat<T>(Of<T>::tiny));
    net = net / whole, pulled = strength * pulled / whole;
    for (int i = 0; i < L.s.ions; ++i) {
      const T z = in.valence[i];
      const V by_size = pulled * net * (z * z) - strength * d(i) * z * net;
      d(i) += (y(i) < T(0) ? -by_size : by_size) - pulled * z;
    }
  }

  V metric(const T* h, int i, int q) const { return L.s.form == WEIGHTED ? size_of(h, i, q) : lane(weight, i, q); }
  V proposal(const T* g, const T* h, int i, int q) const {
    const V f = lane(g, i, q) * lane(scale, i, q);
    return L.s.form == WEIGHTED ? f * size_of(h, i, q) : f;
  }
};

// Dense output: weights of one curve, (stage, point) for what is computed and (point, stage) for its adjoint
template <class T> const T* dense_of(const Layout<T>& L, const Given<T>& in, size_t m, int curve) {
  return in.dense + ((L.s.own_dense ? m * L.s.batch : 0) + curve) * L.s.points * 7 * L.s.steps;
}

template <class T> void forward_tile(const Layout<T>& L, const Given<T>& in, const Weights<T>& w, size_t m, int t, T* out, T* error, T* tape) {
  using V = Vec<T>;
  Tile<T> tile(L, in, w, m, t);
  constexpr int B = TILE<T>, N = LANES<T>;
  const auto& s = L.s;
  const int n = L.state, size = n * B, total = 7 * s.steps;
  Buffer<T> own = zeros<T>(size_t(total + 2) * size + size_t(total + s.ions) * L.points_pad + (tape ? 0 : L.record + size_t(n) * L.points_pad));
  T *K = own.get(), *y = K + size_t(total) * size, *wrong = y + size, *turned = wrong + size, *h_at = turned + size_t(total) * L.points_pad;
  T* scratch = h_at + s.ions * L.points_pad;
  auto record = [&](int e) { return tape ? tape + e * L.record : scratch; };
  std::memcpy(y, tile.y0, size * sizeof(T));
  march(s.steps, size, y, K, wrong, [&](int e) { return record(e) + L.y; }, [&](int e, T* to) { tile.field(record(e), e, w, to); });
  if (error)
    for (int b = 0; b < tile.count; ++b)
      for (int i = 0; i < n; ++i) error[(m * s.batch + tile.first + b) * n + i] = wrong[i * B + b];
  for (int b = 0; b < tile.count; ++b) {
    T* y_at = tape ? tape + L.record * L.evaluations + size_t(b) * n * L.points_pad : scratch + L.record;
    transpose(dense_of(L, in, m, tile.first + b), total, turned, L.points_pad, s.points, total);
    for (int i = 0; i < n; ++i) {
      const V start = splat<T>(tile.y0[i * B + b]);
      for (int p = 0; p < L.points_pad; p += N) at(y_at + i * L.points_pad + p) = start;
    }
    product<T>(n, L.points_pad, total, K + b, B, size, turned, L.points_pad, y_at, L.points_pad, y_at, L.points_pad, as_is<T>);
    for (int p = 0; p < L.points_pad; p += N) {
      auto mine = [&](T* base, int i) -> V& { return at(base + i * L.points_pad + p); };
      tile.decode([&](int i) -> V& { return mine(h_at, i); }, [&](int i) { return mine(y_at, i); }, [&](int i) { return splat<T>(tile.here[i * B + b]); });
      if (s.form != EQUIVALENTS) tile.settle([&](int i) -> V& { return mine(h_at, i); });
    }
    transpose(h_at, L.points_pad, out + (m * s.batch + tile.first + b) * s.points * s.ions, s.ions, s.ions, s.points);
  }
}

// Adjoint of one tile; adds to the gradients of its member
template <class T> struct Adjoint {
  using V = Vec<T>;
  static constexpr int B = TILE<T>, N = LANES<T>;
  const Layout<T>& L;
  const Given<T>& in;
  const Weights<T>& w;
  Tile<T> tile;
  Buffer<T> own = zeros<T>(0);
  T *d_tokens, *d_rest, *d_rows, *d_in, *delta, *delta2, *d_g;

  Adjoint(const Layout<T>& layout, const Given<T>& given, const Weights<T>& weights, size_t m, int t)
      : L(layout), in(given), w(weights), tile(layout, given, weights, m, t) {
    const int widest = (L.w_pad > L.in_pad ? L.w_pad : L.in_pad) + L.out_pad;
    own = zeros<T>(size_t(B) * (2 * L.rows * L.s.ions + L.w_pad + L.in_pad + 2 * widest + L.s.ions));
    T* p = own.get();
    auto take = [&](size_t n) { T* a = p; p += n * B; return a; };
    d_tokens = take(L.rows * L.s.ions), d_rest = take(L.w_pad), d_rows = take(L.rows * L.s.ions), d_in = take(L.in_pad);
    delta = take(widest), delta2 = take(widest), d_g = take(L.s.ions);
  }

  V& lane(T* base, int row, int q) const { return at(base + row * B + q * N); }
  const V& lane(const T* base, int row, int q) const { return at(base + row * B + q * N); }

  // kappa [state][curve], gradient of the rate, becomes the gradient of the state; d_h in between
  void rate(const T* tape, const T* kappa, T* d_h, int q) const {
    const int n = L.s.ions;
    const T *g = tape + L.g, *h = tape + L.h;
    const V fast = lane(tile.speed, 0, q), tiny = splat<T>(Of<T>::tiny);
    V net{}, whole{};
    if (L.s.form == EQUIVALENTS) {
      for (int i = 0; i < n; ++i) {
        const V e = lane(h, i, q) * std::abs(in.valence[i]);
        net += e * (lane(g, i, q) * lane(tile.scale, i, q)), whole += e;
      }
      whole = larger(whole, tiny);
      const V mean = net / whole, up = T(2) * lane(kappa, n, q) * fast / whole;
      for (int i = 0; i < n; ++i) {
        const T z = std::abs(in.valence[i]);
        const V rel = lane(g, i, q) * lane(tile.scale, i, q);
        lane(d_g, i, q) = (lane(kappa, i, q) * fast + up * (lane(h, i, q) * z)) * lane(tile.scale, i, q);
        lane(d_h, i, q) = up * (rel - mean) * z;
      }
      return;
    }
    V pulled{};
    for (int i = 0; i < n; ++i) {
      const T z = in.valence[i];
      const V m = tile.metric(h, i, q);
      net += tile.proposal(g, h, i, q) * z, whole += m * (z * z), pulled += lane(kappa, i, q) * m * z;
    }
    whole = larger(whole, tiny);
    const V part = tile.strength * net / whole;
    pulled = pulled * fast * tile.strength / whole;
    for (int i = 0; i < n; ++i) {
      const T z = in.valence[i];
      const V k = lane(kappa, i, q) * fast, d_f = k - pulled * z, x = lane(h, i, q);
      if (L.s.form == WEIGHTED) {
        const V size = x < T(0) ? -x : x, f = lane(g, i, q) * lane(tile.scale, i, q);
        const V d = d_f * f - k * z * part + pulled * part / tile.strength * (z * z);
        lane(d_h, i, q) = x < T(0) ? -d : d;
        lane(d_g, i, q) = d_f * size * lane(tile.scale, i, q);
      } else {
        lane(d_h, i, q) = V{};
        lane(d_g, i, q) = d_f * lane(tile.scale, i, q);
      }
    }
  }

  // d_x [token ion][curve], gradient of the attended tokens: gradients of rows, mix, tokens and d_h
  void encoder(const T* tape, const T* d_x, T* d_h, T* d_mix, int q) const {
    const auto& s = L.s;
    const int n = s.ions, per = s.token / s.heads;
    const T *rows = tile.passing + L.row, *scores = tile.passing + L.score, *h = tape + L.h;
    if (!s.attention) {
      for (int r = 0; r < L.rows * n; ++r) lane(d_rows, r, q) = lane(d_x, r, q);
    } else {
      for (int r = 0; r < s.token * n; ++r) lane(d_rows, r, q) = s.residual ? lane(d_x, r, q) : V{};
      for (int r = s.token * n; r < L.rows * n; ++r) lane(d_rows, r, q) = V{};
      const size_t value_row = size_t(s.token) * (1 + s.heads) * n;
      const T* values = rows + value_row * B;
      T* d_values = d_rows + value_row * B;
      for (int a = 0; a < s.heads; ++a) {
        const T* asks = rows + size_t(s.token) * (1 + a) * n * B;
        T* d_asks = d_rows + size_t(s.token) * (1 + a) * n * B;
        for (int i = 0; i < n; ++i) {
          const T* w = scores + size_t(a * n + i) * n * B;
          V d_w[64];
          V mean{};
          tile.groups(n, [&](auto size, int j) {
            constexpr int S = decltype(size)::value;
            V acc[S] = {}, e[S];
            for (int t = 0; t < S; ++t) e[t] = lane(w, j + t, q);
            for (int f = a * per; f < (a + 1) * per; ++f) {
              const V d = lane(d_x, f * n + i, q);
              for (int t = 0; t < S; ++t) {
                acc[t] += d * lane(values, f * n + j + t, q);
                lane(d_values, f * n + j + t, q) += e[t] * d;
              }
            }
            for (int t = 0; t < S; ++t) d_w[j + t] = acc[t], mean += e[t] * acc[t];
          });
          for (int j = 0; j < n; ++j) d_w[j] = lane(w, j, q) * (d_w[j] - mean);
          for (int f = 0; f < s.token; ++f) {
            V acc{};
            const V ask = lane(asks, f * n + i, q);
            for (int j = 0; j < n; ++j) {
              acc += d_w[j] * lane(rows, f * n + j, q);
              lane(d_rows, f * n + j, q) += d_w[j] * ask;
            }
            lane(d_asks, f * n + i, q) = acc;
          }
        }
      }
    }
    for (int i = 0; i < n; ++i) {
      V st[3], d[3] = {};
      tile.state(lane(h, i, q), i, q, st);
      for (int r = 0; r < L.rows; ++r) {
        const V up = lane(d_rows, r * n + i, q);
        lane(d_tokens, r * n + i, q) += up;
        for (int k = 0; k < L.state_rows; ++k) {
          d[k] += tile.mix[r * L.columns + k] * up;
          at(d_mix + (r * L.columns + k) * N) += st[k] * up;
        }
      }
      V down = d[0];
      if (s.ratio) {
        const V x = T(50) * st[0];
        down = (d[0] + T(10) * d[1] / root<T>(x * x + T(1)) + d[2] * lane(tile.share, i, q)) * lane(tile.inverse, i, q);
      }
      lane(d_h, i, q) += down;
    }
  }

  void decoder(const T* tape, T* d_h, T* d_y, int q) const {
    const T *y = tape + L.y, *h = tape + L.h;
    for (int i = 0; i < L.s.ions; ++i) lane(d_h, i, q) = lane(tile.here, i, q) != T(0) ? lane(d_h, i, q) : V{};
    tile.decode_adjoint([&](int i) -> V& { return lane(d_y, i, q); }, [&](int i) { return lane(h, i, q); }, [&](int i) { return lane(y, i, q); },
                        [&](int i) { return lane(d_h, i, q); });
  }

  // Gradient of the state of evaluation e, given that of its rate
  void field(T* tape, int e, const T* kappa, T* d_y, T* d_h, T* d_mix, T* d_up, T* d_bias) {
    const auto& s = L.s;
    tile.speeds(e);
    for (int q = 0; q < 2; ++q) rate(tape, kappa, d_h, q);
    T *up = delta, *down = delta2;
    transpose(d_g, B, up, L.out_pad, s.ions, B);
    long ld = L.out_pad;
    for (int l = s.depth - 1; l >= 0; --l) {
      const T* input = l ? tape + L.act + size_t(l - 1) * L.w_pad * B : tape + L.x;
      const int o = w.outputs(l), wide = w.inputs_pad(l);
      T* dw = d_up + w.up_at[l];
      product<T>(o, wide, B, up, 1, ld, input, wide, dw, wide, dw, wide, as_is<T>);
      T* db = l ? d_bias + size_t(l) * (L.w_pad > L.out_pad ? L.w_pad : L.out_pad) : nullptr;
      if (l)
        for (int c = 0; c < ld; c += N) {
          V v = at(db + c);
          for (int b = 0; b < B; ++b) v += at(up + b * ld + c);
          at(db + c) = v;
        }
      else
        for (int b = 0; b < B * L.w_pad; b += N) at(d_rest + b) += at(up + b);
      if (l)
        product<T>(B, wide, o, up, ld, 1, w.up.get() + w.up_at[l], wide, nullptr, 0, down, wide, [&](V v, int r, int c) {
          const V t = at(input + r * wide + c);
          return v * (T(1) - t * t);
        });
      else
        product<T>(B, wide, o, up, ld, 1, w.up.get() + w.up_at[l], wide, nullptr, 0, down, wide, as_is<T>);
      std::swap(up, down);
      ld = wide;
    }
    transpose(up, ld, d_in, B, B, s.token * s.ions);
    for (int q = 0; q < 2; ++q) tile.encode(tape, tile.wide, q), encoder(tape, d_in, d_h, d_mix, q), decoder(tape, d_h, d_y, q);
  }

  // Gradient of the stages [stage][state][curve], given that of the curves
  void dense(const T* tape, const T* d_out, T* dK) const {
    const auto& s = L.s;
    const int n = L.state, total = 7 * s.steps, total_pad = padded(total, N);
    Buffer<T> buffer = zeros<T>(size_t(n + 2 * s.ions) * L.points_pad + size_t(s.points) * total_pad + size_t(n) * total_pad);
    T *d_h = buffer.get(), *h_at = d_h + s.ions * L.points_pad, *d_y = h_at + s.ions * L.points_pad, *weights = d_y + n * L.points_pad;
    T* mine = weights + size_t(s.points) * total_pad;
    for (int b = 0; b < tile.count; ++b) {
      const T* y_at = tape + L.record * L.evaluations + size_t(b) * n * L.points_pad;
      const T* given = dense_of(L, in, tile.member, tile.first + b);
      for (int p = 0; p < s.points; ++p) std::memcpy(weights + size_t(p) * total_pad, given + size_t(p) * total, total * sizeof(T));
      transpose(d_out + (tile.member * s.batch + tile.first + b) * s.points * s.ions, s.ions, d_h, L.points_pad, s.points, s.ions);
      for (int p = 0; p < L.points_pad; p += N) {
        auto row = [&](T* base, int i) -> V& { return at(base + i * L.points_pad + p); };
        auto y = [&](int i) { return at(y_at + i * L.points_pad + p); };
        for (int i = 0; i < s.ions; ++i) row(d_h, i) = tile.here[i * B + b] != T(0) ? row(d_h, i) : V{};
        tile.decode([&](int i) -> V& { return row(h_at, i); }, y, [&](int i) { return splat<T>(tile.here[i * B + b]); });
        if (s.form != EQUIVALENTS) tile.settle_adjoint([&](int i) -> V& { return row(d_h, i); }, [&](int i) { return row(h_at, i); });
        for (int i = 0; i < s.ions; ++i) row(d_h, i) = tile.here[i * B + b] != T(0) ? row(d_h, i) : V{};
        tile.decode_adjoint([&](int i) -> V& { return row(d_y, i); }, [&](int i) { return row(h_at, i); }, y, [&](int i) { return row(d_h, i); });
      }
      product<T>(n, total_pad, s.points, d_y, L.points_pad, 1, weights, total_pad, nullptr, 0, mine, total_pad, as_is<T>);
      for (int i = 0; i < n; ++i)
        for (int k = 0; k < total; ++k) dK[(size_t(k) * n + i) * B + b] = mine[size_t(i) * total_pad + k];
    }
  }

  void run(T* tape, const T* d_out, T* d_base, T* d_mix, T* d_up, T* d_context, T* d_bias) {
    const auto& s = L.s;
    const int n = L.state, size = n * B;
    Buffer<T> buffer = zeros<T>(size_t(7 * s.steps * n + s.ions) * B);
    T *dK = buffer.get(), *d_h = dK + size_t(7 * s.steps) * size;
    dense(tape, d_out, dK);
    march_back(s.steps, size, dK, [&](int e, const T* kappa, T* to) { field(tape + e * L.record, e, kappa, to, d_h, d_mix, d_up, d_bias); });
    for (int r = 0; r < L.rows; ++r)  // what does not change along a curve
      for (int i = 0; i < s.ions; ++i)
        for (int q = 0; q < 2; ++q) {
          const V up = lane(tile.here, i, q) != T(0) ? lane(d_tokens, r * s.ions + i, q) : V{};
          at(d_base + (r * s.ions + i) * N) += up;
          if (s.fed)
            for (int k = 0; k < 2; ++k) at(d_mix + (r * L.columns + L.state_rows + k) * N) += up * lane(tile.fed, k * s.ions + i, q);
        }
    for (int b = 0; b < B; ++b)
      for (int o = 0; o < L.w_pad; o += N) at(d_bias + o) += at(d_rest + b * L.w_pad + o);
    product<T>(s.context, L.w_pad, B, tile.context, B, 1, d_rest, L.w_pad, d_context, L.w_pad, d_context, L.w_pad, as_is<T>);
  }
};

template <class T> void forward(const Shape& s, const Given<T>& in, T* out, T* error, T* tape) {
  const Layout<T> L(s);
  over_members(s.members, s.threads, [&](int m) {
    const Weights<T> w(L, in, m, false);
    for (int t = 0; t < L.tiles(); ++t) forward_tile(L, in, w, m, t, out, error, tape ? tape + (size_t(m) * L.tiles() + t) * L.tile : nullptr);
  });
}

template <class T> void backward(const Shape& s, const Given<T>& in, const T* d_out, T* tape, const Gradients<T>& to) {
  const Layout<T> L(s);
  over_members(s.members, s.threads, [&](int m) {
    const Weights<T> w(L, in, m, true);
    const int most = L.w_pad > L.out_pad ? L.w_pad : L.out_pad;
    size_t n = 0;
    for (int l = 0; l < s.depth; ++l) n += w.up_size(l);
    const size_t n_base = L.rows * s.ions, n_mix = L.rows * L.columns, n_context = size_t(s.context) * L.w_pad;
    Buffer<T> own = zeros<T>(n + size_t(s.depth) * most + (n_base + n_mix) * LANES<T> + n_context);
    T *d_up = own.get(), *d_bias = d_up + n, *d_base = d_bias + size_t(s.depth) * most, *d_mix = d_base + n_base * LANES<T>;
    T* d_context = d_mix + n_mix * LANES<T>;
    for (int t = 0; t < L.tiles(); ++t) {
      Adjoint<T> a(L, in, w, m, t);
      a.run(tape + (size_t(m) * L.tiles() + t) * L.tile, d_out, d_base, d_mix, d_up, d_context, d_bias);
    }
    for (int l = 0; l < s.depth; ++l) {
      const int o = w.outputs(l), i = w.inputs(l), row = l ? i : i + s.context;
      T *weight = to.linears[2 * l] + size_t(m) * o * row, *bias = to.linears[2 * l + 1] + size_t(m) * o;
      std::memcpy(bias, d_bias + size_t(l) * most, o * sizeof(T));
      for (int c = 0; c < i; ++c)
        for (int r = 0; r < o; ++r) weight[size_t(r) * row + (l ? c : w.column_of(c))] = d_up[w.up_at[l] + size_t(r) * w.inputs_pad(l) + c];
      if (l == 0) transpose(d_context, L.w_pad, weight + i, row, s.context, o);
    }
    for (size_t k = 0; k < n_base; ++k) to.tokens[m * n_base + k] = sum<T>(at(d_base + k * LANES<T>));
    for (size_t k = 0; k < n_mix; ++k) to.mix[m * n_mix + k] = sum<T>(at(d_mix + k * LANES<T>));
  });
}

}  // namespace

#define EXPORT(T, NAME)                                                                                                                      \
  extern "C" int64_t tape_##NAME(const Shape* s) { /* numbers that forward stores for backward */                                            \
    const Layout<T> L(*s);                                                                                                                   \
    return int64_t(L.tile) * L.tiles() * s->members;                                                                                         \
  }                                                                                                                                          \
  extern "C" void forward_##NAME(const Shape* s, const Given<T>* in, T* out, T* error, T* tape) { forward<T>(*s, *in, out, error, tape); }   \
  extern "C" void backward_##NAME(const Shape* s, const Given<T>* in, const T* d_out, T* tape, const Gradients<T>* to) {               \
    backward<T>(*s, *in, d_out, tape, *to);                                                                                                  \
  }

EXPORT(float, f32)
EXPORT(double, f64)
