// Element types of the data, as kernels store them. Arithmetic on the two 16-bit types is done in float.
#pragma once

#include <cstdint>
#include <type_traits>

namespace ganengine {

struct bfloat16 {
  uint16_t bits;
};

struct float16 {
  uint16_t bits;
};

// The type of sums, statistics and small tensors beside data of type T.
template <typename T>
struct AccumulatorOf {
  using type = float;
};
template <>
struct AccumulatorOf<double> {
  using type = double;
};
template <typename T>
using Accumulator = typename AccumulatorOf<T>::type;

}  // namespace ganengine
