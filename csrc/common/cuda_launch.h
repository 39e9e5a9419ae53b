// What launch code needs around kernels: the device, its stream, memory for results, and the element type. Host code
// that only nvcc compiles. It uses no symbol of libtorch that a CPU build lacks, as the object loads there too.
#pragma once

#include <cuda_runtime.h>
#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>

#include "common/checks.h"
#include "common/cuda_compat.cuh"

namespace ganengine {

// Makes the device of a tensor the current one for as long as it lives, and knows PyTorch's current stream there.
class OnDeviceOf {
 public:
  OnDeviceOf(const char* op, const Tensor& tensor) : guard_(tensor.get_device_index()) {
    const auto device = tensor.get_device_index();
    check(tensor.is_cuda(), op, "expected tensors on a CUDA device");
    // The guard set the device of the driver and of PyTorch's runtime; this object has a CUDA runtime of its own.
    check(cudaSetDevice(device) == cudaSuccess, op, "CUDA device ", device, " cannot be used");
    stream_ = static_cast<cudaStream_t>(torch::stable::accelerator::getCurrentStream(device).nativeHandle());
  }

  cudaStream_t stream() const { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_ = nullptr;
};

template <typename T>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <typename T>
const T* data(const std::optional<Tensor>& tensor) {
  return tensor ? data<T>(*tensor) : nullptr;
}

template <typename T>
T* mutable_data(const Tensor& tensor) {
  return static_cast<T*>(tensor.mutable_data_ptr());
}

inline std::optional<Tensor> contiguous(const std::optional<Tensor>& tensor) {
  if (!tensor) return std::nullopt;
  return torch::stable::contiguous(*tensor);
}

// Memory of `count` elements beside `like`. It goes back to PyTorch's allocator when the call returns, which gives it
// to others in the order of the stream.
inline Tensor scratch(const Tensor& like, int64_t count, ScalarType type) {
  return torch::stable::new_empty(like, {count}, type);
}

// Calls f with a value of the element type; check_data has refused other dtypes.
template <typename F>
void visit_cuda(ScalarType type, const F& f) {
  switch (type) {
    case ScalarType::BFloat16:
      return f(__nv_bfloat16{});
    case ScalarType::Half:
      return f(__half{});
    case ScalarType::Double:
      return f(double{});
    default:
      return f(float{});
  }
}

}  // namespace ganengine
