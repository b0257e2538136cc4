// What the fused paths of the networks share: numbers as the processor's vectors, products of matrices, one method of
// integration. A tile of curves lies side by side, so that a vector holds one number of as many curves.
//
// nbs/02d_fused.ipynb says what is computed with it; tests hold the table of Tsitouras against ion_ode/attention_odenet/ode.py.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define ROWS 8
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define ROWS 4
#else
#define VECTOR_BYTES 16
#define ROWS 4
#endif
#if defined(__AVX512F__) || defined(__FMA__)
#include <immintrin.h>
#endif

namespace {

typedef float float_v __attribute__((vector_size(VECTOR_BYTES), may_alias));
typedef double double_v __attribute__((vector_size(VECTOR_BYTES), may_alias));
typedef int32_t int_v __attribute__((vector_size(VECTOR_BYTES), may_alias));
typedef int64_t long_v __attribute__((vector_size(VECTOR_BYTES), may_alias));

template <class T> struct Of;
template <> struct Of<float> {
  using V = float_v;
  using I = int_v;
  static constexpr float magic = 12582912.0f, highest = 88.0f, lowest = -87.0f;  // 1.5 * 2^23
  static constexpr int shift = 23, bias = 127, terms = 7, log_terms = 6;
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f, tiny = 1.17549435e-38f;
};
template <> struct Of<double> {
  using V = double_v;
  using I = long_v;
  static constexpr double magic = 6755399441055744.0, highest = 709.0, lowest = -708.0;  // 1.5 * 2^52
  static constexpr int shift = 52, bias = 1023, terms = 13, log_terms = 12;
  static constexpr double ln2_high = 0.693145751953125, ln2_low = 1.42860682030941723212e-6, tiny = 2.2250738585072014e-308;
};

template <class T> using Vec = typename Of<T>::V;
template <class T> constexpr int LANES = VECTOR_BYTES / sizeof(T);
template <class T> constexpr int TILE = 2 * LANES<T>;  // Curves of a tile

template <class T> inline Vec<T> splat(T x) { return x - Vec<T>{}; }
template <class T> inline Vec<T>& at(T* p) { return *reinterpret_cast<Vec<T>*>(p); }
template <class T> inline const Vec<T>& at(const T* p) { return *reinterpret_cast<const Vec<T>*>(p); }
template <class V> inline V larger(V a, V b) { return a > b ? a : b; }

template <class T> inline Vec<T> exponential(Vec<T> x) {
  using O = Of<T>;
  x = x > O::highest ? splat<T>(O::highest) : x;  // in this order a NaN stays one
  x = x < O::lowest ? splat<T>(O::lowest) : x;
  const Vec<T> shifted = x * T(1.4426950408889634) + O::magic;
  const Vec<T> n = shifted - O::magic;
  const Vec<T> r = (x - n * O::ln2_high) - n * O::ln2_low;
  Vec<T> p = splat<T>(1);
  for (int k = O::terms; k > 0; --k) p = p * (r * T(1.0 / k)) + T(1);
  typename O::I bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + O::bias) << O::shift;  // the integer n sits in the low bits of the shifted number
  Vec<T> scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return p * scale;
}

template <class T> inline Vec<T> logarithm(Vec<T> x) {  // of positive, normal numbers
  using O = Of<T>;
  using I = typename O::I;
  using Word = std::remove_reference_t<decltype(I{}[0])>;
  I bits;
  std::memcpy(&bits, &x, sizeof bits);
  constexpr Word one = Word(O::bias) << O::shift, half = Word(1) << (O::shift - 1);
  const I n = ((bits - one + half) >> O::shift);  // exponent that leaves a mantissa of 0.75 to 1.5
  bits -= n << O::shift;
  Vec<T> m;
  std::memcpy(&m, &bits, sizeof m);
  const Vec<T> s = (m - T(1)) / (m + T(1)), q = s * s;
  Vec<T> p = splat<T>(T(1.0 / (2 * O::log_terms + 1)));
  for (int k = O::log_terms - 1; k >= 0; --k) p = p * q + T(1.0 / (2 * k + 1));
  return T(2) * s * p + __builtin_convertvector(n, Vec<T>) * T(0.6931471805599453);
}

template <class T> inline Vec<T> inverse(Vec<T> x) { return T(1) / x; }
#if defined(__AVX512F__)
template <> inline float_v inverse<float>(float_v x) {
  const float_v r = (float_v)_mm512_maskz_rcp14_ps(0xffff, (__m512)x);
  return r * (2.0f - x * r);
}
#endif

