// CPU kernels of the PatchGAN loss for one instruction set (common/isa.h); the formulas are in
// ganengine/ops/patchgan_loss.py.

namespace ganengine::patchgan_loss::GANENGINE_ISA {

using namespace simd::GANENGINE_ISA;

template <typename A>
struct Point {
  Vector<A> value, slope;
};

// f and f' of a vector of logits.
template <Mode kMode, typename A>
GANENGINE_INLINE Point<A> evaluate(Vector<A> l, A target) {
  const Vector<A> t = splat(target), zero{};
  if constexpr (kMode == Mode::bce) {
    // log(1 + e^l) = max(l, 0) + log(1 + e^-|l|). Written from -l, so that the large parts cancel exactly where the
    // loss is small, and infinite logits give what the reference gives.
    const Vector<A> e = exp_negative(-magnitude(l));
    const Vector<A> inverse = A(1) / (A(1) + e);
    const Vector<A> value = fma(splat(A(1) - target), l, larger(-l, zero)) + log1p_unit(e);
    return {value, (l < zero ? e * inverse : inverse) - t};
  } else if constexpr (kMode == Mode::ls) {
    const Vector<A> d = l - t;
    return {d * d, d + d};
  } else if constexpr (kMode == Mode::hinge) {
    const Vector<A> margin = A(1) - t * l;
    return {margin <= zero ? zero : margin, t * l < splat(A(1)) ? -t : zero};
  } else {
    return {-t * l, -t};
  }
}

// Adds the lanes of v to a sum in double.
template <typename A>
GANENGINE_INLINE void add(Vector<double>& total, Vector<A> v) {
  A lanes[kLanes<A>];
  store(static_cast<A*>(lanes), v);
  for (int64_t i = 0; i < kLanes<A>; i += kLanes<double>) total += load_double(lanes + i);
}

// Writes f' of one sample's logits and returns the sum of f.
template <Mode kMode, typename T>
double forward_sample(const T* logits, T* slopes, int64_t m, Accumulator<T> target) {
  using A = Accumulator<T>;
  // Losses of either sign cancel, and their mean is to be as good as each of them: those go into double at once. Those
  // of bce have one sign, so a few may be added up before.
  constexpr int64_t kRun = kMode == Mode::bce ? 16 : 1;
  Vector<double> total{};
  int64_t j = 0;
  while (j + kLanes<A> <= m) {
    Vector<A> sum{};
    for (int64_t k = 0; k < kRun && j + kLanes<A> <= m; ++k, j += kLanes<A>) {
      const Point<A> f = evaluate<kMode, A>(load(logits + j), target);
      sum += f.value;
      store(slopes + j, f.slope);
    }
    add<A>(total, sum);
  }
  if (j < m) {
    const Point<A> f = evaluate<kMode, A>(load(logits + j, m - j), target);
    add<A>(total, first_lanes<A>(m - j) ? f.value : Vector<A>{});
    store(slopes + j, f.slope, m - j);
  }
  return sum<double>(total);
}

// Writes slopes times a factor.
template <typename T>
void scale(const T* slopes, T* out, int64_t m, Accumulator<T> factor) {
  using A = Accumulator<T>;
  const Vector<A> f = splat(factor);
  int64_t j = 0;
  for (; j + kLanes<A> <= m; j += kLanes<A>) store(out + j, load(slopes + j) * f);
  if (j < m) store(out + j, load(slopes + j, m - j) * f, m - j);
}

template <typename T>
Kernels<T> kernels() {
  return {{&forward_sample<Mode::bce, T>, &forward_sample<Mode::ls, T>, &forward_sample<Mode::hinge, T>,
           &forward_sample<Mode::linear, T>},
          &scale<T>};
}

}  // namespace ganengine::patchgan_loss::GANENGINE_ISA
