// The PatchGAN loss on the GPU: checks, memory for results, launch. The kernels are in patchgan_loss_kernels.cuh.
#include <tuple>
#include <vector>

#include "common/cuda_launch.h"
#include "patchgan_loss/patchgan_loss_checks.h"
#include "patchgan_loss/patchgan_loss_kernels.cuh"

namespace ganengine::patchgan_loss {
namespace {

int64_t logits_of(const Tensor& map) {  // of a sample
  int64_t count = 1;
  for (int64_t k = 1; k < map.dim(); ++k) count *= map.size(k);
  return count;
}

std::vector<Tensor> all_contiguous(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> dense;
  for (const Tensor& tensor : tensors) dense.push_back(torch::stable::contiguous(tensor));
  return dense;
}

std::vector<Tensor> empty_like_all(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> fresh;
  for (const Tensor& tensor : tensors) fresh.push_back(torch::stable::new_empty(tensor, tensor.sizes()));
  return fresh;
}

template <typename T>
std::vector<View<T>> views_of(const std::vector<Tensor>& from, const std::vector<Tensor>& to) {
  std::vector<View<T>> views;
  for (size_t k = 0; k < from.size(); ++k) {
    views.push_back({data<T>(from[k]), mutable_data<T>(to[k]), logits_of(from[k]), Wide<T>(0)});
  }
  return views;
}

std::tuple<Tensor, std::vector<Tensor>> forward_cuda(const std::vector<Tensor>& maps_any,       // [N, ...] each
                                                     const std::vector<double>& targets,        // one each, or none
                                                     const std::optional<Tensor>& samples_any,  // [N], or none
                                                     int64_t mode, bool mean) {
  check_options(maps_any, targets.size(), samples_any, mode);
  const OnDeviceOf device(kOp, maps_any[0]);
  const std::vector<Tensor> maps = all_contiguous(maps_any), slopes = empty_like_all(maps);
  const auto samples = contiguous(samples_any);
  const int64_t n = maps[0].size(0);
  const ScalarType wide = accumulation_type(maps[0].scalar_type());
  const Tensor loss = mean ? torch::stable::new_empty(maps[0], {}, wide) : torch::stable::new_empty(maps[0], {n}, wide);
  visit_cuda(maps[0].scalar_type(), [&](auto element) {
    using T = decltype(element);
    using A = Wide<T>;
    std::vector<View<T>> views = views_of<T>(maps, slopes);
    for (size_t k = 0; k < targets.size(); ++k) views[k].number = static_cast<A>(targets[k]);
    const Tensor memory = scratch(maps[0], 2 * forward_scratch(views, n, mean && !samples), wide);
    forward<T>(views, n, data<A>(samples), static_cast<Mode>(mode), mean, mutable_data<A>(loss),
               mutable_data<Sum<A>>(memory), device.stream());
  });
  return {loss, slopes};
}

std::vector<Tensor> backward_cuda(const Tensor& grad_any,                 // 0-d (mean) or [N]
                                  const std::vector<Tensor>& slopes_any,  // like maps
                                  const std::vector<Tensor>& maps_any,    // only their shapes matter
                                  const std::vector<double>&, const std::optional<Tensor>&, int64_t, bool mean) {
  check_backward(grad_any, slopes_any, maps_any, mean);
  const OnDeviceOf device(kOp, grad_any);
  const Tensor grad_loss = torch::stable::contiguous(grad_any);
  const std::vector<Tensor> slopes = all_contiguous(slopes_any), grads = empty_like_all(slopes);
  const int64_t n = maps_any[0].size(0);
  visit_cuda(slopes[0].scalar_type(), [&](auto element) {
    using T = decltype(element);
    std::vector<View<T>> views = views_of<T>(slopes, grads);
    for (View<T>& view : views) {
      const double share =
          static_cast<double>(views.size()) * static_cast<double>(mean ? n * view.logits : view.logits);
      view.number = static_cast<Wide<T>>(share);
    }
    backward<T>(views, n, data<Wide<T>>(grad_loss), mean, device.stream());
  });
  return grads;
}

}  // namespace
}  // namespace ganengine::patchgan_loss

STABLE_TORCH_LIBRARY_IMPL(ganengine, CUDA, m) {
  m.impl("patchgan_loss", TORCH_BOX(&ganengine::patchgan_loss::forward_cuda));
  m.impl("patchgan_loss_backward", TORCH_BOX(&ganengine::patchgan_loss::backward_cuda));
}
