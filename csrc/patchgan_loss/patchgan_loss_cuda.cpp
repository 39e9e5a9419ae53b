// The PatchGAN loss on the GPU, beside torch: checks, memory for results, what is launched.
#include "patchgan_loss/patchgan_loss_cuda.h"

#include "common/cuda_torch.h"
#include "patchgan_loss/patchgan_loss_checks.h"

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

// `grads`: one per map, or none.
std::vector<Map> maps_of(const std::vector<Tensor>& maps, const std::vector<double>& targets,
                         const std::vector<Tensor>& grads) {
  std::vector<Map> all;
  for (size_t k = 0; k < maps.size(); ++k) {
    all.push_back({data(maps[k]), grads.empty() ? nullptr : mutable_data(grads[k]), logits_of(maps[k]),
                   targets.empty() ? 0 : targets[k]});
  }
  return all;
}

Tensor forward_cuda(const std::vector<Tensor>& maps_any,       // [N, ...] each
                    const std::vector<double>& targets,        // one each, or none
                    const std::optional<Tensor>& samples_any,  // [N], or none
                    int64_t mode, bool mean) {
  check_options(maps_any, targets.size(), samples_any, mode);
  const OnDevice device(kOp, maps_any[0]);
  const std::vector<Tensor> maps = all_contiguous(maps_any);
  const auto samples = contiguous(samples_any);
  const int64_t n = maps[0].size(0);
  const ScalarType wide = accumulation_type(maps[0].scalar_type());
  const Tensor loss = mean ? torch::stable::new_empty(maps[0], {}, wide) : torch::stable::new_empty(maps[0], {n}, wide);
  const std::vector<Map> all = maps_of(maps, targets, {});
  const Tensor memory = scratch(maps[0], scratch_for_forward(all, n, mean && !samples), wide);
  launch_forward(element_of(maps[0]), all, n, data(samples), static_cast<Mode>(mode), mean, mutable_data(loss),
                 mutable_data(memory), device.stream());
  return loss;
}

std::vector<Tensor> backward_cuda(const Tensor& grad_any,  // 0-d (mean) or [N]
                                  const std::vector<Tensor>& maps_any, const std::vector<double>& targets,
                                  const std::optional<Tensor>& samples_any, int64_t mode, bool mean) {
  check_options(maps_any, targets.size(), samples_any, mode);
  check_grad(grad_any, maps_any, mean);
  const OnDevice device(kOp, maps_any[0]);
  const Tensor grad_loss = torch::stable::contiguous(grad_any);
  const std::vector<Tensor> maps = all_contiguous(maps_any), grads = empty_like_all(maps);
  const auto samples = contiguous(samples_any);
  launch_backward(element_of(maps[0]), maps_of(maps, targets, grads), maps[0].size(0), data(samples),
                  static_cast<Mode>(mode), mean, data(grad_loss), device.stream());
  return grads;
}

}  // namespace
}  // namespace ganengine::patchgan_loss

STABLE_TORCH_LIBRARY_IMPL(ganengine, CUDA, m) {
  m.impl("patchgan_loss", TORCH_BOX(&ganengine::patchgan_loss::forward_cuda));
  m.impl("patchgan_loss_backward", TORCH_BOX(&ganengine::patchgan_loss::backward_cuda));
}
