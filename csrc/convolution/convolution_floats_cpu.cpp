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
  int64_t down = 1, across = 1;        // lines and positions of a field from one of the result to the next

  int64_t lines_for(int64_t kept) const { return (kept - 1) * down + 1 + halo; }
};

constexpr int64_t kFewChannels = 8;

// With few channels a field holds lines as they are, whatever the stride: runs would be too short.
bool takes_lines(const Problem& p) { return p.wide <= kFewChannels; }

Values gathering(const Problem& p) {
  if (takes_lines(p)) {
    const int64_t pitch = (p.across - 1) * p.stride_across + p.columns;
    return {{{-p.padding_top, 1, -p.padding_left, 1}},
            {},
            p.down,
            p.across,
            p.rows - 1,
            pitch,
            p.stride_down,
            p.stride_across};
  }
  const Window window(p);
  return {window.planes, {}, p.down, p.across, p.rows_of_phase() - 1, window.pitch};
}

void add_gathering(const Problem& p, int64_t plane, Values& values) {
  Phase all;
  all.to = {0, 1, 0, 1};
  if (takes_lines(p)) {
    for (int64_t r = 0; r < p.rows; ++r) {
      all.begin_run(r * values.pitch * p.wide);
      all.add(r * p.columns * p.wide, p.columns * p.wide);
    }
    values.phases.push_back(std::move(all));
    return;
  }
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

// All weights in the order in which phases take them; the phases learn where theirs begin.
const float* pack_weights(const Problem& p, bool gather, const float* weight, int64_t threads,
                          std::vector<Phase>& phases) {
  static thread_local Kept<float> kept;
  const int64_t outputs = gather ? p.narrow : p.wide, apart = p.rows * p.columns * p.wide;
  int64_t size = 0;
  for (Phase& phase : phases) {
    phase.packed = size;
    size += GANENGINE_CHOOSE(convolution_floats, float, packed_size)(outputs, phase.numbers);
  }
  float* const packed = kept.at_least(size);
  const auto pack = GANENGINE_CHOOSE(convolution_floats, float, pack);
  for (const Phase& phase : phases) {
    const int64_t count = static_cast<int64_t>(phase.pieces.size());
    parallel_for(count, threads > 1 ? 1 : count, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const Piece& piece = phase.pieces[i];
        pack(weight + piece.weight, gather ? apart : 1, gather ? 1 : apart, outputs, piece.first, piece.count,
             phase.numbers, packed + phase.packed);
      }
    });
  }
  return packed;
}

// Where the numbers of a phase's places begin in the field of a task, and where the places lie in the result; returns
// how many there are.
int64_t find_places(const Values& values, const Cut& into, const Side& result, int64_t first, int64_t pictures,
                    int64_t line, int64_t kept, int64_t channels, int64_t outputs, int64_t* sources, int64_t* places) {
  const int64_t lines = values.lines_for(kept);
  // Positions of a line that lie inside the result.
  const int64_t left = up(std::max<int64_t>(-into.first_across, 0), into.step_across);
  const int64_t right =
      std::min(up(std::max<int64_t>(result.width - into.first_across, 0), into.step_across), values.wanted);
  int64_t count = 0;
  for (int64_t n = 0; n < pictures; ++n) {
    for (int64_t u = 0; u < kept; ++u) {
      const int64_t row = into.first_down + (line + u) * into.step_down;
      if (row < 0 || row >= result.height) continue;
      const int64_t begun = ((first + n) * result.height + row) * result.width + into.first_across;
      for (int64_t v = left; v < right; ++v, ++count) {
        sources[count] = ((n * lines + u * values.down) * values.pitch + v * values.across) * channels;
        places[count] = (begun + v * into.step_across) * outputs;
      }
    }
  }
  return count;
}

}  // namespace

void make_values(const Problem& p, bool gather, const float* from, const float* weight, const float* bias, float slope,
                 const float* gate, float* to) {
  const int64_t outputs = gather ? p.narrow : p.wide, threads = threads_for_products(products(p));
  const Side side = gather ? wide_side(p) : narrow_side(p), result = gather ? narrow_side(p) : wide_side(p);
  Values values = gather ? gathering(p) : scattering(p);
  const int64_t planes = static_cast<int64_t>(values.planes.size());
  const int64_t positions =
      std::max(kFieldNumbers / (planes * values.down * values.across * side.channels), kLeastPositions);
  const Tasks tasks(p.n, values.lines, values.halo, values.pitch, positions, threads);
  const int64_t plane = tasks.pictures * values.lines_for(tasks.kept) * values.pitch * side.channels;
  if (gather) add_gathering(p, plane, values);

  const float* const packed = pack_weights(p, gather, weight, threads, values.phases);
  const auto cut = GANENGINE_CHOOSE(convolution_floats, float, cut_field);
  const auto correlate = GANENGINE_CHOOSE(convolution_floats, float, correlate);
  parallel_for(tasks.count(), threads > 1 ? 1 : tasks.count(), [&](int64_t begin, int64_t end) {
    static thread_local Kept<float> kept_field;
    static thread_local Kept<int64_t> kept_sources, kept_places;
    const int64_t most = tasks.pictures * tasks.kept * values.wanted;
    int64_t* const sources = kept_sources.at_least(most);
    int64_t* const places = kept_places.at_least(most);
    float* const field = kept_field.at_least(planes * plane);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = tasks.first_picture(task), pictures = tasks.pictures_of(task);
      const int64_t line = tasks.first_line(task), kept = tasks.kept_of(task), lines = values.lines_for(kept);
      for (int64_t i = 0; i < planes; ++i) {
        for (int64_t n = 0; n < pictures; ++n) {
          cut(side, from + (first + n) * side.height * side.width * side.channels, values.planes[i], line * values.down,
              lines, values.pitch, {0, side.channels}, side.channels, gate == nullptr ? slope : 1.0f,
              field + i * plane + n * lines * values.pitch * side.channels);
        }
      }
      for (const Phase& phase : values.phases) {
        const int64_t count =
            find_places(values, phase.to, result, first, pictures, line, kept, side.channels, outputs, sources, places);
        correlate(field, sources, places, count, phase.runs, packed + phase.packed, phase.numbers, outputs,
                  {bias, to, gate, slope});
      }
    }
  });
}

void make_weights(const Problem& p, const float* wide, const float* narrow, float wide_slope, float narrow_slope,
                  float* to) {
  const auto weights = GANENGINE_CHOOSE(convolution_floats, float, weights);
  const int64_t cells = GANENGINE_CHOOSE(convolution_floats, float, cells)(p);
  const int64_t shares = std::min(threads_for_products(products(p)), cells);
  parallel_for(shares, 1, [&](int64_t begin, int64_t end) {
    weights(p, begin * cells / shares, end * cells / shares, kWeightsPositions, wide, narrow, wide_slope, narrow_slope,
            to);
  });
}

}  // namespace ganengine::convolution
