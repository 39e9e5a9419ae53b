// im2col on the CPU: pictures to the windows that a convolution sees, and the sums of such windows back to pictures.
#include <torch/csrc/stable/library.h>

#include <cstring>
#include <vector>

#include "common/isa.h"
#include "common/parallel.h"
#include "common/tensors.h"
#include "common/visit.h"
#include "im2col/im2col.h"

#define GANENGINE_KERNELS "im2col/im2col_cpu_kernels.h"
#include "common/for_each_isa.h"

namespace ganengine::im2col {
namespace {

using Pair = std::vector<int64_t>;

Problem problem(const char* op, int64_t n, int64_t height, int64_t width, int64_t channels, const Pair& kernel,
                const Pair& stride, const Pair& padding, const Pair& places) {
  for (const Pair* pair : {&kernel, &stride, &padding, &places}) {
    check(pair->size() == 2, op, "expected kernel, stride, padding and places to be pairs");
  }
  check(kernel[0] > 0 && kernel[1] > 0 && stride[0] > 0 && stride[1] > 0, op, "expected kernel and stride above 0");
  check(padding[0] >= 0 && padding[1] >= 0 && places[0] >= 0 && places[1] >= 0, op,
        "expected padding and places of 0 or more");
  return {n,         height,    width,      channels,   kernel[0], kernel[1],
          stride[0], stride[1], padding[0], padding[1], places[0], places[1]};
}

// One window: rows of pixels beside each other are one piece of memory; what lies outside the picture is 0.
void copy_window(const Problem& p, const char* picture, int64_t element, int64_t top, int64_t left, char* to) {
  const int64_t pixel = p.channels * element, line = p.columns * pixel;
  const int64_t first = std::clamp<int64_t>(-left, 0, p.columns);
  const int64_t last = std::clamp<int64_t>(p.width - left, first, p.columns);
  for (int64_t r = 0; r < p.rows; ++r, to += line) {
    const int64_t y = top + r;
    if (y < 0 || y >= p.height || first == last) {
      std::memset(to, 0, line);
      continue;
    }
    if (first > 0) std::memset(to, 0, first * pixel);
    std::memcpy(to + first * pixel, picture + (y * p.width + left + first) * pixel, (last - first) * pixel);
    if (last < p.columns) std::memset(to + last * pixel, 0, (p.columns - last) * pixel);
  }
}

Tensor forward_cpu(const Tensor& x_any,  // [N, H, W, C]
                   Pair kernel, Pair stride, Pair padding, Pair places) {
  check_data(kOp, "x", x_any);
  check(x_any.dim() == 4, kOp, "expected x [N, H, W, C], got ", describe(x_any.sizes()));
  const Tensor x = dense(x_any);
  const Problem p = problem(kOp, x.size(0), x.size(1), x.size(2), x.size(3), kernel, stride, padding, places);
  const Tensor patches = empty_dense({p.n * p.down * p.across, p.window()}, x.scalar_type());
  const int64_t element = x.element_size(), picture = p.height * p.width * p.channels * element;
  const char* from = static_cast<const char*>(x.const_data_ptr());
  char* to = static_cast<char*>(patches.mutable_data_ptr());
  parallel_for(p.n * p.down, grain(p.across * p.window()), [&](int64_t begin, int64_t end) {
    for (int64_t line = begin; line < end; ++line) {
      const int64_t n = line / p.down, top = line % p.down * p.stride_down - p.padding_top;
      for (int64_t i = 0; i < p.across; ++i) {
        copy_window(p, from + n * picture, element, top, i * p.stride_across - p.padding_left,
                    to + (line * p.across + i) * p.window() * element);
      }
    }
  });
  return patches;
}

Tensor backward_cpu(const Tensor& patches_any,  // [N * places, kernel * C]
                    Pair size,                  // of x
                    Pair kernel, Pair stride, Pair padding, Pair places) {
  check_data(kBackwardOp, "patches", patches_any);
  check(size.size() == 4, kBackwardOp, "expected size (N, H, W, C)");
  const Problem p = problem(kBackwardOp, size[0], size[1], size[2], size[3], kernel, stride, padding, places);
  check_tensor(kBackwardOp, "patches", patches_any, {p.n * p.down * p.across, p.window()}, patches_any.scalar_type(),
               patches_any);
  const Tensor patches = dense(patches_any);
  const Tensor x = empty_dense({p.n, p.height, p.width, p.channels}, patches.scalar_type());
  visit(patches.scalar_type(), [&](auto element) {
    using T = decltype(element);
    const auto sums = GANENGINE_CHOOSE(im2col, T, backward<T>);
    const T* from = static_cast<const T*>(patches.const_data_ptr());
    T* to = static_cast<T*>(x.mutable_data_ptr());
    parallel_for(p.n * p.height, grain(p.width * p.channels * p.rows * p.columns), [&](int64_t begin, int64_t end) {
      std::vector<int64_t> offsets(p.rows * p.columns);
      sums(p, from, to, offsets.data(), begin, end);
    });
  });
  return x;
}

}  // namespace
}  // namespace ganengine::im2col

STABLE_TORCH_LIBRARY_IMPL(ganengine, CPU, m) {
  m.impl("im2col", TORCH_BOX(&ganengine::im2col::forward_cpu));
  m.impl("im2col_backward", TORCH_BOX(&ganengine::im2col::backward_cpu));
}
