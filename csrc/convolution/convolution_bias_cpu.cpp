// The gradient of a convolution's bias on the CPU: sums over all pixels, read in the dtype that they have. Torch copies
// data of 16 bits to float32 before it adds.
#include <torch/csrc/stable/library.h>

#include <vector>

#include "common/isa.h"
#include "common/parallel.h"
#include "common/tensors.h"
#include "common/visit.h"

#define GANENGINE_KERNELS "convolution/convolution_bias_cpu_kernels.h"
#include "common/for_each_isa.h"

namespace ganengine::convolution_bias {
namespace {

constexpr const char* kOp = "convolution_bias";

Tensor sums_cpu(const Tensor& y) {  // [N, K, A, B], channels-last
  check_data(kOp, "y", y);
  check(y.dim() == 4, kOp, "expected y [N, K, A, B], got ", describe(y.sizes()));
  const int64_t channels = y.size(1), pixels = y.size(0) * y.size(2) * y.size(3);
  const int64_t strides[] = {y.size(2) * y.size(3) * channels, 1, y.size(3) * channels, channels};
  for (int64_t k = 0; k < 4; ++k) {
    check(y.size(k) <= 1 || y.stride(k) == strides[k] || y.numel() == 0, kOp, "expected y in channels-last memory");
  }
  const Tensor sums = empty_dense({channels}, accumulation_type(y.scalar_type()));
  visit(y.scalar_type(), [&](auto element) {
    using T = decltype(element);
    using A = Accumulator<T>;
    const auto columns = GANENGINE_CHOOSE(convolution_bias, T, columns<T>);
    const T* from = static_cast<const T*>(y.const_data_ptr());
    // In parts of one size, so that threads do not change the sum; those of a part stay in registers.
    const int64_t rows = grain(channels), parts = (pixels + rows - 1) / rows;
    std::vector<A> partial(parts * channels);
    parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        columns(from + i * rows * channels, std::min(rows, pixels - i * rows), channels, partial.data() + i * channels);
      }
    });
    A* to = static_cast<A*>(sums.mutable_data_ptr());
    std::fill(to, to + channels, A{0});
    for (int64_t i = 0; i < parts; ++i) {
      for (int64_t c = 0; c < channels; ++c) to[c] += partial[i * channels + c];
    }
  });
  return sums;
}

}  // namespace
}  // namespace ganengine::convolution_bias

STABLE_TORCH_LIBRARY_IMPL(ganengine, CPU, m) {
  m.impl("convolution_bias", TORCH_BOX(&ganengine::convolution_bias::sums_cpu));
}
