// Includes GANENGINE_KERNELS once per instruction set (isa.h). No include guard: every op does this.
//
// One translation unit with the target in a pragma, rather than a file per set with flags of its own: what the linker
// may merge (inline functions of the standard library) is then never compiled for more than plain x86-64.

#if GANENGINE_X86

#define GANENGINE_ISA avx512
#define GANENGINE_VECTOR_BYTES 64
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")
#endif
#include "common/simd.h"
#include GANENGINE_KERNELS
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef GANENGINE_ISA
#undef GANENGINE_VECTOR_BYTES

#define GANENGINE_ISA avx2
#define GANENGINE_VECTOR_BYTES 32
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
#include "common/simd.h"
#include GANENGINE_KERNELS
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef GANENGINE_ISA
#undef GANENGINE_VECTOR_BYTES

#endif

#define GANENGINE_ISA baseline
#define GANENGINE_VECTOR_BYTES 16
#include "common/simd.h"
#include GANENGINE_KERNELS
#undef GANENGINE_ISA
#undef GANENGINE_VECTOR_BYTES
#undef GANENGINE_KERNELS
