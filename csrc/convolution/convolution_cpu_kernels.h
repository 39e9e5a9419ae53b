// Kernels of the convolutions in bfloat16, three times: with AMX and AVX-512 (GANENGINE_TILES is amx), with AVX-512 and
// its products of pairs (dots), and in plain C++ (portable), for tests and sanitizers on any machine. Formulas:
// convolution.h. All three read tiles of the same order.

namespace ganengine::convolution::GANENGINE_TILES {

// ---- tiles: 0 to 3 hold sums [16][16] float, 4 and 5 rows [16][32], 6 and 7 columns [16 pairs][16][2]

#if GANENGINE_TILES_PRODUCTS == 2

// All eight tiles of 16 rows of 64 bytes, by palette 1.
struct Config {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// While it lives this thread's tiles are whole.
struct Tiles {
  Tiles() {
    // In memory of its own, and a barrier behind: to GCC 12 the intrinsics read less than they do.
    alignas(64) static const Config config{};
    _tile_loadconfig(&config);
    __asm__ volatile("" ::: "memory");
  }
  ~Tiles() { _tile_release(); }
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

#define TILE_ZERO(t) _tile_zero(t)
#define TILE_LOAD(t, from, bytes) _tile_loadd(t, from, bytes)
#define TILE_STORE(t, to, bytes) _tile_stored(t, to, bytes)
#define TILE_DOT(c, a, b) _tile_dpbf16ps(c, a, b)

#elif GANENGINE_TILES_PRODUCTS == 1

struct Tiles {};

// Adds to sums [kRows][kColumns][16], which stay in registers, a chunk of each row times one tile or two, `next` apart.
template <int kRows, int kColumns>
inline void add_chunk(const uint16_t* rows, int64_t bytes, const uint16_t* columns, int64_t next,
                      __m512 (&sums)[kRows][kColumns]) {
  for (int64_t pair = 0; pair < kTile; ++pair) {
    __m512bh right[kColumns];
    for (int c = 0; c < kColumns; ++c) right[c] = (__m512bh)_mm512_loadu_si512(columns + c * next + pair * kChunk);
    for (int r = 0; r < kRows; ++r) {
      int32_t two;
      std::memcpy(&two, reinterpret_cast<const char*>(rows + 2 * pair) + r * bytes, sizeof two);
      const __m512bh left = (__m512bh)_mm512_set1_epi32(two);
      for (int c = 0; c < kColumns; ++c) sums[r][c] = _mm512_dpbf16_ps(sums[r][c], left, right[c]);
    }
  }
}

// Rows that are summed up at a time, so that 16 sums hide how long one takes.
constexpr int rows_beside(int columns) { return columns == 2 ? 8 : 16; }

#else

struct Tiles {};
inline thread_local unsigned char tiles[8][16][64];

inline float widened(uint16_t bits) {
  const uint32_t wide = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

inline void tile_move(int t, const void* from, int64_t bytes) {
  for (int64_t row = 0; row < 16; ++row) std::memcpy(tiles[t][row], static_cast<const char*>(from) + row * bytes, 64);
}

inline void tile_store(int t, void* to, int64_t bytes) {
  for (int64_t row = 0; row < 16; ++row) std::memcpy(static_cast<char*>(to) + row * bytes, tiles[t][row], 64);
}

inline void tile_dot(int c, int a, int b) {
  for (int row = 0; row < 16; ++row) {
    float sums[16];
    uint16_t left[32], right[32];
    std::memcpy(sums, tiles[c][row], sizeof sums);
    std::memcpy(left, tiles[a][row], sizeof left);
    for (int pair = 0; pair < 16; ++pair) {
      std::memcpy(right, tiles[b][pair], sizeof right);
      for (int i = 0; i < 16; ++i) {
        sums[i] += widened(left[2 * pair]) * widened(right[2 * i]);
        sums[i] += widened(left[2 * pair + 1]) * widened(right[2 * i + 1]);
      }
    }
    std::memcpy(tiles[c][row], sums, sizeof sums);
  }
}

#define TILE_ZERO(t) std::memset(tiles[t], 0, sizeof tiles[t])
#define TILE_LOAD(t, from, bytes) tile_move(t, from, bytes)
#define TILE_STORE(t, to, bytes) tile_store(t, to, bytes)
#define TILE_DOT(c, a, b) tile_dot(c, a, b)

#endif

// ---- 16-bit numbers in other orders

#if GANENGINE_TILES_PRODUCTS > 0

inline __m512 load_floats(const float* from, __mmask16 mask) { return _mm512_maskz_loadu_ps(mask, from); }
inline __m512 load_floats(const uint16_t* from, __mmask16 mask) {
  const __m256i bits = _mm256_maskz_loadu_epi16(mask, from);
  return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, _mm512_maskz_cvtepu16_epi32(0xffff, bits), 16));
}

inline __mmask16 first(int64_t count) { return static_cast<__mmask16>(count >= 16 ? 0xffff : (1u << count) - 1); }

// The first 16 numbers of `low` and those of `high`, in turn.
inline __m512i in_turn(__m256i low, __m256i high) {
  const __m512i upper = _mm512_maskz_slli_epi32(0xffff, _mm512_maskz_cvtepu16_epi32(0xffff, high), 16);
  return _mm512_maskz_or_epi32(0xffff, _mm512_maskz_cvtepu16_epi32(0xffff, low), upper);
}

inline __m256i rounded(__m512 v) { return (__m256i)_mm512_maskz_cvtneps_pbh(0xffff, v); }

// Rows become columns, of 16 by 16 numbers of 32 bits.
inline void transpose(__m512i (&r)[16]) {
  __m512i t[16];
  for (int i = 0; i < 8; ++i) {
    t[2 * i] = _mm512_maskz_unpacklo_epi32(0xffff, r[2 * i], r[2 * i + 1]);
    t[2 * i + 1] = _mm512_maskz_unpackhi_epi32(0xffff, r[2 * i], r[2 * i + 1]);
  }
  for (int i = 0; i < 4; ++i) {
    for (int half = 0; half < 2; ++half) {
      const __m512i low = t[4 * i + half], high = t[4 * i + 2 + half];
      r[4 * i + 2 * half] = _mm512_maskz_unpacklo_epi64(0xff, low, high);
      r[4 * i + 2 * half + 1] = _mm512_maskz_unpackhi_epi64(0xff, low, high);
    }
  }
  // Lane L of r[4 i + j] is column 4 L + j of rows 4 i to 4 i + 3.
  for (int j = 0; j < 4; ++j) {
    t[j] = _mm512_maskz_shuffle_i32x4(0xffff, r[j], r[4 + j], 0x88);
    t[4 + j] = _mm512_maskz_shuffle_i32x4(0xffff, r[j], r[4 + j], 0xdd);
    t[8 + j] = _mm512_maskz_shuffle_i32x4(0xffff, r[8 + j], r[12 + j], 0x88);
    t[12 + j] = _mm512_maskz_shuffle_i32x4(0xffff, r[8 + j], r[12 + j], 0xdd);
  }
  for (int j = 0; j < 4; ++j) {
    r[j] = _mm512_maskz_shuffle_i32x4(0xffff, t[j], t[8 + j], 0x88);
    r[8 + j] = _mm512_maskz_shuffle_i32x4(0xffff, t[j], t[8 + j], 0xdd);
    r[4 + j] = _mm512_maskz_shuffle_i32x4(0xffff, t[4 + j], t[12 + j], 0x88);
    r[12 + j] = _mm512_maskz_shuffle_i32x4(0xffff, t[4 + j], t[12 + j], 0xdd);
  }
}

#else

inline uint16_t rounded(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if (value != value) return 0x7fc0;
  return static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
inline uint16_t rounded(uint16_t bits) { return bits; }

#endif

// One tile of weights: 16 pairs of numbers for each of `count` outputs, `step` apart.
template <typename T>
void pack_tile(const T* weights, const int64_t* elements, int64_t step, int64_t count, uint16_t* tile) {
#if GANENGINE_TILES_PRODUCTS > 0
  if (step == 1) {
    const __mmask16 mask = first(count);
    for (int64_t pair = 0; pair < kTile; ++pair) {
      __m256i sides[2];
      for (int side = 0; side < 2; ++side) {
        const int64_t element = elements[2 * pair + side];
        sides[side] = element < 0 ? __m256i{} : rounded(load_floats(weights + element, mask));
      }
      _mm512_storeu_si512(tile + pair * kChunk, in_turn(sides[0], sides[1]));
    }
    return;
  }
  int64_t begin = 0;
  while (begin < kChunk && elements[begin] < 0) ++begin;
  int64_t end = begin;
  while (end < kChunk && elements[end] >= 0 && elements[end] - elements[begin] == end - begin) ++end;
  int64_t rest = end;
  while (rest < kChunk && elements[rest] < 0) ++rest;
  if (begin < end && rest == kChunk) {  // neighbours in memory
    const uint32_t mask = static_cast<uint32_t>((uint64_t{1} << end) - (uint64_t{1} << begin));
    __m512i rows[kTile] = {};
    for (int64_t i = 0; i < count; ++i) {
      const T* from = weights + elements[begin] - begin + i * step;  // what lies before the first is masked
      const __m256i low = rounded(load_floats(from, static_cast<__mmask16>(mask)));
      const __m256i high = rounded(load_floats(from + kTile, static_cast<__mmask16>(mask >> 16)));
      rows[i] = _mm512_maskz_inserti64x4(0xff, _mm512_castsi256_si512(low), high, 1);
    }
    transpose(rows);
    for (int64_t pair = 0; pair < kTile; ++pair) _mm512_storeu_si512(tile + pair * kChunk, rows[pair]);
    return;
  }
#endif
  for (int64_t e = 0; e < kChunk; ++e) {
    for (int64_t i = 0; i < kTile; ++i) {
      const bool there = elements[e] >= 0 && i < count;
#if GANENGINE_TILES_PRODUCTS > 0
      uint16_t bits = 0;
      if (there) {
        const __m256i found = rounded(load_floats(weights + elements[e] + i * step, 1));
        bits = static_cast<uint16_t>(_mm256_extract_epi16(found, 0));
      }
#else
      const uint16_t bits = there ? rounded(weights[elements[e] + i * step]) : uint16_t{0};
#endif
      tile[e / 2 * kChunk + i * 2 + e % 2] = bits;
    }
  }
}

// Numbers times the slope of an activation; slope 0 makes all of them 0, infinity and NaN too.
#if GANENGINE_TILES_PRODUCTS > 0
inline __m512 sloped(__m512 v, __mmask16 which, float slope) {
  if (slope == 0) return _mm512_mask_mov_ps(v, which, __m512{});
  return _mm512_mask_mul_ps(v, which, v, _mm512_set1_ps(slope));
}
#else
inline float sloped(float v, float slope) { return slope == 0 ? 0.0f : v * slope; }
#endif

// Numbers as an activation leaves them: those at 0 or below times `slope`.
inline void activate(uint16_t* numbers, int64_t count, float slope) {
#if GANENGINE_TILES_PRODUCTS > 0
  for (int64_t i = 0; i < count; i += 16) {
    const __mmask16 mask = first(count - i);
    const __m512 v = load_floats(numbers + i, mask);
    const __mmask16 below = _mm512_mask_cmp_ps_mask(mask, v, __m512{}, _CMP_LE_OQ);
    _mm256_mask_storeu_epi16(numbers + i, below, rounded(sloped(v, 0xffff, slope)));
  }
#else
  for (int64_t i = 0; i < count; ++i) {
    const float v = widened(numbers[i]);
    if (v <= 0) numbers[i] = rounded(sloped(v, slope));
  }
#endif
}

// ---- values: two times 16 positions times 16 or 32 outputs

template <int kColumns>
void multiply(const uint16_t* above, const uint16_t* below, int64_t bytes, const int64_t* offsets, int64_t chunks,
              const uint16_t* weights, float* sums) {
#if GANENGINE_TILES_PRODUCTS == 1
  constexpr int kRows = rows_beside(kColumns);
  for (const uint16_t* tile : {above, below}) {
    for (int64_t row = 0; row < kTile; row += kRows, sums += kRows * kColumns * kTile) {
      const uint16_t* const rows = tile + row * bytes / 2;
      __m512 held[kRows][kColumns] = {};
      for (int64_t k = 0; k < chunks; ++k) {
        add_chunk(rows + offsets[k], bytes, weights + k * kColumns * kNumbers, kNumbers, held);
      }
      for (int r = 0; r < kRows; ++r) {
        for (int c = 0; c < kColumns; ++c) _mm512_storeu_ps(sums + (r * kColumns + c) * kTile, held[r][c]);
      }
    }
    if (below == above) return;
  }
#else
  TILE_ZERO(0);
  TILE_ZERO(2);
  if constexpr (kColumns == 2) {
    TILE_ZERO(1);
    TILE_ZERO(3);
  }
  for (int64_t k = 0; k < chunks; ++k, weights += kColumns * kNumbers) {
    TILE_LOAD(6, weights, 64);
    TILE_LOAD(4, above + offsets[k], bytes);
    TILE_LOAD(5, below + offsets[k], bytes);
    TILE_DOT(0, 4, 6);
    TILE_DOT(2, 5, 6);
    if constexpr (kColumns == 2) {
      TILE_LOAD(7, weights + kNumbers, 64);
      TILE_DOT(1, 4, 7);
      TILE_DOT(3, 5, 7);
    }
  }
  constexpr int64_t kRow = kColumns * kTile;
  TILE_STORE(0, sums, kRow * 4);
  TILE_STORE(2, sums + kTile * kRow, kRow * 4);
  if constexpr (kColumns == 2) {
    TILE_STORE(1, sums + kTile, kRow * 4);
    TILE_STORE(3, sums + kTile * kRow + kTile, kRow * 4);
  }
#endif
}

// Writes sums of one position after the other, `count` of the 16 or 32 of each, plus a bias, as 16-bit numbers; the
// places of two neighbours are `step` apart. With a gate, those where it is 0 or below are multiplied by `slope`.
template <int kColumns>
void write(const float* sums, const float* bias, int64_t count, int64_t positions, uint16_t* to, const uint16_t* gate,
           float slope, int64_t step) {
  constexpr int64_t kRow = kColumns * kTile;
#if GANENGINE_TILES_PRODUCTS > 0
  const __mmask16 low = first(count), high = first(std::max<int64_t>(count - kTile, 0));
  const __m512 shift = bias != nullptr ? _mm512_loadu_ps(bias) : __m512{};
  const __m512 second = bias != nullptr && kColumns == 2 ? _mm512_loadu_ps(bias + kTile) : __m512{};
  const auto gated = [&](__m512 v, const uint16_t* at, __mmask16 mask) {
    const __mmask16 below = _mm512_mask_cmp_ps_mask(mask, load_floats(at, mask), __m512{}, _CMP_LE_OQ);
    return sloped(v, below, slope);
  };
  for (int64_t i = 0; i < positions; ++i, sums += kRow, to += step) {
    __m512 v = _mm512_maskz_add_ps(0xffff, _mm512_loadu_ps(sums), shift);
    if (gate != nullptr) v = gated(v, gate + i * step, low);
    _mm256_mask_storeu_epi16(to, low, rounded(v));
    if constexpr (kColumns == 2) {
      __m512 w = _mm512_maskz_add_ps(0xffff, _mm512_loadu_ps(sums + kTile), second);
      if (gate != nullptr) w = gated(w, gate + i * step + kTile, high);
      _mm256_mask_storeu_epi16(to + kTile, high, rounded(w));
    }
  }
#else
  for (int64_t i = 0; i < positions; ++i, sums += kRow, to += step) {
    for (int64_t k = 0; k < count; ++k) {
      float v = sums[k] + (bias != nullptr ? bias[k] : 0.0f);
      if (gate != nullptr && widened(gate[i * step + k]) <= 0) v = sloped(v, slope);
      to[k] = rounded(v);
    }
  }
#endif
}

// Positions of a field in tiles of 16, each of which lies in up to 16 lines: where its rows go.
struct Run {
  int64_t row, count, place;  // from this row of the tile on, so many, to this place in the result
};
struct PositionTile {
  int64_t position, runs;
  Run run[kTile];
};

// Calls f(tiles) after filling one or both of `two`, until all positions are covered of which a correlation makes
// something.
template <typename F>
void each_two(const Field& field, const Correlation& by, const Picture& to, PositionTile* two, const F& f) {
  const auto first_inside = [](int64_t first, int64_t step) { return first < 0 ? (-first + step - 1) / step : 0; };
  const int64_t top = by.to.first_down + field.first_line * by.to.step_down;
  const int64_t first = first_inside(top, by.to.step_down), left = first_inside(by.to.first_across, by.to.step_across);
  const int64_t last = std::min(field.kept, (to.height - top + by.to.step_down - 1) / by.to.step_down);
  const int64_t right =
      std::min(field.wanted, (to.width - by.to.first_across + by.to.step_across - 1) / by.to.step_across);
  if (first >= last || left >= right) return;
  const auto place = [&](int64_t n, int64_t u, int64_t v) {
    const int64_t y = top + u * by.to.step_down, x = by.to.first_across + v * by.to.step_across;
    return ((n * to.height + y) * to.width + x) * to.channels;
  };
  const bool by_line = (right - left + kTile - 1) / kTile * kTile <= field.pitch;
  int filled = 0;
  const auto next = [&] {
    if (++filled == 2) f(filled), filled = 0;
  };
  for (int64_t n = 0; n < field.pictures; ++n) {
    if (by_line) {  // nothing is computed that is not wanted
      for (int64_t u = first; u < last; ++u) {
        for (int64_t v = left; v < right; v += kTile) {
          PositionTile& tile = two[filled];
          tile.position = (n * field.lines + u) * field.pitch + v;
          tile.runs = 1;
          tile.run[0] = {0, std::min<int64_t>(right - v, kTile), place(n, u, v)};
          next();
        }
      }
      continue;
    }
    int64_t u = first, v = left;
    while (u < last) {
      PositionTile& tile = two[filled];
      tile.position = (n * field.lines + u) * field.pitch + v;
      tile.runs = 0;
      for (int64_t row = 0; row < kTile && u < last;) {
        const int64_t count = std::min(kTile - row, right - v);
        if (count > 0) tile.run[tile.runs++] = {row, count, place(n, u, v)};
        const int64_t there = std::min(kTile - row, field.pitch + left - v);
        row += there, v += there;
        if (v == field.pitch + left) v = left, ++u;
      }
      next();
    }
  }
  if (filled > 0) f(filled);
}

// The results of one correlation at all positions of a field.
inline void correlate(const Field& field, const Correlation& by, const uint16_t* packed, const float* bias,
                      const Picture& to) {
  const Tiles scope;
  (void)scope;
  alignas(64) float sums[2 * kTile * 2 * kTile];
  const int64_t bytes = field.channels * 2, step = by.to.step_across * to.channels;
  for (int64_t column = 0; column < to.channels; column += 2 * kTile) {
    const int64_t count = std::min<int64_t>(to.channels - column, 2 * kTile);
    const uint16_t* weights = packed + by.packed + column / kTile * by.chunks() * kNumbers;
    const float* shift = bias != nullptr ? bias + column : nullptr;
    const bool wide = count > kTile;
    PositionTile two[2];
    each_two(field, by, to, two, [&](int tiles) {
      const uint16_t* above = field.data + two[0].position * field.channels;
      const uint16_t* below = field.data + two[tiles - 1].position * field.channels;
      (wide ? multiply<2> : multiply<1>)(above, below, bytes, by.offsets.data(), by.chunks(), weights, sums);
      for (int t = 0; t < tiles; ++t) {
        for (int64_t i = 0; i < two[t].runs; ++i) {
          const Run& r = two[t].run[i];
          const int64_t place = r.place + column;
          (wide ? write<2> : write<1>)(sums + (t * kTile + r.row) * (wide ? 2 : 1) * kTile, shift, count, r.count,
                                       to.data + place, to.gate != nullptr ? to.gate + place : nullptr, to.slope, step);
        }
      }
    });
  }
}

// ---- weights: 16 or 32 wide channels times 16 or 32 narrow ones, summed over positions

// From positions [count][channels] to [16 channels][count], of which rows are `row` numbers long.
inline void to_rows(const uint16_t* field, int64_t channels, int64_t count, uint16_t* rows, int64_t row) {
  for (int64_t q = 0; q < count; q += kChunk, field += kChunk * channels) {
#if GANENGINE_TILES_PRODUCTS > 0
    __m512i pairs[kTile];
    for (int64_t pair = 0; pair < kTile; ++pair) {
      const uint16_t* at = field + 2 * pair * channels;
      pairs[pair] =
          in_turn(_mm256_loadu_si256((const __m256i*)at), _mm256_loadu_si256((const __m256i*)(at + channels)));
    }
    transpose(pairs);
    for (int64_t c = 0; c < kTile; ++c) _mm512_storeu_si512(rows + c * row + q, pairs[c]);
#else
    for (int64_t c = 0; c < kTile; ++c) {
      for (int64_t i = 0; i < kChunk; ++i) rows[c * row + q + i] = field[i * channels + c];
    }
#endif
  }
}

// From positions [count][channels] to tiles of 16 pairs of positions and 16 channels.
inline void to_pairs(const uint16_t* field, int64_t channels, int64_t count, uint16_t* pairs) {
  for (int64_t q = 0; q < count; q += 2, field += 2 * channels, pairs += kChunk) {
#if GANENGINE_TILES_PRODUCTS > 0
    const __m256i here = _mm256_loadu_si256((const __m256i*)field);
    _mm512_storeu_si512(pairs, in_turn(here, _mm256_loadu_si256((const __m256i*)(field + channels))));
#else
    for (int64_t c = 0; c < kTile; ++c) pairs[2 * c] = field[c], pairs[2 * c + 1] = field[channels + c];
#endif
  }
}

// Adds to sums [kRows][kColumns] tiles, or begins them, what `steps` chunks of positions give.
template <int kRows, int kColumns>
void accumulate(const uint16_t* rows, int64_t bytes, const int64_t* offsets, const uint16_t* pairs, int64_t next,
                int64_t steps, bool begin, float* sums) {
  constexpr int64_t kOne = kTile * kTile;
#if GANENGINE_TILES_PRODUCTS == 1
  constexpr int kHeld = rows_beside(kColumns);
  for (int64_t row = 0; row < kRows * kTile; row += kHeld) {
    float* const at = sums + row / kTile * kColumns * kOne + row % kTile * kTile;
    __m512 held[kHeld][kColumns];
    for (int r = 0; r < kHeld; ++r) {
      for (int c = 0; c < kColumns; ++c) held[r][c] = begin ? __m512{} : _mm512_loadu_ps(at + c * kOne + r * kTile);
    }
    for (int64_t k = 0; k < steps; ++k) {
      add_chunk(rows + row * bytes / 2 + offsets[k], bytes, pairs + k * kNumbers, next, held);
    }
    for (int r = 0; r < kHeld; ++r) {
      for (int c = 0; c < kColumns; ++c) _mm512_storeu_ps(at + c * kOne + r * kTile, held[r][c]);
    }
  }
#else
  if (begin) {
    TILE_ZERO(0);
    if constexpr (kColumns == 2) TILE_ZERO(1);
    if constexpr (kRows == 2) TILE_ZERO(2);
    if constexpr (kRows == 2 && kColumns == 2) TILE_ZERO(3);
  } else {
    TILE_LOAD(0, sums, 64);
    if constexpr (kColumns == 2) TILE_LOAD(1, sums + kOne, 64);
    if constexpr (kRows == 2) TILE_LOAD(2, sums + kColumns * kOne, 64);
    if constexpr (kRows == 2 && kColumns == 2) TILE_LOAD(3, sums + 3 * kOne, 64);
  }
  for (int64_t k = 0; k < steps; ++k, pairs += kNumbers) {
    const uint16_t* at = rows + offsets[k];
    TILE_LOAD(4, at, bytes);
    TILE_LOAD(6, pairs, 64);
    TILE_DOT(0, 4, 6);
    if constexpr (kColumns == 2) {
      TILE_LOAD(7, pairs + next, 64);
      TILE_DOT(1, 4, 7);
    }
    if constexpr (kRows == 2) {
      TILE_LOAD(5, at + kTile * bytes / 2, bytes);
      TILE_DOT(2, 5, 6);
      if constexpr (kColumns == 2) TILE_DOT(3, 5, 7);
    }
  }
  TILE_STORE(0, sums, 64);
  if constexpr (kColumns == 2) TILE_STORE(1, sums + kOne, 64);
  if constexpr (kRows == 2) TILE_STORE(2, sums + kColumns * kOne, 64);
  if constexpr (kRows == 2 && kColumns == 2) TILE_STORE(3, sums + 3 * kOne, 64);
#endif
}

// A tile of sums [wide][narrow] into the weight, of which narrow channels are `step` apart.
inline void put(const float* sums, int64_t wide, int64_t narrow, float* weight, int64_t step) {
#if GANENGINE_TILES_PRODUCTS > 0
  __m512i rows[kTile];
  for (int64_t i = 0; i < kTile; ++i) rows[i] = _mm512_loadu_si512(sums + i * kTile);
  transpose(rows);
  for (int64_t i = 0; i < narrow; ++i) {
    _mm512_mask_storeu_ps(weight + i * step, first(wide), _mm512_castsi512_ps(rows[i]));
  }
#else
  for (int64_t i = 0; i < narrow; ++i) {
    for (int64_t j = 0; j < wide; ++j) weight[i * step + j] = sums[j * kTile + i];
  }
#endif
}

// Adds to the sums of cells [begin, end), or begins them. `rows` holds the wide side as [planes][channels][row],
// `pairs` the narrow one as tiles, `next` numbers from those of 16 channels to the next; chunk k begins at `offsets[k]`
// in a row.
inline void add_cells(const Problem& p, const WeightCells& cells, int64_t begin, int64_t end, const uint16_t* rows,
                      int64_t row, const int64_t* offsets, const uint16_t* pairs, int64_t next, int64_t pitch,
                      int64_t steps, bool first_time, float* sums) {
  const Tiles scope;
  (void)scope;
  const int64_t wide_tiles = (p.wide + kTile - 1) / kTile, narrow_tiles = (p.narrow + kTile - 1) / kTile;
  for (int64_t cell = begin, same; cell < end; cell = same) {
    const int64_t wide = 2 * cells.wide(cell), narrow = 2 * cells.narrow(cell);
    for (same = cell + 1; same < end && 2 * cells.wide(same) == wide && 2 * cells.narrow(same) == narrow;) ++same;
    const int rows_of_tiles = wide + 1 < wide_tiles ? 2 : 1, columns_of_tiles = narrow + 1 < narrow_tiles ? 2 : 1;
    const auto add = rows_of_tiles == 2 ? (columns_of_tiles == 2 ? accumulate<2, 2> : accumulate<2, 1>)
                                        : (columns_of_tiles == 2 ? accumulate<1, 2> : accumulate<1, 1>);
    // In blocks of positions that stay in the first-level cache while the whole window goes over them.
    for (int64_t first = 0; first < steps; first += kBlockSteps) {
      const uint16_t* to = pairs + narrow * next + first * kNumbers;
      float* at = sums + (cell - begin) * kSums;
      for (int64_t i = cell; i < same; ++i, at += kSums) {
        const Tap& tap = cells.tap(i);
        add(rows + (tap.plane * wide_tiles + wide) * kTile * row + tap.down * pitch + tap.across, row * 2,
            offsets + first, to, next, std::min<int64_t>(steps - first, kBlockSteps), first_time && first == 0, at);
      }
    }
  }
}

// The sums of cells [begin, end) into the weight [narrow, rows, columns, wide].
inline void put_cells(const Problem& p, const WeightCells& cells, int64_t begin, int64_t end, const float* sums,
                      float* weight) {
  const int64_t step = p.rows * p.columns * p.wide;
  for (int64_t cell = begin; cell < end; ++cell, sums += kSums) {
    const int64_t wide = 2 * kTile * cells.wide(cell), narrow = 2 * kTile * cells.narrow(cell);
    const int64_t columns = p.narrow - narrow > kTile ? 2 : 1;
    const Tap& tap = cells.tap(cell);
    float* const to = weight + narrow * step + (tap.row * p.columns + tap.column) * p.wide + wide;
    for (int64_t i = 0; i < 2 && wide + i * kTile < p.wide; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        put(sums + (i * columns + j) * kTile * kTile, std::min<int64_t>(p.wide - wide - i * kTile, kTile),
            std::min<int64_t>(p.narrow - narrow - j * kTile, kTile), to + j * kTile * step + i * kTile, step);
      }
    }
  }
}

// Pixels that lie `step` numbers apart, one behind the other.
inline void copy_pixels(const uint16_t* from, int64_t step, int64_t channels, int64_t count, uint16_t* to) {
#if GANENGINE_TILES_PRODUCTS > 0
  const int64_t whole = channels / kChunk * kChunk;
  const __mmask32 rest = static_cast<__mmask32>((uint64_t{1} << (channels - whole)) - 1);
  for (int64_t i = 0; i < count; ++i, from += step, to += channels) {
    for (int64_t c = 0; c < whole; c += kChunk) _mm512_storeu_si512(to + c, _mm512_loadu_si512(from + c));
    if (rest) _mm512_mask_storeu_epi16(to + whole, rest, _mm512_maskz_loadu_epi16(rest, from + whole));
  }
#else
  for (int64_t i = 0; i < count; ++i) std::memcpy(to + i * channels, from + i * step, channels * sizeof(uint16_t));
#endif
}

// The sum of some pixels.
inline void add_pixels(const uint16_t* const* pixels, int64_t count, int64_t channels, uint16_t* to) {
#if GANENGINE_TILES_PRODUCTS > 0
  for (int64_t c = 0; c < channels; c += kTile) {
    const __mmask16 mask = first(channels - c);
    __m512 sum = load_floats(pixels[0] + c, mask);
    for (int64_t i = 1; i < count; ++i) sum = _mm512_maskz_add_ps(0xffff, sum, load_floats(pixels[i] + c, mask));
    _mm256_mask_storeu_epi16(to + c, mask, rounded(sum));
  }
#else
  for (int64_t c = 0; c < channels; ++c) {
    float sum = widened(pixels[0][c]);
    for (int64_t i = 1; i < count; ++i) sum += widened(pixels[i][c]);
    to[c] = rounded(sum);
  }
#endif
}

#undef TILE_ZERO
#undef TILE_LOAD
#undef TILE_STORE
#undef TILE_DOT

}  // namespace ganengine::convolution::GANENGINE_TILES
