// What both directions share: where the patches of a picture lie. No torch headers here.
#pragma once

#include <cstdint>

namespace ganengine::im2col {

constexpr const char* kOp = "im2col";
constexpr const char* kBackwardOp = "im2col_backward";

// Pictures [n, height, width, channels] and, for each of down * across places, a window [rows, columns, channels] whose
// top left corner is at (place * stride - padding).
struct Problem {
  int64_t n, height, width, channels;
  int64_t rows, columns;
  int64_t stride_down, stride_across;
  int64_t padding_top, padding_left;
  int64_t down, across;

  int64_t window() const { return rows * columns * channels; }
};

}  // namespace ganengine::im2col
