// spectral_norm on the CPU: a step of the power iteration, the normalised weight, both together, and the gradient, each
// in one call.
// Weights are small; what they cost is the way to a kernel, which plain operations go two dozen times.
#include "spectral_norm/spectral_norm.h"

#include <torch/csrc/stable/library.h>

#include <cmath>
#include <numeric>
#include <tuple>
#include <vector>

#include "common/isa.h"
#include "common/parallel.h"
#include "common/tensors.h"

#define GANENGINE_KERNELS "spectral_norm/spectral_norm_cpu_kernels.h"
#include "common/for_each_isa.h"

namespace ganengine::spectral_norm {
namespace {

// The kernels of this machine, as a table of functions.
template <typename A>
struct Table {
  A (*dot)(const A*, const A*, int64_t) = GANENGINE_CHOOSE(spectral_norm, A, Kernels<A>::dot);
  void (*rows)(const A*, const A*, A*, int64_t, int64_t, int64_t) = GANENGINE_CHOOSE(spectral_norm, A,
                                                                                     Kernels<A>::rows);
  void (*columns)(const A*, const A*, A*, int64_t, int64_t, int64_t, int64_t) = GANENGINE_CHOOSE(spectral_norm, A,
                                                                                                 Kernels<A>::columns);
  void (*scale)(const A*, A, A*, int64_t) = GANENGINE_CHOOSE(spectral_norm, A, Kernels<A>::scale);
  void (*scale_less)(const A*, A, A, const A*, A*, int64_t) = GANENGINE_CHOOSE(spectral_norm, A,
                                                                               Kernels<A>::scale_less);
};

// A weight where it lies, and where the entries of v lie beside it: v counts the axes in their order, memory in its
// own.
class Layout {
 public:
  Layout(const char* op, const Tensor& weight, int64_t axis) {
    const int64_t dim = weight.dim();
    check(weight.scalar_type() == ScalarType::Float || weight.scalar_type() == ScalarType::Double, op,
          "expected weight to be float32 or float64");
    check(dim >= 1 && axis >= 0 && axis < dim, op, "expected an axis of weight ", describe(weight.sizes()), ", got ",
          axis);
    std::vector<int64_t> order(dim);
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return weight.stride(a) != weight.stride(b) ? weight.stride(a) > weight.stride(b)
                                                  : weight.size(a) > weight.size(b);  // an axis of 1 has any stride
    });
    problem = {1, weight.size(axis), 1};
    bool found = false;
    std::vector<int64_t> steps(dim, 1);  // of v, along each axis but that of outputs
    for (int64_t k = dim - 1, step = 1; k >= 0; --k) {
      if (k == axis) continue;
      steps[k] = step;
      step *= weight.size(k);
    }
    for (int64_t k : order) {
      if (k == axis) {
        found = true;
      } else {
        (found ? problem.after : problem.before) *= weight.size(k);
        sizes_.push_back(weight.size(k));
        steps_.push_back(steps[k]);
      }
    }
    for (size_t k = sizes_.size(), step = 1; k-- > 0; step *= sizes_[k]) {
      ordered_ = ordered_ && (sizes_[k] == 1 || steps_[k] == static_cast<int64_t>(step));
    }
  }

  // Whether v lies as the weight does.
  bool ordered() const { return ordered_; }

  // Calls f(where in memory's order, where in v) for each of its entries.
  template <typename F>
  void each(const F& f) const {
    const size_t dim = sizes_.size();
    std::vector<int64_t> index(dim, 0);
    int64_t at = 0;
    for (int64_t i = 0, rest = problem.rest(); i < rest; ++i) {
      f(i, at);
      for (size_t k = dim; k-- > 0;) {
        at += steps_[k];
        if (++index[k] < sizes_[k]) break;
        at -= steps_[k] * sizes_[k];
        index[k] = 0;
      }
    }
  }

  Problem problem;

 private:
  std::vector<int64_t> sizes_, steps_;
  bool ordered_ = true;
};

// Whether the entries lie one behind another, each in a place of its own.
bool is_dense(const Tensor& weight) {
  const int64_t dim = weight.dim(), numel = weight.numel();
  for (int64_t span = 1; span < numel;) {
    int64_t next = 0;  // the axis whose steps are what the axes inside it hold
    while (next < dim && (weight.size(next) == 1 || weight.stride(next) != span)) ++next;
    if (next == dim) return false;
    span *= weight.size(next);
  }
  return true;
}

// The weight itself where its memory has no gaps, else a copy with its axes in the same order.
Tensor gapless(const Tensor& weight) { return is_dense(weight) ? weight : torch::stable::clone(weight); }

Tensor empty_beside(const Tensor& weight) {
  const auto sizes = weight.sizes(), strides = weight.strides();
  return empty_strided(sizes.data(), strides.data(), weight.dim(), weight.scalar_type());
}

