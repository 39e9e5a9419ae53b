// CPU kernels of Maxout for one instruction set (common/isa.h); the formulas are in ganengine/ops/maxout.py.

namespace ganengine::maxout::GANENGINE_ISA {

using namespace simd::GANENGINE_ISA;

// counter_word of maxout.h for as many words as a vector holds, from word `first` on.
GANENGINE_INLINE Vector<uint64_t> counter_words(uint64_t seed, uint64_t first) {
  constexpr uint64_t kGamma = 0x9E3779B97F4A7C15u;
  Vector<uint64_t> z;
  for (int64_t i = 0; i < kLanes<uint64_t>; ++i) z[i] = static_cast<uint64_t>(i + 1) * kGamma;
  z += seed + first * kGamma;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// Which of as many elements of the mask's stream as a vector has lanes are kept, from element e on.
template <typename A>
GANENGINE_INLINE Mask<A> kept(const Problem& p, uint64_t e) {
  if constexpr (sizeof(A) == 4) {
    Vector<uint64_t> bits = counter_words(p.seed, e >> 1);
    if (e & 1) bits = (bits >> 32) | (counter_words(p.seed, (e >> 1) + 1) << 32);
    return (Vector<uint32_t>)bits >= splat(p.threshold);
  } else {
    Mask<A> mask;
    for (int64_t i = 0; i < kLanes<A>; ++i) mask[i] = counter_bits(p.seed, e + i) >= p.threshold ? -1 : 0;
    return mask;
  }
}

template <typename A>
struct Candidate {
  Vector<A> value;
  Mask<A> code;  // the piece's number, or kNoGradient where the value is a constant 0
};

// What a piece offers for a vector of units; `e` is the place of its first element in the mask's stream.
template <bool kRelu, bool kDrop, typename A>
GANENGINE_INLINE Candidate<A> offer(const Problem& p, Vector<A> a, int64_t piece, uint64_t e) {
  using I = typename MaskOf<A>::type;
  const Vector<A> zero{};
  const Mask<A> number = splat<I>(static_cast<I>(piece)), none = splat<I>(kNoGradient);
  Mask<A> code = number;
  if constexpr (kRelu) {
    const Mask<A> clipped = a <= zero;
    code = clipped ? none : code;
    a = clipped ? zero : a;
  }
  if constexpr (kDrop) {
    const Mask<A> keep = kept<A>(p, e);
    code = keep ? code : none;
    a = keep ? a * splat(static_cast<A>(p.scale)) : zero;
  }
  return {a, code};
}

// The maximum over pieces for the units [u, u + count) of one sample; `e` is the place of the sample in the stream.
template <bool kRelu, bool kDrop, bool kWhole, typename T, typename A = Accumulator<T>>
GANENGINE_INLINE void unit_vector(const Problem& p, const T* h, const A* bias, uint64_t e, int64_t u, int64_t count,
                                  T* y, uint8_t* winner) {
  Candidate<A> best{};
  for (int64_t piece = 0; piece < p.pieces; ++piece) {
    const int64_t at = piece * p.units + u;
    Vector<A> a = kWhole ? load(h + at) : load(h + at, count);
    if (bias != nullptr) a += kWhole ? load(bias + at) : load(bias + at, count);
    const Candidate<A> next = offer<kRelu, kDrop, A>(p, a, piece, e + static_cast<uint64_t>(at));
    if (piece == 0) {
      best = next;
      continue;
    }
    // Strictly above: ties stay with the first. The first NaN wins and stays, as in torch.
    const Mask<A> above = ~(next.value <= best.value) & (best.value == best.value);
    best.value = above ? next.value : best.value;
    best.code = above ? next.code : best.code;
  }
  if constexpr (kWhole) {
    store(y, best.value);
    store_bytes(winner, best.code);
  } else {
    store(y, best.value, count);
    uint8_t bytes[kLanes<A>];
    store_bytes(bytes, best.code);
    __builtin_memcpy(winner, bytes, count);
  }
}

template <bool kRelu, bool kDrop, typename T>
void forward(const Problem& p, const T* h, const Accumulator<T>* bias, T* y, uint8_t* winner, int64_t begin,
             int64_t end) {
  constexpr int64_t kStep = kLanes<Accumulator<T>>;
  const int64_t features = p.pieces * p.units;
  for (int64_t n = begin; n < end; ++n) {
    const T* row = h + n * features;
    const uint64_t e = p.offset + static_cast<uint64_t>(n * features);
    T* out = y + n * p.units;
    uint8_t* which = winner + n * p.units;
    int64_t u = 0;
    for (; u + kStep <= p.units; u += kStep) {
      unit_vector<kRelu, kDrop, true>(p, row, bias, e, u, kStep, out + u, which + u);
    }
    if (u < p.units) unit_vector<kRelu, kDrop, false>(p, row, bias, e, u, p.units - u, out + u, which + u);
  }
}

// Spreads the gradients of samples [n, n + kSamples) over the pieces of units [u, u + count), and adds them to the
// bias's gradient. Several samples at a time, as that sum goes through memory.
template <int kSamples, bool kWhole, typename T, typename A = Accumulator<T>>
GANENGINE_INLINE void spread(const Problem& p, const T* grad_y, const uint8_t* winner, T* grad_h, A* grad_bias,
                             int64_t n, int64_t u, int64_t count) {
  using I = typename MaskOf<A>::type;
  const Vector<A> scale = splat(static_cast<A>(p.scale));
  Vector<A> grad[kSamples];
  Mask<A> which[kSamples];
  for (int k = 0; k < kSamples; ++k) {
    const int64_t at = (n + k) * p.units + u;
    if constexpr (kWhole) {
      grad[k] = load(grad_y + at) * scale;
      which[k] = load_bytes(winner + at, I{});
    } else {
      uint8_t bytes[kLanes<A>] = {};
      __builtin_memcpy(bytes, winner + at, count);
      grad[k] = load(grad_y + at, count) * scale;
      which[k] = load_bytes(bytes, I{});
    }
  }
  for (int64_t piece = 0; piece < p.pieces; ++piece) {
    const Mask<A> number = splat<I>(static_cast<I>(piece));
    A* total = grad_bias + piece * p.units + u;
    Vector<A> sum = kWhole ? load(static_cast<const A*>(total)) : load(static_cast<const A*>(total), count);
    for (int k = 0; k < kSamples; ++k) {
      const Vector<A> g = which[k] == number ? grad[k] : Vector<A>{};
      T* to = grad_h + ((n + k) * p.pieces + piece) * p.units + u;
      if constexpr (kWhole) {
        store(to, g);
      } else {
        store(to, g, count);
      }
      sum += g;
    }
    if constexpr (kWhole) {
      store(total, sum);
    } else {
      store(total, sum, count);
    }
  }
}

// grad_h and grad_bias from grad_y, for the units [begin, end) of all samples.
template <typename T>
void backward(const Problem& p, const T* grad_y, const uint8_t* winner, T* grad_h, Accumulator<T>* grad_bias,
              int64_t begin, int64_t end) {
  constexpr int64_t kStep = kLanes<Accumulator<T>>;
  constexpr int kSamples = 4;
  for (int64_t piece = 0; piece < p.pieces; ++piece) {
    for (int64_t u = begin; u < end; ++u) grad_bias[piece * p.units + u] = 0;
  }
  int64_t n = 0;
  for (; n + kSamples <= p.n; n += kSamples) {
    int64_t u = begin;
    for (; u + kStep <= end; u += kStep) {
      spread<kSamples, true>(p, grad_y, winner, grad_h, grad_bias, n, u, kStep);
    }
    if (u < end) spread<kSamples, false>(p, grad_y, winner, grad_h, grad_bias, n, u, end - u);
  }
  for (; n < p.n; ++n) {
    int64_t u = begin;
    for (; u + kStep <= end; u += kStep) spread<1, true>(p, grad_y, winner, grad_h, grad_bias, n, u, kStep);
    if (u < end) spread<1, false>(p, grad_y, winner, grad_h, grad_bias, n, u, end - u);
  }
}

template <typename T>
Kernels<T> kernels(bool relu, bool drop) {
  return {relu ? (drop ? &forward<true, true, T> : &forward<true, false, T>)
               : (drop ? &forward<false, true, T> : &forward<false, false, T>),
          &backward<T>};
}

}  // namespace ganengine::maxout::GANENGINE_ISA
