// The kernels of csrc/, run by the emulator, as a Python module. Tensors come as numpy arrays of the right size and
// memory order, 16-bit floats as their bits; what a .cu file does around the kernels, tests/emulator/emulated.py does
// here.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "conditional_batch_norm/conditional_batch_norm_kernels.cuh"
#include "maxout/maxout_kernels.cuh"
#include "null/null_kernels.cuh"
#include "patchgan_loss/patchgan_loss_kernels.cuh"
#include "self_test.cuh"

namespace py = pybind11;

namespace {

using Array = py::array;
using Numbers = std::vector<int64_t>;

template <typename T>
const T* in(const Array& array) {
  return static_cast<const T*>(array.data());
}

template <typename T>
const T* in(const std::optional<Array>& array) {
  return array ? in<T>(*array) : nullptr;
}

template <typename T>
T* out(Array& array) {
  return static_cast<T*>(array.mutable_data());
}

// Scratch memory of exactly that size, full of NaN.
template <typename A>
std::vector<A> scratch(int64_t size) {
  return std::vector<A>(static_cast<size_t>(size), std::numeric_limits<A>::quiet_NaN());
}

template <typename Body>
void with_type(const std::string& dtype, const Body& body) {
  if (dtype == "float32") return body(float{});
  if (dtype == "float64") return body(double{});
  if (dtype == "float16") return body(__half{});
  if (dtype == "bfloat16") return body(__nv_bfloat16{});
  throw py::value_error(dtype);
}

namespace cbn = ganengine::conditional_batch_norm;
namespace patch = ganengine::patchgan_loss;
namespace maxout = ganengine::maxout;
using ganengine::Wide;

cbn::Extent cbn_extent(const Numbers& sizes, bool rows) { return {sizes[0], sizes[1], sizes[2], rows}; }

cbn::Limits cbn_limits(const std::optional<Numbers>& limits) {
  if (!limits) return {};
  return {(*limits)[0], (*limits)[1], (*limits)[2], (*limits)[3]};
}

template <typename A>
cbn::Classes<A> classes(const Array& gamma, const Array& beta, const std::optional<Array>& labels) {
  const bool wide = labels && labels->itemsize() == 8;
  return {in<A>(gamma), in<A>(beta), wide ? nullptr : in<int32_t>(labels), wide ? in<int64_t>(labels) : nullptr,
          gamma.shape(0)};
}

void cbn_forward(const std::string& dtype, const Numbers& sizes, bool rows, const Array& x, const Array& gamma,
                 const Array& beta, const std::optional<Array>& labels, bool batch_statistics, Array& mean, Array& var,
                 double eps, double slope, Array& y, const std::optional<Numbers>& limits) {
  with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    using A = Wide<T>;
    const cbn::Extent extent = cbn_extent(sizes, rows);
    auto memory = scratch<A>(cbn::forward_scratch(extent, batch_statistics, sizeof(T), cbn_limits(limits)));
    cbn::forward<T>(extent, in<T>(x), classes<A>(gamma, beta, labels), eps, slope, batch_statistics, out<A>(mean),
                    out<A>(var), out<T>(y), memory.data(), nullptr, cbn_limits(limits));
  });
}

void cbn_backward(const std::string& dtype, const Numbers& sizes, bool rows, const Array& grad_y, const Array& x,
                  const Array& gamma, const Array& beta, const std::optional<Array>& labels, const Array& mean,
                  const Array& var, bool batch_statistics, double eps, double slope, Array& grad_x, Array& grad_gamma,
                  Array& grad_beta, const std::optional<Numbers>& limits) {
  with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    using A = Wide<T>;
    const cbn::Extent extent = cbn_extent(sizes, rows);
    auto memory = scratch<A>(cbn::backward_scratch(extent, cbn_limits(limits)));
    const cbn::Norm<A> norm{classes<A>(gamma, beta, labels), in<A>(mean), in<A>(var), static_cast<A>(eps),
                            static_cast<A>(slope)};
    cbn::backward<T>(extent, in<T>(grad_y), in<T>(x), norm, batch_statistics, out<T>(grad_x), out<A>(grad_gamma),
                     out<A>(grad_beta), memory.data(), nullptr, cbn_limits(limits));
  });
}

// How sums over a tensor of that size are cut, and the scratch memory of a training step, without any of that memory.
py::dict cbn_geometry(const Numbers& sizes, bool rows, int vector) {
  const cbn::Extent extent = cbn_extent(sizes, rows);
  py::dict found;
  for (const bool statistics : {true, false}) {
    const cbn::Tiling tiling =
        statistics ? cbn::statistics_tiling(extent, vector, {}) : cbn::sums_tiling(extent, vector, {});
    const dim3 block = rows ? cbn::row_block(tiling) : dim3(ganengine::kThreads);
    py::dict facts;
    facts["samples"] = tiling.samples;
    facts["positions"] = tiling.positions;
    facts["tile"] = tiling.tile;
    facts["tiles"] = tiling.tiles;
    facts["columns"] = tiling.columns;
    facts["width"] = tiling.width;
    facts["threads"] = block.x * block.y;
    found[statistics ? "statistics" : "sums"] = facts;
  }
  found["scratch"] = cbn::forward_scratch(extent, true, 4) + cbn::backward_scratch(extent);
  return found;
}

