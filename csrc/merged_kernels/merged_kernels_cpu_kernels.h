// CPU kernels of merged_kernels for one instruction set (common/isa.h); formulas in ganengine/ops/merged_kernels.py.
// What kernels hold at one place of their window is a plane: a weight [K, C, 3, 3] lies as [K, 9 planes, C].

namespace ganengine::merged_kernels::GANENGINE_ISA {

using namespace simd::GANENGINE_ISA;

// From 3 x 3 to 4 x 4: the sum of those places at (r, t) and one up or left of it that the small window has. Terms are
// added in the order in which they lie, as a product of matrices adds them.
struct Spread {
  static constexpr int64_t kFrom = 9, kTo = 16;

  template <int64_t kAt, typename V>
  static GANENGINE_INLINE V sum(const V* small) {
    constexpr int64_t r = kAt / 4, t = kAt % 4;
    constexpr int64_t top = r > 0 ? r - 1 : 0, bottom = r < 3 ? r : 2, left = t > 0 ? t - 1 : 0, right = t < 3 ? t : 2;
    V total = small[3 * top + left];
    if constexpr (left < right) total += small[3 * top + right];
    if constexpr (top < bottom) {
      total += small[3 * bottom + left];
      if constexpr (left < right) total += small[3 * bottom + right];
    }
    return total;
  }
};

// Back: the sum of the four places to which one has gone.
struct Gather {
  static constexpr int64_t kFrom = 16, kTo = 9;

  template <int64_t kAt, typename V>
  static GANENGINE_INLINE V sum(const V* large) {
    constexpr int64_t first = kAt / 3 * 4 + kAt % 3;
    return large[first] + large[first + 1] + large[first + 4] + large[first + 5];
  }
};

// One vector (its first `count` lanes) of each plane. kTurned: the window made is turned by half a circle.
template <typename Way, bool kTurned, bool kWhole, typename A, int64_t... kAt>
GANENGINE_INLINE void sum_vectors(const A* from, int64_t from_step, A* to, int64_t to_step, A factor, int64_t count,
                                  std::integer_sequence<int64_t, kAt...>) {
  Vector<A> planes[Way::kFrom];
  for (int64_t p = 0; p < Way::kFrom; ++p) {
    planes[p] = kWhole ? load(from + p * from_step) : load(from + p * from_step, count);
  }
  (put<kWhole>(to + (kTurned ? Way::kTo - 1 - kAt : kAt) * to_step, factor * Way::template sum<kAt>(planes), count),
   ...);
}

// `count` numbers of each plane; planes lie `step` apart.
template <typename Way, bool kTurned, typename A>
GANENGINE_INLINE void sum_planes(const A* from, int64_t from_step, A* to, int64_t to_step, A factor, int64_t count) {
  constexpr std::make_integer_sequence<int64_t, Way::kTo> places{};
  constexpr int64_t kStep = kLanes<A>;
  int64_t i = 0;
  for (; i + kStep <= count; i += kStep) {
    sum_vectors<Way, kTurned, true>(from + i, from_step, to + i, to_step, factor, kStep, places);
  }
  if (i < count) sum_vectors<Way, kTurned, false>(from + i, from_step, to + i, to_step, factor, count - i, places);
}

// Where the innermost axis changes, tiles of kSide x kSide numbers of each plane are turned over in the cache.
constexpr int64_t kSide = 16;

// to[j, i] = from[i, j].
template <typename A>
GANENGINE_INLINE void transpose(const A* from, int64_t from_step, A* to, int64_t to_step, int64_t rows,
                                int64_t columns) {
  int64_t whole = 0;  // rows that are done
#if GANENGINE_X86
  if constexpr (sizeof(A) == 4) {
    if (columns % 4 == 0) {
      for (; whole + 4 <= rows; whole += 4) {
        for (int64_t j = 0; j < columns; j += 4) {
          __m128 lines[4];
          for (int i = 0; i < 4; ++i) lines[i] = _mm_loadu_ps(from + (whole + i) * from_step + j);
          _MM_TRANSPOSE4_PS(lines[0], lines[1], lines[2], lines[3]);
          for (int i = 0; i < 4; ++i) _mm_storeu_ps(to + (j + i) * to_step + whole, lines[i]);
        }
      }
    }
  }
#endif
  for (int64_t i = whole; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) to[j * to_step + i] = from[i * from_step + j];
  }
}

template <typename A>
struct Kernels {
  // [K, 9, C] to [K, 16, C], the outputs [begin, end) of K.
  static void means(const A* weight, A* merged, int64_t inputs, int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      sum_planes<Spread, false>(weight + k * Spread::kFrom * inputs, inputs, merged + k * Spread::kTo * inputs, inputs,
                                A(0.25), inputs);
    }
  }

  // [K, 16, C] to [K, 9, C], the outputs [begin, end) of K.
  static void means_backward(const A* grad, A* weight, int64_t inputs, int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; ++k) {
      sum_planes<Gather, false>(grad + k * Gather::kFrom * inputs, inputs, weight + k * Gather::kTo * inputs, inputs,
                                A(0.25), inputs);
    }
  }

  // [K, 9, C] to [C, 16, K], the inputs [begin, end) of C.
  static void repeats(const A* weight, A* merged, int64_t outputs, int64_t inputs, int64_t begin, int64_t end) {
    A tile[Spread::kFrom * kSide * kSide];  // [9, C, K]
    for (int64_t c = begin; c < end; c += kSide) {
      const int64_t high = end - c < kSide ? end - c : kSide;
      for (int64_t k = 0; k < outputs; k += kSide) {
        const int64_t wide = outputs - k < kSide ? outputs - k : kSide;
        for (int64_t p = 0; p < Spread::kFrom; ++p) {
          transpose(weight + (k * Spread::kFrom + p) * inputs + c, Spread::kFrom * inputs, tile + p * kSide * kSide,
                    kSide, wide, high);
        }
        for (int64_t i = 0; i < high; ++i) {
          sum_planes<Spread, true>(tile + i * kSide, kSide * kSide, merged + (c + i) * Spread::kTo * outputs + k,
                                   outputs, A(1), wide);
        }
      }
    }
  }

  // [C, 16, K] to [K, 9, C], the outputs [begin, end) of K.
  static void repeats_backward(const A* grad, A* weight, int64_t outputs, int64_t inputs, int64_t begin, int64_t end) {
    A tile[Gather::kTo * kSide * kSide];  // [9, C, K]
    for (int64_t k = begin; k < end; k += kSide) {
      const int64_t wide = end - k < kSide ? end - k : kSide;
      for (int64_t c = 0; c < inputs; c += kSide) {
        const int64_t high = inputs - c < kSide ? inputs - c : kSide;
        for (int64_t i = 0; i < high; ++i) {
          sum_planes<Gather, true>(grad + (c + i) * Gather::kFrom * outputs + k, outputs, tile + i * kSide,
                                   kSide * kSide, A(1), wide);
        }
        for (int64_t p = 0; p < Gather::kTo; ++p) {
          transpose(tile + p * kSide * kSide, kSide, weight + (k * Gather::kTo + p) * inputs + c, Gather::kTo * inputs,
                    high, wide);
        }
      }
    }
  }
};

}  // namespace ganengine::merged_kernels::GANENGINE_ISA
