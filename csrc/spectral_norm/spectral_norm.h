// What all parts share: a weight as a matrix [outputs, rest] where it lies. No torch headers here.
#pragma once

#include <cstdint>

namespace ganengine::spectral_norm {

constexpr const char* kOp = "spectral_norm";
constexpr const char* kBackwardOp = "spectral_norm_backward";
constexpr const char* kIterateOp = "spectral_norm_iterate";
constexpr const char* kNextOp = "spectral_norm_next";

// The axis of outputs lies somewhere between the others: memory is [before, outputs, after].
struct Problem {
  int64_t before, outputs, after;

  int64_t rest() const { return before * after; }
  int64_t numel() const { return rest() * outputs; }
};

}  // namespace ganengine::spectral_norm
