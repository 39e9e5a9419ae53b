// Maxout on the GPU, beside torch: checks, memory for results, what is launched.
#include "maxout/maxout_cuda.h"

#include <tuple>

#include "common/cuda_torch.h"
#include "maxout/maxout_checks.h"

namespace ganengine::maxout {
namespace {

std::tuple<Tensor, Tensor> forward_cuda(const Tensor& h_any,                    // [N, pieces * units]
                                        const std::optional<Tensor>& bias_any,  // [pieces * units]
                                        int64_t pieces, bool relu, double dropout, int64_t seed, int64_t offset) {
  check_inputs(h_any, bias_any, pieces, dropout);
  const OnDevice device(kOp, h_any);
  const Tensor h = torch::stable::contiguous(h_any);
  const auto bias = contiguous(bias_any);
  const Extent extent{h.size(0), pieces, h.size(1) / pieces};
  const Tensor y = torch::stable::new_empty(h, {extent.samples, extent.units});
  const Tensor winner = torch::stable::new_empty(h, {extent.samples, extent.units}, ScalarType::Byte);
  if (y.numel() == 0) return {y, winner};
  launch_forward(element_of(h), extent, data(h), data(bias), relu, dropout, seed, offset, mutable_data(y),
                 mutable_data<uint8_t>(winner), device.stream());
  return {y, winner};
}

std::tuple<Tensor, Tensor> backward_cuda(const Tensor& grad_any,    // [N, units]
                                         const Tensor& winner_any,  // [N, units]
                                         int64_t pieces, double dropout) {
  check_backward(grad_any, winner_any, pieces, dropout);
  const OnDevice device(kOp, grad_any);
  const Tensor grad_y = torch::stable::contiguous(grad_any), winner = torch::stable::contiguous(winner_any);
  const Extent extent{grad_y.size(0), pieces, grad_y.size(1)};
  const ScalarType wide = accumulation_type(grad_y.scalar_type());
  const Tensor grad_h = torch::stable::new_empty(grad_y, {extent.samples, extent.features()});
  Tensor grad_bias = torch::stable::new_empty(grad_y, {extent.features()}, wide);
  if (grad_y.numel() == 0) {
    torch::stable::zero_(grad_bias);
    return {grad_h, grad_bias};
  }
  const Tensor memory = scratch(grad_y, scratch_for_backward(extent), wide);
  launch_backward(element_of(grad_y), extent, data(grad_y), data<uint8_t>(winner), dropout, mutable_data(grad_h),
                  mutable_data(grad_bias), mutable_data(memory), device.stream());
  return {grad_h, grad_bias};
}

}  // namespace
}  // namespace ganengine::maxout

STABLE_TORCH_LIBRARY_IMPL(ganengine, CUDA, m) {
  m.impl("maxout", TORCH_BOX(&ganengine::maxout::forward_cuda));
  m.impl("maxout_backward", TORCH_BOX(&ganengine::maxout::backward_cuda));
}
