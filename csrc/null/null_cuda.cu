// The template kernel on the GPU: what is launched, and how. Device code is in null_kernels.cuh, which the tests run in
// an emulator. Start a new op from this folder.
#include "common/cuda_launch.h"
#include "null/null_kernels.cuh"

namespace ganengine::null {
namespace {

Tensor forward_cuda(const Tensor& x_any) {  // x: float, any shape
  check_data(kOp, "x", x_any);
  const OnDeviceOf device(kOp, x_any);
  const Tensor x = torch::stable::contiguous(x_any);
  const Tensor y = torch::stable::new_empty(x, x.sizes());
  if (x.numel() == 0) return y;
  visit_cuda(x.scalar_type(), [&](auto element) {
    using T = decltype(element);
    copy<T>(data<T>(x), x.numel(), mutable_data<T>(y), device.stream());
  });
  return y;
}

Tensor backward_cuda(const Tensor& grad_y) { return forward_cuda(grad_y); }

}  // namespace
}  // namespace ganengine::null

STABLE_TORCH_LIBRARY_IMPL(ganengine, CUDA, m) {
  m.impl("null", TORCH_BOX(&ganengine::null::forward_cuda));
  m.impl("null_backward", TORCH_BOX(&ganengine::null::backward_cuda));
}
