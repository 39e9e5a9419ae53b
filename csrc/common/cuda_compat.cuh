// What device code stands on, under two compilers: nvcc, and any C++ compiler, for which the emulator of the tests
// (tests/emulator/cuda_emulator.h) plays the part of CUDA. No torch headers here.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#ifdef __CUDACC__

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cassert>
#include <stdexcept>
#include <string>

namespace ganengine {

// Throws where a launch was refused. What goes wrong while a kernel runs shows at the next synchronisation, as
// everywhere.
inline void check_launch(const char* kernel) {
  const cudaError_t error = cudaGetLastError();
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string("ganengine: the CUDA launch of ") + kernel +
                           " failed: " + cudaGetErrorString(error));
}

}  // namespace ganengine

// kernel in parentheses, as template arguments hold commas.
#define GANENGINE_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)  \
  do {                                                                    \
    const auto launched = kernel;                                         \
    launched<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__); \
    ::ganengine::check_launch(#kernel);                                   \
  } while (false)
#define GANENGINE_SHARED(type, name, count) __shared__ type name[count]
#define GANENGINE_DYNAMIC_SHARED(type, name)                         \
  extern __shared__ __align__(16) unsigned char ganengine_dynamic[]; \
  type* const name = reinterpret_cast<type*>(ganengine_dynamic)
#define GANENGINE_DEVICE_ASSERT(condition) assert(condition)

#else

#include "cuda_emulator.h"

#endif

#define GANENGINE_DEVICE __device__ __forceinline__

namespace ganengine {

// The type in which data of type T is summed up: float, or double for double.
template <typename T>
struct WideOf {
  using type = float;
};
template <>
struct WideOf<double> {
  using type = double;
};
template <typename T>
using Wide = typename WideOf<T>::type;

GANENGINE_DEVICE float widen(float value) { return value; }
GANENGINE_DEVICE double widen(double value) { return value; }
GANENGINE_DEVICE float widen(__half value) { return __half2float(value); }
GANENGINE_DEVICE float widen(__nv_bfloat16 value) { return __bfloat162float(value); }

GANENGINE_DEVICE void narrow(float value, float& to) { to = value; }
GANENGINE_DEVICE void narrow(double value, double& to) { to = value; }
GANENGINE_DEVICE void narrow(float value, __half& to) { to = __float2half_rn(value); }
GANENGINE_DEVICE void narrow(float value, __nv_bfloat16& to) { to = __float2bfloat16_rn(value); }

// V neighbours, moved by one instruction where they are 16 bytes.
template <typename T, int V>
struct alignas(sizeof(T) * V) Pack {
  T at[V];
};

// Of T in 16 bytes; double, which is for checks, goes one by one and spares half its kernels.
template <typename T>
constexpr int kVector = static_cast<int>(16 / sizeof(T));
template <>
constexpr int kVector<double> = 1;

template <int V, typename T>
GANENGINE_DEVICE Pack<T, V> load(const T* from) {
  return *reinterpret_cast<const Pack<T, V>*>(from);
}

template <int V, typename T>
GANENGINE_DEVICE void store(T* to, const Pack<T, V>& values) {
  *reinterpret_cast<Pack<T, V>*>(to) = values;
}

// To global memory.
template <int V, typename T>
GANENGINE_DEVICE void store_narrow(T* to, const Wide<T> (&values)[V]) {
  Pack<T, V> packed;
#pragma unroll
  for (int j = 0; j < V; ++j) narrow(values[j], packed.at[j]);
  if constexpr (sizeof(packed) == sizeof(uint4)) {  // nvcc may take the store of a record apart, but not this
    uint4 word;
    memcpy(&word, &packed, sizeof word);
    __stwb(reinterpret_cast<uint4*>(to), word);
  } else {
    store<V>(to, packed);
  }
}

// Host side: the geometry of launches.

#ifdef GANENGINE_THREADS
constexpr int kThreads = GANENGINE_THREADS;
#else
constexpr int kThreads = 256;  // of a block, where nothing speaks for another number
#endif
constexpr int64_t kMostShared = 47 * 1024;   // bytes of dynamic shared memory: every GPU has 48 KiB without asking, a
                                             // kernel's own arrays take at most one of them
constexpr int64_t kMostBlocks = 2147483647;  // gridDim.x; kernels walk on where there is more to do

inline int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// The least power of two that is at least `value`, but at most `most`, itself a power of two.
inline int round_up_power(int64_t value, int most) {
  int power = 1;
  while (power < value && power < most) power *= 2;
  return power;
}

inline unsigned grid_size(int64_t blocks, int64_t most = kMostBlocks) {
  return static_cast<unsigned>(blocks < most ? blocks : most);
}

inline bool is_aligned(const void* pointer, size_t bytes) { return reinterpret_cast<uintptr_t>(pointer) % bytes == 0; }

}  // namespace ganengine
