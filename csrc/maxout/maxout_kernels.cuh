// Device code of Maxout, and the host code that strings its kernels together; the tests run both in the emulator. The
// formulas are in ganengine/ops/maxout.py. Gradients of the bias are summed over splits of the batch, then over the
// splits: no atomics, so the same shape gives the same bits.
#pragma once

#include "common/cuda_reduce.cuh"
#include "maxout/maxout.h"
#include "maxout/maxout_cuda.h"

namespace ganengine::maxout {

struct Limits {
  int64_t split_rows = 256;  // samples that one block of the bias gradient sums up, at least
  int64_t splits = 64;       // at most: scratch is O(features)
  int64_t blocks = kMostBlocks;
};

struct Dropout {
  uint64_t seed, offset;
  uint32_t threshold;
  bool on;
};

// Which of V neighbouring elements of the stream are kept, bit by bit. Two neighbours share a word.
template <int V>
GANENGINE_DEVICE unsigned kept_of(const Dropout& dropout, uint64_t element) {
  unsigned kept = 0;
  if constexpr (V == 1) {
    kept = counter_bits(dropout.seed, element) >= dropout.threshold;
  } else {
    const bool odd = (element & 1) != 0;
    uint64_t words[V / 2 + 1];
#pragma unroll
    for (int k = 0; k <= V / 2; ++k) words[k] = counter_word(dropout.seed, (element >> 1) + k);
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const uint64_t even_start = words[j / 2] >> (32 * (j % 2));
      const uint64_t odd_start = words[(j + 1) / 2] >> (32 * ((j + 1) % 2));
      const uint32_t bits = static_cast<uint32_t>(odd ? odd_start : even_start);
      kept |= static_cast<unsigned>(bits >= dropout.threshold) << j;
    }
  }
  return kept;
}

// A thread takes V neighbouring units of a sample; blockIdx.y walks the samples.
template <typename T, int V>
__global__ void forward_kernel(const T* __restrict__ h, const Wide<T>* __restrict__ bias, Extent extent, bool relu,
                               Dropout dropout, Wide<T> keep_scale, T* __restrict__ y, uint8_t* __restrict__ winner) {
  using A = Wide<T>;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x * V;
  for (int64_t n = blockIdx.y; n < extent.samples; n += gridDim.y) {
    for (int64_t u = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * V; u < extent.units; u += step) {
      A best[V] = {};
      Pack<uint8_t, V> won{};
      for (int64_t p = 0; p < extent.pieces; ++p) {
        const int64_t feature = p * extent.units + u, at = n * extent.features() + feature;
        const Pack<T, V> packed = load<V>(h + at);
        Pack<A, V> shift{};
        if (bias != nullptr) shift = load<V>(bias + feature);
        const unsigned kept = dropout.on ? kept_of<V>(dropout, dropout.offset + static_cast<uint64_t>(at)) : ~0u;
#pragma unroll
        for (int j = 0; j < V; ++j) {
          A a = widen(packed.at[j]) + shift.at[j];
          bool constant = relu && a <= A(0);
          if (constant) a = A(0);
          if (dropout.on) {
            constant = constant || (kept >> j & 1) == 0;
            a = (kept >> j & 1) != 0 ? a * keep_scale : A(0);
          }
          // The first of equals wins; so does the first NaN, over any number.
          const bool wins = p == 0 || (!(a <= best[j]) && best[j] == best[j]);
          if (wins) best[j] = a;
          if (wins) won.at[j] = constant ? kNoGradient : static_cast<uint8_t>(p);
        }
      }
      store_narrow<V>(y + n * extent.units + u, best);
      store<V>(winner + n * extent.units + u, won);
    }
  }
}

template <typename T, int V>
__global__ void backward_kernel(const T* __restrict__ grad_y, const uint8_t* __restrict__ winner, Extent extent,
                                Wide<T> keep_scale, T* __restrict__ grad_h) {
  using A = Wide<T>;
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x * V;
  for (int64_t n = blockIdx.y; n < extent.samples; n += gridDim.y) {
    for (int64_t u = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * V; u < extent.units; u += step) {
      const Pack<T, V> packed = load<V>(grad_y + n * extent.units + u);
      const Pack<uint8_t, V> won = load<V>(winner + n * extent.units + u);
      for (int64_t p = 0; p < extent.pieces; ++p) {
        A values[V];
#pragma unroll
        for (int j = 0; j < V; ++j) values[j] = won.at[j] == p ? widen(packed.at[j]) * keep_scale : A(0);
        store_narrow<V>(grad_h + n * extent.features() + p * extent.units + u, values);
      }
    }
  }
}

// What of the gradient of the bias one block sums up: 32 units, some pieces (blockIdx.y), some samples (blockIdx.z).
// Sums lie in shared memory, [blockDim.y, pieces of the block, 32], a column for each thread.
template <typename T>
__global__ void bias_kernel(const T* __restrict__ grad_y, const uint8_t* __restrict__ winner, Extent extent,
                            Wide<T> keep_scale, int pieces, int64_t split, Wide<T>* __restrict__ parts) {
  using A = Wide<T>;
  GANENGINE_DYNAMIC_SHARED(A, sums);
  const int64_t begin = blockIdx.z * split, end = begin + split < extent.samples ? begin + split : extent.samples;
  const int64_t first = static_cast<int64_t>(blockIdx.y) * pieces;
  const int here = static_cast<int>(first + pieces < extent.pieces ? pieces : extent.pieces - first);
  for (int64_t left = blockIdx.x * 32LL; left < extent.units; left += gridDim.x * 32LL) {
    const int64_t unit = left + threadIdx.x;
    A* const column = sums + threadIdx.y * here * 32 + threadIdx.x;
    for (int p = 0; p < here; ++p) column[p * 32] = A(0);
    if (unit < extent.units) {
      for (int64_t n = begin + threadIdx.y; n < end; n += blockDim.y) {
        const int64_t p = winner[n * extent.units + unit] - first;
        if (p >= 0 && p < here) column[p * 32] += widen(grad_y[n * extent.units + unit]) * keep_scale;
      }
    }
    __syncthreads();
    for (int p = threadIdx.y; p < here && unit < extent.units; p += blockDim.y) {
      A total = A(0);
      for (unsigned row = 0; row < blockDim.y; ++row) total += sums[(row * here + p) * 32 + threadIdx.x];
      parts[blockIdx.z * extent.features() + (first + p) * extent.units + unit] = total;
    }
    __syncthreads();
  }
}

