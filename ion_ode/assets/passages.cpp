// What passes of every ion, by the network of ion_ode/inference/network.py, a tile of problems at a time: constant
// fields, layers and the neutral permeate without a number leaving the cache. The plain path there says what is computed; tests
// hold one against the other.
//
// Rows of a tile lie [row][ion][problem], so that ions and problems are the columns of every matrix.
#include "vectors.h"

#include <algorithm>

struct Shape {
  int64_t problems;
  int32_t ions, width, features, threads;
};
struct Given {  // planes (5, ion, problem): c_feed, ln_entry, peclet, K_conv, film; charge (problem,); valence (ion,)
  const float *planes, *charge, *valence;
  const float *own[3], *bias[3], *others[2], *head, *head_bias;
};

namespace {

using V = Vec<float>;
constexpr int N = LANES<float>, B = 2 * N, FEATURES = 16, STEPS = 3;
constexpr float LEAST = 1e-9f, MOST = 20, FAR = 25, JUMP = 5, PIVOT = 1e-4f, BENT = 0.03f, REST = 1e-12f;

inline V constant(float x) { return splat<float>(x); }
inline V within(V x, float low, float high) {
  x = x > high ? constant(high) : x;
  return x < low ? constant(low) : x;
}
inline V above(V x, float least) { return larger(x, constant(least)); }
inline V e(V x) { return exponential<float>(x); }
inline V ln(V x) { return logarithm<float>(x); }
inline V magnitude(V x) { return x < 0 ? -x : x; }
inline V asinh(V x) {
  const V m = magnitude(x), y = ln(m + root<float>(m * m + 1.0f));
  return x < 0 ? -y : y;
}
struct Drift {  // B(v), B(-v) and the derivative of ln B
  V b, ahead, bent, grown;
  explicit Drift(V v) {
    grown = e(v);
    const V q = v * v, even = 1.0f + q * (1.0f / 12 - q * (1.0f / 720)), half = 0.5f * v;
    const auto small = magnitude(v) < 0.3f;
    const V w = small ? constant(1) : v, full = w / ((small ? constant(2) : grown) - 1.0f);
    b = small ? even - half : full, ahead = small ? even + half : full * grown;
    bent = small ? -0.5f - v * (1.0f / 12 - q * (1.0f / 720)) : (1.0f - ahead) / w;
  }
};
inline V silu(V x) { return x * inverse<float>(1.0f + e(-x)); }

struct Work {
  const Shape& s;
  const Given& in;
  int cols;
  Buffer<float> own = zeros<float>(0);
  float *planes, *charge, *seen, *x, *next, *mean, *around, *share, *ln_r, *out;

  Work(const Shape& shape, const Given& given) : s(shape), in(given), cols(shape.ions * B) {
    own = zeros<float>(size_t(cols) * (5 + FEATURES + 2 * s.width + 4) + size_t(B) * (1 + 2 * s.width));
    float* p = own.get();
    auto take = [&](size_t k) { float* a = p; p += k; return a; };
    planes = take(size_t(5) * cols), seen = take(size_t(FEATURES) * cols), x = take(size_t(s.width) * cols);
    next = take(size_t(s.width) * cols), share = take(cols), ln_r = take(cols), out = take(size_t(2) * cols);
    charge = take(B), mean = take(size_t(s.width) * B), around = take(size_t(s.width) * B);
  }

  void read(int64_t from, int count) {  // behind the last problem it stands again
    auto copy = [&](float* to, const float* row) {
      std::memcpy(to, row + from, count * sizeof(float));
      for (int b = count; b < B; ++b) to[b] = row[from + count - 1];
    };
    for (int r = 0; r < 5 * s.ions; ++r) copy(planes + r * B, in.planes + size_t(r) * s.problems);
    copy(charge, in.charge);
  }

  V donnan(const float* ln_entry, V X, int v) const {  // potential at which the feed enters
    V up{}, down{}, psi{};
    for (int i = 0; i < s.ions; ++i) {
      const V a = at(share + i * B + v) * e(at(ln_entry + i * B + v));
      (in.valence[i] > 0 ? up : down) += a;
    }
    psi = asinh(X / (2.0f * root<float>(above(up * down, LEAST))));
    psi += 0.5f * (ln(above(up, LEAST)) - ln(above(down, LEAST)));
    for (int step = 0; step < 2; ++step) {
      V more{}, less{}, plus{}, minus{};
      for (int i = 0; i < s.ions; ++i) {
        const float z = in.valence[i];
        const V a = at(share + i * B + v) * e(at(ln_entry + i * B + v)) * e(within(-z * psi, -FAR, FAR));
        if (z > 0) more += a, plus += z * a; else less += a, minus += -z * a;
      }
      more = above(more + above(X, 0), LEAST), less = above(less + above(-X, 0), LEAST);
      psi += within((ln(more) - ln(less)) / above(plus / more + minus / less, 0.1f), -2, 2);
    }
    return psi;
  }