// a b + c, rounded once wherever the processor can: left to itself, a compiler does so in one place and not in another,
// and a curve would depend on its place in a tile
template <class V> inline V added(V a, V b, V c) { return a * b + c; }
#if defined(__AVX512F__)
template <> inline float_v added(float_v a, float_v b, float_v c) { return (float_v)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c); }
template <> inline double_v added(double_v a, double_v b, double_v c) { return (double_v)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c); }
#elif defined(__FMA__)
template <> inline float_v added(float_v a, float_v b, float_v c) { return (float_v)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c); }
template <> inline double_v added(double_v a, double_v b, double_v c) { return (double_v)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c); }
#endif

template <class T> inline Vec<T> tangent(Vec<T> x) {
  return T(1) - T(2) * inverse<T>(exponential<T>(x + x) + T(1));
}

template <class T> inline Vec<T> root(Vec<T> x) {
  alignas(VECTOR_BYTES) T a[LANES<T>];
  std::memcpy(a, &x, sizeof a);
  for (int i = 0; i < LANES<T>; ++i) a[i] = std::sqrt(a[i]);
  return at(a);
}

template <class T> inline T sum(Vec<T> x) {
  T s = 0;
  for (int i = 0; i < LANES<T>; ++i) s += x[i];
  return s;
}

inline int padded(int n, int to) { return (n + to - 1) / to * to; }

// C[r][:] = start[r][:] + sum_k A(r, k) B[k][:], and what `finish` makes of it, for R rows and NV vectors of columns
template <class T, int R, int NV, class Finish>
inline void block(const T* A, long row, long col, const T* B, long ldb, int K, const T* start, long lds, T* C, long ldc, Finish finish) {
  Vec<T> acc[R][NV];
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < NV; ++v) acc[r][v] = start ? at(start + r * lds + v * LANES<T>) : Vec<T>{};
  for (int k = 0; k < K; ++k) {
    Vec<T> b[NV];
    for (int v = 0; v < NV; ++v) b[v] = at(B + k * ldb + v * LANES<T>);
    for (int r = 0; r < R; ++r) {
      const Vec<T> a = splat<T>(A[r * row + k * col]);
      for (int v = 0; v < NV; ++v) acc[r][v] = added(a, b[v], acc[r][v]);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < NV; ++v) at(C + r * ldc + v * LANES<T>) = finish(acc[r][v], r, v * LANES<T>);
}

template <class T, int NV, class Finish>
inline void column(int M, const T* A, long row, long col, const T* B, long ldb, int K, const T* start, long lds, T* C, long ldc, int j, Finish finish) {
  auto part = [&](auto rows, int i) {
    constexpr int R = decltype(rows)::value;
    block<T, R, NV>(A + i * row, row, col, B, ldb, K, start ? start + i * lds : nullptr, lds, C + i * ldc, ldc,
                    [&](Vec<T> x, int r, int c) { return finish(x, i + r, j + c); });
  };
  int i = 0;
  for (; i + ROWS <= M; i += ROWS) part(std::integral_constant<int, ROWS>{}, i);
  for (; i + 2 <= M; i += 2) part(std::integral_constant<int, 2>{}, i);
  for (; i < M; ++i) part(std::integral_constant<int, 1>{}, i);
}

// As block, for M rows and N columns, a multiple of the vector length
template <class T, class Finish>
inline void product(int M, int N, int K, const T* A, long row, long col, const T* B, long ldb, const T* start, long lds, T* C, long ldc, Finish finish) {
  int j = 0;
  for (; j + 2 * LANES<T> <= N; j += 2 * LANES<T>)
    column<T, 2>(M, A, row, col, B + j, ldb, K, start ? start + j : nullptr, lds, C + j, ldc, j, finish);
  for (; j < N; j += LANES<T>)
    column<T, 1>(M, A, row, col, B + j, ldb, K, start ? start + j : nullptr, lds, C + j, ldc, j, finish);
}

template <class T> inline Vec<T> as_is(Vec<T> x, int, int) { return x; }

// to[c][r] = from[r][c]
template <class T> inline void transpose(const T* from, long ldf, T* to, long ldt, int rows, int cols) {
  constexpr int S = 4;
  for (int r = 0; r < rows; r += S)
    for (int c = 0; c < cols; c += S)
      for (int j = c; j < c + S && j < cols; ++j)
        for (int i = r; i < r + S && i < rows; ++i) to[j * ldt + i] = from[i * ldf + j];
}