template <typename A>
__global__ void add_parts_kernel(const A* __restrict__ parts, int64_t count, int64_t features, A* __restrict__ sums) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < features; i += step) {
    A total = A(0);
    for (int64_t part = 0; part < count; ++part) total += parts[part * features + i];
    sums[i] = total;
  }
}

// ----------------------------------------------------------------------------------------------------------------------
// Host: geometry and order of the launches. Nothing here is empty: callers answer empty tensors themselves.

inline int64_t split_rows(const Extent& extent, const Limits& limits) {
  const int64_t least = ceil_div(extent.samples, limits.splits);
  return least > limits.split_rows ? least : limits.split_rows;
}

// Elements of scratch memory, in the type of the sums.
inline int64_t backward_scratch(const Extent& extent, const Limits& limits = {}) {
  const int64_t splits = ceil_div(extent.samples, split_rows(extent, limits));
  return splits > 1 ? splits * extent.features() : 0;
}

inline int unit_threads(const Extent& extent, int vector) {
  const int threads = round_up_power(ceil_div(extent.units, vector), kThreads);
  return threads < 32 ? 32 : threads;
}

inline dim3 unit_grid(const Extent& extent, int vector, const Limits& limits) {
  const int64_t across = ceil_div(extent.units, static_cast<int64_t>(vector) * unit_threads(extent, vector));
  return dim3(grid_size(across, limits.blocks),
              grid_size(extent.samples, limits.blocks < 65535 ? limits.blocks : 65535));
}

template <typename T>
void forward(const Extent& extent, const T* h, const Wide<T>* bias, bool relu, double dropout, int64_t seed,
             int64_t offset, T* y, uint8_t* winner, cudaStream_t stream, const Limits& limits = {}) {
  const Dropout drop{static_cast<uint64_t>(seed), static_cast<uint64_t>(offset), drop_threshold(dropout), dropout > 0};
  const auto keep_scale = static_cast<Wide<T>>(1 / (1 - dropout));
  constexpr int V = kVector<T>;
  const bool packs = extent.units % V == 0 && is_aligned(h, 16) && is_aligned(bias, sizeof(Pack<Wide<T>, V>)) &&
                     is_aligned(y, 16) && is_aligned(winner, V);
  const int vector = packs ? V : 1;
  const auto maxout_forward = packs ? forward_kernel<T, V> : forward_kernel<T, 1>;
  GANENGINE_LAUNCH(maxout_forward, unit_grid(extent, vector, limits), unit_threads(extent, vector), 0, stream, h, bias,
                   extent, relu, drop, keep_scale, y, winner);
}

template <typename T>
void backward(const Extent& extent, const T* grad_y, const uint8_t* winner, double dropout, T* grad_h,
              Wide<T>* grad_bias, Wide<T>* scratch, cudaStream_t stream, const Limits& limits = {}) {
  using A = Wide<T>;
  const auto keep_scale = static_cast<A>(1 / (1 - dropout));
  constexpr int V = kVector<T>;
  const bool packs = extent.units % V == 0 && is_aligned(grad_y, 16) && is_aligned(winner, V) && is_aligned(grad_h, 16);
  const int vector = packs ? V : 1;
  const auto maxout_backward = packs ? backward_kernel<T, V> : backward_kernel<T, 1>;
  GANENGINE_LAUNCH(maxout_backward, unit_grid(extent, vector, limits), unit_threads(extent, vector), 0, stream, grad_y,
                   winner, extent, keep_scale, grad_h);

  constexpr int64_t kMostPiecesHere = 64;
  const int pieces = static_cast<int>(extent.pieces < kMostPiecesHere ? extent.pieces : kMostPiecesHere);
  const int64_t split = split_rows(extent, limits), splits = ceil_div(extent.samples, split);
  const int64_t row_bytes = pieces * 32 * static_cast<int64_t>(sizeof(A));
  const int64_t rows = kMostShared / row_bytes < 8 ? kMostShared / row_bytes : 8;
  const dim3 grid(grid_size(ceil_div(extent.units, 32), limits.blocks),
                  static_cast<unsigned>(ceil_div(extent.pieces, pieces)), static_cast<unsigned>(splits));
  A* const parts = splits > 1 ? scratch : grad_bias;
  GANENGINE_LAUNCH((bias_kernel<T>), grid, dim3(32, static_cast<unsigned>(rows)), rows * row_bytes, stream, grad_y,
                   winner, extent, keep_scale, pieces, split, parts);
  if (splits > 1) {
    GANENGINE_LAUNCH((add_parts_kernel<A>), grid_size(ceil_div(extent.features(), kThreads), limits.blocks), kThreads,
                     0, stream, parts, splits, extent.features(), grad_bias);
  }
}

}  // namespace ganengine::maxout
