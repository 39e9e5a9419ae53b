// What the CPU and the CUDA side of this op share: nothing but its name. In a real op, its mathematics: code that both
// compilers accept, without torch headers, so that the emulator of the tests can include it too.
#pragma once

namespace ganengine::null {

constexpr const char* kOp = "null";

}  // namespace ganengine::null
