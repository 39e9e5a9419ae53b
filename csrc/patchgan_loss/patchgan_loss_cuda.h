// What patchgan_loss_cuda.cpp calls and patchgan_loss_cuda.cu defines. Targets, losses and their gradients are float,
// beside double double.
#pragma once

#include <cstdint>
#include <vector>

#include "common/cuda_call.h"
#include "patchgan_loss/patchgan_loss.h"

namespace ganengine::patchgan_loss {

struct Map {
  const void* logits;
  void* grad;     // backward
  int64_t count;  // of a sample
  double target;  // where there is none per sample
};

// Numbers of scratch memory for `launch_forward`. `merged`: samples need not be told apart.
int64_t scratch_for_forward(const std::vector<Map>& maps, int64_t samples, bool merged);

// `targets`: one per sample, or null. The loss is one number (mean) or [N].
void launch_forward(Element type, const std::vector<Map>& maps, int64_t samples, const void* targets, Mode mode,
                    bool mean, void* loss, void* scratch, const Stream& stream);

// `grad_loss`: one number (mean) or [N].
void launch_backward(Element type, const std::vector<Map>& maps, int64_t samples, const void* targets, Mode mode,
                     bool mean, const void* grad_loss, const Stream& stream);

}  // namespace ganengine::patchgan_loss
