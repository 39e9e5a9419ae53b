// Device code of conditional batch norm, and the host code that strings its kernels together; the tests run both in the
// emulator. The formulas are in ganengine/ops/conditional_batch_norm.py.
//
// Data lies in memory in one of two ways, each with its own set of kernels:
//
//   planes   [N, C, L]  contiguous: a group of lanes takes the L positions of one sample and channel
//   rows     [N, L, C]  channels-last (and L = 1): a thread takes a few channels and walks down the positions
//
// Statistics and sums are made tile by tile (a range of positions of one sample) into parts [tiles, N, C], which a
// second kernel merges per channel. Where a channel of all samples fits into shared memory ("resident"), one block does
// all of it and reads each input once. No kernel uses atomics: the same shape gives the same bits.
#pragma once

#include <initializer_list>

#include "common/cuda_reduce.cuh"
#include "conditional_batch_norm/conditional_batch_norm.h"
#include "conditional_batch_norm/conditional_batch_norm_cuda.h"

namespace ganengine::conditional_batch_norm {

// How the work is cut. Tests set other numbers, so that small cases meet every kernel.
struct Limits {
  int64_t resident_bytes = kMostShared;
  int64_t tile = 4096;  // positions, at least
  int64_t tiles = 16;   // of a sample, at most: scratch stays O(N * channels)
  int64_t blocks = kMostBlocks;
};

template <typename A>
struct Affine {
  A gamma, beta;
};

// The row of sample n; -1, after a device-side assertion, for a label that is out of range.
template <typename A>
GANENGINE_DEVICE int64_t row_of(const Classes<A>& classes, int64_t n) {
  int64_t row = n;
  if (classes.labels64 != nullptr) row = classes.labels64[n];
  if (classes.labels32 != nullptr) row = classes.labels32[n];
  const bool in_range = row >= 0 && row < classes.rows;
  GANENGINE_DEVICE_ASSERT(in_range && "conditional_batch_norm: a label is out of range");
  return in_range ? row : -1;
}

// Scale and shift of a row and channel. Where assertions are compiled out, a label out of range gives NaN: nothing is
// read.
template <typename A>
GANENGINE_DEVICE Affine<A> affine_of(const Classes<A>& classes, int64_t row, int64_t channel, int64_t channels) {
  const A nan = static_cast<A>(NAN);
  if (row < 0) return {nan, nan};
  return {classes.gamma[row * channels + channel], classes.beta[row * channels + channel]};
}

template <typename A>
GANENGINE_DEVICE A rstd_of(A var, A eps) {
  return A(1) / std::sqrt(var + eps);
}

// What one sample and channel needs, forward.
template <typename A>
struct Forward {
  A mean, scale, beta, slope;

  // Forward and backward must round alike: the gradient hangs on the sign of z.
  GANENGINE_DEVICE A z(A x) const { return std::fma(x - mean, scale, beta); }
  GANENGINE_DEVICE A operator()(A x) const { return activate(z(x), slope); }
};

// What one sample and channel needs, backward.
template <typename A>
struct Backward {
  Forward<A> forward;
  A rstd;
  A mean_grad, mean_grad_xn;  // of gamma gz and of gamma gz xn over the channel; 0 where the statistics were given

  GANENGINE_DEVICE A grad_z(A x, A grad) const { return activate_gradient(grad, forward.z(x), forward.slope); }
  GANENGINE_DEVICE A xn(A x) const { return (x - forward.mean) * rstd; }
  GANENGINE_DEVICE A grad_x(A x, A grad) const {
    return grad_z(x, grad) * forward.scale - std::fma(xn(x), mean_grad_xn, mean_grad) * rstd;
  }
  GANENGINE_DEVICE void add(A x, A grad, Sums<A>& sums) const {
    const A gz = grad_z(x, grad);
    sums.first.value += gz;
    sums.second.value = std::fma(gz, xn(x), sums.second.value);
  }
};

// One call's constants, as every kernel takes them.
template <typename A>
struct Norm {
  Classes<A> classes;
  const A* mean;  // [C]
  const A* var;   // [C]
  A eps, slope;
};

template <typename A>
GANENGINE_DEVICE Forward<A> forward_of(const Norm<A>& norm, int64_t row, int64_t channel, int64_t channels) {
  const Affine<A> affine = affine_of(norm.classes, row, channel, channels);
  return {norm.mean[channel], affine.gamma * rstd_of(norm.var[channel], norm.eps), affine.beta, norm.slope};
}

// `means` holds the two means of all channels one after the other; null: the statistics were given.
template <typename A>
GANENGINE_DEVICE Backward<A> backward_of(const Norm<A>& norm, const A* means, int64_t row, int64_t channel,
                                         int64_t channels) {
  const Forward<A> forward = forward_of(norm, row, channel, channels);
  const A rstd = rstd_of(norm.var[channel], norm.eps);
  if (means == nullptr) return {forward, rstd, A(0), A(0)};
  return {forward, rstd, means[channel], means[channels + channel]};
}

// Samples cut into tiles, and tiles dealt out to groups of threads.
struct Tiling {
  int64_t samples, channels, positions;
  int64_t tile, tiles;  // positions per tile, tiles per sample
  int64_t columns;      // planes: channels; rows: blocks side by side
  int width;            // threads of a group (planes) or of a row (rows)

