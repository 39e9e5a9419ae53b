// The loadable library: what is about the object as a whole. Ops are declared in Python (ganengine/ops/<op>.py), and
// each csrc/<op>/ registers its own kernels; loading the object with torch.ops.load_library is enough, it needs no
// Python.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <atomic>

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

std::atomic<Isa>& current() {
  static std::atomic<Isa> isa{best_isa()};
  return isa;
}

// Takes the set of this number (0 baseline, 1 AVX2, 2 AVX-512) or the best that there is below it; returns its number.
int64_t set_isa(int64_t wanted) {
  check(wanted >= 0 && wanted <= 2, "set_isa", "expected 0, 1 or 2, got ", wanted);
  current() = std::min(static_cast<Isa>(wanted), best_isa());
  return static_cast<int64_t>(current().load());
}

}  // namespace

#if GANENGINE_X86
const bool native_bfloat16 = (__builtin_cpu_init(), __builtin_cpu_supports("avx512bf16"));
#else
const bool native_bfloat16 = false;
#endif

Isa isa() { return current().load(std::memory_order_relaxed); }

}  // namespace ganengine

STABLE_TORCH_LIBRARY_FRAGMENT(ganengine, m) { m.def("set_isa(int wanted) -> int"); }
STABLE_TORCH_LIBRARY_IMPL(ganengine, CompositeExplicitAutograd, m) {
  m.impl("set_isa", TORCH_BOX(&ganengine::set_isa));
}
