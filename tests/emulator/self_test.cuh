// Small kernels with known answers, right and wrong ones, that show what the emulator does.
#pragma once

#include <string>
#include <vector>

#include "common/cuda_compat.cuh"

namespace self_test {

// Each thread's place in the grid.
__global__ void place_kernel(int* to) {
  const unsigned block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
  const unsigned thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
  to[block * blockDim.x * blockDim.y * blockDim.z + thread] = static_cast<int>(1000 * block + thread);
}

// Lane numbers, moved about.
__global__ void shuffle_kernel(int* to) {
  const int lane = static_cast<int>(threadIdx.x);
  to[lane] = __shfl_xor_sync(0xffffffffu, lane, 5);
  to[32 + lane] = __shfl_down_sync(0xffffffffu, lane, 3);
  to[64 + lane] = __shfl_down_sync(0xffffffffu, lane, 3, 8);
}

// Reverses by way of shared memory, static and dynamic.
__global__ void reverse_kernel(int* to) {
  GANENGINE_SHARED(int, first, 64);
  GANENGINE_DYNAMIC_SHARED(int, second);
  const unsigned i = threadIdx.x;
  first[i] = static_cast<int>(i);
  __syncthreads();
  second[i] = first[63 - i];
  __syncwarp();
  to[i] = second[i];
}

// The order in which the threads came: a different one each time.
__global__ void order_kernel(int* to, std::vector<int>* came) {
  came->push_back(static_cast<int>(threadIdx.x));
  __syncthreads();
  to[threadIdx.x] = (*came)[threadIdx.x];
}

// Reads shared memory that this block may not have written.
__global__ void unwritten_kernel(bool write, float* to) {
  GANENGINE_SHARED(float, shared, 64);
  if (write) shared[threadIdx.x] = 1.0f;
  to[threadIdx.x] = shared[threadIdx.x];
}

__global__ void half_barrier_kernel(int*) {
  if (threadIdx.x < 32) __syncthreads();
}

__global__ void half_shuffle_kernel(int* to) {
  if (threadIdx.x < 16) to[0] = __shfl_xor_sync(0xffffu, 1, 1);
}

__global__ void assert_kernel(int* to) {
  GANENGINE_DEVICE_ASSERT(threadIdx.x < 5 && "five threads");
  to[threadIdx.x] = 7;
}

inline std::vector<int> run(const std::string& name) {
  std::vector<int> to(96, -1), came;
  if (name == "place") GANENGINE_LAUNCH(place_kernel, dim3(2, 1, 3), dim3(2, 4, 2), 0, nullptr, to.data());
  if (name == "shuffle") GANENGINE_LAUNCH(shuffle_kernel, 1, 32, 0, nullptr, to.data());
  if (name == "reverse") GANENGINE_LAUNCH(reverse_kernel, 1, 64, 64 * sizeof(int), nullptr, to.data());
  if (name == "order") GANENGINE_LAUNCH(order_kernel, 1, 64, 0, nullptr, to.data(), &came);
  if (name == "half barrier") GANENGINE_LAUNCH(half_barrier_kernel, 1, 64, 0, nullptr, to.data());
  if (name == "half shuffle") GANENGINE_LAUNCH(half_shuffle_kernel, 1, 32, 0, nullptr, to.data());
  if (name == "assert") GANENGINE_LAUNCH(assert_kernel, 1, 32, 0, nullptr, to.data());
  if (name == "big block") GANENGINE_LAUNCH(place_kernel, 1, dim3(1025), 0, nullptr, to.data());
  if (name == "big grid") GANENGINE_LAUNCH(place_kernel, dim3(1, 65536), 1, 0, nullptr, to.data());
  if (name == "empty grid") GANENGINE_LAUNCH(place_kernel, 0u, 1, 0, nullptr, to.data());
  if (name == "big memory") GANENGINE_LAUNCH(reverse_kernel, 1, 64, 49 * 1024, nullptr, to.data());
  if (name == "unwritten") {
    std::vector<float> floats(64);
    for (const bool write : {true, false}) {
      GANENGINE_LAUNCH(unwritten_kernel, 1, 64, 0, nullptr, write, floats.data());
      to[write] = std::isnan(floats[63]);
    }
  }
  return to;
}

}  // namespace self_test
