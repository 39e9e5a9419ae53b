// Conditional batch norm on the CPU: checks, memory, and who does what; the loops are in the kernels' header.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <tuple>
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
  void (*forward)(const Problem<T>&, int64_t, int64_t);
  void (*sums_rows)(const Problem<T>&, int64_t, int64_t, A*);
  void (*settle_rows)(const Problem<T>&, int64_t, int64_t, const A*, A*, A*);
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

}  // namespace ganengine::conditional_batch_norm

#define GANENGINE_KERNELS "conditional_batch_norm/conditional_batch_norm_cpu_kernels.h"
#include "common/for_each_isa.h"

namespace ganengine::conditional_batch_norm {
namespace {

constexpr int64_t kCacheBytes = 512 * 1024;        // what a core keeps from one pass to the next
constexpr int64_t kStreamBytes = 8 * 1024 * 1024;  // a result of this size is gone from the cache before it is read

// Labels as int64, each checked; empty without labels.
std::vector<int64_t> read_labels(const std::optional<Tensor>& labels, int64_t classes) {
  if (!labels) return {};
  const Tensor given = dense(*labels);
  std::vector<int64_t> read(given.numel());
  const bool narrow = given.scalar_type() == ScalarType::Int;
  const void* data = given.const_data_ptr();
  for (size_t i = 0; i < read.size(); ++i) {
    read[i] = narrow ? static_cast<const int32_t*>(data)[i] : static_cast<const int64_t*>(data)[i];
    check(read[i] >= 0 && read[i] < classes, kOp, "expected labels in [0, ", classes, "), as gamma has ", classes,
          " rows; got ", read[i]);
  }
  return read;
}

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

void copy_statistic(const Tensor& to, const Tensor& from_any) {
  const Tensor from = dense(from_any);
  if (to.numel() > 0) std::memcpy(to.mutable_data_ptr(), from.const_data_ptr(), to.numel() * to.element_size());
}

// x, or a gradient of it, in the memory order in which the kernels go through it.
Tensor laid_out(const Tensor& tensor, const Shape& shape) {
  const bool contiguous = shape.format == torch::headeronly::MemoryFormat::Contiguous;
  if (contiguous ? tensor.is_contiguous() : format_of(tensor) == shape.format) return tensor;
  return torch::stable::contiguous(tensor, shape.format);
}

template <typename T>
Problem<T> describe_problem(const Shape& shape, const Tensor& x, const Tensor& out, const Tensor& gamma,
                            const Tensor& beta, const std::vector<int64_t>& labels, const Tensor& mean,
                            const Tensor& var, bool batch_statistics, double eps, double slope, int64_t inputs) {
  using A = Accumulator<T>;
  Problem<T> p{};
  p.n = shape.n, p.c = shape.c, p.m = shape.m, p.rows_layout = shape.rows;
  p.x = static_cast<const T*>(x.const_data_ptr());
  p.out = static_cast<T*>(out.mutable_data_ptr());
  p.gamma = static_cast<const A*>(gamma.const_data_ptr());
  p.beta = static_cast<const A*>(beta.const_data_ptr());
  p.labels = labels.empty() ? nullptr : labels.data();
  p.mean = static_cast<A*>(mean.mutable_data_ptr());
  p.var = static_cast<A*>(var.mutable_data_ptr());
  p.batch_statistics = batch_statistics;
  p.eps = eps, p.slope = slope;
  const int64_t channel_bytes = p.n * p.m * static_cast<int64_t>(sizeof(T)) * inputs;
  p.block = std::clamp<int64_t>(kCacheBytes / std::max<int64_t>(channel_bytes, 1), 1, 64);
  p.parts = std::clamp<int64_t>(p.m / 256, 1, 16);
  const int64_t run = (p.rows_layout ? p.c : p.m) * static_cast<int64_t>(sizeof(T));
  p.stream = run % 64 == 0 && reinterpret_cast<uintptr_t>(p.out) % 64 == 0 &&
             p.n * p.c * p.m * static_cast<int64_t>(sizeof(T)) >= kStreamBytes;
  return p;
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

std::tuple<Tensor, Tensor, Tensor> forward_cpu(const Tensor& x_any,                      // [N, C, ...]
                                               const Tensor& gamma_any,                  // [K, C] or [N, C]
                                               const Tensor& beta_any,                   // like gamma
                                               const std::optional<Tensor>& labels_any,  // [N]
                                               const std::optional<Tensor>& mean_any,    // [C]
                                               const std::optional<Tensor>& var_any,     // [C]
                                               double eps, double slope) {
  check_inputs(x_any, gamma_any, beta_any, labels_any);
  check(mean_any.has_value() == var_any.has_value(), kOp, "expected both mean and var, or neither");
  const Shape shape = shape_of(x_any);
  const Tensor x = laid_out(x_any, shape);
  const Tensor gamma = dense(gamma_any), beta = dense(beta_any);
  const std::vector<int64_t> labels = read_labels(labels_any, gamma.size(0));
  const Tensor mean = empty_dense({shape.c}, gamma.scalar_type()), var = empty_dense({shape.c}, gamma.scalar_type());
  if (mean_any) {
    check_statistics(*mean_any, *var_any, x);
    copy_statistic(mean, *mean_any);
    copy_statistic(var, *var_any);
  }
  const Tensor y = empty_as(x, shape);
  if (x.numel() == 0) {
    if (!mean_any) clear(mean), clear(var);
    return {y, mean, var};
  }
  visit(x.scalar_type(), [&](auto element) {
    using T = decltype(element);
    const auto p = describe_problem<T>(shape, x, y, gamma, beta, labels, mean, var, !mean_any, eps, slope, 1);
    const Kernels<T> k = kernels(p);
    if (p.rows_layout && p.batch_statistics) statistics_rows(p, k);
    const int64_t items = p.rows_layout ? p.n * p.m : p.c;
    parallel_for(items, grain(x.numel() / items), [&](int64_t begin, int64_t end) { k.forward(p, begin, end); });
  });
  return {y, mean, var};
}

std::tuple<Tensor, Tensor, Tensor> backward_cpu(const Tensor& grad_any,  // like x
                                                const Tensor& x_any, const Tensor& gamma_any, const Tensor& beta_any,
                                                const std::optional<Tensor>& labels_any, const Tensor& mean_any,
                                                const Tensor& var_any, bool batch_statistics, double eps,
                                                double slope) {
  check_inputs(x_any, gamma_any, beta_any, labels_any);
  check_statistics(mean_any, var_any, x_any);
  check_grad(grad_any, x_any);
  const Shape shape = shape_of(x_any);
  const Tensor x = laid_out(x_any, shape);
  const Tensor grad = laid_out(grad_any, shape);
  const Tensor gamma = dense(gamma_any), beta = dense(beta_any);
  const Tensor mean = dense(mean_any), var = dense(var_any);
  const std::vector<int64_t> labels = read_labels(labels_any, gamma.size(0));
  const Tensor grad_x = empty_as(x, shape);
  const Tensor grad_gamma = empty_dense(gamma.sizes(), gamma.scalar_type());
  const Tensor grad_beta = empty_dense(beta.sizes(), beta.scalar_type());
  clear(grad_gamma), clear(grad_beta);
  if (x.numel() == 0) return {grad_x, grad_gamma, grad_beta};
  visit(x.scalar_type(), [&](auto element) {
    using T = decltype(element);
    using A = Accumulator<T>;
    auto p = describe_problem<T>(shape, x, grad_x, gamma, beta, labels, mean, var, batch_statistics, eps, slope, 2);
    p.grad = static_cast<const T*>(grad.const_data_ptr());
    p.grad_gamma = static_cast<A*>(grad_gamma.mutable_data_ptr());
    p.grad_beta = static_cast<A*>(grad_beta.mutable_data_ptr());
    const Kernels<T> k = kernels(p);
    if (!p.rows_layout) {
      parallel_for(p.c, grain(p.n * p.m), [&](int64_t begin, int64_t end) { k.backward_planes(p, begin, end); });
      return;
    }
    const int64_t parts = p.n * p.parts;
    const std::unique_ptr<A[]> sums(new A[parts * 2 * p.c]), offset(new A[p.c]), pull(new A[p.c]);
    parallel_for(parts, grain(x.numel() / parts),
                 [&](int64_t begin, int64_t end) { k.sums_rows(p, begin, end, sums.get()); });
    parallel_for(p.c, grain(p.n), [&](int64_t begin, int64_t end) {
      k.settle_rows(p, begin, end, sums.get(), offset.get(), pull.get());
    });
    parallel_for(p.n * p.m, grain(p.c),
                 [&](int64_t begin, int64_t end) { k.backward_rows(p, begin, end, offset.get(), pull.get()); });
  });
  return {grad_x, grad_gamma, grad_beta};
}

}  // namespace
}  // namespace ganengine::conditional_batch_norm

STABLE_TORCH_LIBRARY_IMPL(ganengine, CPU, m) {
  m.impl("conditional_batch_norm", TORCH_BOX(&ganengine::conditional_batch_norm::forward_cpu));
  m.impl("conditional_batch_norm_backward", TORCH_BOX(&ganengine::conditional_batch_norm::backward_cpu));
}
