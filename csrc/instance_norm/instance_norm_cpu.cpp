// Instance norm on the CPU: the kernels of conditional batch norm, with each sample as a batch of its own.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "conditional_batch_norm/conditional_batch_norm_cpu.h"

namespace ganengine::instance_norm {
namespace {

using conditional_batch_norm::Problem;
using conditional_batch_norm::Shape;

constexpr const char* kOp = "instance_norm";

void check_rows(const Tensor& x, const Tensor& gamma, const Tensor& beta) {
  check_data(kOp, "x", x);
  check(x.dim() >= 2 && x.dim() <= 5, kOp, "expected x [N, C, ...] of 2 to 5 dimensions, got ", describe(x.sizes()));
  check_tensor(kOp, "gamma", gamma, {x.size(1)}, accumulation_type(x.scalar_type()), x);
  check_tensor(kOp, "beta", beta, {x.size(1)}, accumulation_type(x.scalar_type()), x);
}

// Sample 0; `run_each` moves it to the others.
template <typename T>
Problem<T> first_problem(const Shape& shape, const Tensor& x, const Tensor& out, const Tensor& gamma,
                         const Tensor& beta, const Tensor& mean, const Tensor& var, double eps, double slope) {
  using A = Accumulator<T>;
  Problem<T> p{};
  p.n = 1, p.c = shape.c, p.m = shape.m, p.rows_layout = shape.rows;
  p.x = static_cast<const T*>(x.const_data_ptr());
  p.out = static_cast<T*>(out.mutable_data_ptr());
  p.gamma = static_cast<const A*>(gamma.const_data_ptr());
  p.beta = static_cast<const A*>(beta.const_data_ptr());
  p.mean = static_cast<A*>(mean.mutable_data_ptr());
  p.var = static_cast<A*>(var.mutable_data_ptr());
  p.batch_statistics = true;
  p.eps = eps, p.slope = slope;
  return p;
}

template <typename T, typename F>
void run_each(const Problem<T>& first, int64_t samples, int64_t inputs, const F& run) {
  // Where there are samples enough a thread takes whole ones, and what `run` would share out stays with it.
  parallel_for(samples, std::max<int64_t>(1, grain(first.c * first.m)), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      Problem<T> p = first;
      const int64_t at = i * first.c * first.m;
      p.x += at, p.out += at, p.mean += i * p.c, p.var += i * p.c;
      if (p.grad != nullptr) p.grad += at, p.grad_gamma += i * p.c, p.grad_beta += i * p.c;
      conditional_batch_norm::plan(p, inputs);
      run(p);
    }
  });
}

std::tuple<Tensor, Tensor, Tensor> forward_cpu(const Tensor& x_any,      // [N, C, ...]
                                               const Tensor& gamma_any,  // [C]
                                               const Tensor& beta_any,   // [C]
                                               double eps, double slope) {
  check_rows(x_any, gamma_any, beta_any);
  const Shape shape = conditional_batch_norm::shape_of(x_any);
  const Tensor x = conditional_batch_norm::laid_out(x_any, shape), gamma = dense(gamma_any), beta = dense(beta_any);
  const Tensor mean = empty_dense({shape.n, shape.c}, gamma.scalar_type());
  const Tensor var = empty_dense({shape.n, shape.c}, gamma.scalar_type());
  const Tensor y = conditional_batch_norm::empty_as(x, shape);
  if (x.numel() == 0) {
    conditional_batch_norm::clear(mean), conditional_batch_norm::clear(var);
    return {y, mean, var};
  }
  visit(x.scalar_type(), [&](auto element) {
    using T = decltype(element);
    const auto first = first_problem<T>(shape, x, y, gamma, beta, mean, var, eps, slope);
    run_each(first, shape.n, 1, [](const Problem<T>& p) { conditional_batch_norm::run_forward(p); });
  });
  return {y, mean, var};
}

std::tuple<Tensor, Tensor, Tensor> backward_cpu(const Tensor& grad_any,  // like x
                                                const Tensor& x_any, const Tensor& gamma_any, const Tensor& beta_any,
                                                const Tensor& mean_any,  // [N, C]
                                                const Tensor& var_any,   // [N, C]
                                                double eps, double slope) {
  check_rows(x_any, gamma_any, beta_any);
  const Shape shape = conditional_batch_norm::shape_of(x_any);
  for (const Tensor* statistic : {&mean_any, &var_any}) {
    check_tensor(kOp, "mean and var", *statistic, {shape.n, shape.c}, accumulation_type(x_any.scalar_type()), x_any);
  }
  conditional_batch_norm::check_grad(grad_any, x_any);
  const Tensor x = conditional_batch_norm::laid_out(x_any, shape), gamma = dense(gamma_any), beta = dense(beta_any);
  const Tensor grad = conditional_batch_norm::laid_out(grad_any, shape);
  const Tensor mean = dense(mean_any), var = dense(var_any);
  const Tensor grad_x = conditional_batch_norm::empty_as(x, shape);
  const Tensor grad_gamma = empty_dense({shape.n, shape.c}, gamma.scalar_type());  // of each sample
  const Tensor grad_beta = empty_dense({shape.n, shape.c}, gamma.scalar_type());
  conditional_batch_norm::clear(grad_gamma), conditional_batch_norm::clear(grad_beta);
  if (x.numel() == 0) return {grad_x, grad_gamma, grad_beta};
  visit(x.scalar_type(), [&](auto element) {
    using T = decltype(element);
    using A = Accumulator<T>;
    auto first = first_problem<T>(shape, x, grad_x, gamma, beta, mean, var, eps, slope);
    first.grad = static_cast<const T*>(grad.const_data_ptr());
    first.grad_gamma = static_cast<A*>(grad_gamma.mutable_data_ptr());
    first.grad_beta = static_cast<A*>(grad_beta.mutable_data_ptr());
    run_each(first, shape.n, 2, [](const Problem<T>& p) { conditional_batch_norm::run_backward(p); });
  });
  return {grad_x, grad_gamma, grad_beta};
}

}  // namespace
}  // namespace ganengine::instance_norm

STABLE_TORCH_LIBRARY_IMPL(ganengine, CPU, m) {
  m.impl("instance_norm", TORCH_BOX(&ganengine::instance_norm::forward_cpu));
  m.impl("instance_norm_backward", TORCH_BOX(&ganengine::instance_norm::backward_cpu));
}