patch::Limits patch_limits(const std::optional<Numbers>& limits) {
  if (!limits) return {};
  return {(*limits)[0], (*limits)[1], (*limits)[2]};
}

// `grads`: one per map, or none.
template <typename T>
std::vector<patch::View<T>> views(const std::vector<Array>& maps, std::vector<Array>& grads, int64_t samples,
                                  const std::vector<double>& targets) {
  std::vector<patch::View<T>> views;
  for (size_t k = 0; k < maps.size(); ++k) {
    const int64_t logits = samples > 0 ? maps[k].size() / samples : 0;
    views.push_back({in<T>(maps[k]), grads.empty() ? nullptr : out<T>(grads[k]), logits,
                     static_cast<Wide<T>>(targets.empty() ? 0 : targets[k])});
  }
  return views;
}

void patch_forward(const std::string& dtype, int64_t samples, const std::vector<Array>& maps,
                   const std::vector<double>& targets, const std::optional<Array>& sample_targets, int64_t mode,
                   bool mean, Array& loss, const std::optional<Numbers>& limits) {
  with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    using A = Wide<T>;
    std::vector<Array> none;
    const auto all = views<T>(maps, none, samples, targets);
    const int64_t sums = patch::forward_scratch(all, samples, mean && !sample_targets, patch_limits(limits));
    std::vector<ganengine::Sum<A>> memory(static_cast<size_t>(sums));
    patch::forward<T>(all, samples, in<A>(sample_targets), static_cast<patch::Mode>(mode), mean, out<A>(loss),
                      memory.data(), nullptr, patch_limits(limits));
  });
}

void patch_backward(const std::string& dtype, int64_t samples, const Array& grad_loss, const std::vector<Array>& maps,
                    const std::vector<double>& targets, const std::optional<Array>& sample_targets, int64_t mode,
                    bool mean, std::vector<Array> grads, const std::optional<Numbers>& limits) {
  with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    using A = Wide<T>;
    patch::backward<T>(views<T>(maps, grads, samples, targets), samples, in<A>(sample_targets),
                       static_cast<patch::Mode>(mode), mean, in<A>(grad_loss), nullptr, patch_limits(limits));
  });
}

maxout::Limits maxout_limits(const std::optional<Numbers>& limits) {
  if (!limits) return {};
  return {(*limits)[0], (*limits)[1], (*limits)[2]};
}

void maxout_forward(const std::string& dtype, const Numbers& sizes, const Array& h, const std::optional<Array>& bias,
                    bool relu, double dropout, int64_t seed, int64_t offset, Array& y, Array& winner,
                    const std::optional<Numbers>& limits) {
  with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    maxout::forward<T>({sizes[0], sizes[1], sizes[2]}, in<T>(h), in<Wide<T>>(bias), relu, dropout, seed, offset,
                       out<T>(y), out<uint8_t>(winner), nullptr, maxout_limits(limits));
  });
}

void maxout_backward(const std::string& dtype, const Numbers& sizes, const Array& grad_y, const Array& winner,
                     double dropout, Array& grad_h, Array& grad_bias, const std::optional<Numbers>& limits) {
  with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    const maxout::Extent extent{sizes[0], sizes[1], sizes[2]};
    auto memory = scratch<Wide<T>>(maxout::backward_scratch(extent, maxout_limits(limits)));
    maxout::backward<T>(extent, in<T>(grad_y), in<uint8_t>(winner), dropout, out<T>(grad_h), out<Wide<T>>(grad_bias),
                        memory.data(), nullptr, maxout_limits(limits));
  });
}

void null_copy(const std::string& dtype, const Array& x, Array& y) {
  with_type(dtype, [&](auto zero) {
    using T = decltype(zero);
    ganengine::null::copy<T>(in<T>(x), x.size(), out<T>(y), nullptr);
  });
}

}  // namespace

PYBIND11_MODULE(ganengine_emulator, m) {
  m.def("conditional_batch_norm", &cbn_forward);
  m.def("conditional_batch_norm_backward", &cbn_backward);
  m.def("conditional_batch_norm_geometry", &cbn_geometry);
  m.def("patchgan_loss", &patch_forward);
  m.def("patchgan_loss_backward", &patch_backward);
  m.def("maxout", &maxout_forward);
  m.def("maxout_backward", &maxout_backward);
  m.def("null", &null_copy);
  m.def("set_seed", [](uint64_t seed) { emulator::seed = seed; });
  m.def("self_test", &self_test::run);
}
