// A normalisation's way through the CPU kernels, for those that share them: conditional batch norm takes all samples as
// one problem, instance norm each by itself. Included once by a translation unit, which compiles the kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/isa.h"
#include "common/parallel.h"
#include "common/storage.h"
#include "common/tensors.h"
#include "common/visit.h"
#include "conditional_batch_norm/conditional_batch_norm.h"
#include "conditional_batch_norm/conditional_batch_norm_checks.h"

namespace ganengine::conditional_batch_norm {

// Leaky with slope 1 is none.
enum class Activation { relu, leaky };

// Which of the two passes over x a backward call makes.
enum class Passes { both, sums, input };

// One call of the op, forward or backward.
template <typename T>
struct Problem {
  using A = Accumulator<T>;

  int64_t n, c, m;  // samples, channels, positions
  bool rows_layout;
  const T *x, *grad;      // grad: backward only
  T* out;                 // y, or grad_x
  const A *gamma, *beta;  // [rows, C]
  const int64_t* labels;  // [N], which of the rows; null: that of the sample's number
  A *mean, *var;          // [C]
  A *grad_gamma, *grad_beta;
  double* sums;  // [2, C], of gamma g and of gamma g (x - mean), g the gradient of z: the first pass makes them, and
  double count;  // the second takes them: of so many values per channel, which may be more than this problem's own
  Passes passes;
  bool batch_statistics;
  double eps, slope;
  int64_t block;  // channels whose data fit into a core's cache
  int64_t parts;  // of a sample, that rows are summed in
  bool stream;    // the result is written past the cache

  int64_t row(int64_t sample) const { return labels == nullptr ? sample : labels[sample]; }
  A rstd(int64_t channel) const { return static_cast<A>(1 / std::sqrt(static_cast<double>(var[channel]) + eps)); }
};

template <typename T>
struct Kernels {
  using A = Accumulator<T>;
  void (*first_row)(const Problem<T>&, double*);
  void (*moments_rows)(const Problem<T>&, int64_t, int64_t, const double*, double*, double*);
  void (*statistics_planes)(const Problem<T>&, int64_t, int64_t);
  void (*forward)(const Problem<T>&, int64_t, int64_t);
  void (*sums_rows)(const Problem<T>&, int64_t, int64_t, A*);
  void (*settle_rows)(const Problem<T>&, int64_t, int64_t, const A*);
  void (*backward_planes)(const Problem<T>&, int64_t, int64_t);
  void (*backward_rows)(const Problem<T>&, int64_t, int64_t, const A*, const A*);
};

// Mean and variance from sums about a shift. Rounding may leave a variance just below 0; NaN stays.
template <typename A>
inline void settle(double first, double second, double shift, double count, A* mean, A* var) {
  const double off = first / count, v = second / count - off * off;
  *mean = static_cast<A>(shift + off);
  *var = static_cast<A>(v < 0 ? 0 : v);
}

// How the statistics of channel c pull at grad_x = g scale - (offset + (x - mean) pull).
template <typename T, typename A = Accumulator<T>>
inline void pull_of(const Problem<T>& p, int64_t c, double rstd, A* offset, A* pull) {
  *offset = static_cast<A>(rstd * p.sums[c] / p.count);
  *pull = static_cast<A>(rstd * rstd * rstd * p.sums[p.c + c] / p.count);
}

}  // namespace ganengine::conditional_batch_norm

#define GANENGINE_KERNELS "conditional_batch_norm/conditional_batch_norm_cpu_kernels.h"
#include "common/for_each_isa.h"

