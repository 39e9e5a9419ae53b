// What the torch side of a CUDA kernel needs: the device, its stream, memory for results, and the element type. It uses
// no symbol of libtorch that a CPU build lacks, as the object loads there too.
#pragma once

#include <torch/csrc/stable/accelerator.h>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <optional>

#include "common/checks.h"
#include "common/cuda_call.h"

namespace ganengine {

// Makes the device of a tensor PyTorch's current one for as long as it lives, and knows the current stream there.
class OnDevice {
 public:
  OnDevice(const char* op, const Tensor& tensor) : guard_(tensor.get_device_index()) {
    check(tensor.is_cuda(), op, "expected tensors on a CUDA device");
    const auto device = tensor.get_device_index();
    stream_ = {device, torch::stable::accelerator::getCurrentStream(device).nativeHandle()};
  }

  const Stream& stream() const { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  Stream stream_{};
};

// check_data has refused other dtypes.
inline Element element_of(const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::BFloat16:
      return Element::bfloat16;
    case ScalarType::Half:
      return Element::float16;
    case ScalarType::Double:
      return Element::float64;
    default:
      return Element::float32;
  }
}

template <typename T = void>
const T* data(const Tensor& tensor) {
  return static_cast<const T*>(tensor.const_data_ptr());
}

template <typename T = void>
const T* data(const std::optional<Tensor>& tensor) {
  return tensor ? data<T>(*tensor) : nullptr;
}

template <typename T = void>
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

}  // namespace ganengine
