// Sums and statistics over lanes, blocks and rows of threads, in an order that depends on the launch's shape alone.
#pragma once

#include "common/cuda_compat.cuh"

namespace ganengine {

constexpr unsigned kAllLanes = 0xffffffffu;

// A sum, and in `low` what rounding took from it. Threads add plainly; merging, which few steps do, loses nothing.
template <typename A>
struct Sum {
  A value, low;

  // An infinite sum leaves NaN in `low`.
  GANENGINE_DEVICE A total() const { return low == low ? value + low : value; }
};

// a + b, exactly: the rounded sum and its error. Knuth's two-sum.
template <typename A>
GANENGINE_DEVICE Sum<A> add_exactly(A a, A b) {
  const A value = a + b, moved = value - a;
  return {value, (a - (value - moved)) + (b - moved)};
}

template <typename A>
GANENGINE_DEVICE Sum<A> merge(const Sum<A>& a, const Sum<A>& b) {
  const Sum<A> sum = add_exactly(a.value, b.value);
  return {sum.value, sum.low + (a.low + b.low)};
}

template <typename A>
GANENGINE_DEVICE Sum<A> shuffle_xor(const Sum<A>& v, int mask) {
  return {__shfl_xor_sync(kAllLanes, v.value, mask), __shfl_xor_sync(kAllLanes, v.low, mask)};
}

// Two sums made side by side.
template <typename A>
struct Sums {
  Sum<A> first, second;
};

template <typename A>
GANENGINE_DEVICE Sums<A> merge(const Sums<A>& a, const Sums<A>& b) {
  return {merge(a.first, b.first), merge(a.second, b.second)};
}

template <typename A>
GANENGINE_DEVICE Sums<A> shuffle_xor(const Sums<A>& v, int mask) {
  return {shuffle_xor(v.first, mask), shuffle_xor(v.second, mask)};
}

// Count, mean and sum of squared distances to the mean of some values: nothing cancels when such are merged. The mean
// is a Sum, as gradients feel its last bits times the number of elements. Paper: Chan, Golub and LeVeque, "Updating
// formulae and a pairwise algorithm for computing sample variances", 1979.
template <typename A>
struct Moments {
  A count;
  Sum<A> mean;
  A squares;
};

template <typename A>
GANENGINE_DEVICE Moments<A> merge(const Moments<A>& a, const Moments<A>& b) {
  if (b.count == A(0)) return a;
  if (a.count == A(0)) return b;
  const A count = a.count + b.count, share = b.count / count;
  const A delta = (b.mean.value - a.mean.value) + (b.mean.low - a.mean.low);
  return {count, merge(a.mean, Sum<A>{delta * share, A(0)}), a.squares + b.squares + delta * delta * (a.count * share)};
}

template <typename A>
GANENGINE_DEVICE Moments<A> shuffle_xor(const Moments<A>& v, int mask) {
  return {__shfl_xor_sync(kAllLanes, v.count, mask), shuffle_xor(v.mean, mask),
          __shfl_xor_sync(kAllLanes, v.squares, mask)};
}

// Moments of V series side by side, one value each at a time. Welford 1962.
template <typename A, int V>
struct Series {
  A count = A(0), mean[V] = {}, squares[V] = {};

  GANENGINE_DEVICE void add(const A (&values)[V]) {
    count += A(1);
    const A share = A(1) / count;
#pragma unroll
    for (int j = 0; j < V; ++j) {
      const A delta = values[j] - mean[j];
      mean[j] = std::fma(delta, share, mean[j]);
      squares[j] = std::fma(delta, values[j] - mean[j], squares[j]);
    }
  }

  GANENGINE_DEVICE Moments<A> of(int j) const { return {count, {mean[j], A(0)}, squares[j]}; }

  GANENGINE_DEVICE Moments<A> together() const {
    Moments<A> all = of(0);
#pragma unroll
    for (int j = 1; j < V; ++j) all = merge(all, of(j));
    return all;
  }
};

// Merges over groups of `width` neighbouring lanes, a power of two up to 32; the first lane of each has the result. All
// lanes of the warp must come here.
template <typename S>
GANENGINE_DEVICE S reduce_lanes(S value, int width) {
  for (int mask = width / 2; mask > 0; mask /= 2) value = merge(value, shuffle_xor(value, mask));
  return value;
}

// Merges over a block of whole warps with one row of threads; every thread has the result.
template <typename S>
GANENGINE_DEVICE S reduce_block(S value) {
  GANENGINE_SHARED(S, parts, 32);
  const int warps = static_cast<int>(blockDim.x / 32);
  value = reduce_lanes(value, 32);
  __syncthreads();  // the result of an earlier call may still be read
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = value;
  __syncthreads();
  S total = parts[0];
  for (int warp = 1; warp < warps; ++warp) total = merge(total, parts[warp]);
  return total;
}

// `reduce_lanes`, or `reduce_block` where a group is the whole block.
template <typename S>
GANENGINE_DEVICE S reduce_group(S value, int width) {
  return width <= 32 ? reduce_lanes(value, width) : reduce_block(value);
}

// Merges over threadIdx.y. Each thread brings the values of V columns, threadIdx.x * V and on; `take(column, total)` is
// called once for each of the blockDim.x * V columns. `shared` has a place for every value of the block.
template <typename S, int V, typename Take>
GANENGINE_DEVICE void reduce_rows(const S (&values)[V], S* shared, const Take& take) {
  const int columns = static_cast<int>(blockDim.x) * V, threads = static_cast<int>(blockDim.x * blockDim.y);
#pragma unroll
  for (int j = 0; j < V; ++j) shared[threadIdx.y * columns + threadIdx.x * V + j] = values[j];
  __syncthreads();
  for (int column = threadIdx.y * blockDim.x + threadIdx.x; column < columns; column += threads) {
    S total = shared[column];
    for (unsigned row = 1; row < blockDim.y; ++row) total = merge(total, shared[row * columns + column]);
    take(column, total);
  }
  __syncthreads();  // the next call writes again
}

}  // namespace ganengine
