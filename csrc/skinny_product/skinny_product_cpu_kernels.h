// Products of a weight with few rows for one instruction set (common/isa.h). All matrices lie row by row, without gaps.

namespace ganengine::skinny_product::GANENGINE_ISA {

using namespace simd::GANENGINE_ISA;

// AVX-512 has twice the registers of the others.
constexpr bool kMany = GANENGINE_VECTOR_BYTES == 64;

template <typename A>
struct Kernels {
  static constexpr int64_t kStep = kLanes<A>;

  // ---- to[m, n] = sum over k of rows[m, k] weight[n, k]: products along the weight's rows

  static constexpr int kValueOutputs = 4, kValueRows = kMany ? 4 : 2;
  static constexpr int64_t kLength = 256 * kStep;  // of a sum: errors grow with it

  template <int kRows, int kOutputs>
  static void value_block(const A* rows, const A* weight, int64_t inputs, int64_t outputs, A* to) {
    for (int m = 0; m < kRows; ++m) std::fill_n(to + m * outputs, kOutputs, A{0});
    for (int64_t begin = 0; begin < inputs; begin += kLength) {
      const int64_t end = std::min(begin + kLength, inputs);
      Vector<A> sums[kRows][kOutputs] = {};
      const auto add = [&](int64_t k, auto whole) {
        Vector<A> w[kOutputs];
        for (int n = 0; n < kOutputs; ++n) w[n] = take<whole>(weight + n * inputs + k, end - k);
        for (int m = 0; m < kRows; ++m) {
          const Vector<A> x = take<whole>(rows + m * inputs + k, end - k);
          for (int n = 0; n < kOutputs; ++n) sums[m][n] = fma(x, w[n], sums[m][n]);
        }
      };
      int64_t k = begin;
      for (; k + kStep <= end; k += kStep) add(k, std::true_type{});
      if (k < end) add(k, std::false_type{});
      for (int m = 0; m < kRows; ++m) {
        for (int n = 0; n < kOutputs; ++n) to[m * outputs + n] += sum<A>(sums[m][n]);
      }
    }
  }

  template <int kOutputs>
  static void value_rows(const A* rows, int64_t count, const A* weight, int64_t inputs, int64_t outputs, A* to) {
    int64_t m = 0;
    for (; m + kValueRows <= count; m += kValueRows) {
      value_block<kValueRows, kOutputs>(rows + m * inputs, weight, inputs, outputs, to + m * outputs);
    }
    for (; m < count; ++m) value_block<1, kOutputs>(rows + m * inputs, weight, inputs, outputs, to + m * outputs);
  }

  // The columns [begin, end) of the result.
  static void values(const A* rows, int64_t count, const A* weight, int64_t inputs, int64_t outputs, int64_t begin,
                     int64_t end, A* to) {
    int64_t n = begin;
    for (; n + kValueOutputs <= end; n += kValueOutputs) {
      value_rows<kValueOutputs>(rows, count, weight + n * inputs, inputs, outputs, to + n);
    }
    for (; n < end; ++n) value_rows<1>(rows, count, weight + n * inputs, inputs, outputs, to + n);
  }

  // ---- to[m, k] = sum over n of grad[m, n] weight[n, k]: rows of the weight, added up in sums that stay in the cache

  static constexpr int kInputOutputs = 4, kInputRows = kMany ? 4 : 2;
  static constexpr int64_t kTerms = 64;  // of a sum, which are then added to the result: errors grow with their number

  // Sums lie by themselves: rows of a result are mostly multiples of 4 KiB apart, which caches take for one place.
  template <int kRows, int kOutputs>
  static void input_block(const A* grad, const A* weight, int64_t inputs, int64_t outputs, int64_t columns, int64_t run,
                          A* sums) {
    Vector<A> scale[kRows][kOutputs];
    for (int m = 0; m < kRows; ++m) {
      for (int n = 0; n < kOutputs; ++n) scale[m][n] = splat(grad[m * outputs + n]);
    }
    const auto add = [&](int64_t k, auto whole) {
      Vector<A> w[kOutputs];
      for (int n = 0; n < kOutputs; ++n) w[n] = take<whole>(weight + n * inputs + k, columns - k);
      for (int m = 0; m < kRows; ++m) {
        Vector<A> sum = load(sums + m * run + k);
        for (int n = 0; n < kOutputs; ++n) sum = fma(scale[m][n], w[n], sum);
        store(sums + m * run + k, sum);
      }
    };
    int64_t k = 0;
    for (; k + kStep <= columns; k += kStep) add(k, std::true_type{});
    if (k < columns) add(k, std::false_type{});
  }

