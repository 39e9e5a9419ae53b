// What null_cuda.cpp calls and null_cuda.cu defines.
#pragma once

#include <cstdint>

#include "common/cuda_call.h"

namespace ganengine::null {

void launch_copy(Element type, const void* x, int64_t count, void* y, const Stream& stream);

}  // namespace ganengine::null
