// CPU kernels of spectral_norm for one instruction set (common/isa.h); formulas in ganengine/ops/spectral_norm.py.
// Matrices are dense, rows behind each other.

namespace ganengine::spectral_norm::GANENGINE_ISA {

using namespace simd::GANENGINE_ISA;

template <typename A>
GANENGINE_INLINE A dot_of(const A* a, const A* b, int64_t n) {
  constexpr int64_t kStep = kLanes<A>;
  Vector<A> sums[4] = {};
  int64_t i = 0;
  for (; i + 4 * kStep <= n; i += 4 * kStep) {
    for (int k = 0; k < 4; ++k) sums[k] = fma(load(a + i + k * kStep), load(b + i + k * kStep), sums[k]);
  }
  for (; i + kStep <= n; i += kStep) sums[0] = fma(load(a + i), load(b + i), sums[0]);
  if (i < n) sums[1] = fma(load(a + i, n - i), load(b + i, n - i), sums[1]);
  return sum<A>((sums[0] + sums[1]) + (sums[2] + sums[3]));
}

template <typename A>
struct Kernels {
  static A dot(const A* a, const A* b, int64_t n) { return dot_of(a, b, n); }

  // y[r] += <M[r], x> for the rows [begin, end).
  static void rows(const A* m, const A* x, A* y, int64_t columns, int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) y[r] += dot_of(m + r * columns, x, columns);
  }

  // y[c] += sum over r of x[r] M[r, c] for the columns [begin, end).
  static void columns(const A* m, const A* x, A* y, int64_t rows, int64_t columns, int64_t begin, int64_t end) {
    constexpr int64_t kStep = kLanes<A>;
    constexpr int kBlock = 8;  // vectors of sums that stay in registers
    int64_t c = begin;
    for (; c + kBlock * kStep <= end; c += kBlock * kStep) {
      Vector<A> sums[kBlock];
      for (int k = 0; k < kBlock; ++k) sums[k] = load(y + c + k * kStep);
      for (int64_t r = 0; r < rows; ++r) {
        const Vector<A> factor = splat(x[r]);
        for (int k = 0; k < kBlock; ++k) sums[k] = fma(factor, load(m + r * columns + c + k * kStep), sums[k]);
      }
      for (int k = 0; k < kBlock; ++k) store(y + c + k * kStep, sums[k]);
    }
    for (; c < end; c += kStep) {
      const int64_t here = end - c < kStep ? end - c : kStep;
      Vector<A> sums = load(y + c, here);
      for (int64_t r = 0; r < rows; ++r) sums = fma(splat(x[r]), load(m + r * columns + c, here), sums);
      store(y + c, sums, here);
    }
  }

  // y = factor x.
  static void scale(const A* x, A factor, A* y, int64_t n) {
    constexpr int64_t kStep = kLanes<A>;
    int64_t i = 0;
    for (; i + kStep <= n; i += kStep) store(y + i, factor * load(x + i));
    if (i < n) store(y + i, factor * load(x + i, n - i), n - i);
  }

  // y = factor x - less along.
  static void scale_less(const A* x, A factor, A less, const A* along, A* y, int64_t n) {
    constexpr int64_t kStep = kLanes<A>;
    int64_t i = 0;
    for (; i + kStep <= n; i += kStep) store(y + i, factor * load(x + i) - less * load(along + i));
    if (i < n) store(y + i, factor * load(x + i, n - i) - less * load(along + i, n - i), n - i);
  }
};

}  // namespace ganengine::spectral_norm::GANENGINE_ISA
