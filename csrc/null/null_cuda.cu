// The template kernel on the GPU, for nvcc: launches for every element type. Device code is in null_kernels.cuh, which
// the tests run in an emulator.
#include "null/null_cuda.h"

#include "common/cuda_dispatch.cuh"
#include "null/null_kernels.cuh"

namespace ganengine::null {

void launch_copy(Element type, const void* x, int64_t count, void* y, const Stream& stream) {
  dispatch_cuda(type, stream, [&](auto element, cudaStream_t queue) {
    using T = decltype(element);
    copy<T>(in<T>(x), count, out<T>(y), queue);
  });
}

}  // namespace ganengine::null
