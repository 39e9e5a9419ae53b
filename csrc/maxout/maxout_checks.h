// What both kernels of Maxout check before they touch memory. Host code.
#pragma once

#include <optional>

#include "common/checks.h"
#include "maxout/maxout.h"

namespace ganengine::maxout {

inline void check_options(int64_t pieces, double dropout) {
  check(pieces >= 1 && pieces <= kMostPieces, kOp, "expected 1 to ", kMostPieces, " pieces, got ", pieces);
  check(dropout >= 0 && dropout < 1, kOp, "expected dropout in [0, 1), got ", dropout);
}

inline void check_inputs(const Tensor& h, const std::optional<Tensor>& bias, int64_t pieces, double dropout) {
  check_options(pieces, dropout);
  check_data(kOp, "h", h);
  check(h.dim() == 2 && h.size(1) % pieces == 0, kOp, "expected h [N, pieces * units] with pieces = ", pieces, ", got ",
        describe(h.sizes()));
  if (bias) check_tensor(kOp, "bias", *bias, {h.size(1)}, accumulation_type(h.scalar_type()), h);
}

inline void check_backward(const Tensor& grad_y, const Tensor& winner, int64_t pieces, double dropout) {
  check_options(pieces, dropout);
  check_data(kOp, "grad_y", grad_y);
  check(grad_y.dim() == 2, kOp, "expected grad_y [N, units], got ", describe(grad_y.sizes()));
  check_tensor(kOp, "winner", winner, {grad_y.size(0), grad_y.size(1)}, ScalarType::Byte, grad_y);
}

}  // namespace ganengine::maxout
