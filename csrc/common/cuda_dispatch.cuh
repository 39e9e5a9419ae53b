// From what the torch side hands over to the types of CUDA. Host code that only nvcc compiles; no torch headers here.
#pragma once

#include "common/cuda_call.h"
#include "common/cuda_compat.cuh"

namespace ganengine {

// Calls f with a value of the element type, and the stream, whose device it makes current.
template <typename F>
void dispatch_cuda(Element type, const Stream& stream, const F& f) {
  // PyTorch's guard set the device of the driver and of PyTorch's runtime; this object has a CUDA runtime of its own.
  const cudaError_t error = cudaSetDevice(stream.device);
  if (error != cudaSuccess) {
    throw std::runtime_error("ganengine: CUDA device " + std::to_string(stream.device) +
                             " cannot be used: " + cudaGetErrorString(error));
  }
  const auto queue = static_cast<cudaStream_t>(stream.handle);
  switch (type) {
    case Element::float32:
      return f(float{}, queue);
    case Element::bfloat16:
      return f(__nv_bfloat16{}, queue);
    case Element::float16:
      return f(__half{}, queue);
    case Element::float64:
      return f(double{}, queue);
  }
}

// The memory that crossed as void*.
template <typename T>
const T* in(const void* memory) {
  return static_cast<const T*>(memory);
}

template <typename T>
T* out(void* memory) {
  return static_cast<T*>(memory);
}

}  // namespace ganengine