  GANENGINE_HD int64_t items() const { return tiles * samples * columns; }
  GANENGINE_HD int64_t parts() const { return tiles * samples; }
  GANENGINE_HD int64_t begin(int64_t t) const { return t * tile; }
  GANENGINE_HD int64_t end(int64_t t) const { return t + 1 < tiles ? (t + 1) * tile : positions; }
};

// Item (tile, sample, column) in memory order of the parts.
struct Item {
  int64_t tile, sample, column;

  GANENGINE_DEVICE Item(const Tiling& tiling, int64_t number) {
    sample = number / tiling.columns;
    column = number - sample * tiling.columns;
    tile = tiling.tiles > 1 ? sample / tiling.samples : 0;  // a division of 64 bits costs as much as a load
    sample -= tile * tiling.samples;
  }
};

// ----------------------------------------------------------------------------------------------------------------------
// Planes: a group of `width` threads, a power of two up to 32 or the whole block, takes an item.

template <typename T, int V>
__global__ void plane_moments_kernel(const T* __restrict__ x, Tiling tiling, Wide<T>* __restrict__ means,
                                     Wide<T>* __restrict__ squares) {
  using A = Wide<T>;
  const int lane = static_cast<int>(threadIdx.x) % tiling.width;
  const int64_t groups = blockDim.x / tiling.width;
  for (int64_t first = blockIdx.x * groups; first < tiling.items(); first += gridDim.x * groups) {
    const int64_t number = first + threadIdx.x / tiling.width;
    const bool taken = number < tiling.items();
    Series<A, V> series;
    if (taken) {
      const Item item(tiling, number);
      const T* plane = x + (item.sample * tiling.channels + item.column) * tiling.positions;
      for (int64_t i = tiling.begin(item.tile) + lane * V; i < tiling.end(item.tile); i += tiling.width * V) {
        const Pack<T, V> packed = load<V>(plane + i);
        A values[V];
#pragma unroll
        for (int j = 0; j < V; ++j) values[j] = widen(packed.at[j]);
        series.add(values);
      }
    }
    const Moments<A> moments = reduce_group(series.together(), tiling.width);
    if (taken && lane == 0) {
      means[number] = moments.mean.total();
      squares[number] = moments.squares;
    }
  }
}

template <typename T, int V>
__global__ void plane_normalise_kernel(const T* __restrict__ x, Tiling tiling, Norm<Wide<T>> norm, T* __restrict__ y) {
  using A = Wide<T>;
  const int lane = static_cast<int>(threadIdx.x) % tiling.width;
  const int64_t groups = blockDim.x / tiling.width;
  for (int64_t number = blockIdx.x * groups + threadIdx.x / tiling.width; number < tiling.items();
       number += gridDim.x * groups) {
    const Item item(tiling, number);
    const int64_t plane = (item.sample * tiling.channels + item.column) * tiling.positions;
    const Forward<A> forward = forward_of(norm, row_of(norm.classes, item.sample), item.column, tiling.channels);
    for (int64_t i = tiling.begin(item.tile) + lane * V; i < tiling.end(item.tile); i += tiling.width * V) {
      const Pack<T, V> packed = load<V>(x + plane + i);
      A values[V];
#pragma unroll
      for (int j = 0; j < V; ++j) values[j] = forward(widen(packed.at[j]));
      store_narrow<V>(y + plane + i, values);
    }
  }
}

// Sums of gz and of gz xn per item. Where the statistics were given nothing else is needed for grad_x, which is then
// made on the way; null: it is not.
template <typename T, int V>
__global__ void plane_sums_kernel(const T* __restrict__ grad_y, const T* __restrict__ x, Tiling tiling,
                                  Norm<Wide<T>> norm, Wide<T>* __restrict__ sums_grad,
                                  Wide<T>* __restrict__ sums_grad_xn, T* __restrict__ grad_x) {
  using A = Wide<T>;
  const int lane = static_cast<int>(threadIdx.x) % tiling.width;
  const int64_t groups = blockDim.x / tiling.width;
  for (int64_t first = blockIdx.x * groups; first < tiling.items(); first += gridDim.x * groups) {
    const int64_t number = first + threadIdx.x / tiling.width;
    const bool taken = number < tiling.items();
    Sums<A> sums{};
    if (taken) {
      const Item item(tiling, number);
      const int64_t plane = (item.sample * tiling.channels + item.column) * tiling.positions;
      const Backward<A> backward =
          backward_of<A>(norm, nullptr, row_of(norm.classes, item.sample), item.column, tiling.channels);
      for (int64_t i = tiling.begin(item.tile) + lane * V; i < tiling.end(item.tile); i += tiling.width * V) {
        const Pack<T, V> packed = load<V>(x + plane + i), grads = load<V>(grad_y + plane + i);
        A values[V];
#pragma unroll
        for (int j = 0; j < V; ++j) {
          const A value = widen(packed.at[j]), grad = widen(grads.at[j]);
          backward.add(value, grad, sums);
          values[j] = backward.grad_z(value, grad) * backward.forward.scale;
        }
        if (grad_x != nullptr) store_narrow<V>(grad_x + plane + i, values);
      }
    }
    sums = reduce_group(sums, tiling.width);
    if (taken && lane == 0) {
      sums_grad[number] = sums.first.total();
      sums_grad_xn[number] = sums.second.total();
    }
  }
}

template <typename T, int V>
__global__ void plane_grad_x_kernel(const T* __restrict__ grad_y, const T* __restrict__ x, Tiling tiling,
                                    Norm<Wide<T>> norm, const Wide<T>* __restrict__ means, T* __restrict__ grad_x) {
  using A = Wide<T>;
  const int lane = static_cast<int>(threadIdx.x) % tiling.width;
  const int64_t groups = blockDim.x / tiling.width;
  for (int64_t number = blockIdx.x * groups + threadIdx.x / tiling.width; number < tiling.items();
       number += gridDim.x * groups) {
    const Item item(tiling, number);
    const int64_t plane = (item.sample * tiling.channels + item.column) * tiling.positions;
    const Backward<A> backward =
        backward_of(norm, means, row_of(norm.classes, item.sample), item.column, tiling.channels);
    for (int64_t i = tiling.begin(item.tile) + lane * V; i < tiling.end(item.tile); i += tiling.width * V) {
      const Pack<T, V> packed = load<V>(x + plane + i), grads = load<V>(grad_y + plane + i);
      A values[V];
#pragma unroll
      for (int j = 0; j < V; ++j) values[j] = backward.grad_x(widen(packed.at[j]), widen(grads.at[j]));
      store_narrow<V>(grad_x + plane + i, values);
    }
  }
}

// ----------------------------------------------------------------------------------------------------------------------
// Planes of a channel that fit into shared memory: a block takes the channel. Each thread reads back only what it put
// into the cache itself, hence no barriers around it.

template <typename T, int V>
__global__ void resident_forward_kernel(const T* __restrict__ x, Tiling tiling, Classes<Wide<T>> classes, Wide<T> eps,
                                        Wide<T> slope, Wide<T>* __restrict__ mean, Wide<T>* __restrict__ var,
                                        T* __restrict__ y) {
  using A = Wide<T>;
  GANENGINE_DYNAMIC_SHARED(T, cache);  // [N, L]
  const int lane = static_cast<int>(threadIdx.x) % tiling.width;
  const int64_t groups = blockDim.x / tiling.width, length = tiling.positions;
  for (int64_t channel = blockIdx.x; channel < tiling.channels; channel += gridDim.x) {
    Series<A, V> series;
    for (int64_t n = threadIdx.x / tiling.width; n < tiling.samples; n += groups) {
      const T* plane = x + (n * tiling.channels + channel) * length;
      for (int64_t i = lane * V; i < length; i += tiling.width * V) {
        const Pack<T, V> packed = load<V>(plane + i);
        store<V>(cache + n * length + i, packed);
        A values[V];
#pragma unroll
        for (int j = 0; j < V; ++j) values[j] = widen(packed.at[j]);
        series.add(values);
      }
    }
    const Moments<A> moments = reduce_block(series.together());
    const A mean_here = moments.mean.total(), var_here = moments.squares / moments.count;
    if (threadIdx.x == 0) {
      mean[channel] = mean_here;
      var[channel] = var_here;
    }
    for (int64_t n = threadIdx.x / tiling.width; n < tiling.samples; n += groups) {
      const Affine<A> affine = affine_of(classes, row_of(classes, n), channel, tiling.channels);
      const Forward<A> forward{mean_here, affine.gamma * rstd_of(var_here, eps), affine.beta, slope};
      T* plane = y + (n * tiling.channels + channel) * length;
      for (int64_t i = lane * V; i < length; i += tiling.width * V) {
        const Pack<T, V> packed = load<V>(cache + n * length + i);
        A values[V];
#pragma unroll
        for (int j = 0; j < V; ++j) values[j] = forward(widen(packed.at[j]));
        store_narrow<V>(plane + i, values);
      }
    }
  }
}

// With batch statistics. sums_grad and sums_grad_xn are [N, C].
template <typename T, int V>
__global__ void resident_backward_kernel(const T* __restrict__ grad_y, const T* __restrict__ x, Tiling tiling,
                                         Norm<Wide<T>> norm, Wide<T>* __restrict__ sums_grad,
                                         Wide<T>* __restrict__ sums_grad_xn, T* __restrict__ grad_x) {
  using A = Wide<T>;
  GANENGINE_DYNAMIC_SHARED(T, cache);  // [2, N, L]
  const int lane = static_cast<int>(threadIdx.x) % tiling.width;
  const int64_t groups = blockDim.x / tiling.width, length = tiling.positions;
  T* const cached_grad = cache + tiling.samples * length;
  for (int64_t channel = blockIdx.x; channel < tiling.channels; channel += gridDim.x) {
    Sums<A> all{};
    for (int64_t first = 0; first < tiling.samples; first += groups) {
      const int64_t n = first + threadIdx.x / tiling.width;
      const bool taken = n < tiling.samples;
      Sums<A> sums{};
      A gamma = A(0);
      if (taken) {
        const int64_t plane = (n * tiling.channels + channel) * length, row = row_of(norm.classes, n);
        const Backward<A> backward = backward_of<A>(norm, nullptr, row, channel, tiling.channels);
        gamma = affine_of(norm.classes, row, channel, tiling.channels).gamma;
        for (int64_t i = lane * V; i < length; i += tiling.width * V) {
          const Pack<T, V> packed = load<V>(x + plane + i), grads = load<V>(grad_y + plane + i);
          store<V>(cache + n * length + i, packed);
          store<V>(cached_grad + n * length + i, grads);
#pragma unroll
          for (int j = 0; j < V; ++j) backward.add(widen(packed.at[j]), widen(grads.at[j]), sums);
        }
      }
      sums = reduce_group(sums, tiling.width);
      if (taken && lane == 0) {
        sums_grad[n * tiling.channels + channel] = sums.first.total();
        sums_grad_xn[n * tiling.channels + channel] = sums.second.total();
        all = merge(all, Sums<A>{{gamma * sums.first.total(), A(0)}, {gamma * sums.second.total(), A(0)}});
      }
    }
    all = reduce_block(all);
    const A count = static_cast<A>(tiling.samples * length);
    for (int64_t n = threadIdx.x / tiling.width; n < tiling.samples; n += groups) {
      const int64_t plane = (n * tiling.channels + channel) * length;
      Backward<A> backward = backward_of<A>(norm, nullptr, row_of(norm.classes, n), channel, tiling.channels);
      backward.mean_grad = all.first.total() / count;
      backward.mean_grad_xn = all.second.total() / count;
      for (int64_t i = lane * V; i < length; i += tiling.width * V) {
        const Pack<T, V> packed = load<V>(cache + n * length + i), grads = load<V>(cached_grad + n * length + i);
        A values[V];
#pragma unroll
        for (int j = 0; j < V; ++j) values[j] = backward.grad_x(widen(packed.at[j]), widen(grads.at[j]));
        store_narrow<V>(grad_x + plane + i, values);
      }
    }
  }
}

// ----------------------------------------------------------------------------------------------------------------------
// Rows: a block of blockDim.y rows of `width` threads takes an item; a thread has V neighbouring channels.

template <typename T, int V>
__global__ void row_moments_kernel(const T* __restrict__ x, Tiling tiling, Wide<T>* __restrict__ means,
                                   Wide<T>* __restrict__ squares) {
  using A = Wide<T>;
  GANENGINE_DYNAMIC_SHARED(Moments<A>, shared);
  for (int64_t number = blockIdx.x; number < tiling.items(); number += gridDim.x) {
    const Item item(tiling, number);
    const int64_t first = item.column * tiling.width * V, channel = first + threadIdx.x * V;
    Series<A, V> series;
    if (channel < tiling.channels) {
      for (int64_t i = tiling.begin(item.tile) + threadIdx.y; i < tiling.end(item.tile); i += blockDim.y) {
        const Pack<T, V> packed = load<V>(x + (item.sample * tiling.positions + i) * tiling.channels + channel);
        A values[V];
#pragma unroll
        for (int j = 0; j < V; ++j) values[j] = widen(packed.at[j]);
        series.add(values);
      }
    }
    Moments<A> moments[V];
#pragma unroll
    for (int j = 0; j < V; ++j) moments[j] = series.of(j);
    const int64_t part = (item.tile * tiling.samples + item.sample) * tiling.channels;
    reduce_rows(moments, shared, [&](int column, const Moments<A>& total) {
      if (first + column >= tiling.channels) return;
      means[part + first + column] = total.mean.total();
      squares[part + first + column] = total.squares;
    });
  }
}

template <typename T, int V>
__global__ void row_normalise_kernel(const T* __restrict__ x, Tiling tiling, Norm<Wide<T>> norm, T* __restrict__ y) {
  using A = Wide<T>;
  for (int64_t number = blockIdx.x; number < tiling.items(); number += gridDim.x) {
    const Item item(tiling, number);
    const int64_t channel = (item.column * tiling.width + threadIdx.x) * V;
    if (channel >= tiling.channels) continue;
    const int64_t row = row_of(norm.classes, item.sample);
    Forward<A> forward[V];
#pragma unroll
    for (int j = 0; j < V; ++j) forward[j] = forward_of(norm, row, channel + j, tiling.channels);
    for (int64_t i = tiling.begin(item.tile) + threadIdx.y; i < tiling.end(item.tile); i += blockDim.y) {
      const int64_t at = (item.sample * tiling.positions + i) * tiling.channels + channel;
      const Pack<T, V> packed = load<V>(x + at);
      A values[V];
#pragma unroll
      for (int j = 0; j < V; ++j) values[j] = forward[j](widen(packed.at[j]));
      store_narrow<V>(y + at, values);
    }
  }
}

template <typename T, int V>
__global__ void row_sums_kernel(const T* __restrict__ grad_y, const T* __restrict__ x, Tiling tiling,
                                Norm<Wide<T>> norm, Wide<T>* __restrict__ sums_grad, Wide<T>* __restrict__ sums_grad_xn,
                                T* __restrict__ grad_x) {
  using A = Wide<T>;
  GANENGINE_DYNAMIC_SHARED(Sums<A>, shared);
  for (int64_t number = blockIdx.x; number < tiling.items(); number += gridDim.x) {
    const Item item(tiling, number);
    const int64_t first = item.column * tiling.width * V, channel = first + threadIdx.x * V;
    Sums<A> sums[V] = {};
    if (channel < tiling.channels) {
      const int64_t row = row_of(norm.classes, item.sample);
      Backward<A> backward[V];
#pragma unroll
      for (int j = 0; j < V; ++j) backward[j] = backward_of<A>(norm, nullptr, row, channel + j, tiling.channels);
      for (int64_t i = tiling.begin(item.tile) + threadIdx.y; i < tiling.end(item.tile); i += blockDim.y) {
        const int64_t at = (item.sample * tiling.positions + i) * tiling.channels + channel;
        const Pack<T, V> packed = load<V>(x + at), grads = load<V>(grad_y + at);
        A values[V];
#pragma unroll
        for (int j = 0; j < V; ++j) {
          const A value = widen(packed.at[j]), grad = widen(grads.at[j]);
          backward[j].add(value, grad, sums[j]);
          values[j] = backward[j].grad_z(value, grad) * backward[j].forward.scale;
        }
        if (grad_x != nullptr) store_narrow<V>(grad_x + at, values);
      }
    }
    const int64_t part = (item.tile * tiling.samples + item.sample) * tiling.channels;
    reduce_rows(sums, shared, [&](int column, const Sums<A>& total) {
      if (first + column >= tiling.channels) return;
      sums_grad[part + first + column] = total.first.total();
      sums_grad_xn[part + first + column] = total.second.total();
    });
  }
}

template <typename T, int V>
__global__ void row_grad_x_kernel(const T* __restrict__ grad_y, const T* __restrict__ x, Tiling tiling,
                                  Norm<Wide<T>> norm, const Wide<T>* __restrict__ means, T* __restrict__ grad_x) {
  using A = Wide<T>;
  for (int64_t number = blockIdx.x; number < tiling.items(); number += gridDim.x) {
    const Item item(tiling, number);
    const int64_t channel = (item.column * tiling.width + threadIdx.x) * V;
    if (channel >= tiling.channels) continue;
    const int64_t row = row_of(norm.classes, item.sample);
    Backward<A> backward[V];
#pragma unroll
    for (int j = 0; j < V; ++j) backward[j] = backward_of(norm, means, row, channel + j, tiling.channels);
    for (int64_t i = tiling.begin(item.tile) + threadIdx.y; i < tiling.end(item.tile); i += blockDim.y) {
      const int64_t at = (item.sample * tiling.positions + i) * tiling.channels + channel;
      const Pack<T, V> packed = load<V>(x + at), grads = load<V>(grad_y + at);
      A values[V];
#pragma unroll
      for (int j = 0; j < V; ++j) values[j] = backward[j].grad_x(widen(packed.at[j]), widen(grads.at[j]));
      store_narrow<V>(grad_x + at, values);
    }
  }
}

// ----------------------------------------------------------------------------------------------------------------------
// What is left to do per channel. Blocks of 32 channels and kMergeRows rows of threads.

constexpr int kMergeRows = 8;

// Merges the parts of a channel.
template <typename A>
__global__ void merge_moments_kernel(Tiling tiling, const A* __restrict__ means, const A* __restrict__ squares,
                                     A* __restrict__ mean, A* __restrict__ var) {
  GANENGINE_SHARED(Moments<A>, shared, 32 * kMergeRows);
  const int64_t channels = tiling.channels;
  for (int64_t first = blockIdx.x * 32LL; first < channels; first += gridDim.x * 32LL) {
    const int64_t channel = first + threadIdx.x;
    Moments<A> moments[1] = {};
    if (channel < channels) {
      for (int64_t part = threadIdx.y; part < tiling.parts(); part += blockDim.y) {
        const int64_t t = part / tiling.samples, at = part * channels + channel;
        const A count = static_cast<A>(tiling.end(t) - tiling.begin(t));
        moments[0] = merge(moments[0], Moments<A>{count, {means[at], A(0)}, squares[at]});
      }
    }
    reduce_rows(moments, shared, [&](int column, const Moments<A>& total) {
      if (first + column >= channels) return;
      mean[first + column] = total.mean.total();
      var[first + column] = total.squares / total.count;
    });
  }
}

// Merges the parts of each sample into sums [N, C] (in place where there is one tile), and makes the two means of each
// channel, [2, C]; null: the statistics were given.
template <typename A>
__global__ void merge_sums_kernel(Tiling tiling, Classes<A> classes, const A* parts_grad, const A* parts_grad_xn,
                                  A* sums_grad, A* sums_grad_xn, A* __restrict__ means) {
  GANENGINE_SHARED(Sums<A>, shared, 32 * kMergeRows);
  const int64_t channels = tiling.channels;
  for (int64_t first = blockIdx.x * 32LL; first < channels; first += gridDim.x * 32LL) {
    const int64_t channel = first + threadIdx.x;
    Sums<A> all[1] = {};
    if (channel < channels) {
      for (int64_t n = threadIdx.y; n < tiling.samples; n += blockDim.y) {
        const int64_t at = n * channels + channel;
        Sums<A> sums{};
        for (int64_t t = 0; t < tiling.tiles; ++t) {
          const int64_t part = t * tiling.samples * channels + at;
          sums = merge(sums, Sums<A>{{parts_grad[part], A(0)}, {parts_grad_xn[part], A(0)}});
        }
        sums_grad[at] = sums.first.total();
        sums_grad_xn[at] = sums.second.total();
        const A gamma = affine_of(classes, row_of(classes, n), channel, channels).gamma;
        all[0] = merge(all[0], Sums<A>{{gamma * sums.first.total(), A(0)}, {gamma * sums.second.total(), A(0)}});
      }
    }
    const A count = static_cast<A>(tiling.samples * tiling.positions);
    reduce_rows(all, shared, [&](int column, const Sums<A>& total) {
      if (means == nullptr || first + column >= channels) return;
      means[first + column] = total.first.total() / count;
      means[channels + first + column] = total.second.total() / count;
    });
  }
}

// Adds the sums of all samples of a class. Threads side by side have channels side by side; blockIdx.y walks the
// classes.
template <typename A>
__global__ void table_kernel(int64_t samples, int64_t channels, Classes<A> classes, const A* __restrict__ sums_grad,
                             const A* __restrict__ sums_grad_xn, A* __restrict__ grad_gamma,
                             A* __restrict__ grad_beta) {
  for (int64_t row = blockIdx.y; row < classes.rows; row += gridDim.y) {
    for (int64_t channel = blockIdx.x * static_cast<int64_t>(blockDim.x) + threadIdx.x; channel < channels;
         channel += gridDim.x * static_cast<int64_t>(blockDim.x)) {
      Sums<A> sums{};
      for (int64_t n = 0; n < samples; ++n) {
        if (row_of(classes, n) != row) continue;
        const int64_t at = n * channels + channel;
        sums = merge(sums, Sums<A>{{sums_grad[at], A(0)}, {sums_grad_xn[at], A(0)}});
      }
      grad_beta[row * channels + channel] = sums.first.total();
      grad_gamma[row * channels + channel] = sums.second.total();
    }
  }
}

// ----------------------------------------------------------------------------------------------------------------------
// Host: geometry and order of the launches. Nothing here is empty: callers answer empty tensors themselves.

// Tiles for planes: `width` threads of a block of kThreads take one.
inline Tiling plane_tiling(const Extent& extent, int vector, const Limits& limits) {
  const int64_t least = ceil_div(extent.positions, limits.tiles);
  const int64_t tile = ceil_div(least > limits.tile ? least : limits.tile, vector) * vector;
  const int64_t length = tile < extent.positions ? tile : extent.positions;
  const int64_t units = ceil_div(length, vector);
  // Lanes with two packs or more each, up to a warp with eight each.
  const int width = units > 8 * 32 ? kThreads : round_up_power(ceil_div(units, 2), 32);
  return {extent.samples, extent.channels, extent.positions, tile, ceil_div(extent.positions, tile), extent.channels,
          width};
}

// Tiles for rows, of about as many elements: blocks of `width` x (up to kThreads / width) threads take one.
inline Tiling row_tiling(const Extent& extent, int vector, const Limits& limits) {
  const int width = round_up_power(ceil_div(extent.channels, vector), 32);
  const int64_t rows = ceil_div(limits.tile, width), least = ceil_div(extent.positions, limits.tiles);
  const int64_t tile = least > rows ? least : rows;
  return {extent.samples,
          extent.channels,
          extent.positions,
          tile,
          ceil_div(extent.positions, tile),
          ceil_div(extent.channels, static_cast<int64_t>(width) * vector),
          width};
}

inline dim3 row_block(const Tiling& tiling) {
  const int64_t length = tiling.tile < tiling.positions ? tiling.tile : tiling.positions;
  return dim3(static_cast<unsigned>(tiling.width),
              static_cast<unsigned>(round_up_power(length, kThreads / tiling.width)));
}

// Statistics do not care where a sample ends: for rows the whole batch is one, of as many tiles as all samples had.
inline Tiling statistics_tiling(const Extent& extent, int vector, Limits limits) {
  if (!extent.rows) return plane_tiling(extent, vector, limits);
  limits.tiles *= extent.samples;
  return row_tiling({1, extent.channels, extent.count(), true}, vector, limits);
}

inline Tiling sums_tiling(const Extent& extent, int vector, const Limits& limits) {
  return extent.rows ? row_tiling(extent, vector, limits) : plane_tiling(extent, vector, limits);
}

inline bool is_resident(const Extent& extent, int arrays, size_t element, const Limits& limits) {
  return !extent.rows && extent.count() * arrays * static_cast<int64_t>(element) <= limits.resident_bytes;
}

// Elements of scratch memory, in the type of the sums.
inline int64_t forward_scratch(const Extent& extent, bool batch_statistics, size_t element, const Limits& limits = {}) {
  if (!batch_statistics || is_resident(extent, 1, element, limits)) return 0;
  return 2 * statistics_tiling(extent, 1, limits).parts() * extent.channels;
}

inline int64_t backward_scratch(const Extent& extent, const Limits& limits = {}) {
  return 2 * (sums_tiling(extent, 1, limits).parts() + extent.samples + 1) * extent.channels;
}

// The geometry of one call with packs of V.
template <typename T, int V>
struct Launcher {
  using A = Wide<T>;
  Extent extent;
  Limits limits;
  cudaStream_t stream;

