// Making and viewing tensors by the shortest way through torch: small ops cost mostly what happens around the kernel.
#pragma once

#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

#include <vector>

#include "common/checks.h"
#include "common/memory.h"

namespace ganengine {

// The tensor itself where it is contiguous, else a contiguous copy.
inline Tensor dense(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
}

// A new CPU tensor of such sizes and strides, with undefined contents.
inline Tensor empty_strided(const int64_t* sizes, const int64_t* strides, int64_t dim, ScalarType type) {
  AtenTensorHandle handle = nullptr;
  const int32_t dtype = torch::stable::detail::to<int32_t>(torch::stable::detail::from(type));
  STABLE_TORCH_ERROR_CODE_CHECK(
      aoti_torch_empty_strided(dim, sizes, strides, dtype, aoti_torch_device_type_cpu(), 0, &handle));
  Tensor fresh(handle);
  prepare(fresh);
  return fresh;
}

// A new contiguous CPU tensor, with undefined contents.
inline Tensor empty_dense(torch::headeronly::IntHeaderOnlyArrayRef sizes, ScalarType type) {
  constexpr size_t kFew = 8;
  int64_t few[kFew];
  std::vector<int64_t> many;
  int64_t* strides = few;
  if (sizes.size() > kFew) {
    many.resize(sizes.size());
    strides = many.data();
  }
  int64_t stride = 1;
  for (size_t k = sizes.size(); k-- > 0;) {
    strides[k] = stride;
    stride *= sizes[k] > 1 ? sizes[k] : 1;  // as torch counts, whose strides are never 0
  }
  return empty_strided(sizes.data(), strides, static_cast<int64_t>(sizes.size()), type);
}

}  // namespace ganengine
