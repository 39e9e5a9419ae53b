// What both kernels of the PatchGAN loss check before they touch memory. Host code.
#pragma once

#include <optional>
#include <vector>

#include "common/checks.h"
#include "patchgan_loss/patchgan_loss.h"

namespace ganengine::patchgan_loss {

// One batch size, dtype and device for all maps.
inline void check_maps(const std::vector<Tensor>& maps) {
  check(!maps.empty(), kOp, "expected one map or more, got none");
  const Tensor& first = maps[0];
  check_data(kOp, "maps", first);
  for (const Tensor& map : maps) {
    check(map.dim() >= 1 && first.dim() >= 1 && map.size(0) == first.size(0), kOp,
          "expected maps [N, ...] of one N, got ", describe(first.sizes()), " and ", describe(map.sizes()));
    check(map.scalar_type() == first.scalar_type() && map.device() == first.device(), kOp,
          "expected maps of one dtype on one device");
  }
}

// `targets`: how many there are.
inline void check_options(const std::vector<Tensor>& maps, size_t targets, const std::optional<Tensor>& samples,
                          int64_t mode) {
  check_maps(maps);
  check(mode >= 0 && mode < kModes, kOp, "expected a mode from 0 to ", kModes - 1, ", got ", mode);
  check(targets == (samples ? 0 : maps.size()), kOp, "expected a target per map, or none and samples; got ", targets,
        " targets for ", maps.size(), " maps");
  if (samples) {
    check_tensor(kOp, "samples", *samples, {maps[0].size(0)}, accumulation_type(maps[0].scalar_type()), maps[0]);
  }
}

inline void check_grad(const Tensor& grad_loss, const std::vector<Tensor>& maps, bool mean) {
  const ScalarType wide = accumulation_type(maps[0].scalar_type());
  if (mean) {
    check_tensor(kOp, "grad_loss", grad_loss, {}, wide, maps[0]);
  } else {
    check_tensor(kOp, "grad_loss", grad_loss, {maps[0].size(0)}, wide, maps[0]);
  }
}

}  // namespace ganengine::patchgan_loss
