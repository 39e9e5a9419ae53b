// Maxout on the GPU, for nvcc: launches for every element type. The kernels are in maxout_kernels.cuh.
#include "maxout/maxout_cuda.h"

#include "common/cuda_dispatch.cuh"
#include "maxout/maxout_kernels.cuh"

namespace ganengine::maxout {

void launch_forward(Element type, const Extent& extent, const void* h, const void* bias, bool relu, double dropout,
                    int64_t seed, int64_t offset, void* y, uint8_t* winner, const Stream& stream) {
  dispatch_cuda(type, stream, [&](auto element, cudaStream_t queue) {
    using T = decltype(element);
    forward<T>(extent, in<T>(h), in<Wide<T>>(bias), relu, dropout, seed, offset, out<T>(y), winner, queue);
  });
}

int64_t scratch_for_backward(const Extent& extent) { return backward_scratch(extent); }

void launch_backward(Element type, const Extent& extent, const void* grad_y, const uint8_t* winner, double dropout,
                     void* grad_h, void* grad_bias, void* scratch, const Stream& stream) {
  dispatch_cuda(type, stream, [&](auto element, cudaStream_t queue) {
    using T = decltype(element);
    using A = Wide<T>;
    backward<T>(extent, in<T>(grad_y), winner, dropout, out<T>(grad_h), out<A>(grad_bias), out<A>(scratch), queue);
  });
}

}  // namespace ganengine::maxout
