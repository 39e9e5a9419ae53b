// Vectors of GANENGINE_VECTOR_BYTES for one instruction set. Included by for_each_isa.h only, inside its target pragma,
// hence no include guard and nothing but this namespace. Arithmetic, comparison and ?: on vectors are the compiler's
// own.

#include "common/storage.h"

namespace ganengine::simd::GANENGINE_ISA {

#define GANENGINE_INLINE inline __attribute__((always_inline))

// The vector of numbers of type A (float, double, or an integer).
template <typename A>
struct VectorOf {
  typedef A type __attribute__((vector_size(GANENGINE_VECTOR_BYTES)));
};
template <typename A>
using Vector = typename VectorOf<A>::type;
template <typename A>
constexpr int64_t kLanes = GANENGINE_VECTOR_BYTES / static_cast<int64_t>(sizeof(A));

// Half a vector of 16-bit numbers: as many as a vector has floats.
typedef uint16_t Half16 __attribute__((vector_size(GANENGINE_VECTOR_BYTES / 2)));

// The integers that a comparison of such numbers gives: -1 where it holds.
template <typename A>
struct MaskOf;
template <>
struct MaskOf<float> {
  using type = int32_t;
};
template <>
struct MaskOf<double> {
  using type = int64_t;
};
template <typename A>
using Mask = Vector<typename MaskOf<A>::type>;

template <typename A>
GANENGINE_INLINE Vector<A> splat(A value) {
  return value - Vector<A>{};
}

// The sum of all lanes, always in the same order: halves are added until one lane is left.
template <typename A, int64_t kBytes>
GANENGINE_INLINE A sum_lanes(const A* lanes) {
  if constexpr (kBytes == 2 * sizeof(A)) {
    return lanes[0] + lanes[1];
  } else {
    typedef A Half __attribute__((vector_size(kBytes / 2)));
    Half low, high;
    __builtin_memcpy(&low, lanes, sizeof low);
    __builtin_memcpy(&high, lanes + sizeof low / sizeof(A), sizeof high);
    const Half both = low + high;
    return sum_lanes<A, kBytes / 2>((const A*)&both);
  }
}
template <typename A>
GANENGINE_INLINE A sum(Vector<A> v) {
#if GANENGINE_VECTOR_BYTES == 64  // the general form takes these first halves through memory
  if constexpr (sizeof(A) == 4) {
    const __m512 whole = (__m512)v;
    const __m256 half = _mm512_maskz_extractf32x8_ps(0xff, whole, 0) + _mm512_maskz_extractf32x8_ps(0xff, whole, 1);
    return sum_lanes<A, 32>((const A*)&half);
  } else {
    const __m512d whole = (__m512d)v;
    const __m256d half = _mm512_maskz_extractf64x4_pd(0xf, whole, 0) + _mm512_maskz_extractf64x4_pd(0xf, whole, 1);
    return sum_lanes<A, 32>((const A*)&half);
  }
#else
  return sum_lanes<A, GANENGINE_VECTOR_BYTES>((const A*)&v);
#endif
}

// ---- a * b + c in one rounding where the machine can, which all but the baseline of x86-64 do

#if GANENGINE_VECTOR_BYTES == 64
GANENGINE_INLINE Vector<float> fma(Vector<float> a, Vector<float> b, Vector<float> c) {
  return (Vector<float>)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
}
GANENGINE_INLINE Vector<double> fma(Vector<double> a, Vector<double> b, Vector<double> c) {
  return (Vector<double>)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
}
#elif GANENGINE_VECTOR_BYTES == 32
GANENGINE_INLINE Vector<float> fma(Vector<float> a, Vector<float> b, Vector<float> c) {
  return (Vector<float>)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
}
GANENGINE_INLINE Vector<double> fma(Vector<double> a, Vector<double> b, Vector<double> c) {
  return (Vector<double>)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
}
#else
template <typename V>
GANENGINE_INLINE V fma(V a, V b, V c) {
  return a * b + c;
}
#endif

// ---- 16-bit numbers, widened in registers

GANENGINE_INLINE Vector<uint32_t> widen(Half16 bits) {
#if GANENGINE_VECTOR_BYTES == 64  // one instruction; GCC 12 makes four of the general form
  return (Vector<uint32_t>)_mm512_maskz_cvtepu16_epi32(0xffff, (__m256i)bits);
#elif GANENGINE_VECTOR_BYTES == 32
  return (Vector<uint32_t>)_mm256_cvtepu16_epi32((__m128i)bits);
#else
  return __builtin_convertvector(bits, Vector<uint32_t>);
#endif
}
GANENGINE_INLINE Vector<float> widen(Half16 bits, bfloat16) { return (Vector<float>)(widen(bits) << 16); }

GANENGINE_INLINE Half16 narrow(Vector<float> v, bfloat16) {
#if GANENGINE_VECTOR_BYTES == 64
  if (native_bfloat16) return (Half16)_mm512_cvtneps_pbh((__m512)v);  // makes subnormal numbers 0
#endif
  const Vector<uint32_t> bits = (Vector<uint32_t>)v;
  const Vector<uint32_t> rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
  return __builtin_convertvector(v == v ? rounded : splat<uint32_t>(0x7fc0), Half16);
}

#if GANENGINE_VECTOR_BYTES == 64
// The forms with a mask, as GCC 12 warns of uninitialised values inside the others.
GANENGINE_INLINE Vector<float> widen(Half16 bits, float16) {
  return (Vector<float>)_mm512_maskz_cvtph_ps(0xffff, (__m256i)bits);
}
GANENGINE_INLINE Half16 narrow(Vector<float> v, float16) {
  return (Half16)_mm512_maskz_cvtps_ph(0xffff, (__m512)v, _MM_FROUND_TO_NEAREST_INT);
}
#elif GANENGINE_VECTOR_BYTES == 32
GANENGINE_INLINE Vector<float> widen(Half16 bits, float16) { return (Vector<float>)_mm256_cvtph_ps((__m128i)bits); }
GANENGINE_INLINE Half16 narrow(Vector<float> v, float16) {
  return (Half16)_mm256_cvtps_ph((__m256)v, _MM_FROUND_TO_NEAREST_INT);
}
#else
GANENGINE_INLINE Vector<float> widen(Half16 bits, float16) {
  const Vector<uint32_t> wide = widen(bits);
  const Vector<uint32_t> sign = (wide & 0x8000) << 16, magnitude = (wide & 0x7fff) << 13;
  // A multiplication by 2^112 moves the exponent's bias and normalises subnormals; infinity and NaN keep all ones.
  const Vector<uint32_t> moved = (Vector<uint32_t>)((Vector<float>)magnitude * 0x1p112f);
  const Vector<uint32_t> special = magnitude | 0x7f800000;
  return (Vector<float>)(sign | (magnitude >= (0x7c00u << 13) ? special : moved));
}
GANENGINE_INLINE Half16 narrow(Vector<float> v, float16) {
  const Vector<uint32_t> bits = (Vector<uint32_t>)v, sign = (bits >> 16) & 0x8000, magnitude = bits & 0x7fffffff;
  const Vector<uint32_t> normal = (magnitude - (112u << 23) + 0xfff + ((magnitude >> 13) & 1)) >> 13;
  // Below 2^-14 the result is subnormal: adding 0.5 leaves its 24 - 14 bits, rounded by the addition itself.
  const Vector<uint32_t> subnormal = (Vector<uint32_t>)((Vector<float>)magnitude + 0.5f) - 0x3f000000;
  Vector<uint32_t> half = magnitude < (113u << 23) ? subnormal : normal;
  half = magnitude >= 0x477ff000 ? splat<uint32_t>(0x7c00) : half;  // 65520 and more round to infinity
  half = magnitude > 0x7f800000 ? splat<uint32_t>(0x7e00) : half;
  return __builtin_convertvector(sign | half, Half16);
}
#endif

// ---- integers as bytes

GANENGINE_INLINE void store_bytes(uint8_t* p, Vector<int32_t> v) {
#if GANENGINE_VECTOR_BYTES == 64
  _mm_storeu_si128((__m128i*)p, _mm512_maskz_cvtepi32_epi8(0xffff, (__m512i)v));
#else
  for (int64_t i = 0; i < kLanes<int32_t>; ++i) p[i] = static_cast<uint8_t>(v[i]);
#endif
}
GANENGINE_INLINE void store_bytes(uint8_t* p, Vector<int64_t> v) {
  for (int64_t i = 0; i < kLanes<int64_t>; ++i) p[i] = static_cast<uint8_t>(v[i]);
}
GANENGINE_INLINE Vector<int32_t> load_bytes(const uint8_t* p, int32_t) {
#if GANENGINE_VECTOR_BYTES == 64
  return (Vector<int32_t>)_mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128((const __m128i*)p));
#else
  Vector<int32_t> v;
  for (int64_t i = 0; i < kLanes<int32_t>; ++i) v[i] = p[i];
  return v;
#endif
}
GANENGINE_INLINE Vector<int64_t> load_bytes(const uint8_t* p, int64_t) {
  Vector<int64_t> v;
  for (int64_t i = 0; i < kLanes<int64_t>; ++i) v[i] = p[i];
  return v;
}