  struct Place {  // what there is at entry, wall, permeate and exit of an ion, and its four derivatives
    V entry, exit, is[4], by[4][4];
  };

  Place place(const V* psi, int i, int v) const {  // Eq. Q.6
    const int k = i * B + v;
    const float z = in.valence[i];
    const V Pe = above(at(planes + 2 * cols + k), REST), F = within(at(planes + 4 * cols + k), 0, 6);
    const V phi = at(planes + cols + k);
    const Drift pore(within(at(planes + 3 * cols + k) * Pe - z * psi[2], -FAR, FAR)), film(within(F - z * psi[1], -FAR, FAR));
    Place p;
    p.entry = within(phi - z * psi[0], -MOST, MOST), p.exit = within(phi - z * psi[3], -MOST, MOST);
    const V into = e(p.entry), out = e(p.exit), back = pore.b * out, fed = pore.ahead * into * F / film.b;
    const V left = Pe + back, per = 1.0f / (left + fed), scaled = film.grown * per;
    const V r = scaled * pore.ahead * into, wall = scaled * left;
    const V kept = back * per, held = fed * per, own = back / left, turned = kept * pore.bent + held * (1.0f + pore.bent);
    const V one = left * per, outside = 1.0f + held * film.bent, inside = 1.0f + pore.bent - turned;
    const V across = own * pore.bent - turned, behind = own * held;
    const V is[4] = {into * wall, wall, r, out * r};
    const V by[4][4] = {{one, outside, across, behind}, {-held, outside, across, behind}, {one, outside, inside, -kept},
                        {one, outside, inside, (Pe + fed) * per}};
    std::memcpy(p.is, is, sizeof is), std::memcpy(p.by, by, sizeof by);
    return p;
  }

  V newton(V* psi, V X, int v) const {  // one step of the four potentials, and how far it goes
    V side[2][4] = {}, sum[2][4][4] = {}, A[4][5], moved{};
    for (int i = 0; i < s.ions; ++i) {
      const Place p = place(psi, i, v);
      const int sign = in.valence[i] < 0;
      const V x = at(share + i * B + v);
      for (int q = 0; q < 4; ++q) {
        const V amount = x * p.is[q], weight = std::abs(in.valence[i]) * amount;
        side[sign][q] += amount;
        for (int d = 0; d < 4; ++d) sum[sign][q][d] += weight * p.by[q][d];
      }
    }
    for (int q = 0; q < 4; ++q) {
      const bool fixed = q == 0 || q == 3;
      const V up = above(fixed ? side[0][q] + above(X, 0) : side[0][q], LEAST);
      const V down = above(fixed ? side[1][q] + above(-X, 0) : side[1][q], LEAST);
      for (int d = 0; d < 4; ++d) A[q][d] = sum[0][q][d] / up + sum[1][q][d] / down;
      A[q][4] = ln(up) - ln(down);
    }
    for (int k = 0; k < 4; ++k) {
      A[k][k] = above(A[k][k], PIVOT);
      for (int i = k + 1; i < 4; ++i) {
        const V f = A[i][k] / A[k][k];
        for (int d = k; d < 5; ++d) A[i][d] -= f * A[k][d];
      }
    }
    for (int k = 3; k >= 0; --k) {
      for (int d = k + 1; d < 4; ++d) A[k][4] -= A[k][d] * A[d][4];
      A[k][4] /= A[k][k];
    }
    for (int k = 0; k < 4; ++k) {
      const V step = within(A[k][4], -JUMP, JUMP);
      psi[k] += step, moved += magnitude(step);
    }
    return moved;
  }

