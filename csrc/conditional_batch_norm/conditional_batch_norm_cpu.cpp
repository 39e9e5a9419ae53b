// Conditional batch norm on the CPU: checks and memory; the way through the kernels is in the header.
#include "conditional_batch_norm/conditional_batch_norm_cpu.h"

#include <torch/csrc/stable/library.h>

#include <tuple>

namespace ganengine::conditional_batch_norm {
namespace {

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

void copy_statistic(const Tensor& to, const Tensor& from_any) {
  const Tensor from = dense(from_any);
  if (to.numel() > 0) std::memcpy(to.mutable_data_ptr(), from.const_data_ptr(), to.numel() * to.element_size());
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
  plan(p, inputs);
  return p;
}

// Mean, biased variance and count, [3, C].
Tensor statistics_cpu(const Tensor& x_any) {  // [N, C, ...]
  check_data(kOp, "x", x_any);
  check(x_any.dim() >= 2, kOp, "expected x [N, C, ...], got ", describe(x_any.sizes()));
  const Shape shape = shape_of(x_any);
  const Tensor x = laid_out(x_any, shape);
  const ScalarType wide = accumulation_type(x.scalar_type());
  const Tensor found = empty_dense({3, shape.c}, wide);
  if (x.numel() == 0) {
    clear(found);
    return found;
  }
  visit(x.scalar_type(), [&](auto element) {
    using T = decltype(element);
    using A = Accumulator<T>;
    // Tables and result are not looked at: what is found stands in for them.
    auto p = describe_problem<T>(shape, x, found, found, found, {}, found, found, true, 0, 1, 1);
    p.var = p.mean + p.c;
    p.stream = true;  // nothing is to be fetched for a result
    std::fill_n(p.var + p.c, p.c, static_cast<A>(p.n * p.m));
    const Kernels<T> k = kernels(p);
    if (p.rows_layout) return statistics_rows(p, k);
    parallel_for(p.c, grain(p.n * p.m), [&](int64_t begin, int64_t end) { k.statistics_planes(p, begin, end); });
  });
  return found;
}

// Merges the statistics of ranks, [ranks, 3, C], in their order; in double, so that every rank gets the same bits.
template <typename A>
void pool(const A* everywhere, int64_t ranks, int64_t channels, A* mean, A* var, A* unbiased, A* count) {
  *count = A(0);
  for (int64_t c = 0; c < channels; ++c) {
    const auto at = [&](int64_t rank, int64_t row) {
      return static_cast<double>(everywhere[(rank * 3 + row) * channels + c]);
    };
    double total = 0, m = 0, v = 0;
    for (int64_t r = 0; r < ranks; ++r) total += at(r, 2);
    const double divisor = std::max(total, 1.0);
    for (int64_t r = 0; r < ranks; ++r) m += at(r, 2) / divisor * at(r, 0);
    for (int64_t r = 0; r < ranks; ++r) {
      const double off = at(r, 0) - m;
      v += at(r, 2) / divisor * (at(r, 1) + off * off);
    }
    mean[c] = static_cast<A>(m), var[c] = static_cast<A>(v);
    unbiased[c] = static_cast<A>(v * (total / std::max(total - 1, 1.0)));
    if (c == 0) *count = static_cast<A>(total);
  }
}

std::tuple<Tensor, Tensor, Tensor, Tensor> pooled_cpu(const Tensor& everywhere_any) {  // [ranks, 3, C]
  const ScalarType type = everywhere_any.scalar_type();
  check(type == ScalarType::Float || type == ScalarType::Double, kOp, "expected everywhere to be float32 or float64");
  check(everywhere_any.dim() == 3 && everywhere_any.size(1) == 3, kOp, "expected everywhere [ranks, 3, C], got ",
        describe(everywhere_any.sizes()));
  const Tensor everywhere = dense(everywhere_any);
  const int64_t ranks = everywhere.size(0), channels = everywhere.size(2);
  const Tensor mean = empty_dense({channels}, type), var = empty_dense({channels}, type);
  const Tensor unbiased = empty_dense({channels}, type);
  const Tensor count = empty_dense(torch::headeronly::IntHeaderOnlyArrayRef(), type);
  const auto run = [&](auto element) {
    using A = decltype(element);
    pool(static_cast<const A*>(everywhere.const_data_ptr()), ranks, channels, static_cast<A*>(mean.mutable_data_ptr()),
         static_cast<A*>(var.mutable_data_ptr()), static_cast<A*>(unbiased.mutable_data_ptr()),
         static_cast<A*>(count.mutable_data_ptr()));
  };
  type == ScalarType::Double ? run(double{}) : run(float{});
  return {mean, var, unbiased, count};
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
    run_forward(p);
  });
  return {y, mean, var};
}

// What a gradient is made of, checked and laid out.
struct Given {
  Shape shape;
  Tensor grad, x, gamma, beta, mean, var;
  std::vector<int64_t> labels;

  template <typename T>
  Problem<T> problem(const Tensor& out, bool batch_statistics, double eps, double slope) const {
    auto p = describe_problem<T>(shape, x, out, gamma, beta, labels, mean, var, batch_statistics, eps, slope, 2);
    p.grad = static_cast<const T*>(grad.const_data_ptr());
    return p;
  }
};

