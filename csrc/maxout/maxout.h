// What the CPU and the CUDA kernels of Maxout share: the mask's counter. No torch headers here.
#pragma once

#include <cstdint>

#include "common/host_device.h"

namespace ganengine::maxout {

constexpr const char* kOp = "maxout";
constexpr uint8_t kNoGradient = 255;  // the winner of a maximum that is a constant 0
constexpr int64_t kMostPieces = 255;

// Word w of the stream of `seed` (ganengine/ops/counter.py): element e is its low half for even e, its high half for
// odd e, with w = e >> 1.
GANENGINE_HD inline uint64_t counter_word(uint64_t seed, uint64_t w) {
  uint64_t z = seed + (w + 1) * 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// Element e is kept where its 32 bits are at least the threshold.
GANENGINE_HD inline uint32_t counter_bits(uint64_t seed, uint64_t e) {
  return static_cast<uint32_t>(counter_word(seed, e >> 1) >> (32 * (e & 1)));
}

// floor(dropout * 2^32), exactly as Python's int(p * 2**32).
inline uint32_t drop_threshold(double dropout) { return static_cast<uint32_t>(dropout * 4294967296.0); }

}  // namespace ganengine::maxout