// v [rest] in the order in which the weight lies.
template <typename A>
std::vector<A> as_it_lies(const Layout& layout, const Tensor& v_any) {
  const Tensor v = dense(v_any);
  const A* from = static_cast<const A*>(v.const_data_ptr());
  std::vector<A> lying(layout.problem.rest());
  if (layout.ordered()) {
    std::copy(from, from + lying.size(), lying.begin());
  } else {
    layout.each([&](int64_t i, int64_t at) { lying[i] = from[at]; });
  }
  return lying;
}

// W v [outputs].
template <typename A>
std::vector<A> product(const Table<A>& table, const Problem& p, const A* weight, const A* v) {
  std::vector<A> found(p.outputs, A{0});
  if (p.after == 1) {
    parallel_for(p.outputs, grain(p.before), [&](int64_t begin, int64_t end) {
      table.columns(weight, v, found.data(), p.before, p.outputs, begin, end);
    });
    return found;
  }
  for (int64_t a = 0; a < p.before; ++a) {
    parallel_for(p.outputs, grain(p.after), [&](int64_t begin, int64_t end) {
      table.rows(weight + a * p.outputs * p.after, v + a * p.after, found.data(), p.after, begin, end);
    });
  }
  return found;
}

// W^T u [rest], in the order in which the weight lies.
template <typename A>
std::vector<A> transposed_product(const Table<A>& table, const Problem& p, const A* weight, const A* u) {
  std::vector<A> found(p.rest(), A{0});
  if (p.after == 1) {
    parallel_for(p.before, grain(p.outputs),
                 [&](int64_t begin, int64_t end) { table.rows(weight, u, found.data(), p.outputs, begin, end); });
    return found;
  }
  for (int64_t a = 0; a < p.before; ++a) {
    parallel_for(p.after, grain(p.outputs), [&](int64_t begin, int64_t end) {
      table.columns(weight + a * p.outputs * p.after, u, found.data() + a * p.after, p.outputs, p.after, begin, end);
    });
  }
  return found;
}

template <typename A>
void normalise(const Table<A>& table, A* x, int64_t n, double eps) {
  const A norm = std::sqrt(table.dot(x, x, n));
  // Not std::max: a norm that is no number must stay one.
  table.scale(x, 1 / (norm < static_cast<A>(eps) ? static_cast<A>(eps) : norm), x, n);
}

template <typename F>
auto by_type(const Tensor& weight, const F& f) {
  return weight.scalar_type() == ScalarType::Double ? f(double{}) : f(float{});
}

void check_vectors(const char* op, const Problem& p, const Tensor& weight, const Tensor& u, const Tensor* v) {
  check_tensor(op, "u", u, {p.outputs}, weight.scalar_type(), weight);
  if (v != nullptr) check_tensor(op, "v", *v, {p.rest()}, weight.scalar_type(), weight);
}

// A step of the power iteration from `before`: u, v, and sigma = u^T W v.
template <typename A>
A iterate(const Table<A>& table, const Layout& layout, const A* weight, const A* before, double eps, A* u, A* v) {
  const Problem& p = layout.problem;
  std::vector<A> lying = transposed_product(table, p, weight, before);
  normalise(table, lying.data(), p.rest(), eps);
  if (layout.ordered()) {
    std::copy(lying.begin(), lying.end(), v);
  } else {
    layout.each([&](int64_t i, int64_t at) { v[at] = lying[i]; });
  }
  const std::vector<A> found = product(table, p, weight, lying.data());
  std::copy(found.begin(), found.end(), u);
  normalise(table, u, p.outputs, eps);
  return table.dot(u, found.data(), p.outputs);
}

// W / sigma, as the weight lies.
template <typename A>
Tensor over(const Table<A>& table, const Problem& p, const Tensor& weight, A sigma) {
  const Tensor y = empty_beside(weight);
  const A* from = static_cast<const A*>(weight.const_data_ptr());
  A* to = static_cast<A*>(y.mutable_data_ptr());
  parallel_for(p.numel(), kThreadElements,
               [&](int64_t begin, int64_t end) { table.scale(from + begin, 1 / sigma, to + begin, end - begin); });
  return y;
}

// The step as an op: u and v. then(table, problem, weight, sigma) is called with the weight without gaps.
template <typename Then>
std::tuple<Tensor, Tensor> step(const char* op,
                                const Tensor& weight_any,  // any shape, outputs along one axis
                                const Tensor& u_any,       // [outputs]
                                int64_t axis, double eps, const Then& then) {
  const Tensor weight = gapless(weight_any), before = dense(u_any);
  const Layout layout(op, weight, axis);
  const Problem& p = layout.problem;
  check_vectors(op, p, weight, before, nullptr);
  const Tensor u = empty_dense({p.outputs}, weight.scalar_type()), v = empty_dense({p.rest()}, weight.scalar_type());
  by_type(weight, [&](auto type) {
    using A = decltype(type);
    const Table<A> table;
    then(table, p, weight,
         iterate(table, layout, static_cast<const A*>(weight.const_data_ptr()),
                 static_cast<const A*>(before.const_data_ptr()), eps, static_cast<A*>(u.mutable_data_ptr()),
                 static_cast<A*>(v.mutable_data_ptr())));
  });
  return {u, v};
}

