// CPU kernels of Maxout for one instruction set (common/isa.h); the formulas are in ganengine/ops/maxout.py.

namespace ganengine::maxout::GANENGINE_ISA {

using namespace simd::GANENGINE_ISA;

// Which of as many elements of the mask's stream as a vector has lanes are kept, from element e on.
template <typename A>
GANENGINE_INLINE Mask<A> kept(const Problem& p, uint64_t e) {
  Mask<A> mask;
  if constexpr (sizeof(A) == 4) {
    Vector<uint64_t> w;
    for (int64_t i = 0; i < kLanes<uint64_t>; ++i) w[i] = static_cast<uint64_t>(i);
    const auto words = [&](uint64_t first) __attribute__((always_inline)) {
      Vector<uint64_t> z = (w + (first + 1)) * 0x9E3779B97F4A7C15u + p.seed;  // counter_word of maxout.h
      z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
      z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
      return z ^ (z >> 31);
    };
    Vector<uint64_t> bits = words(e >> 1);
    if (e & 1) bits = (bits >> 32) | (words((e >> 1) + 1) << 32);
    mask = (Vector<uint32_t>)bits >= splat(p.threshold);
  } else {
    for (int64_t i = 0; i < kLanes<A>; ++i) mask[i] = counter_bits(p.seed, e + i) >= p.threshold ? -1 : 0;
  }
  return mask;
}

// The maximum over pieces for the units [u, u + count) of sample n: its value and its winner.
template <bool kRelu, bool kDrop, typename T, typename A = Accumulator<T>>
GANENGINE_INLINE void unit_vector(const Problem& p, const T* h, const A* bias, int64_t n, int64_t u, int64_t count, T* y,
                                  uint8_t* winner) {
  using I = typename MaskOf<A>::type;
  const Vector<A> zero{}, scale = splat(static_cast<A>(p.scale));
  Vector<A> best{};
  Mask<A> which{};
  for (int64_t piece = 0; piece < p.pieces; ++piece) {
    const int64_t at = piece * p.units + u;
    const bool whole = count == kLanes<A>;
    Vector<A> a = whole ? load(h + at) : load(h + at, count);
    if (bias != nullptr) a += whole ? load(bias + at) : load(bias + at, count);
    Mask<A> constant{};
    if constexpr (kRelu) {
      constant = a <= zero;
      a = constant ? zero : a;
    }
    if constexpr (kDrop) {
      const Mask<A> keep = kept<A>(p, p.offset + static_cast<uint64_t>(n * p.pieces * p.units + at));
      constant |= ~keep;
      a = keep ? a * scale : zero;
    }
    const Mask<A> code = constant ? splat<I>(kNoGradient) : splat<I>(static_cast<I>(piece));
    // Strictly above: ties stay with the first. The first NaN wins and stays, as in torch.
    const Mask<A> above = piece == 0 ? zero == zero : (~(a <= best) & (best == best));
    best = above ? a : best;
    which = above ? code : which;
  }
  I codes[kLanes<A>];
  store(static_cast<I*>(codes), which);
  if (count == kLanes<A>) {
    store(y, best);
    for (int64_t i = 0; i < kLanes<A>; ++i) winner[i] = static_cast<uint8_t>(codes[i]);
  } else {
    store(y, best, count);
    for (int64_t i = 0; i < count; ++i) winner[i] = static_cast<uint8_t>(codes[i]);
  }
}

template <bool kRelu, bool kDrop, typename T>
void forward(const Problem& p, const T* h, const Accumulator<T>* bias, T* y, uint8_t* winner, int64_t begin,
             int64_t end) {
  constexpr int64_t kStep = kLanes<Accumulator<T>>;
  for (int64_t n = begin; n < end; ++n) {
    for (int64_t u = 0; u < p.units; u += kStep) {
      const int64_t count = p.units - u < kStep ? p.units - u : kStep, at = n * p.units + u;
      unit_vector<kRelu, kDrop>(p, h + n * p.pieces * p.units, bias, n, u, count, y + at, winner + at);
    }
  }
}

// Spreads grad_y over the pieces of grad_h, and sums it over the samples into grad_bias, for the units [begin, end).
template <typename T>
void backward(const Problem& p, const T* grad_y, const uint8_t* winner, T* grad_h, Accumulator<T>* grad_bias,
              int64_t begin, int64_t end) {
  using A = Accumulator<T>;
  using I = typename MaskOf<A>::type;
  const Vector<A> zero{}, scale = splat(static_cast<A>(p.scale));
  for (int64_t piece = 0; piece < p.pieces; ++piece) {
    for (int64_t u = begin; u < end; ++u) grad_bias[piece * p.units + u] = 0;
  }
  for (int64_t n = 0; n < p.n; ++n) {
    for (int64_t u = begin; u < end; u += kLanes<A>) {
      const int64_t count = end - u < kLanes<A> ? end - u : kLanes<A>, at = n * p.units + u;
      I codes[kLanes<A>] = {};
      for (int64_t i = 0; i < count; ++i) codes[i] = winner[at + i];
      const Mask<A> which = load(static_cast<const I*>(codes));
      const Vector<A> grad = load(grad_y + at, count) * scale;
      for (int64_t piece = 0; piece < p.pieces; ++piece) {
        const Vector<A> g = which == splat<I>(static_cast<I>(piece)) ? grad : zero;
        A* sum = grad_bias + piece * p.units + u;
        store(grad_h + (n * p.pieces + piece) * p.units + u, g, count);
        store(sum, load(static_cast<const A*>(sum), count) + g, count);
      }
    }
  }
}

template <typename T>
Kernels<T> kernels(bool relu, bool drop) {
  return {relu ? (drop ? &forward<true, true, T> : &forward<true, false, T>)
               : (drop ? &forward<false, true, T> : &forward<false, false, T>),
          &backward<T>};
}

}  // namespace ganengine::maxout::GANENGINE_ISA
