// CPU kernels of the PatchGAN loss for one instruction set (common/isa.h); the formulas are in
// ganengine/ops/patchgan_loss.py.

namespace ganengine::patchgan_loss::GANENGINE_ISA {

using namespace simd::GANENGINE_ISA;

// Logits whose 1 + e^-|l|, each at most 2, have a product within double; a multiple of all vectors.
constexpr int64_t kFactors = 1008;
// Vectors that are added up before they go into double. Losses of either sign cancel, and their mean is to be as good
// as each of them: those go there at once.
template <Mode kMode>
constexpr int64_t kRun = kMode == Mode::linear ? 1 : 16;

// f of a vector of logits; of bce without log(1 + e^-|l|).
template <Mode kMode, typename A>
GANENGINE_INLINE Vector<A> value_of(Vector<A> l, A target) {
  const Vector<A> t = splat(target), zero{};
  if constexpr (kMode == Mode::bce) {
    // log(1 + e^l) = max(l, 0) + log(1 + e^-|l|). Written from -l, so that the large parts cancel exactly where the
    // loss is small, and infinite logits give what the reference gives.
    return fma(splat(A(1) - target), l, larger(-l, zero));
  } else if constexpr (kMode == Mode::ls) {
    const Vector<A> d = l - t;
    return d * d;
  } else if constexpr (kMode == Mode::hinge) {
    const Vector<A> margin = A(1) - t * l;
    return margin <= zero ? zero : margin;
  } else {
    return -t * l;
  }
}

// f' of a vector of logits.
template <Mode kMode, typename A>
GANENGINE_INLINE Vector<A> slope_of(Vector<A> l, A target) {
  const Vector<A> t = splat(target), zero{};
  if constexpr (kMode == Mode::bce) {
    const Vector<A> e = exp_negative(-magnitude(l));
    return fma(l < zero ? e : splat(A(1)), reciprocal(A(1) + e), -t);
  } else if constexpr (kMode == Mode::ls) {
    const Vector<A> d = l - t;
    return d + d;
  } else if constexpr (kMode == Mode::hinge) {
    return t * l < splat(A(1)) ? -t : zero;
  } else {
    return -t;
  }
}

// x with 1 + x = (1 + a) (1 + b), without the 1, which would take the digits of small numbers.
template <typename V>
GANENGINE_INLINE V join(V a, V b) {
  return fma(a, b, a + b);
}

// Adds the lanes of v to a sum in double, or multiplies them into a product of which x is what it exceeds 1 by.
template <typename A>
GANENGINE_INLINE void add(Vector<double>& total, Vector<A> v) {
  A lanes[kLanes<A>];
  store(static_cast<A*>(lanes), v);
  for (int64_t i = 0; i < kLanes<A>; i += kLanes<double>) total += load_double(lanes + i);
}
template <typename A>
GANENGINE_INLINE void multiply(Vector<double>& x, Vector<A> v) {
  A lanes[kLanes<A>];
  store(static_cast<A*>(lanes), v);
  for (int64_t i = 0; i < kLanes<A>; i += kLanes<double>) x = join(x, load_double(lanes + i));
}

// The sum of f over at most kFactors logits. Their log(1 + e^-|l|) are one log, of the product.
template <Mode kMode, typename T>
GANENGINE_INLINE double sum_few(const T* logits, int64_t m, Accumulator<T> target) {
  using A = Accumulator<T>;
  Vector<double> total{}, excess{};
  int64_t j = 0;
  while (j < m) {
    Vector<A> sum{}, run{};
    const int64_t full = std::min((m - j) / kLanes<A>, kRun<kMode>);
    for (int64_t k = 0; k < full; ++k, j += kLanes<A>) {
      const Vector<A> l = load(logits + j);
      sum += value_of<kMode, A>(l, target);
      if constexpr (kMode == Mode::bce) run = join(run, exp_negative(-magnitude(l)));
    }
    if (full < kRun<kMode> && j < m) {
      const Vector<A> l = load(logits + j, m - j), none{};
      const Mask<A> there = first_lanes<A>(m - j);
      sum += there ? value_of<kMode, A>(l, target) : none;
      if constexpr (kMode == Mode::bce) run = join(run, there ? exp_negative(-magnitude(l)) : none);
      j = m;
    }
    add<A>(total, sum);
    if constexpr (kMode == Mode::bce) multiply<A>(excess, run);
  }
  if constexpr (kMode != Mode::bce) return sum<double>(total);
  double whole = 0;
  for (int64_t i = 0; i < kLanes<double>; ++i) whole += excess[i] + whole * excess[i];
  return sum<double>(total) + __builtin_log1p(whole);
}

// The sum of f.
template <Mode kMode, typename T>
double sum_values(const T* logits, int64_t m, Accumulator<T> target) {
  double total = 0;
  for (int64_t j = 0; j < m; j += kFactors) {
    total += sum_few<kMode>(logits + j, std::min(kFactors, m - j), target);
  }
  return total;
}

// Writes f' times a factor.
template <Mode kMode, typename T>
void write_grads(const T* logits, T* grads, int64_t m, Accumulator<T> target, Accumulator<T> factor) {
  using A = Accumulator<T>;
  const Vector<A> scale = splat(factor);
  int64_t j = 0;
  for (; j + kLanes<A> <= m; j += kLanes<A>) store(grads + j, slope_of<kMode, A>(load(logits + j), target) * scale);
  if (j < m) store(grads + j, slope_of<kMode, A>(load(logits + j, m - j), target) * scale, m - j);
}

template <typename T>
Kernels<T> kernels() {
  return {
      {&sum_values<Mode::bce, T>, &sum_values<Mode::ls, T>, &sum_values<Mode::hinge, T>, &sum_values<Mode::linear, T>},
      {&write_grads<Mode::bce, T>, &write_grads<Mode::ls, T>, &write_grads<Mode::hinge, T>,
       &write_grads<Mode::linear, T>}};
}

}  // namespace ganengine::patchgan_loss::GANENGINE_ISA