// ---- loads and stores of any alignment; `count` is how many lanes there are, where fewer than all: others are 0

template <typename A, std::enable_if_t<std::is_arithmetic_v<A>, int> = 0>
GANENGINE_INLINE Vector<A> load(const A* p) {
  Vector<A> v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
template <typename A, std::enable_if_t<std::is_arithmetic_v<A>, int> = 0>
GANENGINE_INLINE void store(A* p, Vector<A> v) {
  __builtin_memcpy(p, &v, sizeof v);
}

GANENGINE_INLINE Half16 load_bits(const void* p) {
  Half16 bits;
  __builtin_memcpy(&bits, p, sizeof bits);
  return bits;
}
GANENGINE_INLINE Vector<float> load(const bfloat16* p) { return widen(load_bits(p), bfloat16{}); }
GANENGINE_INLINE Vector<float> load(const float16* p) { return widen(load_bits(p), float16{}); }
GANENGINE_INLINE void store(bfloat16* p, Vector<float> v) {
  const Half16 bits = narrow(v, bfloat16{});
  __builtin_memcpy(p, &bits, sizeof bits);
}
GANENGINE_INLINE void store(float16* p, Vector<float> v) {
  const Half16 bits = narrow(v, float16{});
  __builtin_memcpy(p, &bits, sizeof bits);
}

template <typename T>
GANENGINE_INLINE Vector<Accumulator<T>> load(const T* p, int64_t count) {
#if GANENGINE_VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4) {
    return (Vector<Accumulator<T>>)_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << count) - 1), p);
  } else if constexpr (sizeof(T) == 2) {
    const __m256i bits = _mm256_maskz_loadu_epi16(static_cast<__mmask16>((1u << count) - 1), p);
    return widen((Half16)bits, T{});
  } else {
    return (Vector<Accumulator<T>>)_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << count) - 1), p);
  }
