// Sums over the rows of a matrix for one instruction set (common/isa.h).

namespace ganengine::convolution_bias::GANENGINE_ISA {

using namespace simd::GANENGINE_ISA;

// Adds `rows` rows, `step` elements apart, up in `kVectors` vectors (the last one of `count` lanes).
template <int kVectors, bool kWhole, typename T, typename A = Accumulator<T>>
GANENGINE_INLINE void sum_rows(const T* x, int64_t rows, int64_t step, A* to, int64_t count) {
  constexpr int kAtOnce = kVectors > 2 ? 1 : 4;  // rows that are added by themselves: an addition takes some cycles
  Vector<A> sums[kAtOnce][kVectors] = {};
  const auto add = [&](int64_t row, int which) {
    for (int v = 0; v < kVectors; ++v) {
      const T* from = x + row * step + v * kLanes<A>;
      sums[which][v] += take<kWhole>(from, count);
    }
  };
  int64_t row = 0;
  for (; row + kAtOnce <= rows; row += kAtOnce) {
    for (int k = 0; k < kAtOnce; ++k) add(row + k, k);
  }
  for (; row < rows; ++row) add(row, 0);
  for (int v = 0; v < kVectors; ++v) {
    for (int k = 1; k < kAtOnce; ++k) sums[0][v] += sums[k][v];
    put<kWhole>(to + v * kLanes<A>, sums[0][v], count);
  }
}

// to[c] = sum over the rows of x [rows, columns].
template <typename T>
void columns(const T* x, int64_t rows, int64_t columns, Accumulator<T>* to) {
  constexpr int64_t kStep = kLanes<Accumulator<T>>;
  constexpr int kBlock = 4;
  int64_t c = 0;
  for (; c + kBlock * kStep <= columns; c += kBlock * kStep) {
    sum_rows<kBlock, true>(x + c, rows, columns, to + c, kStep);
  }
  for (; c + 2 * kStep <= columns; c += 2 * kStep) sum_rows<2, true>(x + c, rows, columns, to + c, kStep);
  for (; c + kStep <= columns; c += kStep) sum_rows<1, true>(x + c, rows, columns, to + c, kStep);
  if (c < columns) sum_rows<1, false>(x + c, rows, columns, to + c, columns - c);
}

}  // namespace ganengine::convolution_bias::GANENGINE_ISA
