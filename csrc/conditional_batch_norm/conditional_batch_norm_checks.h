// What both kernels of conditional batch norm check before they touch memory, and how they see x. Host code.
#pragma once

#include <optional>

#include "common/checks.h"
#include "conditional_batch_norm/conditional_batch_norm.h"

namespace ganengine::conditional_batch_norm {

struct Shape {
  int64_t n, c, m;  // samples, channels, positions
  bool rows;        // memory order [N, M, C] (channels-last, and m = 1), not [N, C, M]
  torch::headeronly::MemoryFormat format;
};

// The memory format of results: channels-last where x is, else contiguous.
inline torch::headeronly::MemoryFormat format_of(const Tensor& x) {
  using torch::headeronly::MemoryFormat;
  const auto sizes = x.sizes(), strides = x.strides();
  const int64_t dim = x.dim();
  if ((dim != 4 && dim != 5) || x.is_contiguous()) return MemoryFormat::Contiguous;
  int64_t stride = 1;
  for (int64_t k = 0; k < dim; ++k) {  // channel, then positions from the last, then the sample
    const int64_t axis = k == 0 ? 1 : k == dim - 1 ? 0 : dim - k;
    if (sizes[axis] != 1 && strides[axis] != stride) return MemoryFormat::Contiguous;
    stride *= sizes[axis];
  }
  return dim == 4 ? MemoryFormat::ChannelsLast : MemoryFormat::ChannelsLast3d;
}

inline Shape shape_of(const Tensor& x) {
  const auto sizes = x.sizes();
  Shape shape{sizes[0], sizes[1], 1, false, format_of(x)};
  for (size_t k = 2; k < sizes.size(); ++k) shape.m *= sizes[k];
  shape.rows = shape.m == 1 || shape.format != torch::headeronly::MemoryFormat::Contiguous;
  return shape;
}

inline void check_inputs(const Tensor& x, const Tensor& gamma, const Tensor& beta,
                         const std::optional<Tensor>& labels) {
  check_data(kOp, "x", x);
  check(x.dim() >= 2, kOp, "expected x [N, C, ...], got ", describe(x.sizes()));
  check(gamma.dim() == 2, kOp, "expected gamma [K, C] or [N, C], got ", describe(gamma.sizes()));
  const int64_t rows = labels ? gamma.size(0) : x.size(0);
  const ScalarType wide = accumulation_type(x.scalar_type());
  check_tensor(kOp, "gamma", gamma, {rows, x.size(1)}, wide, x);
  check_tensor(kOp, "beta", beta, {rows, x.size(1)}, wide, x);
  if (labels) {
    const ScalarType type = labels->scalar_type();
    check(type == ScalarType::Int || type == ScalarType::Long, kOp, "expected labels of int32 or int64");
    check_tensor(kOp, "labels", *labels, {x.size(0)}, type, x);
  }
}

inline void check_statistics(const Tensor& mean, const Tensor& var, const Tensor& x) {
  const ScalarType wide = accumulation_type(x.scalar_type());
  check_tensor(kOp, "mean", mean, {x.size(1)}, wide, x);
  check_tensor(kOp, "var", var, {x.size(1)}, wide, x);
}

inline void check_grad(const Tensor& grad_y, const Tensor& x) {
  check(grad_y.sizes() == x.sizes(), kOp, "expected grad_y ", describe(x.sizes()), ", as x is; got ",
        describe(grad_y.sizes()));
  check(grad_y.scalar_type() == x.scalar_type(), kOp, "expected grad_y in the dtype of x");
  check(grad_y.device() == x.device(), kOp, "expected grad_y on the device of x");
}

}  // namespace ganengine::conditional_batch_norm
