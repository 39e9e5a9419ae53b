// What a kernel checks before it touches memory. Messages begin with the op's name, as an op can be called without its
// Python wrapper. Host code only; used by CPU and CUDA kernels alike.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <initializer_list>
#include <sstream>
#include <stdexcept>
#include <string>

namespace ganengine {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

// Throws "op: message" where the condition does not hold; Python sees a RuntimeError. (STD_TORCH_CHECK would put the
// build machine's paths into the message.)
template <typename... Parts>
inline void check(bool condition, const char* op, const Parts&... parts) {
  if (condition) return;
  std::ostringstream message;
  message << op << ": ";
  (message << ... << parts);
  throw std::runtime_error(message.str());
}

// float32, bfloat16, float16 or float64: what data may be.
inline bool is_data(ScalarType type) {
  return type == ScalarType::Float || type == ScalarType::BFloat16 || type == ScalarType::Half ||
         type == ScalarType::Double;
}

// The dtype that sums, statistics and small tensors have beside data of `type`.
inline ScalarType accumulation_type(ScalarType type) {
  return type == ScalarType::Double ? ScalarType::Double : ScalarType::Float;
}

// Sizes that read "[8, 64, 4, 4]". Only a message makes the text: an argument of a check that holds must cost nothing.
struct Described {
  torch::headeronly::IntHeaderOnlyArrayRef sizes;

  friend std::ostream& operator<<(std::ostream& text, const Described& described) {
    text << '[';
    for (size_t i = 0; i < described.sizes.size(); ++i) text << (i ? ", " : "") << described.sizes[i];
    return text << ']';
  }
};

inline Described describe(torch::headeronly::IntHeaderOnlyArrayRef sizes) { return {sizes}; }

inline void check_data(const char* op, const char* name, const Tensor& tensor) {
  check(is_data(tensor.scalar_type()), op, "expected ", name, " to be float32, bfloat16, float16 or float64");
}

// A tensor must have this shape and dtype and live where `like` lives.
inline void check_tensor(const char* op, const char* name, const Tensor& tensor, std::initializer_list<int64_t> shape,
                         ScalarType type, const Tensor& like) {
  const torch::headeronly::IntHeaderOnlyArrayRef expected(shape.begin(), shape.size());
  check(tensor.sizes() == expected, op, "expected ", name, ' ', describe(expected), ", got ", describe(tensor.sizes()));
  check(tensor.scalar_type() == type, op, "expected ", name, " of another dtype: data has its own, small tensors and ",
        "sums are float32, or float64 beside float64 data");
  check(tensor.device() == like.device(), op, "expected ", name, " on the device of the data");
}

}  // namespace ganengine
