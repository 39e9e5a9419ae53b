// CPU kernels of conditional batch norm for one instruction set (common/isa.h); the formulas are in
// ganengine/ops/conditional_batch_norm.py.
//
//   planes [N, C, M]   a thread takes a range of channels, in blocks whose data stay in its cache from one pass to the
//                      next; the second pass goes through the samples backwards, as the last ones are the nearest
//   rows   [N, M, C]   channels lie side by side: a thread takes a range of rows, and sums are merged in between

namespace ganengine::conditional_batch_norm::GANENGINE_ISA {

using namespace simd::GANENGINE_ISA;

constexpr int64_t kBlock = 64;  // channels that a block has at most

template <Activation kActivation, typename A>
GANENGINE_INLINE Vector<A> activated(Vector<A> z, A slope) {
  if constexpr (kActivation == Activation::relu) return larger(Vector<A>{}, z);
  return z <= Vector<A>{} ? z * slope : z;
}

template <Activation kActivation, typename A>
GANENGINE_INLINE Vector<A> activated_gradient(Vector<A> grad, Vector<A> z, A slope) {
  if constexpr (kActivation == Activation::relu) return z <= Vector<A>{} ? Vector<A>{} : grad;
  return z > Vector<A>{} ? grad : grad * slope;
}

// Stores that go past the cache: for whole, aligned vectors of results that it could not hold anyway.
template <typename T>
GANENGINE_INLINE void put(bool stream, T* p, Vector<Accumulator<T>> v) {
#if GANENGINE_VECTOR_BYTES == 64
  if (stream) {
    if constexpr (sizeof(T) == 2) {
      _mm256_stream_si256((__m256i*)p, (__m256i)narrow(v, T{}));
    } else {
      _mm512_stream_si512((__m512i*)p, (__m512i)v);
    }
    return;
  }
#elif GANENGINE_VECTOR_BYTES == 32
  if (stream) {
    if constexpr (sizeof(T) == 2) {
      _mm_stream_si128((__m128i*)p, (__m128i)narrow(v, T{}));
    } else {
      _mm256_stream_si256((__m256i*)p, (__m256i)v);
    }
    return;
  }
#else
  (void)stream;
#endif
  store(p, v);
}

GANENGINE_INLINE void finish_streaming() {
#if GANENGINE_VECTOR_BYTES >= 32
  _mm_sfence();
#endif
}

// ---- sums of x and x^2 about a shift that lies among the values
//
// In double for float data: cheap beside memory, and exact enough for any mean. 16-bit data, whose own rounding is far
// coarser, is summed in float over short runs.

template <typename T>
struct Moments {
  Vector<double> first{}, second{};
  double shift = 0;

  void begin(T value) {
    first = second = Vector<double>{};
    shift = value;
  }

  GANENGINE_INLINE void add(Vector<double> d) {
    first += d;
    second = fma(d, d, second);
  }

  GANENGINE_INLINE void add_row(const T* x, int64_t m) {
    const Vector<double> s = splat(shift);
    Moments total = *this;
    int64_t j = 0;
    for (; j + kLanes<double> <= m; j += kLanes<double>) total.add(load_double(x + j) - s);
    if (j < m) {
      Vector<double> d{};
      for (int64_t i = 0; i < m - j; ++i) d[i] = x[j + i] - shift;
      total.add(d);
    }
    first = total.first;
    second = total.second;
  }

  double sum_first() const { return sum<double>(first); }
  double sum_second() const { return sum<double>(second); }
};

template <typename T>
struct ShortMoments {
  Vector<float> first{}, second{};
  float shift = 0;
  int64_t run = 0;
  double first_total = 0, second_total = 0;
  static constexpr int64_t kRun = 64;

  void begin(T value) {
    *this = ShortMoments{};
    shift = load(&value, 1)[0];
  }

  GANENGINE_INLINE void add(Vector<float> d) {
    first += d;
    second = fma(d, d, second);
  }

