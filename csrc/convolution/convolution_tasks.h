// How the work of a convolution is cut into tasks and shared out, and the memory that a thread keeps for it.
#pragma once

#include <torch/csrc/stable/ops.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>

#include "convolution/convolution.h"

namespace ganengine::convolution {

constexpr int64_t kThreadProducts = 1 << 22;  // multiplications below which another thread costs more than it saves

inline int64_t up(int64_t value, int64_t step) { return (value + step - 1) / step; }
inline int64_t rounded_up(int64_t value, int64_t step) { return up(value, step) * step; }

// Memory that a thread keeps from call to call, on whole cache lines.
template <typename T>
class Kept {
 public:
  T* at_least(int64_t count) {
    if (count > count_) {
      at_.reset(static_cast<T*>(std::aligned_alloc(64, rounded_up(count * static_cast<int64_t>(sizeof(T)), 64))));
      count_ = at_ ? count : 0;
      if (!at_) throw std::bad_alloc();
    }
    return at_.get();
  }

 private:
  struct Free {
    void operator()(void* at) const { std::free(at); }
  };
  std::unique_ptr<T, Free> at_;
  int64_t count_ = 0;
};

// Where a picture of `size` has its reflection of place i, no further outside than it is large.
inline int64_t reflected(int64_t i, int64_t size) {
  const int64_t inside = i < 0 ? -i : i;
  return inside < size ? inside : 2 * (size - 1) - inside;
}

// How a result of `lines` by `pitch` positions for each of n pictures is cut into tasks: some pictures, or a band of
// one.
struct Tasks {
  Tasks(int64_t n, int64_t lines, int64_t halo, int64_t pitch, int64_t positions, int64_t threads)
      : n(n), lines(lines) {
    kept = std::clamp<int64_t>(positions / pitch - halo, 1, lines);
    if (n < threads) kept = std::min(kept, up(lines, up(threads, n)));
    bands = up(lines, kept);
    kept = up(lines, bands);
    pictures = bands > 1 ? 1 : std::clamp<int64_t>(positions / ((lines + halo) * pitch), 1, up(n, threads));
    groups = up(n, pictures);
  }
  int64_t count() const { return groups * bands; }
  int64_t first_picture(int64_t task) const { return task / bands * pictures; }
  int64_t pictures_of(int64_t task) const { return std::min(pictures, n - first_picture(task)); }
  int64_t first_line(int64_t task) const { return task % bands * kept; }
  int64_t kept_of(int64_t task) const { return std::min(kept, lines - first_line(task)); }

  int64_t n, lines, kept, bands, pictures, groups;
};

inline int64_t threads_for_products(int64_t products) {
  return std::clamp<int64_t>(products / kThreadProducts, 1, torch::stable::get_num_threads());
}

inline int64_t products(const Problem& p) { return p.n * p.down * p.across * p.narrow * p.rows * p.columns * p.wide; }

}  // namespace ganengine::convolution
