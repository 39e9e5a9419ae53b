// Work shared out over torch's own threads.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdint>

namespace ganengine {

// Elements below which starting another thread costs more than it saves.
constexpr int64_t kThreadElements = 16384;

// How many items of `elements` elements a thread gets at least.
inline int64_t grain(int64_t elements) {
  return std::max<int64_t>(1, kThreadElements / std::max<int64_t>(elements, 1));
}

// Into how many ranges to cut `items` of `elements` each where every range needs memory of its own.
inline int64_t threads_for(int64_t items, int64_t elements) {
  const int64_t threads = torch::stable::get_num_threads();
  return std::clamp<int64_t>(items / grain(elements), 1, threads);
}

// Calls f(begin, end) for ranges that cover [0, items); f must not throw.
template <typename F>
inline void parallel_for(int64_t items, int64_t least, const F& f) {
  if (items <= least) {
    f(int64_t{0}, items);
  } else {
    torch::stable::parallel_for(0, items, least, f);
  }
}

}  // namespace ganengine