  void flush() {
    first_total += sum<float>(first);
    second_total += sum<float>(second);
    first = second = Vector<float>{};
    run = 0;
  }

  GANENGINE_INLINE void add_row(const T* x, int64_t m) {
    const Vector<float> s = splat(shift);
    for (int64_t j = 0; j < m;) {
      const int64_t end = j + kRun * kLanes<float> < m ? j + kRun * kLanes<float> : m;
      const int64_t steps = (end - j + kLanes<float> - 1) / kLanes<float>;
      if (run + steps > kRun) flush();
      run += steps;
      for (; j + kLanes<float> <= end; j += kLanes<float>) add(load(x + j) - s);
      if (j < end) {
        add(first_lanes<float>(end - j) ? load(x + j, end - j) - s : Vector<float>{});
        j = end;
      }
    }
  }

  double sum_first() {
    flush();
    return first_total;
  }
  double sum_second() const { return second_total; }
};

template <typename T>
struct MomentsOf {
  using type = ShortMoments<T>;
};
template <>
struct MomentsOf<float> {
  using type = Moments<float>;
};
template <>
struct MomentsOf<double> {
  using type = Moments<double>;
};

// ---- planes

// Asks for the beginning of a plane that comes a block of channels later, or of a result that a later pass writes: the
// processor's own prefetching stops at the end of a page, and a block may have one page per sample.
template <typename T>
GANENGINE_INLINE void prefetch_plane(const T* plane, int64_t m) {
  constexpr int64_t kLine = 64 / sizeof(T);
  const int64_t end = m < 8 * kLine ? m : 8 * kLine;
  for (int64_t j = 0; j < end; j += kLine) __builtin_prefetch(plane + j);
}

template <typename T>
void statistics_planes(const Problem<T>& p, int64_t c, int64_t width) {
  typename MomentsOf<T>::type moments[kBlock];
  const double count = static_cast<double>(p.n * p.m);
  for (int64_t k = 0; k < width; ++k) moments[k].begin(p.x[(c + k) * p.m]);
  // In double data the shift itself must be the mean; else it only has to be near.
  for (int pass = 0; pass < (sizeof(T) == 8 ? 2 : 1); ++pass) {
    for (int64_t i = 0; i < p.n; ++i) {
      const int64_t at = (i * p.c + c) * p.m;
      const int64_t next = i + 1 < p.n ? p.c * p.m : 0;
      for (int64_t k = 0; k < width; ++k) {
        const int64_t plane = at + k * p.m;
        prefetch_plane(p.x + plane + next, p.m);
        if (!p.stream) prefetch_plane(p.out + plane, p.m);
        moments[k].add_row(p.x + plane, p.m);
      }
    }
    for (int64_t k = 0; k < width; ++k) {
      const double first = moments[k].sum_first();
      settle(first, moments[k].sum_second(), moments[k].shift, count, p.mean + c + k, p.var + c + k);
      if constexpr (sizeof(T) == 8) moments[k].begin(p.mean[c + k]);
    }
  }
}

// Statistics alone, of channels [begin, end).
template <typename T>
void statistics_blocks(const Problem<T>& p, int64_t begin, int64_t end) {
  for (int64_t c = begin; c < end; c += p.block) statistics_planes(p, c, end - c < p.block ? end - c : p.block);
}

template <Activation kActivation, typename T, typename A = Accumulator<T>>
GANENGINE_INLINE void normalise_plane(const Problem<T>& p, int64_t at, A mean, A scale, A shift) {
  const T* x = p.x + at;
  T* y = p.out + at;
  const int64_t m = p.m;
  const A slope = static_cast<A>(p.slope);
  const Vector<A> mu = splat(mean), a = splat(scale), b = splat(shift);
  int64_t j = 0;
  for (; j + kLanes<A> <= m; j += kLanes<A>) {
    put(p.stream, y + j, activated<kActivation>(fma(load(x + j) - mu, a, b), slope));
  }
  if (j < m) store(y + j, activated<kActivation>(fma(load(x + j, m - j) - mu, a, b), slope), m - j);
}

template <Activation kActivation, typename T>
void forward_planes(const Problem<T>& p, int64_t begin, int64_t end) {
  using A = Accumulator<T>;
  for (int64_t c = begin; c < end; c += p.block) {
    const int64_t width = end - c < p.block ? end - c : p.block;
    if (p.batch_statistics) statistics_planes(p, c, width);
    A rstd[kBlock];
    for (int64_t k = 0; k < width; ++k) rstd[k] = p.rstd(c + k);
    for (int64_t i = p.n - 1; i >= 0; --i) {
      const int64_t at = (i * p.c + c) * p.m, row = p.row(i) * p.c + c;
      for (int64_t k = 0; k < width; ++k) {
        normalise_plane<kActivation>(p, at + k * p.m, p.mean[c + k], p.gamma[row + k] * rstd[k], p.beta[row + k]);
      }
    }
  }
  if (p.stream) finish_streaming();
}

// Adds up, over one sample and channel, the gradient g of z and g (x - mean).
template <Activation kActivation, typename T, typename A = Accumulator<T>>
GANENGINE_INLINE void sum_plane(const Problem<T>& p, int64_t at, A mean, A scale, A shift, A* g_sum, A* gx_sum) {
  const T *x = p.x + at, *grad = p.grad + at;
  const int64_t m = p.m;
  const A slope = static_cast<A>(p.slope);
  const Vector<A> mu = splat(mean), a = splat(scale), b = splat(shift);
  Vector<A> s0{}, s1{}, t0{}, t1{};
  double s = 0, t = 0;
  int64_t j = 0;
  while (j + 2 * kLanes<A> <= m) {  // runs of 64 steps, so that rounding does not grow with the plane
    const int64_t end = j + 128 * kLanes<A> < m ? j + 128 * kLanes<A> : m;
    for (; j + 2 * kLanes<A> <= end; j += 2 * kLanes<A>) {
      const Vector<A> x0 = load(x + j) - mu, x1 = load(x + j + kLanes<A>) - mu;
      const Vector<A> g0 = activated_gradient<kActivation>(load(grad + j), fma(x0, a, b), slope);
      const Vector<A> g1 = activated_gradient<kActivation>(load(grad + j + kLanes<A>), fma(x1, a, b), slope);
      s0 += g0;
      s1 += g1;
      t0 = fma(g0, x0, t0);
      t1 = fma(g1, x1, t1);
    }
    if (j + 2 * kLanes<A> <= m) {
      s += sum<A>(s0 + s1);
      t += sum<A>(t0 + t1);
      s0 = s1 = t0 = t1 = Vector<A>{};
    }
  }
  if (j + kLanes<A> <= m) {
    const Vector<A> x0 = load(x + j) - mu;
    const Vector<A> g0 = activated_gradient<kActivation>(load(grad + j), fma(x0, a, b), slope);
    s0 += g0;
    t0 = fma(g0, x0, t0);
    j += kLanes<A>;
  }
  if (j < m) {
    const Vector<A> x0 = first_lanes<A>(m - j) ? load(x + j, m - j) - mu : Vector<A>{};
    const Vector<A> g0 = activated_gradient<kActivation>(load(grad + j, m - j), fma(x0, a, b), slope);
    s0 += g0;
    t0 = fma(g0, x0, t0);
  }
  *g_sum = static_cast<A>(s + sum<A>(s0 + s1));
  *gx_sum = static_cast<A>(t + sum<A>(t0 + t1));
}

#if __has_builtin(__builtin_shufflevector)
#define GANENGINE_SUMS_SMALL_PLANES 1

// Lane by lane the sum of two lanes of a (where bit kBit of the lane's number is clear) or of b (where it is set).
template <int kBit, typename A, int... kLane>
GANENGINE_INLINE Vector<A> fold(Vector<A> a, Vector<A> b, std::integer_sequence<int, kLane...>) {
  constexpr int kAll = sizeof...(kLane);
  return __builtin_shufflevector(a, b, ((kLane & kBit) ? kAll + (kLane ^ kBit) : kLane)...) +
         __builtin_shufflevector(a, b, ((kLane & kBit) ? kAll + kLane : (kLane ^ kBit))...);
}

// Makes v[0] the vector of the sums of kLanes<A> vectors: three instructions a vector, where one by one takes ten.
template <typename A, int kBit = 1>
GANENGINE_INLINE void sum_each(Vector<A>* v) {
  constexpr int kAll = static_cast<int>(kLanes<A>);
  if constexpr (kBit < kAll) {
    for (int i = 0; i < kAll / (2 * kBit); ++i) {
      v[i] = fold<kBit, A>(v[2 * i], v[2 * i + 1], std::make_integer_sequence<int, kAll>{});
    }
    sum_each<A, 2 * kBit>(v);
  }
}

// Planes of few whole vectors, for which adding up the lanes would take as long as all the rest.
template <typename T, typename A = Accumulator<T>>
GANENGINE_INLINE bool is_small_plane(const Problem<T>& p) {
  return p.m % kLanes<A> == 0 && p.m <= 2 * kLanes<A>;
}

// As `sum_plane`, for channels c to c + kLanes of one sample.
template <Activation kActivation, typename T, typename F, typename A = Accumulator<T>>
GANENGINE_INLINE void sum_small_planes(const Problem<T>& p, int64_t at, int64_t c, int64_t row, const A* rstd,
                                       const F& fetch, A* g, A* gx) {
  const int64_t m = p.m;
  const A slope = static_cast<A>(p.slope);
  Vector<A> s[kLanes<A>], t[kLanes<A>];
  for (int64_t k = 0; k < kLanes<A>; ++k) {
    const T *x = p.x + at + k * m, *grad = p.grad + at + k * m;
    fetch(at + k * m);
    const Vector<A> mu = splat(p.mean[c + k]), a = splat(p.gamma[row + k] * rstd[k]), b = splat(p.beta[row + k]);
    Vector<A> s0{}, t0{};
    for (int64_t j = 0; j < m; j += kLanes<A>) {
      const Vector<A> x0 = load(x + j) - mu;
      const Vector<A> g0 = activated_gradient<kActivation>(load(grad + j), fma(x0, a, b), slope);
      s0 += g0;
      t0 = fma(g0, x0, t0);
    }
    s[k] = s0;
    t[k] = t0;
  }
  sum_each<A>(s);
  sum_each<A>(t);
  store(g, s[0]);
  store(gx, t[0]);
}
#else
#define GANENGINE_SUMS_SMALL_PLANES 0
#endif

// grad_x = g scale - (offset + (x - mean) pull); the bracket is absent where the statistics were given.
template <Activation kActivation, typename T, typename A = Accumulator<T>>
GANENGINE_INLINE void differentiate_plane(const Problem<T>& p, int64_t at, A mean, A scale, A shift, A offset, A pull) {
  const T *x = p.x + at, *grad = p.grad + at;
  T* out = p.out + at;
  const int64_t m = p.m;
  const A slope = static_cast<A>(p.slope);
  const Vector<A> mu = splat(mean), a = splat(scale), b = splat(shift), o = splat(offset), q = splat(pull);
  int64_t j = 0;
  for (; j + kLanes<A> <= m; j += kLanes<A>) {
    const Vector<A> centred = load(x + j) - mu;
    const Vector<A> g = activated_gradient<kActivation>(load(grad + j), fma(centred, a, b), slope);
    put(p.stream, out + j, p.batch_statistics ? fma(g, a, -fma(centred, q, o)) : g * a);
  }
  if (j < m) {
    const Vector<A> centred = load(x + j, m - j) - mu;
    const Vector<A> g = activated_gradient<kActivation>(load(grad + j, m - j), fma(centred, a, b), slope);
    store(out + j, p.batch_statistics ? fma(g, a, -fma(centred, q, o)) : g * a, m - j);
  }
}

// Adds the sums g and gx [N, width] of channels [c, c + width) to the gradients of gamma and beta, and makes p.sums.
template <typename T, typename A = Accumulator<T>>
void settle_sums(const Problem<T>& p, int64_t c, int64_t width, const A* rstd, const A* g, const A* gx) {
  double of_g[kBlock] = {}, of_gx[kBlock] = {};
  for (int64_t i = 0; i < p.n; ++i) {
    const int64_t at = p.row(i) * p.c + c;
    const A *gamma = p.gamma + at, *gi = g + i * width, *gxi = gx + i * width;
    A *grad_gamma = p.grad_gamma + at, *grad_beta = p.grad_beta + at;
    for (int64_t k = 0; k < width; ++k) grad_beta[k] += gi[k];
    for (int64_t k = 0; k < width; ++k) grad_gamma[k] += gxi[k] * rstd[k];
    for (int64_t k = 0; k < width; ++k) of_g[k] += static_cast<double>(gamma[k]) * gi[k];
    for (int64_t k = 0; k < width; ++k) of_gx[k] += static_cast<double>(gamma[k]) * gxi[k];
  }
  for (int64_t k = 0; k < width; ++k) p.sums[c + k] = of_g[k], p.sums[p.c + c + k] = of_gx[k];
}

// The first pass over channels [c, c + width), of which g and gx [N, width] are memory.
template <Activation kActivation, typename T, typename A = Accumulator<T>>
void sum_block(const Problem<T>& p, int64_t c, int64_t width, const A* rstd, A* g, A* gx) {
  for (int64_t i = 0; i < p.n; ++i) {
    const int64_t at = (i * p.c + c) * p.m, row = p.row(i) * p.c + c;
    const int64_t next = i + 1 < p.n ? p.c * p.m : 0;
    const auto fetch = [&](int64_t plane) {
      prefetch_plane(p.x + plane + next, p.m);
      prefetch_plane(p.grad + plane + next, p.m);
      if (!p.stream) prefetch_plane(p.out + plane, p.m);
    };
    int64_t k = 0;
#if GANENGINE_SUMS_SMALL_PLANES
    for (; is_small_plane(p) && k + kLanes<A> <= width; k += kLanes<A>) {
      sum_small_planes<kActivation>(p, at + k * p.m, c + k, row + k, rstd + k, fetch, g + i * width + k,
                                    gx + i * width + k);
    }
#endif
    for (; k < width; ++k) {
      const int64_t plane = at + k * p.m;
      fetch(plane);
      sum_plane<kActivation>(p, plane, p.mean[c + k], p.gamma[row + k] * rstd[k], p.beta[row + k], g + i * width + k,
                             gx + i * width + k);
    }
  }
  settle_sums(p, c, width, rstd, g, gx);
}

// The second pass over channels [c, c + width).
template <Activation kActivation, typename T, typename A = Accumulator<T>>
void differentiate_block(const Problem<T>& p, int64_t c, int64_t width, const A* rstd) {
  A offset[kBlock], pull[kBlock];
  for (int64_t k = 0; k < width; ++k) pull_of(p, c + k, rstd[k], offset + k, pull + k);
  for (int64_t i = p.n - 1; i >= 0; --i) {
    const int64_t at = (i * p.c + c) * p.m, row = p.row(i) * p.c + c;
    for (int64_t k = 0; k < width; ++k) {
      differentiate_plane<kActivation>(p, at + k * p.m, p.mean[c + k], p.gamma[row + k] * rstd[k], p.beta[row + k],
                                       offset[k], pull[k]);
    }
  }
}

template <Activation kActivation, typename T>
void backward_planes(const Problem<T>& p, int64_t begin, int64_t end) {
  using A = Accumulator<T>;
  const std::unique_ptr<A[]> g(new A[p.n * p.block]), gx(new A[p.n * p.block]);
  for (int64_t c = begin; c < end; c += p.block) {
    const int64_t width = end - c < p.block ? end - c : p.block;
    A rstd[kBlock];
    for (int64_t k = 0; k < width; ++k) rstd[k] = p.rstd(c + k);
    if (p.passes != Passes::input) sum_block<kActivation>(p, c, width, rstd, g.get(), gx.get());
    if (p.passes != Passes::sums) differentiate_block<kActivation>(p, c, width, rstd);
  }
  if (p.stream) finish_streaming();
}

// ---- rows

// The first row as numbers: a shift that lies among the values.
template <typename T>
void first_row(const Problem<T>& p, double* shift) {
  for (int64_t c = 0; c < p.c; ++c) shift[c] = load(p.x + c, 1)[0];
}

// Adds the sums of rows [begin, end) about shift [C] to first and second [C].
template <typename T>
void moments_rows(const Problem<T>& p, int64_t begin, int64_t end, const double* shift, double* first, double* second) {
  constexpr int64_t kGroup = 4;
  for (int64_t r = begin; r < end; r += kGroup) {
    const int64_t rows = end - r < kGroup ? end - r : kGroup;
    const T* x = p.x + r * p.c;
    int64_t c = 0;
    if (rows == kGroup) {
      if constexpr (sizeof(T) == 2) {
        constexpr int64_t kHalf = kLanes<double>;
        for (; c + kLanes<float> <= p.c; c += kLanes<float>) {
          float s[kLanes<float>];
          for (int64_t i = 0; i < kLanes<float>; ++i) s[i] = static_cast<float>(shift[c + i]);
          const Vector<float> about = load(static_cast<const float*>(s));
          Vector<float> f{}, q{};
          for (int64_t k = 0; k < kGroup; ++k) {
            const Vector<float> d = load(x + k * p.c + c) - about;
            f += d;
            q = fma(d, d, q);
          }
          float fs[kLanes<float>], qs[kLanes<float>];
          store(static_cast<float*>(fs), f);
          store(static_cast<float*>(qs), q);
          for (int64_t h = 0; h < kLanes<float>; h += kHalf) {
            store(first + c + h, load(first + c + h) + load_double(fs + h));
            store(second + c + h, load(second + c + h) + load_double(qs + h));
          }
        }
      } else {
        for (; c + kLanes<double> <= p.c; c += kLanes<double>) {
          const Vector<double> about = load(shift + c);
          Vector<double> f = load(first + c), q = load(second + c);
          for (int64_t k = 0; k < kGroup; ++k) {
            const Vector<double> d = load_double(x + k * p.c + c) - about;
            f += d;
            q = fma(d, d, q);
          }
          store(first + c, f);
          store(second + c, q);
        }
      }
    }
    for (; c < p.c; ++c) {
      for (int64_t k = 0; k < rows; ++k) {
        const double d = load(x + k * p.c + c, 1)[0] - shift[c];
        first[c] += d;
        second[c] += d * d;
      }
    }
  }
}

// The tables of one sample, [C] each, in the form that its rows need.
template <typename T>
struct Tables {
  using A = Accumulator<T>;
  const std::unique_ptr<A[]> rstd, scale;
  const A* shift = nullptr;
  int64_t sample = -1;

