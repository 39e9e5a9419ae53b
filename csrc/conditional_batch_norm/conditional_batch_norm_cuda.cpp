// Conditional batch norm on the GPU, beside torch: checks, memory for results, what is launched.
#include "conditional_batch_norm/conditional_batch_norm_cuda.h"

#include <tuple>

#include "common/cuda_torch.h"
#include "conditional_batch_norm/conditional_batch_norm_checks.h"

namespace ganengine::conditional_batch_norm {
namespace {

Extent extent_of(const Shape& shape) { return {shape.n, shape.c, shape.m, shape.rows}; }

Tensor empty_as(const Tensor& x, const Shape& shape) {
  return torch::stable::empty(x.sizes(), x.scalar_type(), std::nullopt, x.device(), std::nullopt, shape.format);
}

Classes<void> classes_of(const Tensor& gamma, const Tensor& beta, const std::optional<Tensor>& labels) {
  const bool narrow = labels && labels->scalar_type() == ScalarType::Int;
  return {data(gamma), data(beta), narrow ? data<int32_t>(labels) : nullptr, narrow ? nullptr : data<int64_t>(labels),
          gamma.size(0)};
}

std::tuple<Tensor, Tensor, Tensor> forward_cuda(const Tensor& x_any,                      // [N, C, ...]
                                                const Tensor& gamma_any,                  // [K, C] or [N, C]
                                                const Tensor& beta_any,                   // like gamma
                                                const std::optional<Tensor>& labels_any,  // [N]
                                                const std::optional<Tensor>& mean_any,    // [C]
                                                const std::optional<Tensor>& var_any,     // [C]
                                                double eps, double slope) {
  check_inputs(x_any, gamma_any, beta_any, labels_any);
  check(mean_any.has_value() == var_any.has_value(), kOp, "expected both mean and var, or neither");
  if (mean_any) check_statistics(*mean_any, *var_any, x_any);
  const OnDevice device(kOp, x_any);
  const Shape shape = shape_of(x_any);
  const Tensor x = torch::stable::contiguous(x_any, shape.format);
  const Tensor gamma = torch::stable::contiguous(gamma_any), beta = torch::stable::contiguous(beta_any);
  const auto labels = contiguous(labels_any);
  const Tensor y = empty_as(x, shape);
  const bool batch_statistics = !mean_any;
  Tensor mean = batch_statistics ? torch::stable::new_empty(gamma, {shape.c}) : torch::stable::clone(*mean_any);
  Tensor var = batch_statistics ? torch::stable::new_empty(gamma, {shape.c}) : torch::stable::clone(*var_any);
  if (!batch_statistics) mean = torch::stable::contiguous(mean), var = torch::stable::contiguous(var);
  if (x.numel() == 0) {
    if (batch_statistics) torch::stable::zero_(mean), torch::stable::zero_(var);
    return {y, mean, var};
  }
  const Extent extent = extent_of(shape);
  const int64_t needed = scratch_for_forward(extent, batch_statistics, x.element_size());
  const Tensor memory = scratch(x, needed, gamma.scalar_type());
  launch_forward(element_of(x), extent, data(x), classes_of(gamma, beta, labels), eps, slope, batch_statistics,
                 mutable_data(mean), mutable_data(var), mutable_data(y), mutable_data(memory), device.stream());
  return {y, mean, var};
}

std::tuple<Tensor, Tensor, Tensor> backward_cuda(const Tensor& grad_any,  // like x
                                                 const Tensor& x_any, const Tensor& gamma_any, const Tensor& beta_any,
                                                 const std::optional<Tensor>& labels_any, const Tensor& mean_any,
                                                 const Tensor& var_any, bool batch_statistics, double eps,
                                                 double slope) {
  check_inputs(x_any, gamma_any, beta_any, labels_any);
  check_statistics(mean_any, var_any, x_any);
  check_grad(grad_any, x_any);
  const OnDevice device(kOp, x_any);
  const Shape shape = shape_of(x_any);
  const Tensor x = torch::stable::contiguous(x_any, shape.format);
  const Tensor grad_y = torch::stable::contiguous(grad_any, shape.format);
  const Tensor gamma = torch::stable::contiguous(gamma_any), beta = torch::stable::contiguous(beta_any);
  const Tensor mean = torch::stable::contiguous(mean_any), var = torch::stable::contiguous(var_any);
  const auto labels = contiguous(labels_any);
  const Tensor grad_x = empty_as(x, shape);
  Tensor grad_gamma = torch::stable::new_empty(gamma, gamma.sizes());
  Tensor grad_beta = torch::stable::new_empty(beta, beta.sizes());
  if (x.numel() == 0) {
    torch::stable::zero_(grad_gamma), torch::stable::zero_(grad_beta);
    return {grad_x, grad_gamma, grad_beta};
  }
  const Extent extent = extent_of(shape);
  const Tensor memory = scratch(x, scratch_for_backward(extent), gamma.scalar_type());
  launch_backward(element_of(x), extent, data(grad_y), data(x), classes_of(gamma, beta, labels), data(mean), data(var),
                  eps, slope, batch_statistics, mutable_data(grad_x), mutable_data(grad_gamma), mutable_data(grad_beta),
                  mutable_data(memory), device.stream());
  return {grad_x, grad_gamma, grad_beta};
}

}  // namespace
}  // namespace ganengine::conditional_batch_norm

STABLE_TORCH_LIBRARY_IMPL(ganengine, CUDA, m) {
  m.impl("conditional_batch_norm", TORCH_BOX(&ganengine::conditional_batch_norm::forward_cuda));
  m.impl("conditional_batch_norm_backward", TORCH_BOX(&ganengine::conditional_batch_norm::backward_cuda));
}
