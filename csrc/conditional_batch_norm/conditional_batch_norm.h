// What the CPU and the CUDA kernels of conditional batch norm share. No torch headers here.
#pragma once

#include "common/host_device.h"

namespace ganengine::conditional_batch_norm {

constexpr const char* kOp = "conditional_batch_norm";

// y = z where z > 0, else slope * z. NaN stays NaN, and slope 0 does not turn an infinite z into NaN.
template <typename A>
GANENGINE_HD inline A activate(A z, A slope) {
  return z <= A(0) ? (slope == A(0) ? A(0) : slope * z) : z;
}

// Gradient of `activate`. An infinite gradient gives no NaN where slope 0 stops it; NaN in z does what it does in
// torch's threshold_backward and leaky_relu_backward.
template <typename A>
GANENGINE_HD inline A activate_gradient(A grad, A z, A slope) {
  if (slope == A(0)) return z <= A(0) ? A(0) : grad;
  return z > A(0) ? grad : slope * grad;
}

}  // namespace ganengine::conditional_batch_norm
