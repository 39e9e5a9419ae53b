// Maxout on the CPU: checks, memory, and who does what; the loops are in the kernels' header.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "common/isa.h"
#include "common/parallel.h"
#include "common/storage.h"
#include "common/tensors.h"
#include "common/visit.h"
#include "maxout/maxout.h"
#include "maxout/maxout_checks.h"

namespace ganengine::maxout {

struct Problem {
  int64_t n, pieces, units;
  double scale;  // of what dropout keeps
  uint64_t seed, offset;
  uint32_t threshold;
};

template <typename T>
struct Kernels {
  using A = Accumulator<T>;
  // For the samples [begin, end).
  void (*forward)(const Problem&, const T* h, const A* bias, T* y, uint8_t* winner, int64_t begin, int64_t end);
  // For the units [begin, end).
  void (*backward)(const Problem&, const T* grad_y, const uint8_t* winner, T* grad_h, A* grad_bias, int64_t begin,
                   int64_t end);
};

}  // namespace ganengine::maxout

#define GANENGINE_KERNELS "maxout/maxout_cpu_kernels.h"
#include "common/for_each_isa.h"

namespace ganengine::maxout {
namespace {

std::tuple<Tensor, Tensor> forward_cpu(const Tensor& h_any,                    // [N, pieces * units]
                                       const std::optional<Tensor>& bias_any,  // [pieces * units]
                                       int64_t pieces, bool relu, double dropout, int64_t seed, int64_t offset) {
  check_inputs(h_any, bias_any, pieces, dropout);
  const Tensor h = dense(h_any), bias = bias_any ? dense(*bias_any) : h;
  const Problem p{h.size(0),
                  pieces,
                  h.size(1) / pieces,
                  1 / (1 - dropout),
                  static_cast<uint64_t>(seed),
                  static_cast<uint64_t>(offset),
                  drop_threshold(dropout)};
  const Tensor y = empty_dense({p.n, p.units}, h.scalar_type());
  const Tensor winner = empty_dense({p.n, p.units}, ScalarType::Byte);
  visit(h.scalar_type(), [&](auto element) {
    using T = decltype(element);
    using A = Accumulator<T>;
    const auto kernel = GANENGINE_CHOOSE(maxout, T, kernels<T>)(relu, dropout > 0).forward;
    const T* from = static_cast<const T*>(h.const_data_ptr());
    const A* shift = bias_any ? static_cast<const A*>(bias.const_data_ptr()) : nullptr;
    T* to = static_cast<T*>(y.mutable_data_ptr());
    uint8_t* which = static_cast<uint8_t*>(winner.mutable_data_ptr());
    parallel_for(p.n, grain(h.size(1)),
                 [&](int64_t begin, int64_t end) { kernel(p, from, shift, to, which, begin, end); });
  });
  return {y, winner};
}

std::tuple<Tensor, Tensor> backward_cpu(const Tensor& grad_any,    // [N, units]
                                        const Tensor& winner_any,  // [N, units]
                                        int64_t pieces, double dropout) {
  check_backward(grad_any, winner_any, pieces, dropout);
  const Tensor grad = dense(grad_any), winner = dense(winner_any);
  const Problem p{grad.size(0), pieces, grad.size(1), 1 / (1 - dropout), 0, 0, 0};
  const int64_t features = pieces * p.units;
  const Tensor grad_h = empty_dense({p.n, features}, grad.scalar_type());
  const Tensor grad_bias = empty_dense({features}, accumulation_type(grad.scalar_type()));
  visit(grad.scalar_type(), [&](auto element) {
    using T = decltype(element);
    using A = Accumulator<T>;
    const auto kernel = GANENGINE_CHOOSE(maxout, T, kernels<T>)(false, false).backward;
    const T* from = static_cast<const T*>(grad.const_data_ptr());
    const uint8_t* which = static_cast<const uint8_t*>(winner.const_data_ptr());
    T* to = static_cast<T*>(grad_h.mutable_data_ptr());
    A* sums = static_cast<A*>(grad_bias.mutable_data_ptr());
    constexpr int64_t kGroup = 16;  // units of one cache line stay with one thread
    const int64_t groups = (p.units + kGroup - 1) / kGroup;
    parallel_for(groups, grain(p.n * pieces * kGroup), [&](int64_t begin, int64_t end) {
      kernel(p, from, which, to, sums, begin * kGroup, std::min(end * kGroup, p.units));
    });
  });
  return {grad_h, grad_bias};
}

}  // namespace
}  // namespace ganengine::maxout

STABLE_TORCH_LIBRARY_IMPL(ganengine, CPU, m) {
  m.impl("maxout", TORCH_BOX(&ganengine::maxout::forward_cpu));
  m.impl("maxout_backward", TORCH_BOX(&ganengine::maxout::backward_cpu));
}