#else
  T lanes[kLanes<Accumulator<T>>] = {};
  __builtin_memcpy(lanes, p, count * sizeof(T));
  return load(static_cast<const T*>(lanes));
#endif
}

template <typename T>
GANENGINE_INLINE void store(T* p, Vector<Accumulator<T>> v, int64_t count) {
#if GANENGINE_VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4) {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << count) - 1), (__m512)v);
  } else if constexpr (sizeof(T) == 2) {
    _mm256_mask_storeu_epi16(p, static_cast<__mmask16>((1u << count) - 1), (__m256i)narrow(v, T{}));
  } else {
    _mm512_mask_storeu_pd(p, static_cast<__mmask8>((1u << count) - 1), (__m512d)v);
  }
#else
  T lanes[kLanes<Accumulator<T>>];
  store(static_cast<T*>(lanes), v);
  __builtin_memcpy(p, lanes, count * sizeof(T));
#endif
}

// A vector, or its first `count` lanes where it is not whole.
template <bool kWhole, typename T>
GANENGINE_INLINE Vector<Accumulator<T>> take(const T* from, int64_t count) {
  if constexpr (kWhole) {
    return load(from);
  } else {
    return load(from, count);
  }
}
template <bool kWhole, typename T>
GANENGINE_INLINE void put(T* to, Vector<Accumulator<T>> v, int64_t count) {
  if constexpr (kWhole) {
    store(to, v);
  } else {
    store(to, v, count);
  }
}

