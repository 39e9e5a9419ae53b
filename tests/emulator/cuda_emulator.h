// As much of CUDA as the kernels use, on the CPU: grids, blocks, threads in random order, static and dynamic shared
// memory, barriers, shuffles, 16-bit floats. Stands in for the toolkit where csrc/common/cuda_compat.cuh is compiled by
// a host compiler. It is stricter than a GPU where that finds faults: memory that nobody wrote holds NaN, blocks run in
// random order, a barrier or shuffle that not every thread reaches is an error, and so is a launch beyond what all GPUs
// allow.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include <torch/headeronly/util/BFloat16.h>
#include <torch/headeronly/util/Half.h>

#ifdef GANENGINE_EMULATOR_THREADS
#include "threads.h"
#else
#include "fibers.h"
#endif

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, bytes) (static_cast<void>(at), static_cast<void>(bytes))
#define ASAN_UNPOISON_MEMORY_REGION(at, bytes) (static_cast<void>(at), static_cast<void>(bytes))
#endif

#if defined(__SANITIZE_THREAD__)
extern "C" {
void AnnotateIgnoreSyncBegin(const char*, int);
void AnnotateIgnoreSyncEnd(const char*, int);
void AnnotateIgnoreReadsBegin(const char*, int);
void AnnotateIgnoreReadsEnd(const char*, int);
void AnnotateIgnoreWritesBegin(const char*, int);
void AnnotateIgnoreWritesEnd(const char*, int);
}
#endif

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct alignas(16) uint4 {
  unsigned x, y, z, w;
};

using cudaStream_t = void*;
using __half = c10::Half;
using __nv_bfloat16 = c10::BFloat16;

inline float __half2float(__half value) { return value; }
inline __half __float2half_rn(float value) { return value; }
inline float __bfloat162float(__nv_bfloat16 value) { return value; }
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return value; }
inline void __stwb(uint4* to, uint4 value) { std::memcpy(to, &value, sizeof value); }

namespace emulator {

constexpr size_t kMostShared = 48 * 1024;
constexpr size_t kGap = 64;  // between shared arrays

// What tests may set.
inline uint64_t seed = 0;
inline std::string skipped_barrier;  // "file:line"

struct Block {
  Block(int threads, size_t dynamic_bytes)
      : crew(threads, seed),
        warps((threads + 31) / 32),
        slots(2 * static_cast<size_t>(threads)),
        shuffles(static_cast<size_t>(threads)),
        threads(threads),
        dynamic(new unsigned char[dynamic_bytes]),
        dynamic_bytes(dynamic_bytes) {}

  int lanes(int warp) const { return std::min(32, threads - 32 * warp); }

  Crew crew;
  Gate block_gate;
  std::vector<Gate> warps;
  std::vector<std::atomic<uint64_t>> slots;  // what threads pass on in shuffles, of this one and of the last
  std::vector<int> shuffles;                 // made so far, by thread
  int threads;
  std::unique_ptr<unsigned char[]> dynamic;  // of the exact size, for AddressSanitizer; aligned as all memory from new
  size_t dynamic_bytes;
  std::atomic<const char*> failed_assertion{nullptr};
};

inline Block* block = nullptr;  // the one that runs
inline dim3 grid_size, block_size;
inline std::vector<dim3> thread_indices;  // by thread
inline thread_local dim3 block_index;

// A function, as fibers share the variables of a thread.
inline const dim3& thread_index() { return thread_indices[static_cast<size_t>(block->crew.current())]; }

inline dim3 unflatten(size_t number, const dim3& sizes) {
  return dim3(static_cast<unsigned>(number % sizes.x), static_cast<unsigned>(number / sizes.x % sizes.y),
              static_cast<unsigned>(number / sizes.x / sizes.y));
}

// Static shared memory: one arena, in which each declaration has its place, with a gap behind it that AddressSanitizer
// guards. The order of places may differ from run to run, their contents never outlive a block.
struct Arena {
  static constexpr size_t kBytes = 4 << 20;
  alignas(16) unsigned char bytes[kBytes];
  std::atomic<size_t> used{0};