Given checked(const Tensor& grad,  // like x
              const Tensor& x, const Tensor& gamma, const Tensor& beta, const std::optional<Tensor>& labels,
              const Tensor& mean, const Tensor& var) {
  check_inputs(x, gamma, beta, labels);
  check_statistics(mean, var, x);
  check_grad(grad, x);
  const Shape shape = shape_of(x);
  return {shape,       laid_out(grad, shape), laid_out(x, shape), dense(gamma),
          dense(beta), dense(mean),           dense(var),         read_labels(labels, gamma.size(0))};
}

std::tuple<Tensor, Tensor, Tensor> backward_cpu(const Tensor& grad_any,  // like x
                                                const Tensor& x_any, const Tensor& gamma_any, const Tensor& beta_any,
                                                const std::optional<Tensor>& labels_any, const Tensor& mean_any,
                                                const Tensor& var_any, bool batch_statistics, double eps,
                                                double slope) {
  const Given given = checked(grad_any, x_any, gamma_any, beta_any, labels_any, mean_any, var_any);
  const Tensor grad_x = empty_as(given.x, given.shape);
  const Tensor grad_gamma = empty_dense(given.gamma.sizes(), given.gamma.scalar_type());
  const Tensor grad_beta = empty_dense(given.beta.sizes(), given.beta.scalar_type());
  clear(grad_gamma), clear(grad_beta);
  if (given.x.numel() == 0) return {grad_x, grad_gamma, grad_beta};
  visit(given.x.scalar_type(), [&](auto element) {
    using T = decltype(element);
    using A = Accumulator<T>;
    auto p = given.template problem<T>(grad_x, batch_statistics, eps, slope);
    p.grad_gamma = static_cast<A*>(grad_gamma.mutable_data_ptr());
    p.grad_beta = static_cast<A*>(grad_beta.mutable_data_ptr());
    run_backward(p);
  });
  return {grad_x, grad_gamma, grad_beta};
}

std::tuple<Tensor, Tensor, Tensor> sums_cpu(const Tensor& grad_any,  // like x
                                            const Tensor& x_any, const Tensor& gamma_any, const Tensor& beta_any,
                                            const std::optional<Tensor>& labels_any, const Tensor& mean_any,
                                            const Tensor& var_any, double eps, double slope) {
  const Given given = checked(grad_any, x_any, gamma_any, beta_any, labels_any, mean_any, var_any);
  const Tensor grad_gamma = empty_dense(given.gamma.sizes(), given.gamma.scalar_type());
  const Tensor grad_beta = empty_dense(given.beta.sizes(), given.beta.scalar_type());
  const Tensor sums = empty_dense({2, given.shape.c}, ScalarType::Double);
  clear(grad_gamma), clear(grad_beta), clear(sums);
  if (given.x.numel() == 0) return {grad_gamma, grad_beta, sums};
  visit(given.x.scalar_type(), [&](auto element) {
    using T = decltype(element);
    using A = Accumulator<T>;
    // There is no result like x, and nothing to be fetched for it: grad_gamma stands in.
    auto p = given.template problem<T>(grad_gamma, true, eps, slope);
    p.stream = true;
    p.grad_gamma = static_cast<A*>(grad_gamma.mutable_data_ptr());
    p.grad_beta = static_cast<A*>(grad_beta.mutable_data_ptr());
    p.sums = static_cast<double*>(sums.mutable_data_ptr());
    run_sums(p);
  });
  return {grad_gamma, grad_beta, sums};
}

Tensor input_cpu(const Tensor& grad_any,  // like x
                 const Tensor& x_any, const Tensor& gamma_any, const Tensor& beta_any,
                 const std::optional<Tensor>& labels_any, const Tensor& mean_any, const Tensor& var_any,
                 const Tensor& sums_any,   // [2, C]
                 const Tensor& count_any,  // []
                 double eps, double slope) {
  const Given given = checked(grad_any, x_any, gamma_any, beta_any, labels_any, mean_any, var_any);
  check(sums_any.scalar_type() == ScalarType::Double, kOp, "expected sums to be float64");
  check_tensor(kOp, "sums", sums_any, {2, given.shape.c}, ScalarType::Double, given.x);
  check_tensor(kOp, "count", count_any, {}, accumulation_type(given.x.scalar_type()), given.x);
  const Tensor sums = dense(sums_any);
  const Tensor grad_x = empty_as(given.x, given.shape);
  if (given.x.numel() == 0) return grad_x;
  visit(given.x.scalar_type(), [&](auto element) {
    using T = decltype(element);
    using A = Accumulator<T>;
    auto p = given.template problem<T>(grad_x, true, eps, slope);
    p.sums = static_cast<double*>(sums.mutable_data_ptr());
    p.count = static_cast<double>(*static_cast<const A*>(count_any.const_data_ptr()));
    run_input(p);
  });
  return grad_x;
}

}  // namespace
}  // namespace ganengine::conditional_batch_norm

STABLE_TORCH_LIBRARY_IMPL(ganengine, CPU, m) {
  m.impl("conditional_batch_norm", TORCH_BOX(&ganengine::conditional_batch_norm::forward_cpu));
  m.impl("conditional_batch_norm_statistics", TORCH_BOX(&ganengine::conditional_batch_norm::statistics_cpu));
  m.impl("conditional_batch_norm_pooled", TORCH_BOX(&ganengine::conditional_batch_norm::pooled_cpu));
  m.impl("conditional_batch_norm_backward", TORCH_BOX(&ganengine::conditional_batch_norm::backward_cpu));
  m.impl("conditional_batch_norm_sums", TORCH_BOX(&ganengine::conditional_batch_norm::sums_cpu));
  m.impl("conditional_batch_norm_input", TORCH_BOX(&ganengine::conditional_batch_norm::input_cpu));
}
