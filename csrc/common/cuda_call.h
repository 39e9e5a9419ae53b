// What the torch side of a CUDA kernel (<op>_cuda.cpp, by the C++ compiler) hands to its launches (<op>_cuda.cu, by
// nvcc, which parses everything once per architecture): neither torch's headers nor CUDA's here.
#pragma once

namespace ganengine {

// The element type of data; memory crosses as void*.
enum class Element { float32, bfloat16, float16, float64 };

// PyTorch's current stream of a device.
struct Stream {
  int device;
  void* handle;  // a cudaStream_t
};

}  // namespace ganengine
