// From a tensor's dtype to an element type.
#pragma once

#include "common/checks.h"
#include "common/storage.h"

namespace ganengine {

// Calls f with a value of the element type; check_data has refused other dtypes.
template <typename F>
inline void visit(ScalarType type, const F& f) {
  switch (type) {
    case ScalarType::BFloat16:
      return f(bfloat16{});
    case ScalarType::Half:
      return f(float16{});
    case ScalarType::Double:
      return f(double{});
    default:
      return f(float{});
  }
}

}  // namespace ganengine
