// The loadable library: what is about the object as a whole. Ops are declared in Python (ganengine/ops/<op>.py), and
// each csrc/<op>/ registers its own kernels; loading the object with torch.ops.load_library is enough, it needs no
// Python.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <atomic>
#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "common/checks.h"
#include "common/isa.h"

namespace ganengine {
namespace {

Isa best_isa() {
#if GANENGINE_X86
  __builtin_cpu_init();  // also asks the system whether it saves the wide registers
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");  // F16C is older than these
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (avx2) return avx512 ? Isa::avx512 : Isa::avx2;
#endif
  return Isa::baseline;
}

bool tiles_are_there() {
#if GANENGINE_AMX && defined(__linux__)
  unsigned a = 7, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kTileBits = 1u << 24, kBfloat16Bits = 1u << 22;
  if ((d & kTileBits) == 0 || (d & kBfloat16Bits) == 0) return false;
  // The registers are large, so Linux (5.16) gives them only to who asks, once in a process.
  constexpr long kAsk = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kAsk, kTileData) == 0;
#else
  return false;
#endif
}

std::atomic<Isa>& current() {
  static std::atomic<Isa> isa{best_isa()};
  return isa;
}

// The number of the best set that this machine has.
int64_t best() { return static_cast<int64_t>(best_isa()); }

// Takes the set of this number (0 baseline, 1 AVX2, 2 AVX-512) or the best that there is below it; returns its number.
int64_t set_isa(int64_t wanted) {
  check(wanted >= 0 && wanted <= 2, "set_isa", "expected 0, 1 or 2, got ", wanted);
  current() = std::min(static_cast<Isa>(wanted), best_isa());
  return static_cast<int64_t>(current().load());
}

Bf16Products best_bf16_products() {
  static const Bf16Products best = [] {
    if (best_isa() < Isa::avx512 || !native_bfloat16) return Bf16Products::portable;
    return tiles_are_there() ? Bf16Products::tiles : Bf16Products::dots;
  }();
  return best;
}

std::atomic<Bf16Products>& current_bf16_products() {
  static std::atomic<Bf16Products> products{best_bf16_products()};
  return products;
}

int64_t best_bf16_products_number() { return static_cast<int64_t>(best_bf16_products()); }

// Takes products of this number (0 none, 1 by pairs, 2 by tiles) or the best that there are below; returns their
// number.
int64_t set_bf16_products(int64_t wanted) {
  check(wanted >= 0 && wanted <= 2, "set_bf16_products", "expected 0, 1 or 2, got ", wanted);
  current_bf16_products() = std::min(static_cast<Bf16Products>(wanted), best_bf16_products());
  return static_cast<int64_t>(current_bf16_products().load());
}

}  // namespace

#if GANENGINE_X86
const bool native_bfloat16 = (__builtin_cpu_init(), __builtin_cpu_supports("avx512bf16"));
#else
const bool native_bfloat16 = false;
#endif

Bf16Products bf16_products() {
  return isa() == Isa::avx512 ? current_bf16_products().load(std::memory_order_relaxed) : Bf16Products::portable;
}

Isa isa() { return current().load(std::memory_order_relaxed); }

}  // namespace ganengine

STABLE_TORCH_LIBRARY_FRAGMENT(ganengine, m) {
  m.def("best_isa() -> int");
  m.def("set_isa(int wanted) -> int");
  m.def("best_bf16_products() -> int");
  m.def("set_bf16_products(int wanted) -> int");
}
STABLE_TORCH_LIBRARY_IMPL(ganengine, CompositeExplicitAutograd, m) {
  m.impl("best_isa", TORCH_BOX(&ganengine::best));
  m.impl("set_isa", TORCH_BOX(&ganengine::set_isa));
  m.impl("best_bf16_products", TORCH_BOX(&ganengine::best_bf16_products_number));
  m.impl("set_bf16_products", TORCH_BOX(&ganengine::set_bf16_products));
}
