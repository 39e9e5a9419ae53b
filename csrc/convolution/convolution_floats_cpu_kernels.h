// Convolutions in float32 for one instruction set (common/isa.h): blocks of sums that stay in registers while numbers
// of one side meet vectors of the other, or of the weight. Formulas: convolution.h.

namespace ganengine::convolution_floats::GANENGINE_ISA {

using namespace simd::GANENGINE_ISA;
using convolution::Block;
using convolution::Cut;
using convolution::Kept;
using convolution::Problem;
using convolution::Run;
using convolution::Seen;
using convolution::Side;
using convolution::Target;
using convolution::Tasks;
using convolution::wide_side;
using convolution::Window;

constexpr int64_t kLane = kLanes<float>;
constexpr int64_t kRows = 6;  // of a block of sums: with two vectors each, they fill 12 of 16 registers
constexpr int64_t kWidth = 2 * kLane;

inline int64_t blocks_of(int64_t channels, int64_t most) { return (channels + most - 1) / most; }

// Blocks of kRows; the last two share what is left, as few rows do not hide how long a sum takes.
inline Block rows_block(int64_t block, int64_t channels) {
  const int64_t blocks = blocks_of(channels, kRows),
                even = channels % kRows ? std::max<int64_t>(blocks - 2, 0) : blocks;
  if (block < even) return {block * kRows, kRows};
  const int64_t rest = channels - even * kRows, half = blocks - even == 2 ? (rest + 1) / 2 : rest;
  return block == even ? Block{even * kRows, half} : Block{even * kRows + half, rest - half};
}

// Lanes of the vectors that hold so many, kWidth at most.
inline int64_t whole_vectors(int64_t count) { return count > kLane ? kWidth : kLane; }

inline Block width_block(int64_t block, int64_t channels) {
  return {block * kWidth, std::min(channels - block * kWidth, kWidth)};
}

// ---- fields

inline void activate(float* numbers, int64_t count, float slope) {
  for (int64_t i = 0; i < count; ++i) {
    if (numbers[i] <= 0) numbers[i] = slope == 0 ? 0.0f : numbers[i] * slope;
  }
}

// Writes `block` of a side's channels, of `lines` lines [pitch][width] that a cut leads to, from its line `first` on;
// what is left of a width is 0.
inline void cut_field(const Side& side, const float* picture, const Cut& cut, int64_t first, int64_t lines,
                      int64_t pitch, const Block& block, int64_t width, float slope, float* to) {
  const auto inside = [&](int64_t i, int64_t size) {
    return side.reflect && i > -size && i < 2 * size - 1 ? convolution::reflected(i, size) : i;
  };
  for (int64_t l = 0; l < lines; ++l) {
    const int64_t y = inside(cut.first_down + (first + l) * cut.step_down, side.height);
    float* const line = to + l * pitch * width;
    if (y < 0 || y >= side.height) {
      std::fill_n(line, pitch * width, 0.0f);
      continue;
    }
    const float* const from = picture + y * side.width * side.channels + block.first;
    for (int64_t v = 0; v < pitch; ++v) {
      const int64_t beside = cut.first_across + v * cut.step_across, x = inside(beside, side.width);
      float* const place = line + v * width;
      if (x < 0 || x >= side.width) {
        std::fill_n(place, width, 0.0f);
      } else if (width == side.channels && cut.step_across == 1 && x == beside) {  // all up to the edge
        const int64_t count = std::min(side.width - x, pitch - v);
        std::memcpy(place, from + x * side.channels, count * width * sizeof(float));
        v += count - 1;
      } else if (block.count == kWidth) {
        store(place, load(from + x * side.channels));
        store(place + kLane, load(from + x * side.channels + kLane));
      } else {
        std::memcpy(place, from + x * side.channels, block.count * sizeof(float));
        std::fill_n(place + block.count, width - block.count, 0.0f);
      }
    }
    if (slope != 1) activate(line, pitch * width, slope);
  }
}

// ---- weights

// How far apart places, lines and pictures lie on one side.
struct Steps {
  int64_t place, line, picture;
};

struct Places {
  int64_t pictures, lines, across;
};

// Adds to sums [R][V vectors], `apart` from row to row, or begins them: those of R neighbouring numbers at each place
// of one side times V vectors at each of the other. The last vector has `count` lanes.
template <int R, int V, bool kWhole>
void sum_places(const Places& places, const float* numbers, const Steps& by, const float* vectors, const Steps& of,
                bool begin, float* to, int64_t apart, int64_t count) {
  Vector<float> sums[R][V] = {};
  for (int64_t n = 0; n < places.pictures; ++n) {
    for (int64_t a = 0; a < places.lines; ++a) {
      const float* number = numbers + n * by.picture + a * by.line;
      const float* vector = vectors + n * of.picture + a * of.line;
      for (int64_t b = 0; b < places.across; ++b, number += by.place, vector += of.place) {
        Vector<float> seen[V];
        for (int v = 0; v < V; ++v) seen[v] = load(vector + v * kLane);
        for (int r = 0; r < R; ++r) {
          const Vector<float> factor = splat(number[r]);
          for (int v = 0; v < V; ++v) sums[r][v] = fma(factor, seen[v], sums[r][v]);
        }
      }
    }
  }
  for (int r = 0; r < R; ++r) {
    for (int v = 0; v < V; ++v) {
      float* const place = to + r * apart + v * kLane;
      if (kWhole || v + 1 < V) {
        store(place, begin ? sums[r][v] : load(place) + sums[r][v]);
      } else {
        store(place, begin ? sums[r][v] : load(place, count) + sums[r][v], count);
      }
    }
  }
}

using SumPlaces = decltype(&sum_places<1, 1, true>);

template <int V, bool kWhole>
SumPlaces sum_of(int64_t rows) {
  constexpr SumPlaces found[] = {sum_places<1, V, kWhole>, sum_places<2, V, kWhole>, sum_places<3, V, kWhole>,
                                 sum_places<4, V, kWhole>, sum_places<5, V, kWhole>, sum_places<6, V, kWhole>};
  return found[rows - 1];
}

// The sum of `rows` numbers times `columns` ones, at most kRows and kWidth.
inline SumPlaces sum_of(int64_t rows, int64_t columns) {
  if (columns > kLane) return columns == kWidth ? sum_of<2, true>(rows) : sum_of<2, false>(rows);
  return columns == kLane ? sum_of<1, true>(rows) : sum_of<1, false>(rows);
}

// Writes R channels of places that lie behind each other.
template <int R>
void cut_rows(const float* from, int64_t places, int64_t channels, float slope, float* to) {
  float row[R];
  for (int64_t i = 0; i < places; ++i, from += channels, to += R) {
    std::memcpy(row, from, sizeof row);
    if (slope != 1) activate(row, R, slope);
    std::memcpy(to, row, sizeof row);
  }
}

constexpr decltype(&cut_rows<1>) kCutRows[] = {cut_rows<1>, cut_rows<2>, cut_rows<3>,
                                               cut_rows<4>, cut_rows<5>, cut_rows<6>};

// With many wide channels, vectors of them times numbers of the narrow side. Cells [begin, end): a block of wide
// channels by one of narrow channels, over the whole window.
inline void many(const Problem& p, int64_t begin, int64_t end, int64_t positions, const float* wide,
                 const float* narrow, float wide_slope, float narrow_slope, float* to) {
  static thread_local Kept<float> kept_field, kept_rows;
  const Window window(p);
  const Side side = wide_side(p);
  const int64_t narrow_blocks = blocks_of(p.narrow, kRows), apart = p.rows * p.columns * p.wide;
  const Tasks tasks(p.n, p.down, 0, p.across, positions, 1);
  const int64_t halo = p.rows_of_phase() - 1, planes = static_cast<int64_t>(window.planes.size());
  const int64_t most = tasks.pictures * tasks.kept * p.across;
  float* const field = kept_field.at_least(planes * tasks.pictures * (tasks.kept + halo) * window.pitch * kWidth);
  float* const rows = kept_rows.at_least(most * p.narrow);
  for (int64_t task = 0; task < tasks.count(); ++task) {
    const int64_t first = tasks.first_picture(task), pictures = tasks.pictures_of(task);
    const int64_t line = tasks.first_line(task), kept = tasks.kept_of(task), lines = kept + halo;
    for (int64_t cell = begin; cell < std::min(end, begin + narrow_blocks); ++cell) {
      const Block block = rows_block(cell % narrow_blocks, p.narrow);
      for (int64_t n = 0; n < pictures; ++n) {
        kCutRows[block.count - 1](narrow + ((first + n) * p.down + line) * p.across * p.narrow + block.first,
                                  kept * p.across, p.narrow, narrow_slope,
                                  rows + block.first * most + n * kept * p.across * block.count);
      }
    }
    for (int64_t cell = begin; cell < end; ++cell) {
      const Block of = width_block(cell / narrow_blocks, p.wide);
      const Block by = rows_block(cell % narrow_blocks, p.narrow);
      const int64_t width = whole_vectors(of.count), pitch = window.pitch * width;
      if (cell == begin || cell % narrow_blocks == 0) {
        for (int64_t i = 0; i < planes * pictures; ++i) {
          cut_field(side, wide + (first + i % pictures) * p.height * p.width * p.wide, window.planes[i / pictures],
                    line, lines, window.pitch, of, width, wide_slope, field + i * lines * pitch);
        }
      }
      const SumPlaces sum = sum_of(by.count, of.count);
      for (const Seen& at : window.places) {
        sum({pictures, kept, p.across}, rows + by.first * most,
            {by.count, p.across * by.count, kept * p.across * by.count},
            field + (at.plane * pictures * lines + at.down) * pitch + at.across * width, {width, pitch, lines * pitch},
            task == 0, to + by.first * apart + at.element + of.first, apart, of.count - (width - kLane));
      }
    }
  }
}

// Whatever the slopes: an activation in front must not change how sums are made.
inline bool takes_few(const Problem& p) { return p.wide < kLane && p.narrow % kLane == 0; }

// With few, a line of the window's numbers times vectors of narrow channels as they lie. Blocks [begin, end) of these.
inline void few(const Problem& p, int64_t begin, int64_t end, int64_t positions, const float* wide, const float* narrow,
                float wide_slope, float narrow_slope, float* to) {
  static thread_local Kept<float> kept_field, kept_sums, kept_active;
  const Side side = wide_side(p);
  const int64_t seen = p.columns * p.wide, numbers = p.rows * seen;
  const int64_t across = (p.across - 1) * p.stride_across + p.columns, pitch = across * p.wide;
  const Tasks tasks(p.n, p.down, 0, p.across, positions, 1);
  const auto lines_of = [&](int64_t kept) { return (kept - 1) * p.stride_down + p.rows; };
  float* const field = kept_field.at_least(tasks.pictures * lines_of(tasks.kept) * pitch);
  float* const sums = kept_sums.at_least(numbers * p.narrow);  // [rows][columns][wide][narrow]
  const int64_t most = narrow_slope == 1 ? 0 : tasks.pictures * tasks.kept * p.across * kWidth;
  float* const active = kept_active.at_least(most);  // a block's vectors behind their activation
  for (int64_t task = 0; task < tasks.count(); ++task) {
    const int64_t first = tasks.first_picture(task), pictures = tasks.pictures_of(task);
    const int64_t line = tasks.first_line(task), kept = tasks.kept_of(task), lines = lines_of(kept);
    for (int64_t n = 0; n < pictures; ++n) {
      cut_field(side, wide + (first + n) * p.height * p.width * p.wide,
                {line * p.stride_down - p.padding_top, 1, -p.padding_left, 1}, 0, lines, across, {0, p.wide}, p.wide,
                wide_slope, field + n * lines * pitch);
    }
    const float* const lying = narrow + (first * p.down + line) * p.across * p.narrow;
    for (int64_t block = begin; block < end; ++block) {
      const Block of = width_block(block, p.narrow);
      const float* vectors = lying + of.first;
      Steps steps{p.narrow, p.across * p.narrow, p.down * p.across * p.narrow};
      if (narrow_slope != 1) {
        float* copied = active;
        for (int64_t n = 0; n < pictures; ++n) {
          for (int64_t i = 0; i < kept * p.across; ++i, copied += of.count) {
            std::memcpy(copied, vectors + n * steps.picture + i * steps.place, of.count * sizeof(float));
          }
        }
        activate(active, copied - active, narrow_slope);
        vectors = active;
        steps = {of.count, p.across * of.count, kept * p.across * of.count};
      }
      for (int64_t i = 0; i < p.rows * blocks_of(seen, kRows); ++i) {
        const int64_t r = i % p.rows;
        const Block by = rows_block(i / p.rows, seen);
        sum_of(by.count, of.count)({pictures, kept, p.across}, field + r * pitch + by.first,
                                   {p.stride_across * p.wide, p.stride_down * pitch, lines * pitch}, vectors, steps,
                                   task == 0, sums + (r * seen + by.first) * p.narrow + of.first, p.narrow, kLane);
      }
    }
  }
  for (int64_t k = begin * kWidth; k < std::min(end * kWidth, p.narrow); ++k) {
    for (int64_t i = 0; i < numbers; ++i) to[k * numbers + i] = sums[i * p.narrow + k];
  }
}

// Into how many cells the weight is cut.
inline int64_t cells(const Problem& p) {
  if (takes_few(p)) return blocks_of(p.narrow, kWidth);
  return blocks_of(p.wide, kWidth) * blocks_of(p.narrow, kRows);
}

inline void weights(const Problem& p, int64_t begin, int64_t end, int64_t positions, const float* wide,
                    const float* narrow, float wide_slope, float narrow_slope, float* to) {
  if (takes_few(p)) {
    few(p, begin, end, positions, wide, narrow, wide_slope, narrow_slope, to);
  } else {
    many(p, begin, end, positions, wide, narrow, wide_slope, narrow_slope, to);
  }
}

// ---- values: six places at a time

GANENGINE_INLINE Vector<float> through(Vector<float> sums, Vector<float> gate, float slope) {
  const Vector<float> closed = slope == 0 ? Vector<float>{} : sums * slope;
  return gate <= Vector<float>{} ? closed : sums;
}

// Sums of `tiles` times R places for V vectors of outputs, the last of `count` lanes; weights [numbers of all runs][V
// vectors].
template <int R, int V, bool kWhole>
void sum_runs(const float* field, const int64_t* from, const int64_t* places, int64_t tiles,
              const std::vector<Run>& runs, const float* weights, const Target& to, int64_t count) {
  Vector<float> first[V] = {};
  for (int v = 0; v < V && to.bias != nullptr; ++v) {
    const float* const bias = to.bias + v * kLane;
    first[v] = kWhole || v + 1 < V ? load(bias) : load(bias, count);
  }
  for (; tiles > 0; --tiles, from += R, places += R) {
    const float* at[R];
    Vector<float> sums[R][V];
    for (int r = 0; r < R; ++r) {
      at[r] = field + from[r];
      __builtin_prefetch(to.data + places[r], 1);  // they come from far, while there is much to do
      if (to.gate != nullptr) __builtin_prefetch(to.gate + places[r]);
      for (int v = 0; v < V; ++v) sums[r][v] = first[v];
    }
    const float* weight = weights;
    for (const Run& run : runs) {
      for (int64_t i = run.offset; i < run.offset + run.count; ++i, weight += V * kLane) {
        Vector<float> seen[V];
        for (int v = 0; v < V; ++v) seen[v] = load(weight + v * kLane);
        for (int r = 0; r < R; ++r) {
          const Vector<float> factor = splat(at[r][i]);
          for (int v = 0; v < V; ++v) sums[r][v] = fma(factor, seen[v], sums[r][v]);
        }
      }
    }
    for (int r = 0; r < R; ++r) {
      for (int v = 0; v < V; ++v) {
        const int64_t place = places[r] + v * kLane;
        if (kWhole || v + 1 < V) {
          if (to.gate != nullptr) sums[r][v] = through(sums[r][v], load(to.gate + place), to.slope);
          store(to.data + place, sums[r][v]);
        } else {
          if (to.gate != nullptr) sums[r][v] = through(sums[r][v], load(to.gate + place, count), to.slope);
          store(to.data + place, sums[r][v], count);
        }
      }
    }
  }
}

using SumRuns = decltype(&sum_runs<1, 1, true>);

template <int V, bool kWhole>
SumRuns runs_of(int64_t rows) {
  constexpr SumRuns found[] = {sum_runs<1, V, kWhole>, sum_runs<2, V, kWhole>, sum_runs<3, V, kWhole>,
                               sum_runs<4, V, kWhole>, sum_runs<5, V, kWhole>, sum_runs<6, V, kWhole>};
  return found[rows - 1];
}

inline SumRuns runs_of(int64_t rows, int64_t columns) {
  if (columns > kLane) return columns == kWidth ? runs_of<2, true>(rows) : runs_of<2, false>(rows);
  return columns == kLane ? runs_of<1, true>(rows) : runs_of<1, false>(rows);
}

// The same for O outputs, so few that vectors are taken along the numbers; weights [O][numbers of all runs].
template <int R, int O>
void dot_runs(const float* field, const int64_t* from, const std::vector<Run>& runs, const float* weights,
              int64_t numbers, const Target& to, const int64_t* places) {
  Vector<float> sums[R][O] = {};
  for (const Run& run : runs) {
    int64_t i = 0;
    for (; i + kLane <= run.count; i += kLane) {
      Vector<float> seen[O];
      for (int o = 0; o < O; ++o) seen[o] = load(weights + o * numbers + i);
      for (int r = 0; r < R; ++r) {
        const Vector<float> x = load(field + from[r] + run.offset + i);
        for (int o = 0; o < O; ++o) sums[r][o] = fma(x, seen[o], sums[r][o]);
      }
    }
    if (const int64_t rest = run.count - i; rest > 0) {
      for (int r = 0; r < R; ++r) {
        const Vector<float> x = load(field + from[r] + run.offset + i, rest);
        for (int o = 0; o < O; ++o) sums[r][o] = fma(x, load(weights + o * numbers + i, rest), sums[r][o]);
      }
    }
    weights += run.count;
  }
  for (int r = 0; r < R; ++r) {
    for (int o = 0; o < O; ++o) {
      const int64_t place = places[r] + o;
      float value = sum<float>(sums[r][o]) + (to.bias == nullptr ? 0.0f : to.bias[o]);
      if (to.gate != nullptr && to.gate[place] <= 0) value = to.slope == 0 ? 0.0f : value * to.slope;
      to.data[place] = value;
    }
  }
}

constexpr int64_t kDots = 4;  // outputs that are few
constexpr int64_t kDotRows = 4;

using DotRuns = decltype(&dot_runs<1, 1>);
constexpr DotRuns kDotRuns[2][kDots] = {{dot_runs<1, 1>, dot_runs<1, 2>, dot_runs<1, 3>, dot_runs<1, 4>},
                                        {dot_runs<4, 1>, dot_runs<4, 2>, dot_runs<4, 3>, dot_runs<4, 4>}};

// Numbers that the weights of `outputs` outputs take, packed, with `numbers` for each: blocks of whole vectors.
inline int64_t packed_size(int64_t outputs, int64_t numbers) {
  if (outputs <= kDots) return outputs * numbers;
  const int64_t rest = outputs % kWidth;
  return (outputs - rest + (rest == 0 ? 0 : whole_vectors(rest))) * numbers;
}

// Packs `count` neighbouring numbers' weights, from number `first` of `numbers` on: that of output o and number i lies
// at o output_step + i number_step.
inline void pack(const float* weights, int64_t output_step, int64_t number_step, int64_t outputs, int64_t first,
                 int64_t count, int64_t numbers, float* to) {
  if (outputs <= kDots) {
    for (int64_t o = 0; o < outputs; ++o) {
      for (int64_t i = 0; i < count; ++i) {
        to[o * numbers + first + i] = weights[o * output_step + i * number_step];
      }
    }
    return;
  }
  for (int64_t block = 0; block < outputs; block += kWidth) {
    const int64_t here = std::min(outputs - block, kWidth), width = whole_vectors(here);
    float* const panel = to + block * numbers + first * width;
    if (output_step == 1) {
      for (int64_t i = 0; i < count; ++i) {
        const float* const from = weights + block + i * number_step;
        if (here == kWidth) {
          store(panel + i * kWidth, load(from));
          store(panel + i * kWidth + kLane, load(from + kLane));
        } else {
          for (int64_t o = 0; o < width; ++o) panel[i * width + o] = o < here ? from[o] : 0.0f;
        }
      }
    } else {
      for (int64_t o = 0; o < width; ++o) {
        const float* const from = weights + (block + o) * output_step;
        for (int64_t i = 0; i < count; ++i) panel[i * width + o] = o < here ? from[i * number_step] : 0.0f;
      }
    }
  }
}

// All outputs at `count` places whose numbers begin at `from` in the field, into `places` of the result.
inline void correlate(const float* field, const int64_t* from, const int64_t* places, int64_t count,
                      const std::vector<Run>& runs, const float* packed, int64_t numbers, int64_t outputs,
                      const Target& to) {
  if (outputs <= kDots) {
    for (int64_t i = 0, here; i < count; i += here) {
      here = count - i < kDotRows ? 1 : kDotRows;
      kDotRuns[here == kDotRows][outputs - 1](field, from + i, runs, packed, numbers, to, places + i);
    }
    return;
  }
  for (int64_t block = 0; block < outputs; block += kWidth) {
    const int64_t columns = std::min(outputs - block, kWidth), lanes = columns - (whole_vectors(columns) - kLane);
    const Target target{to.bias == nullptr ? nullptr : to.bias + block, to.data + block,
                        to.gate == nullptr ? nullptr : to.gate + block, to.slope};
    const int64_t tiles = count / kRows, rest = count % kRows;
    const float* const weights = packed + block * numbers;
    runs_of(kRows, columns)(field, from, places, tiles, runs, weights, target, lanes);
    if (rest > 0) {
      runs_of(rest, columns)(field, from + count - rest, places + count - rest, 1, runs, weights, target, lanes);
    }
  }
}

}  // namespace ganengine::convolution_floats::GANENGINE_ISA
