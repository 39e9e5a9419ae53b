// The PatchGAN loss on the CPU: checks, memory, and who does what; the loops are in the kernels' header.
#include <torch/csrc/stable/library.h>

#include <algorithm>

#include "common/isa.h"
#include "common/parallel.h"
#include "common/storage.h"
#include "common/tensors.h"
#include "common/visit.h"
#include "patchgan_loss/patchgan_loss.h"
#include "patchgan_loss/patchgan_loss_checks.h"

namespace ganengine::patchgan_loss {

template <typename T>
struct Kernels {  // by mode
  double (*sum_values[kModes])(const T*, int64_t, Accumulator<T>);
  void (*write_grads[kModes])(const T*, T*, int64_t, Accumulator<T>, Accumulator<T>);
};

}  // namespace ganengine::patchgan_loss

#define GANENGINE_KERNELS "patchgan_loss/patchgan_loss_cpu_kernels.h"
#include "common/for_each_isa.h"

namespace ganengine::patchgan_loss {
namespace {

// Logits of a tile, at most: some microseconds of work, and a multiple of what a kernel takes at once.
constexpr int64_t kTile = 4032;

// One map: its logits in memory, and how they are cut into tiles.
template <typename T>
struct Map {
  const T* logits;
  int64_t of_sample;  // logits
  int64_t tiles;      // of a sample
  int64_t first;      // number of the map's first tile
  Accumulator<T> target;
};

// The maps of a call.
template <typename T>
class Maps {
 public:
  // `numbers`: a target per map; `targets`: one per sample.
  Maps(const std::vector<Tensor>& tensors, const std::vector<double>& numbers, const std::optional<Tensor>& targets,
       bool mean)
      : samples(mean && !targets ? 1 : tensors[0].size(0)) {
    using A = Accumulator<T>;
    if (targets) per_sample_ = static_cast<const A*>(contiguous(*targets));
    all.reserve(tensors.size());
    for (const Tensor& tensor : tensors) {
      const int64_t count = tensor.numel(), of_sample = count / std::max<int64_t>(samples, 1);
      const int64_t cut = (of_sample + kTile - 1) / kTile;
      const A target = targets ? A(0) : static_cast<A>(numbers[all.size()]);
      all.push_back({static_cast<const T*>(contiguous(tensor)), of_sample, cut, tiles, target});
      tiles += samples * cut;
      elements_ += count;
    }
  }

  int64_t samples;  // 1 where they need not be told apart: then the batch is a sample
  int64_t tiles = 0;
  std::vector<Map<T>> all;

  // Calls f(number of the tile, number of the map, sample, target, first logit in the map, logits) for all tiles.
  template <typename F>
  void for_each_tile(const F& f) const {
    const int64_t least = grain(elements_ / std::max<int64_t>(tiles, 1));
    parallel_for(tiles, least, [&](int64_t begin, int64_t end) {
      size_t k = 0;
      for (int64_t tile = begin; tile < end; ++tile) {
        while (tile >= all[k].first + samples * all[k].tiles) ++k;
        const Map<T>& map = all[k];
        const int64_t sample = (tile - map.first) / map.tiles;
        const int64_t at = (tile - map.first - sample * map.tiles) * kTile;
        const Accumulator<T> target = per_sample_ != nullptr ? per_sample_[sample] : map.target;
        f(tile, k, sample, target, sample * map.of_sample + at, std::min(kTile, map.of_sample - at));
      }
    });
  }

 private:
  int64_t elements_ = 0;
  const Accumulator<T>* per_sample_ = nullptr;
  std::vector<Tensor> copies_;  // of what was not contiguous

  const void* contiguous(const Tensor& tensor) {
    if (tensor.is_contiguous()) return tensor.const_data_ptr();
    copies_.push_back(torch::stable::contiguous(tensor));
    return copies_.back().const_data_ptr();
  }
};

Tensor forward_cpu(const std::vector<Tensor>& tensors,    // each [N, ...]
                   const std::vector<double>& targets,    // one per map, or none
                   const std::optional<Tensor>& samples,  // [N]
                   int64_t mode, bool mean) {
  check_options(tensors, targets.size(), samples, mode);
  const int64_t n = tensors[0].size(0);
  const ScalarType wide = accumulation_type(tensors[0].scalar_type());
  const Tensor loss = mean ? empty_dense({}, wide) : empty_dense({n}, wide);
  visit(tensors[0].scalar_type(), [&](auto element) {
    using T = decltype(element);
    using A = Accumulator<T>;
    const auto sum_values = GANENGINE_CHOOSE(patchgan_loss, T, kernels<T>)().sum_values[mode];
    const Maps<T> maps(tensors, targets, samples, mean);
    std::vector<double> sums(maps.tiles);
    maps.for_each_tile([&](int64_t tile, size_t k, int64_t, A target, int64_t at, int64_t count) {
      sums[tile] = sum_values(maps.all[k].logits + at, count, target);
    });
    A* out = static_cast<A*>(loss.mutable_data_ptr());
    const int64_t numbers = mean ? 1 : n, together = mean ? maps.samples : 1;  // samples in a number
    for (int64_t i = 0; i < numbers; ++i) {
      double total = 0;
      for (const Map<T>& map : maps.all) {
        const int64_t count = together * map.tiles;
        double sum = 0;
        for (int64_t k = 0; k < count; ++k) sum += sums[map.first + i * count + k];
        total += sum / static_cast<double>(together * map.of_sample);
      }
      out[i] = static_cast<A>(total / static_cast<double>(maps.all.size()));
    }
  });
  return loss;
}

std::vector<Tensor> backward_cpu(const Tensor& grad_any,                // [] or [N]
                                 const std::vector<Tensor>& tensors,    // each [N, ...]
                                 const std::vector<double>& targets,    // one per map, or none
                                 const std::optional<Tensor>& samples,  // [N]
                                 int64_t mode, bool mean) {
  check_options(tensors, targets.size(), samples, mode);
  check_grad(grad_any, tensors, mean);
  std::vector<Tensor> grads;
  grads.reserve(tensors.size());
  for (const Tensor& map : tensors) grads.push_back(empty_dense(map.sizes(), map.scalar_type()));
  const Tensor grad = dense(grad_any);
  visit(tensors[0].scalar_type(), [&](auto element) {
    using T = decltype(element);
    using A = Accumulator<T>;
    const auto write_grads = GANENGINE_CHOOSE(patchgan_loss, T, kernels<T>)().write_grads[mode];
    const A* g = static_cast<const A*>(grad.const_data_ptr());
    const Maps<T> maps(tensors, targets, samples, mean);
    std::vector<T*> to;
    to.reserve(grads.size());
    for (const Tensor& one : grads) to.push_back(static_cast<T*>(one.mutable_data_ptr()));
    const int64_t together = static_cast<int64_t>(grads.size()) * (mean ? maps.samples : 1);
    maps.for_each_tile([&](int64_t, size_t k, int64_t sample, A target, int64_t at, int64_t count) {
      const Map<T>& map = maps.all[k];
      const A factor = g[mean ? 0 : sample] / static_cast<A>(together * map.of_sample);
      write_grads(map.logits + at, to[k] + at, count, target, factor);
    });
  });
  return grads;
}

}  // namespace
}  // namespace ganengine::patchgan_loss

STABLE_TORCH_LIBRARY_IMPL(ganengine, CPU, m) {
  m.impl("patchgan_loss", TORCH_BOX(&ganengine::patchgan_loss::forward_cpu));
  m.impl("patchgan_loss_backward", TORCH_BOX(&ganengine::patchgan_loss::backward_cpu));
}
