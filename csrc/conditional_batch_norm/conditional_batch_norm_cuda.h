// What conditional_batch_norm_cuda.cpp calls and conditional_batch_norm_cuda.cu defines. Tables, statistics and sums
// are float, beside double double.
#pragma once

#include <cstddef>
#include <cstdint>

#include "common/cuda_call.h"

namespace ganengine::conditional_batch_norm {

struct Extent {
  int64_t samples, channels, positions;
  bool rows;  // memory order [N, L, C], not [N, C, L]

  int64_t count() const { return samples * positions; }
};

// The tables and whose row is whose.
template <typename A>
struct Classes {
  const A* gamma;  // [rows, C]
  const A* beta;   // [rows, C]
  const int32_t* labels32;
  const int64_t* labels64;  // [N]; one of the two, or neither: row n is sample n's
  int64_t rows;

  bool labelled() const { return labels32 != nullptr || labels64 != nullptr; }
};

// Numbers of scratch memory for `launch_forward`; element_size: bytes.
int64_t scratch_for_forward(const Extent& extent, bool batch_statistics, size_t element_size);

// Writes mean and var where the statistics are the batch's, else reads them.
void launch_forward(Element type, const Extent& extent, const void* x, const Classes<void>& classes, double eps,
                    double slope, bool batch_statistics, void* mean, void* var, void* y, void* scratch,
                    const Stream& stream);

// Numbers of scratch memory for `launch_backward`.
int64_t scratch_for_backward(const Extent& extent);

void launch_backward(Element type, const Extent& extent, const void* grad_y, const void* x,
                     const Classes<void>& classes, const void* mean, const void* var, double eps, double slope,
                     bool batch_statistics, void* grad_x, void* grad_gamma, void* grad_beta, void* scratch,
                     const Stream& stream);

}  // namespace ganengine::conditional_batch_norm
