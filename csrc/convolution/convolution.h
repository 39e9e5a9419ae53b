// Convolutions as products of tiles: what the kernels of all three ops share. No torch headers here.
//
// A convolution has a wide side [N, H, W, C], which windows look at, and a narrow one [N, down, across, K], with a
// place for each window; the weight is [K, rows, columns, C], whichever way the layer goes (a transposed one has the
// sides exchanged). With strides s and padding p
//
//     gather    narrow[n, a, b, k]  = sum of wide[n, a s - p + r, b s - p + c, :] w[k, r, c, :]
//     scatter   wide[n, i, j, c]    = sum over the windows that see (i, j): the adjoint
//     weights   w[k, r, c, :]       = sum over n, a, b of narrow[n, a, b, k] wide[n, a s - p + r, b s - p + c, :]
#pragma once

#include <cstdint>
#include <vector>

namespace ganengine::convolution {

constexpr int64_t kTile = 16;                 // rows of a tile, and its columns of float
constexpr int64_t kChunk = 32;                // what one product of tiles sums over
constexpr int64_t kNumbers = 512;             // 16-bit numbers in a tile
constexpr int64_t kSums = 4 * kTile * kTile;  // of four tiles, which a weight gradient adds up at once
constexpr int64_t kBlockSteps = 8;            // chunks of positions that a weight gradient takes at a time: measured

struct Problem {
  int64_t n, height, width, wide;  // the wide side, and its channels
  int64_t down, across, narrow;    // the narrow side
  int64_t rows, columns;           // of the window
  int64_t stride_down, stride_across, padding_top, padding_left;
  bool reflect;  // what lies outside of the wide side: its reflection, or 0

  // How many of the window's rows and columns fall on one line of a phase.
  int64_t rows_of_phase() const { return (rows + stride_down - 1) / stride_down; }
  int64_t columns_of_phase() const { return (columns + stride_across - 1) / stride_across; }
};

// Where the numbers of a picture that a field holds lie: field line l, position v is row first_down + l step_down and
// column first_across + v step_across of the picture; outside of it 0, or its reflection.
struct Cut {
  int64_t first_down, step_down, first_across, step_across;
};

// Numbers [pictures][lines][pitch][channels] of which correlations make `wanted` positions of `kept` lines of each
// picture: those of the result from `first_line` on.
struct Field {
  const uint16_t* data;
  int64_t pictures, lines, pitch, channels, kept, wanted, first_line;
};

// The first of the pictures that a task writes.
struct Picture {
  uint16_t* data;
  const uint16_t* gate;  // of the same sizes, or none: results are multiplied by `slope` where it is 0 or below
  float slope;
  int64_t height, width, channels;
};

// A correlation of unit stride over a field [planes][pictures][lines][pitch][channels]: for a position, the numbers at
// `chunks` offsets from it, 32 at each, times weights.
struct Correlation {
  std::vector<int64_t> offsets;
  // [chunks][32]: which of an output's weights each of these numbers has; -1: none.
  std::vector<int64_t> elements;
  int64_t packed = 0;  // where its weights begin among the packed ones
  // Position (u, v) is row first_down + u step_down and column first_across + v step_across of the result.
  Cut to{};
  int64_t chunks() const { return static_cast<int64_t>(offsets.size()); }
};

// One place of the window: where it falls among the planes, and how far it moves their lines and positions.
struct Tap {
  int64_t row, column, plane, down, across;
};

// The parts of a weight gradient: one place of the window by 32 wide channels by 32 narrow ones. Places on one plane
// are neighbours, so that who computes some of the parts needs few planes.
struct WeightCells {
  explicit WeightCells(const Problem& p) : wide_blocks((p.wide - 1) / kChunk + 1) {
    for (int64_t plane = 0; plane < p.stride_down * p.stride_across; ++plane) {
      for (int64_t r = plane / p.stride_across; r < p.rows; r += p.stride_down) {
        for (int64_t c = plane % p.stride_across; c < p.columns; c += p.stride_across) {
          taps.push_back({r, c, plane, r / p.stride_down, c / p.stride_across});
        }
      }
    }
    count = ((p.narrow - 1) / kChunk + 1) * wide_blocks * static_cast<int64_t>(taps.size());
  }

  int64_t narrow(int64_t cell) const { return block(cell) / wide_blocks; }
  int64_t wide(int64_t cell) const { return block(cell) % wide_blocks; }
  const Tap& tap(int64_t cell) const { return taps[cell % static_cast<int64_t>(taps.size())]; }

  // Whether any of the cells [begin, end) is as `is` says.
  template <typename F>
  static bool any(int64_t begin, int64_t end, const F& is) {
    for (int64_t cell = begin; cell < end; ++cell) {
      if (is(cell)) return true;
    }
    return false;
  }

  int64_t wide_blocks, count;
  std::vector<Tap> taps;

 private:
  int64_t block(int64_t cell) const { return cell / static_cast<int64_t>(taps.size()); }
};

// In float32: one side from the other, and the weight gradient. What is in front is activated: a number at 0 or below
// is multiplied by its slope; beside a gate that happens to the results where the gate is 0 or below.
void make_values(const Problem& p, bool gather, const float* from, const float* weight, const float* bias, float slope,
                 const float* gate, float* to);
void make_weights(const Problem& p, const float* wide, const float* narrow, float wide_slope, float narrow_slope,
                  float* to);

}  // namespace ganengine::convolution
