// What maxout_cuda.cpp calls and maxout_cuda.cu defines. Bias and sums are float, beside double double.
#pragma once

#include <cstdint>

#include "common/cuda_call.h"
#include "common/host_device.h"

namespace ganengine::maxout {

struct Extent {
  int64_t samples, pieces, units;

  GANENGINE_HD int64_t features() const { return pieces * units; }
};

// bias may be null.
void launch_forward(Element type, const Extent& extent, const void* h, const void* bias, bool relu, double dropout,
                    int64_t seed, int64_t offset, void* y, uint8_t* winner, const Stream& stream);

// Numbers of scratch memory for `launch_backward`.
int64_t scratch_for_backward(const Extent& extent);

void launch_backward(Element type, const Extent& extent, const void* grad_y, const uint8_t* winner, double dropout,
                     void* grad_h, void* grad_bias, void* scratch, const Stream& stream);

}  // namespace ganengine::maxout