  unsigned blocks(int64_t count) const { return grid_size(count, limits.blocks); }
  unsigned grid(const Tiling& tiling) const {
    return blocks(extent.rows ? tiling.items() : ceil_div(tiling.items(), kThreads / tiling.width));
  }
  template <typename S>
  size_t row_shared(const Tiling& tiling) const {
    const dim3 block = row_block(tiling);
    return sizeof(S) * V * block.x * block.y;
  }
  // A block of its own per channel; all threads to one sample where there are few samples.
  Tiling resident_tiling() const {
    const int64_t units = ceil_div(extent.positions, V);
    const int threads = resident_threads();
    const int width = extent.samples * 32 < threads ? threads : round_up_power(units, 32);
    return {extent.samples, extent.channels, extent.positions, extent.positions, 1, extent.channels, width};
  }
  int resident_threads() const {
    const int threads = round_up_power(ceil_div(extent.count(), V), 2 * kThreads);
    return threads < 32 ? 32 : threads;
  }

  void statistics(const T* x, A* mean, A* var, A* scratch) const {
    const Tiling cut = statistics_tiling(extent, V, limits);
    A *const means = scratch, *const squares = scratch + cut.parts() * extent.channels;
    if (extent.rows) {
      GANENGINE_LAUNCH((row_moments_kernel<T, V>), grid(cut), row_block(cut), row_shared<Moments<A>>(cut), stream, x,
                       cut, means, squares);
    } else {
      GANENGINE_LAUNCH((plane_moments_kernel<T, V>), grid(cut), kThreads, 0, stream, x, cut, means, squares);
    }
    GANENGINE_LAUNCH((merge_moments_kernel<A>), blocks(ceil_div(extent.channels, 32)), dim3(32, kMergeRows), 0, stream,
                     cut, means, squares, mean, var);
  }

