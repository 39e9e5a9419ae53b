// Device code of the PatchGAN loss, and the host code that strings its kernels together; the tests run both in the
// emulator. The formulas are in ganengine/ops/patchgan_loss.py.
//
// Forward makes the sum of f over each tile of a sample (of the batch, where samples need not be told apart), then a
// second kernel adds up the tiles. Backward writes f' times its factor. Each reads every logit once. No atomics: the
// same shapes give the same bits.
#pragma once

#include <vector>

#include "common/cuda_reduce.cuh"
#include "patchgan_loss/patchgan_loss.h"

namespace ganengine::patchgan_loss {

constexpr int kMaps = 8;  // of one launch; more maps are more launches

struct Limits {
  int64_t tile = 2048;   // logits, at least
  int64_t tiles = 1024;  // of a map and sample, at most
  int64_t blocks = kMostBlocks;
};

// Some of the maps, as a kernel takes them.
template <typename T>
struct Maps {
  const T* from[kMaps];      // logits
  T* to[kMaps];              // gradients, backward
  Wide<T> targets[kMaps];    // where there is none per sample
  Wide<T> shares[kMaps];     // what grad_loss is divided by
  int64_t logits[kMaps];     // of a sample
  int64_t tile[kMaps];       // logits of a tile
  int64_t tiles[kMaps];      // of a sample
  int64_t items[kMaps + 1];  // tiles of all samples of the maps before
  int count;
};

// A tile of one sample of one map.
struct Item {
  int map;
  int64_t sample, begin, end;

