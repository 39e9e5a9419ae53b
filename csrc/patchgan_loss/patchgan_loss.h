// What the CPU and the CUDA kernels of the PatchGAN loss share. No torch headers here.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace ganengine::patchgan_loss {

constexpr const char* kOp = "patchgan_loss";

// The schema's `int mode`: the place of the mode in MODES of ganengine/ops/patchgan_loss.py.
enum class Mode : int64_t { bce = 0, ls = 1, hinge = 2, linear = 3 };
constexpr int64_t kModes = 4;

}  // namespace ganengine::patchgan_loss