  void forward(const T* x, const Classes<A>& classes, A eps, A slope, bool batch_statistics, A* mean, A* var, T* y,
               A* scratch) const {
    if (batch_statistics && is_resident(extent, 1, sizeof(T), limits)) {
      const Tiling cut = resident_tiling();
      GANENGINE_LAUNCH((resident_forward_kernel<T, V>), blocks(extent.channels), resident_threads(),
                       extent.count() * sizeof(T), stream, x, cut, classes, eps, slope, mean, var, y);
      return;
    }
    if (batch_statistics) statistics(x, mean, var, scratch);
    const Tiling cut = sums_tiling(extent, V, limits);
    const Norm<A> norm{classes, mean, var, eps, slope};
    if (extent.rows) {
      GANENGINE_LAUNCH((row_normalise_kernel<T, V>), grid(cut), row_block(cut), 0, stream, x, cut, norm, y);
    } else {
      GANENGINE_LAUNCH((plane_normalise_kernel<T, V>), grid(cut), kThreads, 0, stream, x, cut, norm, y);
    }
  }

  void backward(const T* grad_y, const T* x, const Norm<A>& norm, bool batch_statistics, T* grad_x, A* grad_gamma,
                A* grad_beta, A* scratch) const {
    const int64_t table = extent.samples * extent.channels;
    // Without labels the sums of a sample are its gradients.
    const bool labelled = norm.classes.labelled();
    A* const sums_grad = labelled ? scratch : grad_beta;
    A* const sums_grad_xn = labelled ? scratch + table : grad_gamma;
    if (batch_statistics && is_resident(extent, 2, sizeof(T), limits)) {
      const Tiling cut = resident_tiling();
      GANENGINE_LAUNCH((resident_backward_kernel<T, V>), blocks(extent.channels), resident_threads(),
                       2 * extent.count() * sizeof(T), stream, grad_y, x, cut, norm, sums_grad, sums_grad_xn, grad_x);
    } else {
      sums_and_grad_x(grad_y, x, norm, batch_statistics, grad_x, sums_grad, sums_grad_xn, scratch + 2 * table);
    }
    if (!labelled) return;
    const dim3 tables(blocks(ceil_div(extent.channels, 64)), grid_size(norm.classes.rows, 65535));
    GANENGINE_LAUNCH((table_kernel<A>), tables, 64, 0, stream, extent.samples, extent.channels, norm.classes, sums_grad,
                     sums_grad_xn, grad_gamma, grad_beta);
  }