  template <int kOutputs>
  static void input_rows(const A* grad, int64_t count, const A* weight, int64_t inputs, int64_t outputs,
                         int64_t columns, int64_t run, A* sums) {
    int64_t m = 0;
    for (; m + kInputRows <= count; m += kInputRows) {
      input_block<kInputRows, kOutputs>(grad + m * outputs, weight, inputs, outputs, columns, run, sums + m * run);
    }
    for (; m < count; ++m) {
      input_block<1, kOutputs>(grad + m * outputs, weight, inputs, outputs, columns, run, sums + m * run);
    }
  }

  // The columns [begin, end) of the result; `sums` has room for `run` of each row.
  static void inputs(const A* grad, int64_t count, const A* weight, int64_t inputs, int64_t outputs, int64_t begin,
                     int64_t end, int64_t run, A* sums, A* to) {
    for (int64_t k = begin; k < end; k += run) {
      const int64_t columns = std::min(run, end - k);
      for (int64_t m = 0; m < count; ++m) std::fill_n(to + m * inputs + k, columns, A{0});
      for (int64_t from = 0; from < outputs; from += kTerms) {
        const int64_t until = std::min(from + kTerms, outputs);
        std::fill(sums, sums + count * run, A{0});
        int64_t n = from;
        for (; n + kInputOutputs <= until; n += kInputOutputs) {
          input_rows<kInputOutputs>(grad + n, count, weight + n * inputs + k, inputs, outputs, columns, run, sums);
        }
        for (; n < until; ++n) {
          input_rows<1>(grad + n, count, weight + n * inputs + k, inputs, outputs, columns, run, sums);
        }
        for (int64_t m = 0; m < count; ++m) {
          for (int64_t i = 0; i < columns; ++i) to[m * inputs + k + i] += sums[m * run + i];
        }
      }
    }
  }

  // ---- to[n, k] = sum over m of grad[m, n] rows[m, k]: few products for each number that is written

  static constexpr int kWeightOutputs = kMany ? 4 : 6, kWeightVectors = kMany ? 4 : 2;

  template <int kOutputs, int kVectors, bool kWhole>
  static void weight_block(const A* grad, const A* rows, int64_t count, int64_t inputs, int64_t outputs, int64_t left,
                           A* to) {
    Vector<A> sums[kOutputs][kVectors] = {};
    for (int64_t m = 0; m < count; ++m) {
      Vector<A> x[kVectors];
      for (int v = 0; v < kVectors; ++v) x[v] = take<kWhole>(rows + m * inputs + v * kStep, left);
      for (int n = 0; n < kOutputs; ++n) {
        const Vector<A> scale = splat(grad[m * outputs + n]);
        for (int v = 0; v < kVectors; ++v) sums[n][v] = fma(scale, x[v], sums[n][v]);
      }
    }
    for (int n = 0; n < kOutputs; ++n) {
      for (int v = 0; v < kVectors; ++v) put<kWhole>(to + n * inputs + v * kStep, sums[n][v], left);
    }
  }

  template <int kOutputs>
  static void weight_rows(const A* grad, const A* rows, int64_t count, int64_t inputs, int64_t outputs, A* to) {
    int64_t k = 0;
    for (; k + kWeightVectors * kStep <= inputs; k += kWeightVectors * kStep) {
      weight_block<kOutputs, kWeightVectors, true>(grad, rows + k, count, inputs, outputs, kStep, to + k);
    }
    for (; k + kStep <= inputs; k += kStep) {
      weight_block<kOutputs, 1, true>(grad, rows + k, count, inputs, outputs, kStep, to + k);
    }
    if (k < inputs) weight_block<kOutputs, 1, false>(grad, rows + k, count, inputs, outputs, inputs - k, to + k);
  }

  // The rows [begin, end) of the result.
  static void weights(const A* grad, const A* rows, int64_t count, int64_t inputs, int64_t outputs, int64_t begin,
                      int64_t end, A* to) {
    int64_t n = begin;
    for (; n + kWeightOutputs <= end; n += kWeightOutputs) {
      weight_rows<kWeightOutputs>(grad + n, rows, count, inputs, outputs, to + n * inputs);
    }
    for (; n < end; ++n) weight_rows<1>(grad + n, rows, count, inputs, outputs, to + n * inputs);
  }
};

}  // namespace ganengine::skinny_product::GANENGINE_ISA
