// The PatchGAN loss on the GPU, for nvcc: launches for every element type. The kernels are in
// patchgan_loss_kernels.cuh.
#include "patchgan_loss/patchgan_loss_cuda.h"

#include "common/cuda_dispatch.cuh"
#include "patchgan_loss/patchgan_loss_kernels.cuh"

namespace ganengine::patchgan_loss {
namespace {

template <typename T>
std::vector<View<T>> with_type(const std::vector<Map>& maps) {
  std::vector<View<T>> views;
  for (const Map& map : maps) {
    views.push_back({in<T>(map.logits), out<T>(map.grad), map.count, static_cast<Wide<T>>(map.target)});
  }
  return views;
}

}  // namespace

int64_t scratch_for_forward(const std::vector<Map>& maps, int64_t samples, bool merged) {
  return 2 * forward_scratch(with_type<float>(maps), samples, merged);  // a Sum is two numbers
}

void launch_forward(Element type, const std::vector<Map>& maps, int64_t samples, const void* targets, Mode mode,
                    bool mean, void* loss, void* scratch, const Stream& stream) {
  dispatch_cuda(type, stream, [&](auto element, cudaStream_t queue) {
    using T = decltype(element);
    using A = Wide<T>;
    forward<T>(with_type<T>(maps), samples, in<A>(targets), mode, mean, out<A>(loss), out<Sum<A>>(scratch), queue);
  });
}

void launch_backward(Element type, const std::vector<Map>& maps, int64_t samples, const void* targets, Mode mode,
                     bool mean, const void* grad_loss, const Stream& stream) {
  dispatch_cuda(type, stream, [&](auto element, cudaStream_t queue) {
    using T = decltype(element);
    using A = Wide<T>;
    backward<T>(with_type<T>(maps), samples, in<A>(targets), mode, mean, in<A>(grad_loss), queue);
  });
}

}  // namespace ganengine::patchgan_loss
