// skinny_product on the CPU: products of a large weight with so few rows that reading or writing it is most of the
// work.
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <type_traits>
#include <vector>

#include "common/isa.h"
#include "common/parallel.h"
#include "common/tensors.h"

#define GANENGINE_KERNELS "skinny_product/skinny_product_cpu_kernels.h"
#include "common/for_each_isa.h"

namespace ganengine::skinny_product {
namespace {

constexpr const char* kOp = "skinny_product";
constexpr const char* kBackwardOp = "skinny_product_backward";
constexpr const char* kWeightsOp = "skinny_product_weights";
constexpr int64_t kTogether = 16;  // rows of the weight, or columns, that no threads share

// Two matrices of one dtype whose sizes agree along such axes.
void check_matrices(const char* op, const char* expected, const Tensor& a, int64_t axis, const Tensor& b,
                    int64_t other) {
  check(a.scalar_type() == ScalarType::Float || a.scalar_type() == ScalarType::Double, op,
        "expected float32 or float64");
  check(b.scalar_type() == a.scalar_type(), op, "expected two matrices of one dtype");
  check(a.dim() == 2 && b.dim() == 2 && a.size(axis) == b.size(other), op, "expected ", expected, ", got ",
        describe(a.sizes()), " and ", describe(b.sizes()));
}

// Calls f(a, b, to) with pointers to what the tensors hold.
template <typename F>
void with_numbers(const Tensor& a, const Tensor& b, const Tensor& to, const F& f) {
  if (a.scalar_type() == ScalarType::Double) {
    f(static_cast<const double*>(a.const_data_ptr()), static_cast<const double*>(b.const_data_ptr()),
      static_cast<double*>(to.mutable_data_ptr()));
  } else {
    f(static_cast<const float*>(a.const_data_ptr()), static_cast<const float*>(b.const_data_ptr()),
      static_cast<float*>(to.mutable_data_ptr()));
  }
}

// Calls f(begin, end) for ranges of [0, items), of which each takes `elements` of the weight.
template <typename F>
void share(int64_t items, int64_t elements, const F& f) {
  parallel_for((items + kTogether - 1) / kTogether, grain(kTogether * elements),
               [&](int64_t begin, int64_t end) { f(begin * kTogether, std::min(end * kTogether, items)); });
}

Tensor forward_cpu(const Tensor& rows_any,      // [M, K]
                   const Tensor& weight_any) {  // [N, K]
  check_matrices(kOp, "rows [M, K] and weight [N, K]", rows_any, 1, weight_any, 1);
  const Tensor rows = dense(rows_any), weight = dense(weight_any);
  const int64_t count = rows.size(0), inputs = rows.size(1), outputs = weight.size(0);
  const Tensor made = empty_dense({count, outputs}, rows.scalar_type());
  with_numbers(rows, weight, made, [&](const auto* x, const auto* w, auto* to) {
    using A = std::decay_t<decltype(*to)>;
    const auto kernel = GANENGINE_CHOOSE(skinny_product, A, Kernels<A>::values);
    share(outputs, inputs, [&](int64_t begin, int64_t end) { kernel(x, count, w, inputs, outputs, begin, end, to); });
  });
  return made;
}

Tensor backward_cpu(const Tensor& grad_any,      // [M, N]
                    const Tensor& weight_any) {  // [N, K]
  check_matrices(kBackwardOp, "grad [M, N] and weight [N, K]", grad_any, 1, weight_any, 0);
  const Tensor grad = dense(grad_any), weight = dense(weight_any);
  const int64_t count = grad.size(0), outputs = grad.size(1), inputs = weight.size(1);
  const Tensor made = empty_dense({count, inputs}, grad.scalar_type());
  // Columns that are added up at a time: their sums stay in the first cache, with room for the weight's.
  const int64_t run = std::clamp<int64_t>(2048 / std::max<int64_t>(count, 1) / 64 * 64, 256, 1024);
  with_numbers(grad, weight, made, [&](const auto* g, const auto* w, auto* to) {
    using A = std::decay_t<decltype(*to)>;
    const auto kernel = GANENGINE_CHOOSE(skinny_product, A, Kernels<A>::inputs);
    share(inputs, outputs, [&](int64_t begin, int64_t end) {
      std::vector<A> sums(count * run);
      kernel(g, count, w, inputs, outputs, begin, end, run, sums.data(), to);
    });
  });
  return made;
}

Tensor weights_cpu(const Tensor& rows_any,    // [M, K]
                   const Tensor& grad_any) {  // [M, N]
  check_matrices(kWeightsOp, "rows [M, K] and grad [M, N]", rows_any, 0, grad_any, 0);
  const Tensor rows = dense(rows_any), grad = dense(grad_any);
  const int64_t count = rows.size(0), inputs = rows.size(1), outputs = grad.size(1);
  const Tensor made = empty_dense({outputs, inputs}, rows.scalar_type());
  with_numbers(rows, grad, made, [&](const auto* x, const auto* g, auto* to) {
    using A = std::decay_t<decltype(*to)>;
    const auto kernel = GANENGINE_CHOOSE(skinny_product, A, Kernels<A>::weights);
    share(outputs, inputs, [&](int64_t begin, int64_t end) { kernel(g, x, count, inputs, outputs, begin, end, to); });
  });
  return made;
}

}  // namespace
}  // namespace ganengine::skinny_product

STABLE_TORCH_LIBRARY_IMPL(ganengine, CPU, m) {
  m.impl("skinny_product", TORCH_BOX(&ganengine::skinny_product::forward_cpu));
  m.impl("skinny_product_backward", TORCH_BOX(&ganengine::skinny_product::backward_cpu));
  m.impl("skinny_product_weights", TORCH_BOX(&ganengine::skinny_product::weights_cpu));
}
