// Convolutions on the CPU: fields of numbers cut from the pictures, and products of tiles over them (convolution.h).
#include <torch/csrc/stable/library.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "common/isa.h"
#include "common/parallel.h"
#include "common/tensors.h"
#include "convolution/convolution.h"
#include "convolution/convolution_tasks.h"

// The kernels once for each kind of products, numbered as in Bf16Products; AVX-512 stands around 1 and 2.
#if GANENGINE_AMX
#define GANENGINE_TILES amx
#define GANENGINE_TILES_PRODUCTS 2
#ifdef __clang__
#pragma clang attribute push(                                                                                 \
    __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c,amx-tile,amx-bf16"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c,amx-tile,amx-bf16")
#endif
#include "convolution/convolution_cpu_kernels.h"
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef GANENGINE_TILES
#undef GANENGINE_TILES_PRODUCTS
#endif

#if GANENGINE_X86
#define GANENGINE_TILES dots
#define GANENGINE_TILES_PRODUCTS 1
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,f16c")
#endif
#include "convolution/convolution_cpu_kernels.h"
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#undef GANENGINE_TILES
#undef GANENGINE_TILES_PRODUCTS
#endif

#define GANENGINE_TILES portable
#define GANENGINE_TILES_PRODUCTS 0
#include "convolution/convolution_cpu_kernels.h"

#if GANENGINE_AMX
#define GANENGINE_CHOOSE_AMX(...)                                       \
  if (::ganengine::bf16_products() == ::ganengine::Bf16Products::tiles) \
    return &::ganengine::convolution::amx::__VA_ARGS__;
#else
#define GANENGINE_CHOOSE_AMX(...)
#endif
#if GANENGINE_X86
#define GANENGINE_CHOOSE_DOTS(...)                                     \
  if (::ganengine::bf16_products() == ::ganengine::Bf16Products::dots) \
    return &::ganengine::convolution::dots::__VA_ARGS__;
#else
#define GANENGINE_CHOOSE_DOTS(...)
#endif
#define GANENGINE_CHOOSE_TILES(...)                          \
  [] {                                                       \
    GANENGINE_CHOOSE_AMX(__VA_ARGS__)                        \
    GANENGINE_CHOOSE_DOTS(__VA_ARGS__)                       \
    return &::ganengine::convolution::portable::__VA_ARGS__; \
  }()

