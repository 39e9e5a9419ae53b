// merged_kernels on the CPU: kernels 3 x 3 as 4 x 4 and back, each in one pass over channels-last memory.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <type_traits>
#include <utility>

#include "common/isa.h"
#include "common/parallel.h"
#include "common/tensors.h"

#define GANENGINE_KERNELS "merged_kernels/merged_kernels_cpu_kernels.h"
#include "common/for_each_isa.h"

namespace ganengine::merged_kernels {
namespace {

constexpr const char* kOp = "merged_kernels";
constexpr const char* kBackwardOp = "merged_kernels_backward";
constexpr int64_t kTile = 16;  // rows that a thread takes at once where tiles are turned over

// A new tensor [outer, inner, side, side] in channels-last memory.
Tensor empty_kernels(int64_t outer, int64_t inner, int64_t side, ScalarType type) {
  const int64_t step = std::max<int64_t>(inner, 1);  // as torch counts, whose strides are never 0
  const int64_t sizes[] = {outer, inner, side, side}, strides[] = {side * side * step, 1, side * step, step};
  return empty_strided(sizes, strides, 4, type);
}

// The tensor itself where it is channels-last without gaps, else a copy that is.
Tensor channels_last(const Tensor& kernels) {
  int64_t step = 1;
  bool lies = true;
  for (int64_t axis : {1, 3, 2, 0}) {
    lies = lies && (kernels.size(axis) == 1 || kernels.stride(axis) == step);
    step *= kernels.size(axis);
  }
  if (lies) return kernels;
  Tensor copied = empty_kernels(kernels.size(0), kernels.size(1), kernels.size(2), kernels.scalar_type());
  torch::stable::copy_(copied, kernels);
  return copied;
}

void check_kernels(const char* op, const char* name, const char* expected, const Tensor& kernels, int64_t side) {
  check(kernels.scalar_type() == ScalarType::Float || kernels.scalar_type() == ScalarType::Double, op, "expected ",
        name, " to be float32 or float64");
  check(kernels.dim() == 4 && kernels.size(2) == side && kernels.size(3) == side, op, "expected ", name, expected,
        ", got ", describe(kernels.sizes()));
}

// Calls f(from, to) with pointers to what the tensors hold.
template <typename F>
void with_numbers(const Tensor& from, const Tensor& to, const F& f) {
  if (from.scalar_type() == ScalarType::Double) {
    f(static_cast<const double*>(from.const_data_ptr()), static_cast<double*>(to.mutable_data_ptr()));
  } else {
    f(static_cast<const float*>(from.const_data_ptr()), static_cast<float*>(to.mutable_data_ptr()));
  }
}

// Calls f(begin, end) for ranges of `rows` of kernels. A kernel counts as one element: its 25 numbers take 4 ns.
template <typename F>
void for_rows(int64_t rows, int64_t kernels, const F& f) {
  parallel_for(rows, grain(kernels), f);
}

// The same, for ranges that begin where tiles do.
template <typename F>
void for_tiles(int64_t rows, int64_t kernels, const F& f) {
  parallel_for((rows + kTile - 1) / kTile, grain(kTile * kernels),
               [&](int64_t begin, int64_t end) { f(begin * kTile, std::min(end * kTile, rows)); });
}

Tensor forward_cpu(const Tensor& weight_any,  // [K, C, 3, 3]
                   bool repeats) {
  check_kernels(kOp, "weight", " [K, C, 3, 3]", weight_any, 3);
  const Tensor weight = channels_last(weight_any);
  const int64_t outputs = weight.size(0), inputs = weight.size(1);
  const Tensor merged = repeats ? empty_kernels(inputs, outputs, 4, weight.scalar_type())
                                : empty_kernels(outputs, inputs, 4, weight.scalar_type());
  if (merged.numel() == 0) return merged;
  with_numbers(weight, merged, [&](const auto* from, auto* to) {
    using A = std::decay_t<decltype(*to)>;
    if (repeats) {
      const auto kernel = GANENGINE_CHOOSE(merged_kernels, A, Kernels<A>::repeats);
      for_tiles(inputs, outputs, [&](int64_t begin, int64_t end) { kernel(from, to, outputs, inputs, begin, end); });
    } else {
      const auto kernel = GANENGINE_CHOOSE(merged_kernels, A, Kernels<A>::means);
      for_rows(outputs, inputs, [&](int64_t begin, int64_t end) { kernel(from, to, inputs, begin, end); });
    }
  });
  return merged;
}

Tensor backward_cpu(const Tensor& grad_any,  // [K, C, 4, 4], or [C, K, 4, 4] where pixels are repeated
                    bool repeats) {
  check_kernels(kBackwardOp, "grad", repeats ? " [C, K, 4, 4]" : " [K, C, 4, 4]", grad_any, 4);
  const Tensor grad = channels_last(grad_any);
  const int64_t outputs = grad.size(repeats ? 1 : 0), inputs = grad.size(repeats ? 0 : 1);
  const Tensor weight = empty_kernels(outputs, inputs, 3, grad.scalar_type());
  if (weight.numel() == 0) return weight;
  with_numbers(grad, weight, [&](const auto* from, auto* to) {
    using A = std::decay_t<decltype(*to)>;
    if (repeats) {
      const auto kernel = GANENGINE_CHOOSE(merged_kernels, A, Kernels<A>::repeats_backward);
      for_tiles(outputs, inputs, [&](int64_t begin, int64_t end) { kernel(from, to, outputs, inputs, begin, end); });
    } else {
      const auto kernel = GANENGINE_CHOOSE(merged_kernels, A, Kernels<A>::means_backward);
      for_rows(outputs, inputs, [&](int64_t begin, int64_t end) { kernel(from, to, inputs, begin, end); });
    }
  });
  return weight;
}

}  // namespace
}  // namespace ganengine::merged_kernels

STABLE_TORCH_LIBRARY_IMPL(ganengine, CPU, m) {
  m.impl("merged_kernels", TORCH_BOX(&ganengine::merged_kernels::forward_cpu));
  m.impl("merged_kernels_backward", TORCH_BOX(&ganengine::merged_kernels::backward_cpu));
}