// Tsitouras (2011), 10.1016/j.camwa.2011.06.002; tests hold both tables against ion_ode/attention_odenet/ode.py
constexpr double STAGE[7][6] = {
    {},
    {0.161},
    {-0.008480655492356989, 0.335480655492357},
    {2.8971530571054935, -6.359448489975075, 4.3622954328695815},
    {5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525},
    {5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383},
    {0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774}};

constexpr double ERROR[7] = {0.00178001105222577714, 0.0008164344596567469, -0.007880878010261995, 0.1447110071732629,
                             -0.5823571654525552,    0.45808210592918697,   -1.0 / 66};

template <class T> using Buffer = std::unique_ptr<T[], void (*)(T*)>;
template <class T> Buffer<T> zeros(size_t n) {
  const auto how = std::align_val_t(VECTOR_BYTES);
  T* p = static_cast<T*>(::operator new[](n * sizeof(T), how));
  std::memset(p, 0, n * sizeof(T));
  return Buffer<T>(p, [](T* q) { ::operator delete[](q, std::align_val_t(VECTOR_BYTES)); });
}

// Steps over [0, 1] of `size` numbers y, a multiple of the vector length: rates of all stages [stage][number] in K, the
// sum of what each step may be off by in `wrong`, zero before. state(e) is where evaluation e finds its state, and
// rate(e, to) evaluates the field there.
template <class T, class State, class Rate> void march(int steps, int size, T* y, T* K, T* wrong, State state, Rate rate) {
  constexpr int N = LANES<T>;
  std::memcpy(state(0), y, size * sizeof(T));
  rate(0, K);
  const T h = T(1) / T(steps);
  for (int step = 0; step < steps; ++step) {
    T* stages = K + size_t(7 * step) * size;
    if (step) std::memcpy(stages, stages - size, size * sizeof(T));
    for (int j = 1; j < 7; ++j) {
      T* next = state(6 * step + j);
      for (int i = 0; i < size; i += N) {
        Vec<T> v = at(y + i);
        for (int k = 0; k < j; ++k) v += (h * T(STAGE[j][k])) * at(stages + k * size + i);
        at(next + i) = v;
      }
      if (j == 6) std::memcpy(y, next, size * sizeof(T));
      rate(6 * step + j, stages + j * size);
    }
    for (int i = 0; i < size; i += N) {
      Vec<T> v{};
      for (int k = 0; k < 7; ++k) v += (h * T(ERROR[k])) * at(stages + k * size + i);
      at(wrong + i) += v < T(0) ? -v : v;
    }
  }
}

// Its adjoint, from the gradient dK of the stages: back(e, given, to) makes that of the state of evaluation e of that of
// its rate. Of the first state nothing is asked.
template <class T, class Back> void march_back(int steps, int size, const T* dK, Back back) {
  constexpr int N = LANES<T>;
  Buffer<T> own = zeros<T>(size_t(10) * size);
  T *lambda = own.get(), *last = lambda + size, *kappa = last + size, *eta = kappa + size;
  const T h = T(1) / T(steps);
  for (int step = steps - 1; step >= 0; --step) {
    const T* given = dK + size_t(7 * step) * size;
    for (int j = 6; j >= 1; --j) {
      for (int i = 0; i < size; i += N) {
        Vec<T> v = at(given + j * size + i);
        if (j == 6) v += at(last + i);
        for (int k = j + 1; k < 7; ++k) v += (h * T(STAGE[k][j])) * at(eta + k * size + i);
        at(kappa + i) = v;
      }
      T* mine = eta + j * size;
      back(6 * step + j, kappa, mine);
      if (j == 6)
        for (int i = 0; i < size; i += N) at(mine + i) += at(lambda + i);
    }
    for (int i = 0; i < size; i += N) {
      Vec<T> all{}, v = at(given + i);
      for (int k = 1; k < 7; ++k) all += at(eta + k * size + i), v += (h * T(STAGE[k][0])) * at(eta + k * size + i);
      at(lambda + i) = all, at(last + i) = v;
    }
  }
  back(0, last, kappa);
}

// f of every member, each by one thread alone
template <class F> void over_members(int members, int threads, F f) {
  threads = threads < members ? threads : members;
  if (threads <= 1) {
    for (int m = 0; m < members; ++m) f(m);
    return;
  }
  std::vector<std::thread> pool;
  for (int t = 0; t < threads; ++t)
    pool.emplace_back([&, t] {
      for (int m = t; m < members; m += threads) f(m);
    });
  for (auto& t : pool) t.join();
}

}  // namespace