  template <typename T>
  GANENGINE_DEVICE Item(const Maps<T>& maps, int64_t number) : map(0) {
    while (number >= maps.items[map + 1]) ++map;
    number -= maps.items[map];
    sample = number / maps.tiles[map];
    begin = (number - sample * maps.tiles[map]) * maps.tile[map];
    end = begin + maps.tile[map] < maps.logits[map] ? begin + maps.tile[map] : maps.logits[map];
  }
};

// f at one logit.
template <typename A>
GANENGINE_DEVICE A value_of(Mode mode, A logit, A target) {
  switch (mode) {
    case Mode::bce: {  // by e^-|l|, which cannot overflow
      const A log_sigmoid = (logit < A(0) ? logit : A(0)) - std::log1p(std::exp(-std::abs(logit)));
      return (A(1) - target) * logit - log_sigmoid;
    }
    case Mode::ls: {
      const A off = logit - target;
      return off * off;
    }
    case Mode::hinge: {
      const A margin = A(1) - target * logit;
      return margin <= A(0) ? A(0) : margin;
    }
    default:
      return -target * logit;
  }
}

// f' at one logit.
template <typename A>
GANENGINE_DEVICE A slope_of(Mode mode, A logit, A target) {
  switch (mode) {
    case Mode::bce: {
      const A tail = std::exp(-std::abs(logit));
      return (logit >= A(0) ? A(1) : tail) / (A(1) + tail) - target;
    }
    case Mode::ls:
      return A(2) * (logit - target);
    case Mode::hinge:
      return target * logit < A(1) ? -target : A(0);
    default:
      return -target;
  }
}

// `samples`: a target per sample, or null. `parts`: a sum per item.
template <typename T, int V>
__global__ void forward_kernel(const __grid_constant__ Maps<T> maps, const Wide<T>* __restrict__ samples, Mode mode,
                               Sum<Wide<T>>* __restrict__ parts) {
  using A = Wide<T>;
  for (int64_t number = blockIdx.x; number < maps.items[maps.count]; number += gridDim.x) {
    const Item item(maps, number);
    const A target = samples != nullptr ? samples[item.sample] : maps.targets[item.map];
    const T* const from = maps.from[item.map] + item.sample * maps.logits[item.map];
    Sum<A> sum{};
    for (int64_t i = item.begin + threadIdx.x * V; i < item.end; i += blockDim.x * V) {
      const Pack<T, V> logits = load<V>(from + i);
#pragma unroll
      for (int j = 0; j < V; ++j) sum.value += value_of(mode, widen(logits.at[j]), target);
    }
    sum = reduce_block(sum);
    if (threadIdx.x == 0) parts[number] = sum;
  }
}

// A block makes one number of the loss: adds `samples` samples of each map, each map as a mean, to the loss so far.
template <typename T>
__global__ void add_parts_kernel(const __grid_constant__ Maps<T> maps, const Sum<Wide<T>>* __restrict__ parts,
                                 int64_t samples, int64_t numbers, Wide<T> share, bool first,
                                 Wide<T>* __restrict__ loss) {
  using A = Wide<T>;
  for (int64_t number = blockIdx.x; number < numbers; number += gridDim.x) {
    A total = A(0);
    for (int map = 0; map < maps.count; ++map) {
      const int64_t count = samples * maps.tiles[map];
      const Sum<A>* const own = parts + maps.items[map] + number * count;
      Sum<A> sum{};
      for (int64_t i = threadIdx.x; i < count; i += blockDim.x) sum = merge(sum, own[i]);
      total += reduce_block(sum).total() / static_cast<A>(samples * maps.logits[map]);
    }
    if (threadIdx.x == 0) loss[number] = total * share + (first ? A(0) : loss[number]);
  }
}

// Writes f' times grad_loss / share. `each`: grad_loss is [N], else one number.
template <typename T, int V>
__global__ void backward_kernel(const __grid_constant__ Maps<T> maps, const Wide<T>* __restrict__ samples, Mode mode,
                                const Wide<T>* __restrict__ grad_loss, bool each) {
  using A = Wide<T>;
  for (int64_t number = blockIdx.x; number < maps.items[maps.count]; number += gridDim.x) {
    const Item item(maps, number);
    const A target = samples != nullptr ? samples[item.sample] : maps.targets[item.map];
    const A scale = grad_loss[each ? item.sample : 0] / maps.shares[item.map];
    const int64_t sample = item.sample * maps.logits[item.map];
    const T* const from = maps.from[item.map] + sample;
    T* const to = maps.to[item.map] + sample;
    for (int64_t i = item.begin + threadIdx.x * V; i < item.end; i += blockDim.x * V) {
      const Pack<T, V> logits = load<V>(from + i);
      A values[V];
#pragma unroll
      for (int j = 0; j < V; ++j) values[j] = slope_of(mode, widen(logits.at[j]), target) * scale;
      store_narrow<V>(to + i, values);
    }
  }
}

// ----------------------------------------------------------------------------------------------------------------------
// Host: geometry and order of the launches.

// One map of a call.
template <typename T>
struct View {
  const T* from;
  T* to;           // null: forward
  int64_t logits;  // of a sample
  Wide<T> target;  // where there is none per sample
};

// The maps from `begin` on that one launch takes, cut into tiles of packs of `vector`.
template <typename T>
Maps<T> maps_of(const std::vector<View<T>>& views, size_t begin, int64_t samples, int vector, const Limits& limits) {
  Maps<T> maps{};
  for (size_t k = begin; k < views.size() && maps.count < kMaps; ++k, ++maps.count) {
    const View<T>& view = views[k];
    const int64_t least = ceil_div(view.logits, limits.tiles);
    const int s = maps.count;
    maps.from[s] = view.from;
    maps.to[s] = view.to;
    maps.targets[s] = view.target;
    maps.logits[s] = view.logits;
    maps.tile[s] = ceil_div(least > limits.tile ? least : limits.tile, vector) * vector;
    maps.tiles[s] = ceil_div(view.logits, maps.tile[s]);
    maps.items[s + 1] = maps.items[s] + samples * maps.tiles[s];
  }
  return maps;
}

template <typename T>
int vector_of(const std::vector<View<T>>& views) {
  for (const View<T>& view : views) {
    if (view.logits % kVector<T> != 0 || !is_aligned(view.from, 16) || !is_aligned(view.to, 16)) return 1;
  }
  return kVector<T>;
}

// Where samples need not be told apart the batch is one sample.
template <typename T>
void merge_samples(std::vector<View<T>>& views, int64_t& samples) {
  for (View<T>& view : views) view.logits *= samples;
  samples = 1;
}

// Sums of scratch memory for `forward`.
template <typename T>
int64_t forward_scratch(std::vector<View<T>> views, int64_t samples, bool merged, const Limits& limits = {}) {
  if (merged) merge_samples(views, samples);
  int64_t most = 1;
  for (size_t begin = 0; begin < views.size(); begin += kMaps) {
    const Maps<T> maps = maps_of(views, begin, samples, 1, limits);
    if (maps.items[maps.count] > most) most = maps.items[maps.count];
  }
  return most;
}

// `targets`: a target per sample, or null. The loss is one number (mean) or [N].
template <typename T>
void forward(std::vector<View<T>> views, int64_t samples, const Wide<T>* targets, Mode mode, bool mean, Wide<T>* loss,
             Sum<Wide<T>>* scratch, cudaStream_t stream, const Limits& limits = {}) {
  using A = Wide<T>;
  const int64_t numbers = mean ? 1 : samples;
  const A share = A(1) / static_cast<A>(views.size());
  if (mean && targets == nullptr) merge_samples(views, samples);
  const int vector = vector_of(views);
  const auto patchgan_loss_forward = vector > 1 ? forward_kernel<T, kVector<T>> : forward_kernel<T, 1>;
  for (size_t begin = 0; begin < views.size() && numbers > 0; begin += kMaps) {
    const Maps<T> maps = maps_of(views, begin, samples, vector, limits);
    const int64_t items = maps.items[maps.count];
    if (items > 0) {
      GANENGINE_LAUNCH(patchgan_loss_forward, grid_size(items, limits.blocks), kThreads, 0, stream, maps, targets, mode,
                       scratch);
    }
    GANENGINE_LAUNCH((add_parts_kernel<T>), grid_size(numbers, limits.blocks), kThreads, 0, stream, maps, scratch,
                     mean ? samples : int64_t{1}, numbers, share, begin == 0, loss);
  }
}

// `targets`: a target per sample, or null. `grad_loss` is one number (mean) or [N].
template <typename T>
void backward(std::vector<View<T>> views, int64_t samples, const Wide<T>* targets, Mode mode, bool mean,
              const Wide<T>* grad_loss, cudaStream_t stream, const Limits& limits = {}) {
  const double together = static_cast<double>(views.size()) * static_cast<double>(mean ? samples : 1);
  std::vector<Wide<T>> shares;
  for (const View<T>& view : views) {
    shares.push_back(static_cast<Wide<T>>(together * static_cast<double>(view.logits)));
  }
  if (mean && targets == nullptr) merge_samples(views, samples);
  const int vector = vector_of(views);
  const auto patchgan_loss_backward = vector > 1 ? backward_kernel<T, kVector<T>> : backward_kernel<T, 1>;
  for (size_t begin = 0; begin < views.size(); begin += kMaps) {
    Maps<T> maps = maps_of(views, begin, samples, vector, limits);
    for (int k = 0; k < maps.count; ++k) maps.shares[k] = shares[begin + k];
    const int64_t items = maps.items[maps.count];
    if (items == 0) continue;
    GANENGINE_LAUNCH(patchgan_loss_backward, grid_size(items, limits.blocks), kThreads, 0, stream, maps, targets, mode,
                     grad_loss, !mean);
  }
}

}  // namespace ganengine::patchgan_loss