  Arena() { ASAN_POISON_MEMORY_REGION(bytes, kBytes); }
  ~Arena() { ASAN_UNPOISON_MEMORY_REGION(bytes, kBytes); }
};
inline Arena arena;

// A place of `bytes` in the arena, found once per declaration. No locks here: to ThreadSanitizer they would look as if
// threads waited for each other.
inline unsigned char* place(std::atomic<unsigned char*>& known, size_t bytes) {
  unsigned char* at = known.load(std::memory_order_relaxed);
  if (at != nullptr) return at;
  const size_t whole = (bytes + kGap + 15) / 16 * 16;
  const size_t start = arena.used.fetch_add(whole, std::memory_order_relaxed);
  if (start + whole > Arena::kBytes) throw std::runtime_error("the emulator's arena of shared memory is full");
  unsigned char* const fresh = arena.bytes + start;
  if (!known.compare_exchange_strong(at, fresh, std::memory_order_relaxed)) return at;
  ASAN_UNPOISON_MEMORY_REGION(fresh, bytes);
  return fresh;
}

// Fills what the last block left with NaN; one thread does, between blocks.
inline void forget_shared() {
#if !defined(__SANITIZE_ADDRESS__)  // which lets nobody write into the gaps
  std::memset(arena.bytes, 0xff, std::min(arena.used.load(), Arena::kBytes));
#endif
  std::memset(block->dynamic.get(), 0xff, block->dynamic_bytes);
}

inline void barrier(const char* name) {
  if (name == skipped_barrier) return;
  block->crew.meet(block->block_gate, block->threads);
}

inline void warp_barrier() {
  const int warp = block->crew.current() / 32;
  block->crew.meet(block->warps[static_cast<size_t>(warp)], block->lanes(warp));
}

// A shuffle brings lanes together, but does not make their writes to memory visible to each other, as __syncwarp()
// does: ThreadSanitizer is told so.
inline void meet_without_fence() {
#if defined(__SANITIZE_THREAD__)
  AnnotateIgnoreSyncBegin(__FILE__, __LINE__);
  AnnotateIgnoreReadsBegin(__FILE__, __LINE__);
  AnnotateIgnoreWritesBegin(__FILE__, __LINE__);
#endif
  warp_barrier();
#if defined(__SANITIZE_THREAD__)
  AnnotateIgnoreWritesEnd(__FILE__, __LINE__);
  AnnotateIgnoreReadsEnd(__FILE__, __LINE__);
  AnnotateIgnoreSyncEnd(__FILE__, __LINE__);
#endif
}

// The value of the lane that `source` names by this one's lane number; its own where there is no such lane.
template <typename T, typename Source>
T shuffle(unsigned mask, T value, const Source& source) {
  static_assert(sizeof(T) <= sizeof(uint64_t), "a shuffle passes on 8 bytes at most");
  const int thread = block->crew.current(), warp = thread / 32, lane = thread % 32;
  const int lanes = block->lanes(warp);
  if (mask != (lanes == 32 ? 0xffffffffu : (1u << lanes) - 1))
    throw std::runtime_error("a shuffle that leaves out lanes");
  const size_t turn = static_cast<size_t>(block->shuffles[static_cast<size_t>(thread)]++ % 2);
  const size_t base = turn * static_cast<size_t>(block->threads);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  block->slots[base + static_cast<size_t>(thread)].store(bits, std::memory_order_relaxed);
  meet_without_fence();
  const int from = source(lane);
  if (from < 0 || from >= lanes) return value;
  bits = block->slots[base + static_cast<size_t>(warp * 32 + from)].load(std::memory_order_relaxed);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

template <typename T>
T shuffle_xor(unsigned mask, T value, int lane_mask, int width = 32) {
  return shuffle(mask, value, [=](int lane) {
    const int from = lane ^ lane_mask;
    return from / width > lane / width ? lane : from;
  });
}

template <typename T>
T shuffle_down(unsigned mask, T value, unsigned delta, int width = 32) {
  return shuffle(mask, value, [=](int lane) {
    const int from = lane + static_cast<int>(delta);
    return from / width > lane / width ? lane : from;
  });
}

inline void check_launch(const dim3& grid, const dim3& threads, size_t shared_bytes) {
  const bool grid_fits =
      grid.x > 0 && grid.x <= 2147483647u && grid.y > 0 && grid.y <= 65535 && grid.z > 0 && grid.z <= 65535;
  const bool block_fits = threads.x > 0 && threads.y > 0 && threads.z > 0 && threads.z <= 64 &&
                          static_cast<uint64_t>(threads.x) * threads.y * threads.z <= 1024;
  if (!grid_fits) throw std::runtime_error("a grid beyond the limits of CUDA");
  if (!block_fits) throw std::runtime_error("a block beyond the limits of CUDA");
  if (shared_bytes > kMostShared) throw std::runtime_error("more than 48 KiB of dynamic shared memory");
}

// Runs a kernel to its end. Blocks one after the other, in random order; each thread's variables start anew in each.
inline void launch(dim3 grid, dim3 threads, size_t shared_bytes, const std::function<void()>& kernel) {
  check_launch(grid, threads, shared_bytes);
  ++seed;
  Block here(static_cast<int>(threads.x * threads.y * threads.z), shared_bytes);
  block = &here;
  grid_size = grid;
  block_size = threads;
  thread_indices.clear();
  for (int thread = 0; thread < here.threads; ++thread) {
    thread_indices.push_back(unflatten(static_cast<size_t>(thread), threads));
  }
  std::vector<size_t> order(static_cast<size_t>(grid.x) * grid.y * grid.z);
  std::iota(order.begin(), order.end(), size_t{0});
  std::shuffle(order.begin(), order.end(), std::mt19937_64(seed));
  Gate between;
  here.crew.run([&](int thread) {
    for (const size_t number : order) {
      if (thread == 0) forget_shared();
      block_index = unflatten(number, grid);
      here.crew.meet(between, here.threads);
      kernel();
      here.crew.meet(between, here.threads);
    }
  });
  block = nullptr;
  const char* const failed = here.failed_assertion.load();
  if (failed != nullptr) throw std::runtime_error(std::string("device-side assertion: ") + failed);
}

// Goes on, as with assertions compiled out, so that what a kernel then does is tested too; the launch fails in the end.
inline void device_assert(bool holds, const char* condition) {
  if (!holds) block->failed_assertion.store(condition, std::memory_order_relaxed);
}

}  // namespace emulator

#define __global__
#define __device__
#define __forceinline__ inline
#define __grid_constant__
#define threadIdx (::emulator::thread_index())
#define blockIdx (::emulator::block_index)
#define blockDim (::emulator::block_size)
#define gridDim (::emulator::grid_size)

#define EMULATOR_TEXT(x) #x
#define EMULATOR_LINE(x) EMULATOR_TEXT(x)
#define __syncthreads() ::emulator::barrier(__FILE__ ":" EMULATOR_LINE(__LINE__))
#define __syncwarp() ::emulator::warp_barrier()
#define __shfl_xor_sync ::emulator::shuffle_xor
#define __shfl_down_sync ::emulator::shuffle_down

#define GANENGINE_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)           \
  do {                                                                             \
    const auto launched = kernel;                                                  \
    static_cast<void>(stream);                                                     \
    ::emulator::launch(grid, block, shared_bytes, [&] { launched(__VA_ARGS__); }); \
  } while (false)
#define GANENGINE_SHARED(type, name, count)                 \
  static std::atomic<unsigned char*> name##_place{nullptr}; \
  type* const name = reinterpret_cast<type*>(::emulator::place(name##_place, sizeof(type) * (count)))
#define GANENGINE_DYNAMIC_SHARED(type, name) \
  type* const name = reinterpret_cast<type*>(::emulator::block->dynamic.get())
#define GANENGINE_DEVICE_ASSERT(condition) ::emulator::device_assert(condition, #condition)
