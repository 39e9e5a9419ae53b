// Instruction sets: which there are, which one this machine runs, and how a kernel is compiled for each.
//
// A kernel's source says once what it does, with the vectors of simd.h, in a header <op>_cpu_kernels.h that is included
// once per instruction set, each time in a namespace of its own:
//
//     #define GANENGINE_KERNELS "maxout/maxout_cpu_kernels.h"
//     #include "common/for_each_isa.h"
//
// GANENGINE_ISA names that namespace: avx512, avx2 or baseline.
#pragma once

#if defined(__x86_64__)
#define GANENGINE_X86 1
#include <immintrin.h>
#else
#define GANENGINE_X86 0
#endif

// Whether the compiler knows AMX.
#if GANENGINE_X86 && (defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11)
#define GANENGINE_AMX 1
#else
#define GANENGINE_AMX 0
#endif

namespace ganengine {

enum class Isa { baseline = 0, avx2 = 1, avx512 = 2 };

// The best set that this machine has, or a lower one where set_isa has asked for it.
Isa isa();

// Whether the machine has AVX512_BF16, for the one instruction that avx512 uses of it.
extern const bool native_bfloat16;

// What multiplies bfloat16 beside AVX-512: nothing, AVX512_BF16 by pairs, or AMX by tiles, where the system lets this
// process.
enum class Bf16Products { portable = 0, dots = 1, tiles = 2 };

// The best that this machine has, or a lower one where set_bf16_products or set_isa has asked for it.
Bf16Products bf16_products();

// Kernel of this machine's instruction set for data of type T, among the three of a name:
// GANENGINE_CHOOSE(maxout, T, kernels<T>). float64 has only the baseline: nobody waits for it, but every build would.
#if GANENGINE_X86
#define GANENGINE_CHOOSE(op, T, ...)                                                                    \
  [] {                                                                                                  \
    if constexpr (sizeof(T) < 8) {                                                                      \
      if (::ganengine::isa() == ::ganengine::Isa::avx512) return &::ganengine::op::avx512::__VA_ARGS__; \
      if (::ganengine::isa() == ::ganengine::Isa::avx2) return &::ganengine::op::avx2::__VA_ARGS__;     \
    }                                                                                                   \
    return &::ganengine::op::baseline::__VA_ARGS__;                                                     \
  }()
#else
#define GANENGINE_CHOOSE(op, T, ...) (&::ganengine::op::baseline::__VA_ARGS__)
#endif

}  // namespace ganengine
