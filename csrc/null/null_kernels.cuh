// Device code of the template kernel, and the host code that launches it; the tests run both in the emulator.
#pragma once

#include "common/cuda_compat.cuh"
#include "null/null.h"

namespace ganengine::null {

template <typename T, int V>
__global__ void copy_kernel(const T* __restrict__ x, int64_t count, T* __restrict__ y) {  // count: packs of V
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t i = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += step) {
    store<V>(y + i * V, load<V>(x + i * V));
  }
}

template <typename T>
void copy(const T* x, int64_t count, T* y, cudaStream_t stream) {
  constexpr int V = kVector<T>;
  const bool packed = count % V == 0 && is_aligned(x, 16) && is_aligned(y, 16);
  const int64_t packs = packed ? count / V : count;
  const auto null_copy = packed ? copy_kernel<T, V> : copy_kernel<T, 1>;
  GANENGINE_LAUNCH(null_copy, grid_size(ceil_div(packs, kThreads)), kThreads, 0, stream, x, packs, y);
}

}  // namespace ganengine::null