  void sums_and_grad_x(const T* grad_y, const T* x, const Norm<A>& norm, bool batch_statistics, T* grad_x, A* sums_grad,
                       A* sums_grad_xn, A* scratch) const {
    const Tiling cut = sums_tiling(extent, V, limits);
    A* const means = batch_statistics ? scratch : nullptr;
    A *parts_grad = sums_grad, *parts_grad_xn = sums_grad_xn;
    if (cut.tiles > 1) {
      parts_grad = scratch + 2 * extent.channels;
      parts_grad_xn = parts_grad + cut.parts() * extent.channels;
    }
    T* const grad_x_now = batch_statistics ? nullptr : grad_x;
    if (extent.rows) {
      GANENGINE_LAUNCH((row_sums_kernel<T, V>), grid(cut), row_block(cut), row_shared<Sums<A>>(cut), stream, grad_y, x,
                       cut, norm, parts_grad, parts_grad_xn, grad_x_now);
    } else {
      GANENGINE_LAUNCH((plane_sums_kernel<T, V>), grid(cut), kThreads, 0, stream, grad_y, x, cut, norm, parts_grad,
                       parts_grad_xn, grad_x_now);
    }
    if (batch_statistics || cut.tiles > 1) {
      GANENGINE_LAUNCH((merge_sums_kernel<A>), blocks(ceil_div(extent.channels, 32)), dim3(32, kMergeRows), 0, stream,
                       cut, norm.classes, parts_grad, parts_grad_xn, sums_grad, sums_grad_xn, means);
    }
    if (!batch_statistics) return;
    if (extent.rows) {
      GANENGINE_LAUNCH((row_grad_x_kernel<T, V>), grid(cut), row_block(cut), 0, stream, grad_y, x, cut, norm, means,
                       grad_x);
    } else {
      GANENGINE_LAUNCH((plane_grad_x_kernel<T, V>), grid(cut), kThreads, 0, stream, grad_y, x, cut, norm, means,
                       grad_x);
    }
  }
};

template <typename T>
bool takes_packs(const Extent& extent, std::initializer_list<const void*> pointers) {
  bool fits = (extent.rows ? extent.channels : extent.positions) % kVector<T> == 0;
  for (const void* pointer : pointers) fits = fits && is_aligned(pointer, 16);
  return fits;
}

// y, and where the statistics are the batch's also mean and var; else mean and var are read.
template <typename T>
void forward(const Extent& extent, const T* x, const Classes<Wide<T>>& classes, double eps, double slope,
             bool batch_statistics, Wide<T>* mean, Wide<T>* var, T* y, Wide<T>* scratch, cudaStream_t stream,
             const Limits& limits = {}) {
  using A = Wide<T>;
  const auto run = [&](const auto& launcher) {
    launcher.forward(x, classes, static_cast<A>(eps), static_cast<A>(slope), batch_statistics, mean, var, y, scratch);
  };
  if (takes_packs<T>(extent, {x, y})) {
    run(Launcher<T, kVector<T>>{extent, limits, stream});
  } else {
    run(Launcher<T, 1>{extent, limits, stream});
  }
}

template <typename T>
void backward(const Extent& extent, const T* grad_y, const T* x, const Norm<Wide<T>>& norm, bool batch_statistics,
              T* grad_x, Wide<T>* grad_gamma, Wide<T>* grad_beta, Wide<T>* scratch, cudaStream_t stream,
              const Limits& limits = {}) {
  const auto run = [&](const auto& launcher) {
    launcher.backward(grad_y, x, norm, batch_statistics, grad_x, grad_gamma, grad_beta, scratch);
  };
  if (takes_packs<T>(extent, {grad_y, x, grad_x})) {
    run(Launcher<T, kVector<T>>{extent, limits, stream});
  } else {
    run(Launcher<T, 1>{extent, limits, stream});
  }
}

}  // namespace ganengine::conditional_batch_norm
