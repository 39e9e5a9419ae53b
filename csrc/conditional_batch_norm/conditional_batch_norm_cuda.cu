// Conditional batch norm on the GPU, for nvcc: launches for every element type. The kernels are in
// conditional_batch_norm_kernels.cuh.
#include "conditional_batch_norm/conditional_batch_norm_cuda.h"

#include "common/cuda_dispatch.cuh"
#include "conditional_batch_norm/conditional_batch_norm_kernels.cuh"

namespace ganengine::conditional_batch_norm {
namespace {

template <typename A>
Classes<A> with_type(const Classes<void>& classes) {
  return {in<A>(classes.gamma), in<A>(classes.beta), classes.labels32, classes.labels64, classes.rows};
}

}  // namespace

int64_t scratch_for_forward(const Extent& extent, bool batch_statistics, size_t element_size) {
  return forward_scratch(extent, batch_statistics, element_size);
}

void launch_forward(Element type, const Extent& extent, const void* x, const Classes<void>& classes, double eps,
                    double slope, bool batch_statistics, void* mean, void* var, void* y, void* scratch,
                    const Stream& stream) {
  dispatch_cuda(type, stream, [&](auto element, cudaStream_t queue) {
    using T = decltype(element);
    using A = Wide<T>;
    forward<T>(extent, in<T>(x), with_type<A>(classes), eps, slope, batch_statistics, out<A>(mean), out<A>(var),
               out<T>(y), out<A>(scratch), queue);
  });
}

int64_t scratch_for_backward(const Extent& extent) { return backward_scratch(extent); }

void launch_backward(Element type, const Extent& extent, const void* grad_y, const void* x,
                     const Classes<void>& classes, const void* mean, const void* var, double eps, double slope,
                     bool batch_statistics, void* grad_x, void* grad_gamma, void* grad_beta, void* scratch,
                     const Stream& stream) {
  dispatch_cuda(type, stream, [&](auto element, cudaStream_t queue) {
    using T = decltype(element);
    using A = Wide<T>;
    const Norm<A> norm{with_type<A>(classes), in<A>(mean), in<A>(var), static_cast<A>(eps), static_cast<A>(slope)};
    backward<T>(extent, in<T>(grad_y), in<T>(x), norm, batch_statistics, out<T>(grad_x), out<A>(grad_gamma),
                out<A>(grad_beta), out<A>(scratch), queue);
  });
}

}  // namespace ganengine::conditional_batch_norm