  void look(int v) {  // features of one vector of problems
    V total{}, moved{}, up{}, down{};
    for (int i = 0; i < s.ions; ++i) total += std::abs(in.valence[i]) * at(planes + i * B + v);
    const V per = 1.0f / total, X = at(charge + v) * per;
    for (int i = 0; i < s.ions; ++i) at(share + i * B + v) = std::abs(in.valence[i]) * at(planes + i * B + v) * per;
    const V first = donnan(planes + cols, X, v);
    V psi[4] = {first, V{}, V{}, first};
    for (int k = 0; k < STEPS; ++k) moved = newton(psi, X, v);
    for (int i = 0; i < s.ions; ++i) {
      const float z = in.valence[i], size = std::abs(z);
      const int k = i * B + v;
      const Place p = place(psi, i, v);
      const V Pe = above(at(planes + 2 * cols + k), REST), part = size * at(share + k);
      at(ln_r + k) = ln(above(p.is[2], LEAST)), up += part * p.is[3], down += part * p.is[0];
      const V own[11] = {constant(z / 2), constant(size == 2), constant(size == 3), p.entry / 3.0f, p.exit / 3.0f, ln(Pe) / 3.0f,
                         ln(1.0f + Pe), at(planes + 3 * cols + k), ln(1.0f + at(planes + 4 * cols + k)),
                         within(z * psi[2] / 2.0f, -8, 8), at(ln_r + k) / 3.0f};
      for (int f = 0; f < 11; ++f) at(seen + f * cols + k) = own[f];
    }
    const V tilt = ln(above(up, LEAST) / above(down, LEAST)), bent = psi[2] * tilt, far = magnitude(bent);
    const V common[5] = {within(psi[2] / 2.0f, -4, 4), within(tilt / 2.0f, -5, 5), within(bent, -5, 5), asinh(4.0f * X),
                         ln(1.0f + 20.0f * moved)};
    for (int i = 0; i < s.ions; ++i)
      for (int f = 0; f < 5; ++f) at(seen + (11 + f) * cols + i * B + v) = common[f];
    at(charge + v) = far / (far + BENT);  // from here on the weight of what is learnt
  }

  void layers() {
    const int w = s.width;
    auto first = [&](V y, int r, int) { return silu(y + in.bias[0][r]); };
    product<float>(w, cols, FEATURES, in.own[0], FEATURES, 1, seen, cols, nullptr, 0, x, cols, first);
    for (int l = 1; l < 3; ++l) {
      for (int r = 0; r < w; ++r)
        for (int v = 0; v < B; v += N) {
          V y{};
          for (int i = 0; i < s.ions; ++i) y += at(x + r * cols + i * B + v) * at(share + i * B + v);
          at(mean + r * B + v) = y;
        }
      auto told = [&](V y, int r, int) { return y + in.bias[l][r]; };
      product<float>(w, B, w, in.others[l - 1], w, 1, mean, B, nullptr, 0, around, B, told);
      auto both = [&](V y, int r, int c) { return silu(y + at(around + r * B + c % B)); };
      product<float>(w, cols, w, in.own[l], w, 1, x, cols, nullptr, 0, next, cols, both);
      std::swap(x, next);
    }
    auto last = [&](V y, int r, int) { return y + in.head_bias[r]; };
    product<float>(2, cols, w, in.head, w, 1, x, cols, nullptr, 0, out, cols, last);
  }

  void finish(int v) {  // neutral
    V up{}, down{};
    for (int i = 0; i < s.ions; ++i) {
      const int k = i * B + v;
      V y = e(within(at(ln_r + k) + at(charge + v) * at(out + k), -MOST, 5));
      at(out + k) = y;
      if (in.valence[i] > 0) up += at(share + k) * y; else down += at(share + k) * y;
    }
    const V shift = root<float>(above(down, 1e-16f) / above(up, 1e-16f)), back = 1.0f / shift;
    for (int i = 0; i < s.ions; ++i) at(out + i * B + v) *= in.valence[i] > 0 ? shift : back;
  }
};

}  // namespace

// Permeate over feed and ln of how far off it may be, (2, ion, problem)
extern "C" void passages_f32(const Shape* s, const Given* in, float* to) {
  const int64_t tiles = (s->problems + B - 1) / B;
  const int parts = int(std::min<int64_t>(std::max(s->threads, 1), tiles));
  over_members(parts, parts, [&](int part) {
    Work work(*s, *in);
    for (int64_t tile = tiles * part / parts; tile < tiles * (part + 1) / parts; ++tile) {
      const int count = int(std::min<int64_t>(B, s->problems - tile * B));
      work.read(tile * B, count);
      for (int v = 0; v < B; v += N) work.look(v);
      work.layers();
      for (int v = 0; v < B; v += N) work.finish(v);
      float* row = to + tile * B;
      for (int r = 0; r < 2 * s->ions; ++r, row += s->problems) std::memcpy(row, work.out + r * B, count * sizeof(float));
    }
  });
}
