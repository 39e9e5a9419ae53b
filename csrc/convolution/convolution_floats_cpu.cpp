// Convolutions on the CPU in float32: the work shared out over threads (convolution.h).
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <vector>

#include "common/isa.h"
#include "common/parallel.h"
#include "convolution/convolution.h"
#include "convolution/convolution_floats.h"
#include "convolution/convolution_tasks.h"

#define GANENGINE_KERNELS "convolution/convolution_floats_cpu_kernels.h"
#include "common/for_each_isa.h"

namespace ganengine::convolution {
namespace {

constexpr int64_t kWeightsPositions = 256;    // of a task of a weight gradient: rows stay in the first-level cache
constexpr int64_t kFieldNumbers = 32 * 1024;  // in the field of one task: it stays in the second-level cache ...
constexpr int64_t kLeastPositions = 96;       // ... but at least so many positions

// Weights of neighbouring numbers: of number i and output o at weight + i number_step + o output_step.
struct Piece {
  int64_t weight, first, count;
};

// The sums that make the places of one phase: runs of numbers, and where their weights lie.
struct Phase {
  std::vector<Run> runs;
  std::vector<Piece> pieces;
  int64_t numbers = 0, packed = 0;
  Cut to{};

  void begin_run(int64_t offset) { runs.push_back({offset, 0}); }
  void add(int64_t weight, int64_t count) {
    pieces.push_back({weight, numbers, count});
    runs.back().count += count;
    numbers += count;
  }
};

struct Values {
  std::vector<Cut> planes;
  std::vector<Phase> phases;
  int64_t lines, wanted, halo, pitch;  // of the result, and what a field has beyond
};

Values gathering(const Problem& p) {
  const Window window(p);
  return {window.planes, {}, p.down, p.across, p.rows_of_phase() - 1, window.pitch};
}

void add_gathering(const Problem& p, int64_t plane, Values& values) {
  Phase all;
  all.to = {0, 1, 0, 1};
  const int64_t planes_across = std::min(p.stride_across, p.columns);
  for (int64_t r = 0; r < p.rows; ++r) {
    for (int64_t b = 0; b < planes_across; ++b) {
      all.begin_run((r % p.stride_down * planes_across + b) * plane + r / p.stride_down * values.pitch * p.wide);
      for (int64_t c = b; c < p.columns; c += p.stride_across) all.add((r * p.columns + c) * p.wide, p.wide);
    }
  }
  values.phases.push_back(std::move(all));
}

Values scattering(const Problem& p) {
  const int64_t top = p.padding_top / p.stride_down, left = p.padding_left / p.stride_across;
  const int64_t lines = (p.height - 1 + p.padding_top) / p.stride_down - top + 1;
  const int64_t wanted = (p.width - 1 + p.padding_left) / p.stride_across - left + 1;
  const int64_t halo = p.rows_of_phase() - 1, beside = p.columns_of_phase() - 1, pitch = wanted + beside;
  Values values{{{top - halo, 1, left - beside, 1}}, {}, lines, wanted, halo, pitch};
  for (int64_t a = 0; a < p.stride_down; ++a) {
    for (int64_t b = 0; b < p.stride_across; ++b) {
      Phase phase;
      phase.to = {a - p.padding_top + top * p.stride_down, p.stride_down, b - p.padding_left + left * p.stride_across,
                  p.stride_across};
      const int64_t taps = b < p.columns ? (p.columns - b - 1) / p.stride_across + 1 : 0;
      for (int64_t r = a; r < p.rows && taps > 0; r += p.stride_down) {
        phase.begin_run(((halo - r / p.stride_down) * pitch + beside - (taps - 1)) * p.narrow);
        for (int64_t t = taps - 1; t >= 0; --t) phase.add((r * p.columns + b + t * p.stride_across) * p.wide, p.narrow);
      }
      values.phases.push_back(std::move(phase));
    }
  }
  return values;
}

}  // namespace

void make_values(const Problem& p, bool gather, const float* from, const float* weight, const float* bias, float slope,
                 const float* gate, float* to) {
  const int64_t outputs = gather ? p.narrow : p.wide, threads = threads_for_products(products(p));
  const Side side = gather ? wide_side(p) : narrow_side(p), result = gather ? narrow_side(p) : wide_side(p);
  Values values = gather ? gathering(p) : scattering(p);
  const int64_t planes = static_cast<int64_t>(values.planes.size());
  const int64_t positions = std::max(kFieldNumbers / (planes * side.channels), kLeastPositions);
  const Tasks tasks(p.n, values.lines, values.halo, values.pitch, positions, threads);
  const int64_t plane = tasks.pictures * (tasks.kept + values.halo) * values.pitch * side.channels;
  if (gather) add_gathering(p, plane, values);

  static thread_local Kept<float> kept_weights;
  int64_t size = 0;
  for (Phase& phase : values.phases) {
    phase.packed = size;
    size += GANENGINE_CHOOSE(convolution_floats, float, packed_size)(outputs, phase.numbers);
  }
  float* const packed = kept_weights.at_least(size);
  const int64_t apart = p.rows * p.columns * p.wide;
  const auto pack = GANENGINE_CHOOSE(convolution_floats, float, pack);
  for (const Phase& phase : values.phases) {
    const int64_t count = static_cast<int64_t>(phase.pieces.size());
    parallel_for(count, threads > 1 ? 1 : count, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Piece& piece = phase.pieces[i];
        pack(weight + piece.weight, gather ? apart : 1, gather ? 1 : apart, outputs, piece.first, piece.count,
             phase.numbers, packed + phase.packed);
      }
    });
  }

  const auto cut = GANENGINE_CHOOSE(convolution_floats, float, cut_field);
  const auto correlate = GANENGINE_CHOOSE(convolution_floats, float, correlate);
  parallel_for(tasks.count(), threads > 1 ? 1 : tasks.count(), [&](int64_t begin, int64_t end) {
    static thread_local Kept<float> kept_field;
    static thread_local std::vector<int64_t> places, sources;
    float* const field = kept_field.at_least(planes * plane);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = tasks.first_picture(task), pictures = tasks.pictures_of(task);
      const int64_t line = tasks.first_line(task), kept = tasks.kept_of(task), lines = kept + values.halo;
      for (int64_t i = 0; i < planes; ++i) {
        for (int64_t n = 0; n < pictures; ++n) {
          cut(side, from + (first + n) * side.height * side.width * side.channels, values.planes[i], line, lines,
              values.pitch, {0, side.channels}, side.channels, gate == nullptr ? slope : 1.0f,
              field + i * plane + n * lines * values.pitch * side.channels);
        }
      }
      for (const Phase& phase : values.phases) {
        places.clear(), sources.clear();
        for (int64_t n = 0; n < pictures; ++n) {
          for (int64_t u = 0; u < kept; ++u) {
            const int64_t row = phase.to.first_down + (line + u) * phase.to.step_down;
            if (row < 0 || row >= result.height) continue;
            for (int64_t v = 0; v < values.wanted; ++v) {
              const int64_t column = phase.to.first_across + v * phase.to.step_across;
              if (column < 0 || column >= result.width) continue;
              sources.push_back(((n * lines + u) * values.pitch + v) * side.channels);
              places.push_back((((first + n) * result.height + row) * result.width + column) * outputs);
            }
          }
        }
        correlate(field, sources, phase.runs, packed + phase.packed, phase.numbers, outputs, {bias, to, gate, slope},
                  places);
      }
    }
  });
}

void make_weights(const Problem& p, const float* wide, const float* narrow, float wide_slope, float narrow_slope,
                  float* to) {
  const auto weights = GANENGINE_CHOOSE(convolution_floats, float, weights);
  const int64_t cells = GANENGINE_CHOOSE(convolution_floats, float, cells)(p, narrow_slope);
  const int64_t shares = std::min(threads_for_products(products(p)), cells);
  parallel_for(shares, 1, [&](int64_t begin, int64_t end) {
    weights(p, begin * cells / shares, end * cells / shares, kWeightsPositions, wide, narrow, wide_slope, narrow_slope,
            to);
  });
}

}  // namespace ganengine::convolution
