// What passes of every ion, by the network of ion_ode/inference/network.py, a tile of problems at a time: features,
// layers and the neutral permeate without a number leaving the cache. The plain path there says what is computed; tests
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
constexpr int N = LANES<float>, B = 2 * N, FEATURES = 13;
constexpr float LEAST = 1e-9f, MOST = 20, STEEP = 30, ALONE = 0.03f, REST = 1e-12f;

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
inline V lost(V x, V gone) {  // 1 - exp(-x) for x >= 0, gone = exp(-x)
  const V series = x * (1.0f - x * (0.5f - x * (1.0f / 6 - x * (1.0f / 24 - x * (1.0f / 120)))));
  return x < 0.2f ? series : 1.0f - gone;
}
inline V silu(V x) { return x * inverse<float>(1.0f + e(-x)); }

struct Work {
  const Shape& s;
  const Given& in;
  int cols;
  Buffer<float> own = zeros<float>(0);
  float *planes, *charge, *seen, *x, *next, *mean, *around, *share, *alone, *out;

  Work(const Shape& shape, const Given& given) : s(shape), in(given), cols(shape.ions * B) {
    own = zeros<float>(size_t(cols) * (5 + FEATURES + 2 * s.width + 4) + size_t(B) * (1 + 2 * s.width));
    float* p = own.get();
    auto take = [&](size_t k) { float* a = p; p += k; return a; };
    planes = take(size_t(5) * cols), seen = take(size_t(FEATURES) * cols), x = take(size_t(s.width) * cols);
    next = take(size_t(s.width) * cols), share = take(cols), alone = take(cols), out = take(size_t(2) * cols);
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

  V donnan(const float* c, const float* ln_entry, V total, V X, int v) const {  // potential of the entry
    V up{}, down{}, psi{};
    for (int i = 0; i < s.ions; ++i) {
      const float z = in.valence[i];
      const V a = at(c + i * B + v) * total * e(at(ln_entry + i * B + v));
      if (z > 0) up += z * a; else down += -z * a;
    }
    psi = asinh(X / (2.0f * root<float>(above(up * down, LEAST))));
    psi += 0.5f * (ln(above(up, LEAST)) - ln(above(down, LEAST)));
    for (int step = 0; step < 2; ++step) {
      V more{}, less{}, plus{}, minus{};
      for (int i = 0; i < s.ions; ++i) {
        const float z = in.valence[i];
        const V a = at(c + i * B + v) * total * e(at(ln_entry + i * B + v)) * e(within(-z * psi, -STEEP, STEEP));
        if (z > 0) more += z * a, plus += z * z * a; else less += -z * a, minus += z * z * a;
      }
      more = above(more + above(X, 0), LEAST), less = above(less + above(-X, 0), LEAST);
      psi += within((ln(more) - ln(less)) / above(plus / more + minus / less, 0.1f), -2, 2);
    }
    return psi;
  }

  void look(int v) {  // features of one vector of problems
    const float *c = planes, *ln_entry = c + cols, *peclet = ln_entry + cols, *K = peclet + cols, *film = K + cols;
    V total{}, held{};
    for (int i = 0; i < s.ions; ++i) total += std::abs(in.valence[i]) * at(c + i * B + v);
    const V per = 1.0f / total, X = at(charge + v) * per, psi = donnan(c, ln_entry, per, X, v), fixed = asinh(4.0f * X);
    for (int i = 0; i < s.ions; ++i) {
      const float z = in.valence[i], size = std::abs(z);
      const int k = i * B + v;
      const V part = size * at(c + k) * per, Pe = above(at(peclet + k), REST), F = at(film + k), ln_K = ln(at(K + k));
      const V entry = within(at(ln_entry + k) - z * psi, -MOST, MOST);
      const V ahead = within(at(K + k) * Pe, 0, STEEP), gone = e(-ahead);
      const V into = e(entry + ln_K), pore = entry + ln_K - ln(lost(ahead, gone) + into * gone);
      const V grown = within(F, 0, 6), one = pore + grown - ln(1.0f + e(pore) * (e(grown) - 1.0f));
      held += part * magnitude(one);
      at(share + k) = part, at(alone + k) = one;
      const V shown[FEATURES] = {constant(z / 2), constant(size == 2), constant(size == 3), entry / 3.0f, ln(Pe) / 3.0f,
                                 ln(1.0f + Pe), at(K + k), ln(1.0f + F), fixed, z * psi / 4.0f, psi / 3.0f, pore / 3.0f,
                                 one / 3.0f};
      for (int f = 0; f < FEATURES; ++f) at(seen + f * cols + k) = shown[f];
    }
    at(charge + v) = held / (held + ALONE);  // from here on the weight of what is learnt
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
      V y = e(within(at(alone + k) + at(charge + v) * at(out + k), -MOST, 5));
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
