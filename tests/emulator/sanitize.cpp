// A program that runs the kernels under AddressSanitizer or ThreadSanitizer, on small tensors that reach each of them:
// with packs and without, cut into tiles, with fewer blocks than work. Values are not looked at.
//
//     sanitize [--only OP] [--short NUMBER] [--skip FILE:LINE]
//
// To show that a sanitizer sees what it is there for, --short makes tensor NUMBER one element too small, and --skip
// leaves out the barrier in that line. The last line of output is the number of tensors.
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <vector>

#include "conditional_batch_norm/conditional_batch_norm_kernels.cuh"
#include "maxout/maxout_kernels.cuh"
#include "null/null_kernels.cuh"
#include "patchgan_loss/patchgan_loss_kernels.cuh"

namespace {

int made = 0, shortened = -1;

// A tensor in memory of exactly its size.
template <typename T>
class Array {
 public:
  explicit Array(int64_t size) : at_(new T[static_cast<size_t>(size - (made++ == shortened))]()) {}
  operator T*() const { return at_.get(); }

 private:
  std::unique_ptr<T[]> at_;
};

void conditional_batch_norm(int64_t n, int64_t c, int64_t l, bool rows, int64_t classes, bool batch_statistics,
                            bool resident) {
  using namespace ganengine::conditional_batch_norm;
  const Extent extent{n, c, l, rows};
  const Limits limits{resident ? ganengine::kMostShared : 0, 8, 2, 2};
  const int64_t table = classes > 0 ? classes : n;
  Array<float> x(n * c * l), grad_y(n * c * l), y(n * c * l), grad_x(n * c * l), mean(c), var(c);
  Array<float> gamma(table * c), beta(table * c), grad_gamma(table * c), grad_beta(table * c);
  const std::unique_ptr<Array<int32_t>> labels(classes > 0 ? new Array<int32_t>(n) : nullptr);
  if (labels) (*labels)[0] = static_cast<int32_t>(classes - 1);
  const Classes<float> rows_of{gamma, beta, labels ? static_cast<const int32_t*>(*labels) : nullptr, nullptr, table};
  const std::unique_ptr<float[]> forward_memory(
      new float[static_cast<size_t>(forward_scratch(extent, batch_statistics, sizeof(float), limits))]);
  forward<float>(extent, x, rows_of, 1e-5, 0.2, batch_statistics, mean, var, y, forward_memory.get(), nullptr, limits);
  const std::unique_ptr<float[]> backward_memory(new float[static_cast<size_t>(backward_scratch(extent, limits))]);
  const Norm<float> norm{rows_of, mean, var, 1e-5f, 0.2f};
  backward<float>(extent, grad_y, x, norm, batch_statistics, grad_x, grad_gamma, grad_beta, backward_memory.get(),
                  nullptr, limits);
}

void patchgan_loss(int64_t n, std::vector<int64_t> sizes, bool per_sample, bool mean) {
  using namespace ganengine::patchgan_loss;
  const Limits limits{512, 4, 2};
  std::vector<Array<float>> maps, grads;
  std::vector<View<float>> views;
  for (const int64_t size : sizes) {
    for (auto* arrays : {&maps, &grads}) arrays->emplace_back(n * size);
    views.push_back({maps.back(), grads.back(), size, 1.0f});
  }
  const std::unique_ptr<Array<float>> targets(per_sample ? new Array<float>(n) : nullptr);
  const float* const numbers = targets ? static_cast<const float*>(*targets) : nullptr;
  Array<float> loss(mean ? 1 : n);
  std::vector<ganengine::Sum<float>> memory(
      static_cast<size_t>(forward_scratch(views, n, mean && !per_sample, limits)));
  forward<float>(views, n, numbers, Mode::bce, mean, loss, memory.data(), nullptr, limits);
  backward<float>(views, n, numbers, Mode::bce, mean, loss, nullptr, limits);
}

void maxout(int64_t n, int64_t pieces, int64_t units) {
  using namespace ganengine::maxout;
  const Extent extent{n, pieces, units};
  const Limits limits{4, 2, 1};
  Array<float> h(n * pieces * units), bias(pieces * units), y(n * units), grad_y(n * units), grad_h(n * pieces * units);
  Array<float> grad_bias(pieces * units);
  Array<uint8_t> winner(n * units);
  forward<float>(extent, h, bias, true, 0.5, 3, 5, y, winner, nullptr, limits);
  std::vector<float> memory(static_cast<size_t>(backward_scratch(extent, limits)));
  backward<float>(extent, grad_y, winner, 0.5, grad_h, grad_bias, memory.data(), nullptr, limits);
}

void null(int64_t count) {
  Array<float> x(count), y(count);
  ganengine::null::copy<float>(x, count, y, nullptr);
}

}  // namespace

int main(int count, char** arguments) {
  std::string only;
  for (int k = 1; k + 1 < count; k += 2) {
    const std::string option = arguments[k];
    if (option == "--only") only = arguments[k + 1];
    if (option == "--short") shortened = std::atoi(arguments[k + 1]);
    if (option == "--skip") emulator::skipped_barrier = arguments[k + 1];
  }
  if (only.empty() || only == "conditional_batch_norm") {
    conditional_batch_norm(2, 3, 16, false, 2, true, true);     // resident
    conditional_batch_norm(5, 3, 7, false, 0, true, true);      // resident, odd
    conditional_batch_norm(2, 3, 16, false, 2, true, false);    // planes in tiles
    conditional_batch_norm(2, 1, 2052, false, 0, true, false);  // planes that take a block each
    conditional_batch_norm(2, 3, 7, false, 2, false, false);    // eval
    conditional_batch_norm(2, 36, 7, true, 2, true, false);     // rows in tiles
    conditional_batch_norm(2, 5, 3, true, 0, false, false);     // rows, eval, odd
  }
  if (only.empty() || only == "patchgan_loss") {
    patchgan_loss(2, {16, 5}, false, true);
    patchgan_loss(2, {512, 1028}, true, false);
  }
  if (only.empty() || only == "maxout") {
    maxout(9, 3, 68);
    maxout(3, 2, 5);
  }
  if (only.empty() || only == "null") {
    null(64);
    null(7);
  }
  std::printf("%d\n", made);
}