  explicit Tables(const Problem<T>& p) : rstd(new A[p.c]), scale(new A[p.c]) {
    for (int64_t c = 0; c < p.c; ++c) rstd[c] = p.rstd(c);
  }

  void select(const Problem<T>& p, int64_t i) {
    if (i == sample) return;
    sample = i;
    const A* gamma = p.gamma + p.row(i) * p.c;
    shift = p.beta + p.row(i) * p.c;
    for (int64_t c = 0; c < p.c; ++c) scale[c] = gamma[c] * rstd[c];
  }
};

template <Activation kActivation, typename T>
void forward_rows(const Problem<T>& p, int64_t begin, int64_t end) {
  using A = Accumulator<T>;
  const A slope = static_cast<A>(p.slope);
  Tables<T> tables(p);
  for (int64_t r = begin; r < end; ++r) {
    tables.select(p, r / p.m);
    const T* x = p.x + r * p.c;
    T* y = p.out + r * p.c;
    int64_t c = 0;
    for (; c + kLanes<A> <= p.c; c += kLanes<A>) {
      const Vector<A> z = fma(load(x + c) - load(p.mean + c), load(&tables.scale[c]), load(tables.shift + c));
      put(p.stream, y + c, activated<kActivation>(z, slope));
    }
    if (c < p.c) {
      const int64_t k = p.c - c;
      const Vector<A> z =
          fma(load(x + c, k) - load(p.mean + c, k), load(&tables.scale[c], k), load(tables.shift + c, k));
      store(y + c, activated<kActivation>(z, slope), k);
    }
  }
  if (p.stream) finish_streaming();
}

// Adds the sums over `rows` rows from element `at`, of a vector of channels from c on, to g and gx. `lanes`: how many
// channels, where fewer than a vector holds.
template <Activation kActivation, typename T, typename A = Accumulator<T>, typename... Lanes>
GANENGINE_INLINE void sum_group(const Problem<T>& p, const Tables<T>& tables, int64_t at, int64_t rows, int64_t c, A* g,
                                A* gx, Lanes... lanes) {
  const A slope = static_cast<A>(p.slope);
  const Vector<A> mu = load(p.mean + c, lanes...), a = load(&tables.scale[c], lanes...);
  const Vector<A> b = load(tables.shift + c, lanes...);
  Vector<A> s{}, t{};
  for (int64_t j = 0; j < rows; ++j) {
    const Vector<A> centred = load(p.x + at + j * p.c + c, lanes...) - mu;
    const Vector<A> grad =
        activated_gradient<kActivation>(load(p.grad + at + j * p.c + c, lanes...), fma(centred, a, b), slope);
    s += grad;
    t = fma(grad, centred, t);
  }
  store(g + c, load(g + c, lanes...) + s, lanes...);
  store(gx + c, load(gx + c, lanes...) + t, lanes...);
}

// Sums over the rows [begin, end) of sample i, into g and gx [C].
template <Activation kActivation, typename T, typename A = Accumulator<T>>
void sum_rows(const Problem<T>& p, Tables<T>& tables, int64_t i, int64_t begin, int64_t end, A* g, A* gx) {
  constexpr int64_t kGroup = 4;
  tables.select(p, i);
  for (int64_t c = 0; c < p.c; ++c) g[c] = gx[c] = 0;
  for (int64_t r = begin; r < end; r += kGroup) {
    const int64_t rows = end - r < kGroup ? end - r : kGroup;
    const int64_t at = (i * p.m + r) * p.c;
    int64_t c = 0;
    for (; c + kLanes<A> <= p.c; c += kLanes<A>) sum_group<kActivation>(p, tables, at, rows, c, g, gx);
    if (c < p.c) sum_group<kActivation>(p, tables, at, rows, c, g, gx, p.c - c);
  }
}

template <Activation kActivation, typename T>
void sums_rows(const Problem<T>& p, int64_t begin, int64_t end, Accumulator<T>* parts) {
  Tables<T> tables(p);
  const int64_t length = (p.m + p.parts - 1) / p.parts;
  for (int64_t part = begin; part < end; ++part) {
    const int64_t i = part / p.parts, first = part % p.parts * length;
    const int64_t last = first + length < p.m ? first + length : p.m;
    sum_rows<kActivation>(p, tables, i, first, last, parts + part * 2 * p.c, parts + (part * 2 + 1) * p.c);
  }
}

// Merges the parts of channels [begin, end): gradients of gamma and beta, and p.sums.
template <typename T>
void settle_rows(const Problem<T>& p, int64_t begin, int64_t end, const Accumulator<T>* parts) {
  using A = Accumulator<T>;
  const std::unique_ptr<A[]> g(new A[p.n * kBlock]), gx(new A[p.n * kBlock]);
  for (int64_t c = begin; c < end; c += kBlock) {
    const int64_t width = end - c < kBlock ? end - c : kBlock;
    A rstd[kBlock];
    for (int64_t k = 0; k < width; ++k) rstd[k] = p.rstd(c + k);
    for (int64_t i = 0; i < p.n; ++i) {
      for (int64_t k = 0; k < width; ++k) {
        double g_sum = 0, gx_sum = 0;
        for (int64_t part = i * p.parts; part < (i + 1) * p.parts; ++part) {
          g_sum += parts[part * 2 * p.c + c + k];
          gx_sum += parts[(part * 2 + 1) * p.c + c + k];
        }
        g[i * width + k] = static_cast<A>(g_sum);
        gx[i * width + k] = static_cast<A>(gx_sum);
      }
    }
    settle_sums(p, c, width, rstd, g.get(), gx.get());
  }
}

template <Activation kActivation, typename T>
void backward_rows(const Problem<T>& p, int64_t begin, int64_t end, const Accumulator<T>* offset,
                   const Accumulator<T>* pull) {
  using A = Accumulator<T>;
  const A slope = static_cast<A>(p.slope);
  Tables<T> tables(p);
  for (int64_t r = begin; r < end; ++r) {
    tables.select(p, r / p.m);
    const T *x = p.x + r * p.c, *grad = p.grad + r * p.c;
    T* out = p.out + r * p.c;
    int64_t c = 0;
    for (; c + kLanes<A> <= p.c; c += kLanes<A>) {
      const Vector<A> centred = load(x + c) - load(p.mean + c), a = load(&tables.scale[c]);
      const Vector<A> g =
          activated_gradient<kActivation>(load(grad + c), fma(centred, a, load(tables.shift + c)), slope);
      put(p.stream, out + c, p.batch_statistics ? fma(g, a, -fma(centred, load(pull + c), load(offset + c))) : g * a);
    }
    if (c < p.c) {
      const int64_t k = p.c - c;
      const Vector<A> centred = load(x + c, k) - load(p.mean + c, k), a = load(&tables.scale[c], k);
      const Vector<A> g =
          activated_gradient<kActivation>(load(grad + c, k), fma(centred, a, load(tables.shift + c, k)), slope);
      store(out + c, p.batch_statistics ? fma(g, a, -fma(centred, load(pull + c, k), load(offset + c, k))) : g * a, k);
    }
  }
  if (p.stream) finish_streaming();
}

// ---- the kernels of this instruction set

template <typename T>
Kernels<T> kernels(const Problem<T>& p) {
  const auto of = [&](auto activation) {
    constexpr Activation k = decltype(activation)::value;
    return Kernels<T>{
        &first_row<T>,
        &moments_rows<T>,
        &statistics_blocks<T>,
        p.rows_layout ? &forward_rows<k, T> : &forward_planes<k, T>,
        &sums_rows<k, T>,
        &settle_rows<T>,
        &backward_planes<k, T>,
        &backward_rows<k, T>};
  };
  if (p.slope == 0) return of(std::integral_constant<Activation, Activation::relu>{});
  return of(std::integral_constant<Activation, Activation::leaky>{});
}

}  // namespace ganengine::conditional_batch_norm::GANENGINE_ISA
