// CPU kernels of im2col for one instruction set (common/isa.h); the formulas are in ganengine/ops/im2col.py.

namespace ganengine::im2col::GANENGINE_ISA {

using namespace simd::GANENGINE_ISA;

// Adds up, for `kVectors` vectors of channels (the last one of `count` lanes), what `terms` places say of one pixel.
template <int kVectors, bool kWhole, typename T, typename A = Accumulator<T>>
GANENGINE_INLINE void sum_terms(const T* patches, const int64_t* offsets, int64_t terms, T* to, int64_t count) {
  Vector<A> sums[kVectors] = {};
  for (int64_t term = 0; term < terms; ++term) {
    const T* from = patches + offsets[term];
    for (int v = 0; v < kVectors; ++v) {
      sums[v] += kWhole ? load(from + v * kLanes<A>) : load(from + v * kLanes<A>, count);
    }
  }
  for (int v = 0; v < kVectors; ++v) {
    if constexpr (kWhole) {
      store(to + v * kLanes<A>, sums[v]);
    } else {
      store(to + v * kLanes<A>, sums[v], count);
    }
  }
}

// The rows of pixels [begin, end) of all pictures, each pixel the sum of what the windows that it lies in hold of it.
template <typename T>
void backward(const Problem& p, const T* patches, T* x, int64_t* offsets, int64_t begin, int64_t end) {
  constexpr int64_t kStep = kLanes<Accumulator<T>>;
  constexpr int kBlock = 8;
  for (int64_t row = begin; row < end; ++row) {
    const int64_t n = row / p.height, y = row % p.height;
    for (int64_t i = 0; i < p.width; ++i) {
      int64_t terms = 0;
      for (int64_t r = 0; r < p.rows; ++r) {
        const int64_t above = y + p.padding_top - r, down = above / p.stride_down;
        if (above < 0 || above % p.stride_down || down >= p.down) continue;
        for (int64_t c = 0; c < p.columns; ++c) {
          const int64_t before = i + p.padding_left - c, across = before / p.stride_across;
          if (before < 0 || before % p.stride_across || across >= p.across) continue;
          offsets[terms++] =
              (((n * p.down + down) * p.across + across) * p.rows * p.columns + r * p.columns + c) * p.channels;
        }
      }
      T* to = x + (row * p.width + i) * p.channels;
      int64_t c = 0;
      for (; c + kBlock * kStep <= p.channels; c += kBlock * kStep) {
        sum_terms<kBlock, true>(patches + c, offsets, terms, to + c, kStep);
      }
      for (; c + kStep <= p.channels; c += kStep) sum_terms<1, true>(patches + c, offsets, terms, to + c, kStep);
      if (c < p.channels) sum_terms<1, false>(patches + c, offsets, terms, to + c, p.channels - c);
    }
  }
}

}  // namespace ganengine::im2col::GANENGINE_ISA