namespace ganengine::conditional_batch_norm {
namespace {

constexpr int64_t kCacheBytes = 512 * 1024;        // what a core keeps from one pass to the next
constexpr int64_t kStreamBytes = 8 * 1024 * 1024;  // a result of this size is gone from the cache before it is read

// A result in the shape of x and the memory format of results.
Tensor empty_as(const Tensor& x, const Shape& shape) {
  if (shape.format == torch::headeronly::MemoryFormat::Contiguous) return empty_dense(x.sizes(), x.scalar_type());
  const auto sizes = x.sizes();
  int64_t strides[5], stride = sizes[1];
  const int64_t dim = x.dim();
  strides[1] = 1;
  for (int64_t k = dim - 1; k >= 2; --k) {
    strides[k] = stride;
    stride *= sizes[k];
  }
  strides[0] = stride;
  return empty_strided(sizes.data(), strides, dim, x.scalar_type());
}

void clear(const Tensor& tensor) {
  if (tensor.numel() > 0) std::memset(tensor.mutable_data_ptr(), 0, tensor.numel() * tensor.element_size());
}

// x, or a gradient of it, in the memory order in which the kernels go through it.
Tensor laid_out(const Tensor& tensor, const Shape& shape) {
  const bool contiguous = shape.format == torch::headeronly::MemoryFormat::Contiguous;
  if (contiguous ? tensor.is_contiguous() : format_of(tensor) == shape.format) return tensor;
  return torch::stable::contiguous(tensor, shape.format);
}

// How the work of a problem is cut, where its sizes and pointers are known. `inputs`: tensors that are read.
template <typename T>
void plan(Problem<T>& p, int64_t inputs) {
  const int64_t channel_bytes = p.n * p.m * static_cast<int64_t>(sizeof(T)) * inputs;
  p.block = std::clamp<int64_t>(kCacheBytes / std::max<int64_t>(channel_bytes, 1), 1, 64);
  p.parts = std::clamp<int64_t>(p.m / 256, 1, 16);
  const int64_t run = (p.rows_layout ? p.c : p.m) * static_cast<int64_t>(sizeof(T));
  p.stream = run % 64 == 0 && reinterpret_cast<uintptr_t>(p.out) % 64 == 0 &&
             p.n * p.c * p.m * static_cast<int64_t>(sizeof(T)) >= kStreamBytes;
}

template <typename T>
Kernels<T> kernels(const Problem<T>& p) {
  return GANENGINE_CHOOSE(conditional_batch_norm, T, kernels<T>)(p);
}

// Statistics where channels lie side by side: sums per range of rows, then merged in the order of the ranges.
template <typename T>
void statistics_rows(const Problem<T>& p, const Kernels<T>& kernels) {
  const int64_t rows = p.n * p.m, ranges = threads_for(rows, p.c);
  std::vector<double> shift(p.c), sums(ranges * 2 * p.c);
  kernels.first_row(p, shift.data());
  for (int pass = 0; pass < (sizeof(T) == 8 ? 2 : 1); ++pass) {
    std::fill(sums.begin(), sums.end(), 0);
    parallel_for(ranges, 1, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        double* first = sums.data() + r * 2 * p.c;
        kernels.moments_rows(p, rows * r / ranges, rows * (r + 1) / ranges, shift.data(), first, first + p.c);
      }
    });
    for (int64_t c = 0; c < p.c; ++c) {
      double first = 0, second = 0;
      for (int64_t r = 0; r < ranges; ++r) first += sums[r * 2 * p.c + c], second += sums[(r * 2 + 1) * p.c + c];
      settle(first, second, shift[c], static_cast<double>(rows), p.mean + c, p.var + c);
      if (sizeof(T) == 8) shift[c] = p.mean[c];
    }
  }
}

template <typename T>
void run_forward(const Problem<T>& p) {
  const Kernels<T> k = kernels(p);
  if (p.rows_layout && p.batch_statistics) statistics_rows(p, k);
  const int64_t items = p.rows_layout ? p.n * p.m : p.c;
  parallel_for(items, grain(p.n * p.c * p.m / items), [&](int64_t begin, int64_t end) { k.forward(p, begin, end); });
}

// The first pass of the gradient: gradients of gamma and beta, and p.sums.
template <typename T>
void run_sums(Problem<T> p) {
  using A = Accumulator<T>;
  const Kernels<T> k = kernels(p);
  if (!p.rows_layout) {
    p.passes = Passes::sums;
    parallel_for(p.c, grain(p.n * p.m), [&](int64_t begin, int64_t end) { k.backward_planes(p, begin, end); });
    return;
  }
  const int64_t parts = p.n * p.parts;
  const std::unique_ptr<A[]> found(new A[parts * 2 * p.c]);
  parallel_for(parts, grain(p.n * p.c * p.m / parts),
               [&](int64_t begin, int64_t end) { k.sums_rows(p, begin, end, found.get()); });
  parallel_for(p.c, grain(p.n), [&](int64_t begin, int64_t end) { k.settle_rows(p, begin, end, found.get()); });
}

// The second pass: grad_x, with p.sums as they are.
template <typename T>
void run_input(Problem<T> p) {
  using A = Accumulator<T>;
  const Kernels<T> k = kernels(p);
  if (!p.rows_layout) {
    p.passes = Passes::input;
    parallel_for(p.c, grain(p.n * p.m), [&](int64_t begin, int64_t end) { k.backward_planes(p, begin, end); });
    return;
  }
  const std::unique_ptr<A[]> offset(new A[p.c]), pull(new A[p.c]);
  for (int64_t c = 0; c < p.c; ++c) pull_of(p, c, p.rstd(c), &offset[c], &pull[c]);
  parallel_for(p.n * p.m, grain(p.c),
               [&](int64_t begin, int64_t end) { k.backward_rows(p, begin, end, offset.get(), pull.get()); });
}

// Both passes: planes go from one to the other by blocks of channels, which then lie in the cache.
template <typename T>
void run_backward(Problem<T> p) {
  const std::unique_ptr<double[]> sums(new double[2 * p.c]);
  p.sums = sums.get();
  p.count = static_cast<double>(p.n * p.m);
  if (p.rows_layout) {
    run_sums(p);
    run_input(p);
    return;
  }
  const Kernels<T> k = kernels(p);
  p.passes = Passes::both;
  parallel_for(p.c, grain(p.n * p.m), [&](int64_t begin, int64_t end) { k.backward_planes(p, begin, end); });
}

}  // namespace
}  // namespace ganengine::conditional_batch_norm
