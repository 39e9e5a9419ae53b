// What the kernels of convolutions in float32 share for all instruction sets. Formulas: convolution.h.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "convolution/convolution.h"

namespace ganengine::convolution {

// Pictures [height][width][channels] of which a field is cut; outside of them 0, or their reflection.
struct Side {
  int64_t height, width, channels;
  bool reflect;
};

inline Side wide_side(const Problem& p) { return {p.height, p.width, p.wide, p.reflect}; }
inline Side narrow_side(const Problem& p) { return {p.down, p.across, p.narrow, false}; }

// Neighbouring channels.
struct Block {
  int64_t first, count;
};

// What numbers of a field the sum of a place takes in: `count` of them, `offset` from its own.
struct Run {
  int64_t offset, count;
};

// Where sums go: with a bias, and through a gate.
struct Target {
  const float* bias;  // of these outputs, or none
  float* data;
  const float* gate;  // of the same sizes as the data, or none: sums are multiplied by `slope` where it is 0 or below
  float slope;
};

// One place of the window: where it falls among the planes of a stride's phases, and its number in the weight.
struct Seen {
  int64_t plane, down, across, element;
};

struct Window {
  explicit Window(const Problem& p) : pitch(p.across - 1 + p.columns_of_phase()) {
    for (int64_t a = 0; a < std::min(p.stride_down, p.rows); ++a) {
      for (int64_t b = 0; b < std::min(p.stride_across, p.columns); ++b) {
        for (int64_t r = a; r < p.rows; r += p.stride_down) {
          for (int64_t c = b; c < p.columns; c += p.stride_across) {
            places.push_back({static_cast<int64_t>(planes.size()), r / p.stride_down, c / p.stride_across,
                              (r * p.columns + c) * p.wide});
          }
        }
        planes.push_back({a - p.padding_top, p.stride_down, b - p.padding_left, p.stride_across});
      }
    }
  }

  int64_t pitch;
  std::vector<Cut> planes;
  std::vector<Seen> places;
};

}  // namespace ganengine::convolution