// As many numbers as there are doubles in a vector.
GANENGINE_INLINE Vector<double> load_double(const float* p) {
  typedef float Narrow __attribute__((vector_size(GANENGINE_VECTOR_BYTES / 2)));
  Narrow v;
  __builtin_memcpy(&v, p, sizeof v);
  return __builtin_convertvector(v, Vector<double>);
}
GANENGINE_INLINE Vector<double> load_double(const double* p) { return load(p); }

// -1 in the first `count` lanes.
template <typename A>
GANENGINE_INLINE Mask<A> first_lanes(int64_t count) {
  using Integer = typename MaskOf<A>::type;
  Mask<A> index;
  for (int64_t i = 0; i < kLanes<A>; ++i) index[i] = static_cast<Integer>(i);
  return index < splat<Integer>(static_cast<Integer>(count));
}

// ---- functions; the polynomials are minimax fits of our own

// a where a > b, else b: one instruction, which hands on NaN in b.
GANENGINE_INLINE Vector<float> larger(Vector<float> a, Vector<float> b) {
#if GANENGINE_VECTOR_BYTES == 64
  return (Vector<float>)_mm512_maskz_max_ps(0xffff, (__m512)a, (__m512)b);
#elif GANENGINE_VECTOR_BYTES == 32
  return (Vector<float>)_mm256_max_ps((__m256)a, (__m256)b);
#else
  return a > b ? a : b;
#endif
}
GANENGINE_INLINE Vector<double> larger(Vector<double> a, Vector<double> b) { return a > b ? a : b; }

// 1 / x for 1 <= x <= 2, error below 1 ulp. NaN stays NaN.
GANENGINE_INLINE Vector<float> reciprocal(Vector<float> x) {
#if GANENGINE_VECTOR_BYTES == 64  // a division takes as long as all the rest of a sigmoid
  const Vector<float> guess = (Vector<float>)_mm512_maskz_rcp14_ps(0xffff, (__m512)x);
  return fma(guess, fma(-x, guess, splat(1.0f)), guess);
#else
  return 1.0f / x;
#endif
}
GANENGINE_INLINE Vector<double> reciprocal(Vector<double> x) { return 1.0 / x; }

GANENGINE_INLINE Vector<float> magnitude(Vector<float> v) { return (Vector<float>)((Vector<int32_t>)v & 0x7fffffff); }
GANENGINE_INLINE Vector<double> magnitude(Vector<double> v) { return v < Vector<double>{} ? -v : v; }

// e^x for x <= 0, error below 2 ulp: 2^n e^r with |r| <= ln 2 / 2. NaN stays NaN.
GANENGINE_INLINE Vector<float> exp_negative(Vector<float> x) {
  const Vector<float> clamped = larger(splat(-104.0f), x);  // e^-104 rounds to 0
  const Vector<float> magic = splat(0x1.8p23f);             // adding it rounds to an integer, kept in the low bits
  const Vector<float> shifted = fma(clamped, splat(0x1.715476p0f), magic);
  const Vector<float> n = shifted - magic;
  Vector<float> r =
      fma(n, splat(-0x1.62e4p-1f), clamped);  // ln 2 in two parts, the first of few bits: n times it is exact
  r = fma(n, splat(-0x1.7f7d1cp-20f), r);
  Vector<float> p = splat(0.00138145963823f);
  p = fma(p, r, splat(0.00836871709086f));
  p = fma(p, r, splat(0.0416683880927f));
  p = fma(p, r, splat(0.166665206294f));
  p = fma(p, r, splat(0.499999934476f));
  p = fma(p * r, r, r) + 1.0f;
#if GANENGINE_VECTOR_BYTES == 64
  return (Vector<float>)_mm512_maskz_scalef_ps(0xffff, (__m512)p, (__m512)n);
#else
  // In two factors, as 2^n itself may be subnormal.
  const Vector<int32_t> power = (Vector<int32_t>)shifted - 0x4b400000;
  const Vector<int32_t> half = power >> 1;
  const Vector<float> first = (Vector<float>)((half + 127) << 23), second = (Vector<float>)((power - half + 127) << 23);
  return p * first * second;
#endif
}

GANENGINE_INLINE Vector<double> exp_negative(Vector<double> x) {
  for (int64_t i = 0; i < kLanes<double>; ++i) x[i] = __builtin_exp(x[i]);
  return x;
}

}  // namespace ganengine::simd::GANENGINE_ISA