namespace ganengine::convolution {
namespace {

constexpr const char* kOp = "convolution";
constexpr const char* kBackwardOp = "convolution_backward";
constexpr const char* kWeightsOp = "convolution_weights";

constexpr int64_t kFieldPositions = 1024;        // of one task: its field and results stay in the second-level cache
constexpr int64_t kWeightsNumbers = 128 * 1024;  // in the fields of one task of a weight gradient ...
constexpr int64_t kWeightsPositions = 1024;      // ... but at least so many positions

using Pair = std::vector<int64_t>;

// ---- fields

// Writes a field [lines][pitch][channels] of one picture.
void cut_picture(const uint16_t* picture, int64_t height, int64_t width, int64_t channels, const Cut& cut, bool reflect,
                 int64_t lines, int64_t pitch, uint16_t* to) {
  const auto copy = GANENGINE_CHOOSE_TILES(copy_pixels);
  const int64_t pixel = channels * 2;
  // Positions of a line that lie inside the picture.
  const int64_t begin = std::clamp<int64_t>(up(std::max<int64_t>(-cut.first_across, 0), cut.step_across), 0, pitch);
  const int64_t end =
      std::clamp<int64_t>(up(std::max<int64_t>(width - cut.first_across, 0), cut.step_across), begin, pitch);
  // A reflection is of use no further than windows reach; fields of even lines may go a little beyond.
  const auto out_of_reach = [&](int64_t i, int64_t size) { return i <= -size || i >= 2 * size - 1; };
  for (int64_t l = 0; l < lines; ++l, to += pitch * channels) {
    int64_t y = cut.first_down + l * cut.step_down;
    const bool outside = y < 0 || y >= height;
    if ((outside && (!reflect || out_of_reach(y, height))) || (begin == end && !reflect)) {
      std::memset(to, 0, pitch * pixel);
      continue;
    }
    if (outside) y = reflected(y, height);
    const uint16_t* line = picture + y * width * channels;
    const uint16_t* from = line + (cut.first_across + begin * cut.step_across) * channels;
    if (cut.step_across == 1) {
      std::memcpy(to + begin * channels, from, (end - begin) * pixel);
    } else {
      copy(from, cut.step_across * channels, channels, end - begin, to + begin * channels);
    }
    const auto edge = [&](int64_t v) {
      const int64_t x = cut.first_across + v * cut.step_across;
      if (!reflect || out_of_reach(x, width)) {
        std::memset(to + v * channels, 0, pixel);
      } else {
        std::memcpy(to + v * channels, line + reflected(x, width) * channels, pixel);
      }
    };
    for (int64_t v = 0; v < begin; ++v) edge(v);
    for (int64_t v = end; v < pitch; ++v) edge(v);
  }
}

// ---- values

// The last chunk of a run ends where the run does, so that a position's products take in no other's numbers; only a
// run of less than a chunk reads beyond its end.
void add_run(Correlation& by, int64_t offset, const std::vector<int64_t>& elements) {
  const int64_t count = static_cast<int64_t>(elements.size());
  for (int64_t done = 0; done < count; done += kChunk) {
    const int64_t first = std::clamp<int64_t>(count - kChunk, 0, done);
    by.offsets.push_back(offset + first);
    for (int64_t e = first; e < first + kChunk; ++e) by.elements.push_back(e >= done && e < count ? elements[e] : -1);
  }
}

// The correlations that make one side of the other, over fields of `channels` in planes `plane` numbers apart.
struct Plan {
  std::vector<Correlation> correlations;
  std::vector<Cut> planes;
  int64_t lines, wanted, halo, pitch;  // of the result, and what a field has beyond
};

Plan plan_gather(const Problem& p) {
  Plan plan{};
  plan.lines = p.down, plan.wanted = p.across;
  plan.halo = p.rows_of_phase() - 1, plan.pitch = p.across - 1 + p.columns_of_phase();
  for (int64_t a = 0; a < p.stride_down; ++a) {
    for (int64_t b = 0; b < p.stride_across; ++b) {
      plan.planes.push_back({a - p.padding_top, p.stride_down, b - p.padding_left, p.stride_across});
    }
  }
  return plan;
}

void add_gather(const Problem& p, int64_t plane, Plan& plan) {
  Correlation by;
  by.to = {0, 1, 0, 1};
  for (int64_t r = 0; r < p.rows; ++r) {
    for (int64_t b = 0; b < std::min(p.stride_across, p.columns); ++b) {
      std::vector<int64_t> run;
      for (int64_t c = b; c < p.columns; c += p.stride_across) {
        for (int64_t i = 0; i < p.wide; ++i) run.push_back((r * p.columns + c) * p.wide + i);
      }
      const int64_t phase = r % p.stride_down * p.stride_across + b;
      add_run(by, phase * plane + r / p.stride_down * plan.pitch * p.wide, run);
    }
  }
  plan.correlations.push_back(std::move(by));
}

Plan plan_scatter(const Problem& p) {
  Plan plan{};
  const int64_t top = p.padding_top / p.stride_down, left = p.padding_left / p.stride_across;
  plan.lines = (p.height - 1 + p.padding_top) / p.stride_down - top + 1;
  plan.wanted = (p.width - 1 + p.padding_left) / p.stride_across - left + 1;
  plan.halo = p.rows_of_phase() - 1, plan.pitch = plan.wanted - 1 + p.columns_of_phase();
  plan.planes.push_back({top - plan.halo, 1, left - (p.columns_of_phase() - 1), 1});
  return plan;
}

void add_scatter(const Problem& p, Plan& plan) {
  const int64_t across = p.columns_of_phase() - 1;
  for (int64_t a = 0; a < p.stride_down; ++a) {
    for (int64_t b = 0; b < p.stride_across; ++b) {
      Correlation by;
      by.to = {a - p.padding_top + p.padding_top / p.stride_down * p.stride_down, p.stride_down,
               b - p.padding_left + p.padding_left / p.stride_across * p.stride_across, p.stride_across};
      const int64_t taps = b < p.columns ? (p.columns - b - 1) / p.stride_across + 1 : 0;
      for (int64_t r = a; r < p.rows && taps > 0; r += p.stride_down) {
        std::vector<int64_t> run;
        for (int64_t t = taps - 1; t >= 0; --t) {
          for (int64_t k = 0; k < p.narrow; ++k) {
            run.push_back(((k * p.rows + r) * p.columns + b + t * p.stride_across) * p.wide);
          }
        }
        add_run(by, ((plan.halo - r / p.stride_down) * plan.pitch + across - (taps - 1)) * p.narrow, run);
      }
      plan.correlations.push_back(std::move(by));
    }
  }
}

// All weights as tiles, in the order in which the correlations take them.
template <typename T>
void pack_weights(const T* weights, int64_t step, int64_t outputs, std::vector<Correlation>& correlations,
                  uint16_t* packed, int64_t threads) {
  const auto pack = GANENGINE_CHOOSE_TILES(pack_tile<T>);
  const int64_t tiles = up(outputs, kTile);
  parallel_for(tiles, threads > 1 ? 1 : tiles, [&](int64_t begin, int64_t end) {
    for (const Correlation& by : correlations) {
      for (int64_t tile = begin; tile < end; ++tile) {
        const int64_t beside = tile + 1 < tiles || tile % 2 ? 2 : 1;  // tiles of a block
        uint16_t* to = packed + by.packed + (tile / 2 * 2 * by.chunks() + tile % 2) * kNumbers;
        const int64_t count = std::min<int64_t>(outputs - tile * kTile, kTile);
        for (int64_t k = 0; k < by.chunks(); ++k) {
          pack(weights + tile * kTile * step, by.elements.data() + k * kChunk, step, count, to + k * beside * kNumbers);
        }
      }
    }
  });
}

// One side of a convolution from the other.
void make_side_of_tiles(const Problem& p, bool gather, const Tensor& from, const Tensor& weight,
                        const std::optional<Tensor>& bias, float slope, const std::optional<Tensor>& gate,
                        const Tensor& to) {
  const int64_t channels = gather ? p.wide : p.narrow, outputs = gather ? p.narrow : p.wide;
  const int64_t height = gather ? p.height : p.down, width = gather ? p.width : p.across;
  const int64_t threads = threads_for_products(products(p));
  Plan plan = gather ? plan_gather(p) : plan_scatter(p);
  // Lines of zeros behind a picture, where runs shorter than a chunk would read numbers of the next one.
  const int64_t shortest = channels * std::max<int64_t>(p.columns / p.stride_across, 1);
  const int64_t apart = up(up(std::max<int64_t>(kChunk - shortest, 0), channels), plan.pitch);
  const Tasks tasks(p.n, plan.lines, plan.halo + apart, plan.pitch, kFieldPositions, threads);
  // Tiles of positions reach beyond the last one, and their chunks a little further.
  const int64_t lines = tasks.kept + plan.halo + apart, beyond = 2 * kTile * channels + kChunk;
  const int64_t plane = rounded_up(tasks.pictures * lines * plan.pitch * channels + beyond, kChunk);
  gather ? add_gather(p, plane, plan) : add_scatter(p, plan);

  int64_t numbers = 0;
  for (Correlation& by : plan.correlations) {
    by.packed = numbers;
    numbers += by.chunks() * up(outputs, kTile) * kNumbers;
  }
  static thread_local Kept<uint16_t> kept_weights;
  static thread_local Kept<float> kept_bias;
  uint16_t* const packed = kept_weights.at_least(numbers + kNumbers);
  const int64_t step = gather ? p.rows * p.columns * p.wide : 1;
  if (weight.scalar_type() == ScalarType::Float) {
    pack_weights(static_cast<const float*>(weight.const_data_ptr()), step, outputs, plan.correlations, packed, threads);
  } else {
    pack_weights(static_cast<const uint16_t*>(weight.const_data_ptr()), step, outputs, plan.correlations, packed,
                 threads);
  }
  const float* shift = nullptr;
  if (bias) {
    float* const padded = kept_bias.at_least(rounded_up(outputs, 2 * kTile));
    std::fill_n(padded, rounded_up(outputs, 2 * kTile), 0.0f);
    std::memcpy(padded, bias->const_data_ptr(), outputs * sizeof(float));
    shift = padded;
  }

  const auto run = GANENGINE_CHOOSE_TILES(correlate);
  const auto activated = GANENGINE_CHOOSE_TILES(activate);
  const uint16_t* const gates = gate ? static_cast<const uint16_t*>(gate->const_data_ptr()) : nullptr;
  const uint16_t* const data = static_cast<const uint16_t*>(from.const_data_ptr());
  uint16_t* const result = static_cast<uint16_t*>(to.mutable_data_ptr());
  const int64_t to_height = gather ? p.down : p.height, to_width = gather ? p.across : p.width;
  parallel_for(tasks.count(), threads > 1 ? 1 : tasks.count(), [&](int64_t begin, int64_t end) {
    static thread_local Kept<uint16_t> kept_field;
    const int64_t planes = static_cast<int64_t>(plan.planes.size());
    uint16_t* const field = kept_field.at_least(planes * plane);
    for (int64_t task = begin; task < end; ++task) {
      const int64_t first = tasks.first_picture(task), pictures = tasks.pictures_of(task);
      const int64_t line = tasks.first_line(task), kept = tasks.kept_of(task);
      const int64_t filled = kept + plan.halo, spaced = filled + apart;
      for (int64_t i = 0; i < planes; ++i) {
        Cut cut = plan.planes[i];
        cut.first_down += line * cut.step_down;
        uint16_t* at = field + i * plane;
        for (int64_t n = 0; n < pictures; ++n, at += spaced * plan.pitch * channels) {
          cut_picture(data + (first + n) * height * width * channels, height, width, channels, cut, gather && p.reflect,
                      filled, plan.pitch, at);
          std::memset(at + filled * plan.pitch * channels, 0, apart * plan.pitch * channels * sizeof(uint16_t));
        }
        std::memset(at, 0, beyond * sizeof(uint16_t));
        if (gates == nullptr && slope != 1) activated(field + i * plane, at - (field + i * plane), slope);
      }
      const int64_t place = first * to_height * to_width * outputs;
      for (const Correlation& by : plan.correlations) {
        run({field, pictures, spaced, plan.pitch, channels, kept, plan.wanted, line}, by, packed, shift,
            {result + place, gates != nullptr ? gates + place : nullptr, slope, to_height, to_width, outputs});
      }
    }
  });
}

const float* floats(const std::optional<Tensor>& t) {
  return t ? static_cast<const float*>(t->const_data_ptr()) : nullptr;
}

void make_side(const Problem& p, bool gather, const Tensor& from, const Tensor& weight,
               const std::optional<Tensor>& bias, float slope, const std::optional<Tensor>& gate, const Tensor& to) {
  if (from.scalar_type() == ScalarType::Float) {
    make_values(p, gather, floats(from), floats(weight), floats(bias), slope, floats(gate),
                static_cast<float*>(to.mutable_data_ptr()));
  } else {
    make_side_of_tiles(p, gather, from, weight, bias, slope, gate, to);
  }
}

// The adjoint of a reflection: each pixel of [N, H, W, C] is the sum of those of [N, H + 2 p, W + 2 p, C] that are its
// own or its reflections.
template <typename T, typename F>
void fold(const T* padded, const Problem& p, const F& add, T* to) {
  const int64_t above = p.padding_top, before = p.padding_left, pitch = (p.width + 2 * before) * p.wide;
  // Where a place of a side lies in the padded one, itself first.
  const auto sources = [](int64_t i, int64_t size, int64_t padding, int64_t (&found)[3]) {
    int64_t count = 0;
    found[count++] = padding + i;
    if (1 <= i && i <= padding) found[count++] = padding - i;
    if (size - 1 - padding <= i && i <= size - 2) found[count++] = padding + 2 * (size - 1) - i;
    return count;
  };
  parallel_for(p.n * p.height, grain(p.width * p.wide), [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const T* picture = padded + row / p.height * (p.height + 2 * above) * pitch;
      T* line = to + row * p.width * p.wide;
      int64_t rows[3], columns[3];
      const int64_t down = sources(row % p.height, p.height, above, rows);
      for (int64_t x = 0; x < p.width; ++x) {
        if (down == 1 && x > before && x < p.width - 1 - before) {  // all up to the other edge are their own
          const int64_t count = p.width - 1 - before - x;
          std::memcpy(line + x * p.wide, picture + rows[0] * pitch + (before + x) * p.wide, count * p.wide * sizeof(T));
          x += count - 1;
          continue;
        }
        const T* pixels[9];
        const int64_t across = sources(x, p.width, before, columns);
        int64_t count = 0;
        for (int64_t r = 0; r < down; ++r) {
          for (int64_t c = 0; c < across; ++c) pixels[count++] = picture + rows[r] * pitch + columns[c] * p.wide;
        }
        add(pixels, count, p.wide, line + x * p.wide);
      }
    }
  });
}

void add_floats(const float* const* pixels, int64_t count, int64_t channels, float* to) {
  std::memcpy(to, pixels[0], channels * sizeof(float));
  for (int64_t i = 1; i < count; ++i) {
    for (int64_t c = 0; c < channels; ++c) to[c] += pixels[i][c];
  }
}

void fold(const Tensor& padded, const Problem& p, const Tensor& to) {
  const void* const from = padded.const_data_ptr();
  void* const data = to.mutable_data_ptr();
  if (to.scalar_type() == ScalarType::Float) {
    fold(static_cast<const float*>(from), p, add_floats, static_cast<float*>(data));
  } else {
    fold(static_cast<const uint16_t*>(from), p, GANENGINE_CHOOSE_TILES(add_pixels), static_cast<uint16_t*>(data));
  }
}

// ---- weights

void make_weights(const Problem& p, const Tensor& wide, const Tensor& narrow, float wide_slope, float narrow_slope,
                  const Tensor& to) {
  const auto activated = GANENGINE_CHOOSE_TILES(activate);
  const int64_t threads = threads_for_products(products(p));
  const int64_t halo = p.rows_of_phase() - 1, pitch = p.across - 1 + p.columns_of_phase();
  const int64_t planes = p.stride_down * p.stride_across;
  const int64_t wide_tiles = up(p.wide, kTile), narrow_tiles = up(p.narrow, kTile);
  const int64_t budget = kWeightsNumbers / (planes * wide_tiles * kTile + narrow_tiles * kTile);
  const Tasks tasks(p.n, p.down, halo, pitch, std::max(budget, kWeightsPositions), 1);
  // Positions of a picture that count, and all that shifted windows read; of the pictures of one task, these.
  const int64_t counted = rounded_up(tasks.kept * pitch, kChunk);
  const int64_t apart = rounded_up(std::max((tasks.kept + halo) * pitch, counted), kChunk);
  const int64_t most = tasks.pictures * counted;
  const int64_t row = tasks.pictures * apart + rounded_up(halo * pitch + p.columns_of_phase(), kChunk) + kChunk;
  const int64_t beyond = kTile;  // what loads of 16 channels read behind the last position
  const WeightCells cells(p);
  const int64_t shares = std::min(threads, cells.count);

  parallel_for(shares, 1, [&](int64_t begin_share, int64_t end_share) {
    static thread_local Kept<uint16_t> kept_field, kept_rows, kept_pairs;
    static thread_local Kept<float> kept_sums;
    std::vector<int64_t> offsets;  // where chunks of positions begin in a row
    for (int64_t share = begin_share; share < end_share; ++share) {
      const int64_t begin = share * cells.count / shares, end = (share + 1) * cells.count / shares;
      uint16_t* const field = kept_field.at_least(std::max(row * p.wide, most * p.narrow) + beyond);
      uint16_t* const rows = kept_rows.at_least(planes * wide_tiles * kTile * row);
      uint16_t* const pairs = kept_pairs.at_least(narrow_tiles * kTile * most);
      float* const sums = kept_sums.at_least((end - begin) * kSums);
      for (int64_t task = 0; task < tasks.count(); ++task) {
        const int64_t first = tasks.first_picture(task), pictures = tasks.pictures_of(task);
        const int64_t line = tasks.first_line(task), kept = tasks.kept_of(task), filled = kept + halo;
        const int64_t chunks = up(kept * pitch, kChunk);
        offsets.clear();
        for (int64_t n = 0; n < pictures; ++n) {
          for (int64_t k = 0; k < chunks; ++k) offsets.push_back(n * apart + k * kChunk);
        }
        const int64_t positions = static_cast<int64_t>(offsets.size()) * kChunk;
        for (int64_t i = 0; i < planes; ++i) {
          if (!cells.any(begin, end, [&](int64_t cell) { return cells.tap(cell).plane == i; })) continue;
          const Cut cut{(line * p.stride_down) + i / p.stride_across - p.padding_top, p.stride_down,
                        i % p.stride_across - p.padding_left, p.stride_across};
          for (int64_t n = 0; n < pictures; ++n) {
            uint16_t* const at = field + n * apart * p.wide;
            cut_picture(static_cast<const uint16_t*>(wide.const_data_ptr()) + (first + n) * p.height * p.width * p.wide,
                        p.height, p.width, p.wide, cut, p.reflect, filled, pitch, at);
            const int64_t filled_numbers = filled * pitch * p.wide;
            const int64_t end = n + 1 < pictures ? apart * p.wide : (row - n * apart) * p.wide + beyond;
            if (wide_slope != 1) activated(at, filled_numbers, wide_slope);
            std::memset(at + filled_numbers, 0, (end - filled_numbers) * sizeof(uint16_t));
          }
          for (int64_t tile = 0; tile < wide_tiles; ++tile) {
            if (!cells.any(begin, end, [&](int64_t cell) { return cells.wide(cell) == tile / 2; })) continue;
            GANENGINE_CHOOSE_TILES(to_rows)(field + tile * kTile, p.wide, row,
                                            rows + (i * wide_tiles + tile) * kTile * row, row);
          }
        }
        for (int64_t n = 0; n < pictures; ++n) {
          uint16_t* const at = field + n * chunks * kChunk * p.narrow;
          // What lies beyond a line, and between pictures, is 0.
          cut_picture(static_cast<const uint16_t*>(narrow.const_data_ptr()) +
                          ((first + n) * p.down + line) * p.across * p.narrow,
                      kept, p.across, p.narrow, {0, 1, 0, 1}, false, kept, pitch, at);
          const int64_t filled_numbers = kept * pitch * p.narrow;
          if (narrow_slope != 1) activated(at, filled_numbers, narrow_slope);
          std::memset(at + filled_numbers, 0, (chunks * kChunk * p.narrow - filled_numbers) * sizeof(uint16_t));
        }
        std::memset(field + positions * p.narrow, 0, beyond * sizeof(uint16_t));
        for (int64_t tile = 0; tile < narrow_tiles; ++tile) {
          if (!cells.any(begin, end, [&](int64_t cell) { return cells.narrow(cell) == tile / 2; })) continue;
          GANENGINE_CHOOSE_TILES(to_pairs)(field + tile * kTile, p.narrow, positions, pairs + tile * kTile * most);
        }
        GANENGINE_CHOOSE_TILES(add_cells)(p, cells, begin, end, rows, row, offsets.data(), pairs, kTile * most, pitch,
                                          positions / kChunk, task == 0, sums);
      }
      GANENGINE_CHOOSE_TILES(put_cells)(p, cells, begin, end, sums, static_cast<float*>(to.mutable_data_ptr()));
    }
  });
}

// ---- ops

bool is_channels_last(const Tensor& t) {
  int64_t stride = 1;
  for (const int64_t axis : {1, 3, 2, 0}) {
    if (t.size(axis) != 1 && t.stride(axis) != stride) return false;
    stride *= t.size(axis);
  }
  return true;
}

Tensor channels_last(const Tensor& t) {
  return is_channels_last(t) ? t : torch::stable::contiguous(t, torch::headeronly::MemoryFormat::ChannelsLast);
}

Tensor empty_channels_last(int64_t n, int64_t c, int64_t h, int64_t w, ScalarType type) {
  const int64_t sizes[] = {n, c, h, w}, strides[] = {h * w * c, 1, w * c, c};
  return empty_strided(sizes, strides, 4, type);
}

void check_form(const char* op, const Pair& stride, const Pair& padding) {
  check(stride.size() == 2 && padding.size() == 2, op, "expected stride and padding to be pairs");
  check(stride[0] > 0 && stride[1] > 0, op, "expected a stride above 0");
  check(padding[0] >= 0 && padding[1] >= 0, op, "expected a padding of 0 or more");
}

void check_reflection(const char* op, bool reflect, int64_t height, int64_t width, const Pair& padding) {
  check(!reflect || (padding[0] < height && padding[1] < width), op,
        "expected sides larger than the padding that reflects them");
}

// How many windows there are along a side.
int64_t places(int64_t side, int64_t kernel, int64_t stride, int64_t padding) {
  const int64_t room = side + 2 * padding - kernel;
  return room < 0 ? 0 : room / stride + 1;
}

Problem problem(const char* op, int64_t n, int64_t height, int64_t width, int64_t wide, int64_t down, int64_t across,
                int64_t narrow, int64_t rows, int64_t columns, const Pair& stride, const Pair& padding, bool reflect) {
  check(n > 0 && height > 0 && width > 0 && wide > 0 && down > 0 && across > 0 && narrow > 0 && rows > 0 && columns > 0,
        op, "expected sides, channels and a kernel of at least 1");
  return {n,    height,  width,     wide,      down,       across,     narrow,
          rows, columns, stride[0], stride[1], padding[0], padding[1], reflect};
}

void check_values(const char* op, const char* name, const Tensor& t) {
  check(t.dim() == 4, op, "expected ", name, " of 4 dimensions, got ", describe(t.sizes()));
  check(t.scalar_type() == ScalarType::Float || t.scalar_type() == ScalarType::BFloat16, op, "expected ", name,
        " to be float32 or bfloat16");
}

void check_values(const char* op, const char* name, const Tensor& t, const Tensor& like) {
  check_values(op, name, t);
  check(t.scalar_type() == like.scalar_type(), op, "expected ", name, " to be ",
        like.scalar_type() == ScalarType::Float ? "float32" : "bfloat16", " as the other side is");
}

void check_weight(const char* op, const Tensor& weight, const std::optional<Tensor>& bias, int64_t outputs,
                  const Tensor& values) {
  check(weight.dim() == 4, op, "expected a weight of 4 dimensions, got ", describe(weight.sizes()));
  check(weight.scalar_type() == ScalarType::Float ||
            (weight.scalar_type() == ScalarType::BFloat16 && values.scalar_type() == ScalarType::BFloat16),
        op, "expected a weight of float32, or of bfloat16 beside data of it");
  if (bias) check_tensor(op, "bias", *bias, {outputs}, ScalarType::Float, weight);
}

std::optional<Tensor> dense_bias(const std::optional<Tensor>& bias) {
  return bias ? std::optional<Tensor>(dense(*bias)) : std::nullopt;
}

std::optional<Tensor> checked_gate(const char* op, const std::optional<Tensor>& gate, const Tensor& result) {
  if (!gate) return std::nullopt;
  check_values(op, "gate", *gate, result);
  check(gate->sizes() == result.sizes(), op, "expected a gate ", describe(result.sizes()), ", got ",
        describe(gate->sizes()));
  return channels_last(*gate);
}

Tensor gather_cpu(const Tensor& wide,    // [N, C, H, W] float32 or bfloat16
                  const Tensor& weight,  // [K, C, rows, columns] float32, or bfloat16 beside it
                  std::optional<Tensor> bias, Pair stride, Pair padding, bool reflect, double slope,
                  std::optional<Tensor> gate) {
  check_values(kOp, "x", wide);
  check_weight(kOp, weight, bias, weight.dim() == 4 ? weight.size(0) : 0, wide);
  check(wide.size(1) == weight.size(1), kOp, "expected x of ", weight.size(1), " channels, got ", wide.size(1));
  check_form(kOp, stride, padding);
  const int64_t down = places(wide.size(2), weight.size(2), stride[0], padding[0]);
  const int64_t across = places(wide.size(3), weight.size(3), stride[1], padding[1]);
  const Problem p = problem(kOp, wide.size(0), wide.size(2), wide.size(3), wide.size(1), down, across, weight.size(0),
                            weight.size(2), weight.size(3), stride, padding, reflect);
  check_reflection(kOp, reflect, p.height, p.width, padding);
  const Tensor narrow = empty_channels_last(p.n, p.narrow, p.down, p.across, wide.scalar_type());
  make_side(p, true, channels_last(wide), channels_last(weight), dense_bias(bias), static_cast<float>(slope),
            checked_gate(kOp, gate, narrow), narrow);
  return narrow;
}

Tensor scatter_cpu(const Tensor& narrow,  // [N, K, down, across] float32 or bfloat16
                   const Tensor& weight,  // [K, C, rows, columns] float32, or bfloat16 beside it
                   std::optional<Tensor> bias, Pair stride, Pair padding, Pair sides, bool reflect, double slope,
                   std::optional<Tensor> gate) {
  check_values(kBackwardOp, "y", narrow);
  check_weight(kBackwardOp, weight, bias, weight.dim() == 4 ? weight.size(1) : 0, narrow);
  check(narrow.size(1) == weight.size(0), kBackwardOp, "expected y of ", weight.size(0), " channels, got ",
        narrow.size(1));
  check_form(kBackwardOp, stride, padding);
  check(sides.size() == 2, kBackwardOp, "expected sides to be a pair");
  for (int axis = 0; axis < 2 && weight.size(2 + axis) > 0; ++axis) {
    const int64_t seen = places(sides[axis], weight.size(2 + axis), stride[axis], padding[axis]);
    check(seen == narrow.size(2 + axis), kBackwardOp, "expected sides that give y its own, ", describe(narrow.sizes()),
          ", got ", sides[axis]);
  }
  const Problem p = problem(kBackwardOp, narrow.size(0), sides[0], sides[1], weight.size(1), narrow.size(2),
                            narrow.size(3), narrow.size(1), weight.size(2), weight.size(3), stride, padding, reflect);
  check_reflection(kBackwardOp, reflect, p.height, p.width, padding);
  check(!reflect || (!gate && !bias), kBackwardOp, "expected neither gate nor bias beside a reflection");
  const Tensor wide = empty_channels_last(p.n, p.wide, p.height, p.width, narrow.scalar_type());
  const Tensor from = channels_last(narrow), by = channels_last(weight);
  if (!reflect) {
    make_side(p, false, from, by, dense_bias(bias), static_cast<float>(slope), checked_gate(kBackwardOp, gate, wide),
              wide);
    return wide;
  }
  Problem around = p;
  around.height += 2 * p.padding_top, around.width += 2 * p.padding_left;
  around.padding_top = around.padding_left = 0;
  const Tensor padded = empty_channels_last(p.n, p.wide, around.height, around.width, narrow.scalar_type());
  make_side(around, false, from, by, std::nullopt, static_cast<float>(slope), std::nullopt, padded);
  fold(padded, p, wide);
  return wide;
}

Tensor weights_cpu(const Tensor& wide,    // [N, C, H, W] bfloat16 or float32
                   const Tensor& narrow,  // [N, K, down, across], of the same type
                   Pair stride, Pair padding, Pair kernel, bool reflect, double wide_slope, double narrow_slope) {
  check_values(kWeightsOp, "wide", wide);
  check_values(kWeightsOp, "narrow", narrow, wide);
  check(wide.size(0) == narrow.size(0), kWeightsOp, "expected as many pictures on both sides");
  check_form(kWeightsOp, stride, padding);
  check(kernel.size() == 2, kWeightsOp, "expected kernel to be a pair");
  for (int axis = 0; axis < 2; ++axis) {
    const int64_t seen = places(wide.size(2 + axis), kernel[axis], stride[axis], padding[axis]);
    check(seen == narrow.size(2 + axis), kWeightsOp, "expected ", seen, " places on the narrow side, got ",
          narrow.size(2 + axis));
  }
  const Problem p = problem(kWeightsOp, wide.size(0), wide.size(2), wide.size(3), wide.size(1), narrow.size(2),
                            narrow.size(3), narrow.size(1), kernel[0], kernel[1], stride, padding, reflect);
  check_reflection(kWeightsOp, reflect, p.height, p.width, padding);
  const Tensor weight = empty_channels_last(p.narrow, p.wide, p.rows, p.columns, ScalarType::Float);
  const Tensor x = channels_last(wide), y = channels_last(narrow);
  const float x_slope = static_cast<float>(wide_slope), y_slope = static_cast<float>(narrow_slope);
  if (x.scalar_type() == ScalarType::Float) {
    make_weights(p, floats(x), floats(y), x_slope, y_slope, static_cast<float*>(weight.mutable_data_ptr()));
  } else {
    make_weights(p, x, y, x_slope, y_slope, weight);
  }
  return weight;
}

}  // namespace
}  // namespace ganengine::convolution

STABLE_TORCH_LIBRARY_IMPL(ganengine, CPU, m) {
  m.impl("convolution", TORCH_BOX(&ganengine::convolution::gather_cpu));
  m.impl("convolution_backward", TORCH_BOX(&ganengine::convolution::scatter_cpu));
  m.impl("convolution_weights", TORCH_BOX(&ganengine::convolution::weights_cpu));
}
