// The PatchGAN loss on the CPU: checks, memory, and who does what; the loops are in the kernels' header.
#include <torch/csrc/stable/library.h>

#include <tuple>

#include "common/isa.h"
#include "common/parallel.h"
#include "common/storage.h"
#include "common/tensors.h"
#include "common/visit.h"
#include "patchgan_loss/patchgan_loss.h"
#include "patchgan_loss/patchgan_loss_checks.h"

namespace ganengine::patchgan_loss {

template <typename T>
struct Kernels {
  double (*forward_sample[kModes])(const T*, T*, int64_t, Accumulator<T>);  // by mode
  void (*scale)(const T*, T*, int64_t, Accumulator<T>);
};

}  // namespace ganengine::patchgan_loss

#define GANENGINE_KERNELS "patchgan_loss/patchgan_loss_cpu_kernels.h"
#include "common/for_each_isa.h"

namespace ganengine::patchgan_loss {
namespace {

// The logits of a sample in each map, and of a sample in all maps together.
struct Sizes {
  int64_t n;
  std::vector<int64_t> of_map;
  int64_t of_sample = 0;

  explicit Sizes(const std::vector<Tensor>& maps) : n(maps[0].size(0)) {
    for (const Tensor& map : maps) {
      of_map.push_back(map.numel() / (n > 0 ? n : 1));
      of_sample += of_map.back();
    }
  }
};

std::vector<Tensor> all_dense(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> all;
  all.reserve(tensors.size());
  for (const Tensor& tensor : tensors) all.push_back(dense(tensor));
  return all;
}

std::vector<Tensor> all_empty(const std::vector<Tensor>& like) {
  std::vector<Tensor> all;
  all.reserve(like.size());
  for (const Tensor& tensor : like) all.push_back(empty_dense(tensor.sizes(), tensor.scalar_type()));
  return all;
}

template <typename T>
std::vector<T*> pointers(const std::vector<Tensor>& tensors) {
  std::vector<T*> all;
  all.reserve(tensors.size());
  for (const Tensor& tensor : tensors) {
    if constexpr (std::is_const_v<T>) {
      all.push_back(static_cast<T*>(tensor.const_data_ptr()));
    } else {
      all.push_back(static_cast<T*>(tensor.mutable_data_ptr()));
    }
  }
  return all;
}

std::tuple<Tensor, std::vector<Tensor>> forward_cpu(const std::vector<Tensor>& maps_any,       // each [N, ...]
                                                    const std::vector<double>& targets,        // one per map, or none
                                                    const std::optional<Tensor>& samples_any,  // [N]
                                                    int64_t mode, bool mean) {
  check_options(maps_any, targets.size(), samples_any, mode);
  const std::vector<Tensor> maps = all_dense(maps_any), slopes = all_empty(maps_any);
  const Sizes sizes(maps);
  const int64_t s = static_cast<int64_t>(maps.size()), n = sizes.n;
  const ScalarType wide = accumulation_type(maps[0].scalar_type());
  const Tensor loss = mean ? empty_dense({}, wide) : empty_dense({n}, wide);
  visit(maps[0].scalar_type(), [&](auto element) {
    using T = decltype(element);
    using A = Accumulator<T>;
    const auto forward = GANENGINE_CHOOSE(patchgan_loss, T, kernels<T>)().forward_sample[mode];
    const auto from = pointers<const T>(maps);
    const auto to = pointers<T>(slopes);
    const Tensor samples = samples_any ? dense(*samples_any) : maps[0];
    const A* per_sample = samples_any ? static_cast<const A*>(samples.const_data_ptr()) : nullptr;
    std::vector<double> losses(n);
    parallel_for(n, grain(sizes.of_sample), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        double total = 0;
        for (int64_t k = 0; k < s; ++k) {
          const int64_t m = sizes.of_map[k];
          const A target = per_sample != nullptr ? per_sample[i] : static_cast<A>(targets[k]);
          total += forward(from[k] + i * m, to[k] + i * m, m, target) / static_cast<double>(m);
        }
        losses[i] = total / static_cast<double>(s);
      }
    });
    A* out = static_cast<A*>(loss.mutable_data_ptr());
    if (mean) {
      double total = 0;
      for (const double one : losses) total += one;
      *out = static_cast<A>(total / static_cast<double>(n));
    } else {
      for (int64_t i = 0; i < n; ++i) out[i] = static_cast<A>(losses[i]);
    }
  });
  return {loss, slopes};
}

std::vector<Tensor> backward_cpu(const Tensor& grad_any,                 // [] or [N]
                                 const std::vector<Tensor>& slopes_any,  // like maps
                                 const std::vector<Tensor>& maps, const std::vector<double>&,
                                 const std::optional<Tensor>&, int64_t, bool mean) {
  check_backward(grad_any, slopes_any, maps, mean);
  const std::vector<Tensor> slopes = all_dense(slopes_any), grads = all_empty(maps);
  const Tensor grad = dense(grad_any);
  const Sizes sizes(maps);
  const int64_t s = static_cast<int64_t>(maps.size()), n = sizes.n;
  visit(maps[0].scalar_type(), [&](auto element) {
    using T = decltype(element);
    using A = Accumulator<T>;
    const auto scale = GANENGINE_CHOOSE(patchgan_loss, T, kernels<T>)().scale;
    const auto from = pointers<const T>(slopes);
    const auto to = pointers<T>(grads);
    const A* g = static_cast<const A*>(grad.const_data_ptr());
    parallel_for(n, grain(sizes.of_sample), [&](int64_t begin, int64_t end) {
      for (int64_t k = 0; k < s; ++k) {
        const int64_t m = sizes.of_map[k];
        if (mean) {  // one factor for all samples: one run
          scale(from[k] + begin * m, to[k] + begin * m, (end - begin) * m, *g / static_cast<A>(s * m * n));
        } else {
          for (int64_t i = begin; i < end; ++i) {
            scale(from[k] + i * m, to[k] + i * m, m, g[i] / static_cast<A>(s * m));
          }
        }
      }
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