std::tuple<Tensor, Tensor> iterate_cpu(const Tensor& weight, const Tensor& u, int64_t axis, double eps) {
  return step(kIterateOp, weight, u, axis, eps, [](auto&&...) {});
}

// The step, and the weight over the sigma that it finds.
std::tuple<Tensor, Tensor, Tensor> next_cpu(const Tensor& weight, const Tensor& u, int64_t axis, double eps) {
  Tensor y;
  const auto [next_u, next_v] =
      step(kNextOp, weight, u, axis, eps, [&](const auto& table, const Problem& p, const Tensor& gapless, auto sigma) {
        y = over(table, p, gapless, sigma);
      });
  return {y, next_u, next_v};
}

// sigma = u^T W v.
template <typename A>
A sigma_of(const Table<A>& table, const Problem& p, const A* weight, const Tensor& u, const A* v) {
  return table.dot(static_cast<const A*>(u.const_data_ptr()), product(table, p, weight, v).data(), p.outputs);
}

Tensor forward_cpu(const Tensor& weight_any,  // any shape, outputs along one axis
                   const Tensor& u_any,       // [outputs]
                   const Tensor& v,           // [rest]
                   int64_t axis) {
  const Tensor weight = gapless(weight_any), u = dense(u_any);
  const Layout layout(kOp, weight, axis);
  const Problem& p = layout.problem;
  check_vectors(kOp, p, weight, u, &v);
  return by_type(weight, [&](auto type) {
    using A = decltype(type);
    const Table<A> table;
    const A* w = static_cast<const A*>(weight.const_data_ptr());
    return over(table, p, weight, sigma_of(table, p, w, u, as_it_lies<A>(layout, v).data()));
  });
}

Tensor backward_cpu(const Tensor& grad_any,    // like weight
                    const Tensor& weight_any,  // any shape, outputs along one axis
                    const Tensor& u_any,       // [outputs]
                    const Tensor& v_any,       // [rest]
                    int64_t axis) {
  const Tensor weight = gapless(weight_any), u = dense(u_any);
  const Layout layout(kBackwardOp, weight, axis);
  const Problem& p = layout.problem;
  check_vectors(kBackwardOp, p, weight, u, &v_any);
  check(grad_any.sizes() == weight.sizes() && grad_any.scalar_type() == weight.scalar_type(), kBackwardOp,
        "expected grad like weight ", describe(weight.sizes()), ", got ", describe(grad_any.sizes()));
  Tensor grad = grad_any;
  if (grad.strides() != weight.strides()) {
    grad = empty_beside(weight);
    torch::stable::copy_(grad, grad_any);
  }
  const Tensor made = empty_beside(weight);
  by_type(weight, [&](auto type) {
    using A = decltype(type);
    const Table<A> table;
    const A* w = static_cast<const A*>(weight.const_data_ptr());
    const A* g = static_cast<const A*>(grad.const_data_ptr());
    const A* outputs = static_cast<const A*>(u.const_data_ptr());
    const std::vector<A> v = as_it_lies<A>(layout, v_any);
    const A sigma = sigma_of(table, p, w, u, v.data());
    // In parts of one size, so that threads do not change the sum.
    const int64_t parts = (p.numel() + kThreadElements - 1) / kThreadElements;
    std::vector<A> sums(parts);
    parallel_for(parts, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t at = i * kThreadElements;
        sums[i] = table.dot(g + at, w + at, std::min(kThreadElements, p.numel() - at));
      }
    });
    const A pull = std::accumulate(sums.begin(), sums.end(), A{0}) / (sigma * sigma);
    A* to = static_cast<A*>(made.mutable_data_ptr());
    // Rows of memory: the entries of v for one output, or the outputs for one entry of v.
    const bool last = p.after == 1;
    const int64_t rows = last ? p.before : p.before * p.outputs, columns = last ? p.outputs : p.after;
    parallel_for(rows, grain(columns), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const A factor = pull * (last ? v[r] : outputs[r % p.outputs]);
        const A* along = last ? outputs : v.data() + r / p.outputs * p.after;
        table.scale_less(g + r * columns, 1 / sigma, factor, along, to + r * columns, columns);
      }
    });
  });
  return made;
}

}  // namespace
}  // namespace ganengine::spectral_norm

STABLE_TORCH_LIBRARY_IMPL(ganengine, CPU, m) {
  m.impl("spectral_norm", TORCH_BOX(&ganengine::spectral_norm::forward_cpu));
  m.impl("spectral_norm_backward", TORCH_BOX(&ganengine::spectral_norm::backward_cpu));
  m.impl("spectral_norm_iterate", TORCH_BOX(&ganengine::spectral_norm::iterate_cpu));
  m.impl("spectral_norm_next", TORCH_BOX(&ganengine::spectral_norm::next_cpu));
}
