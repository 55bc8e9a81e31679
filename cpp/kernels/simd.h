// Vectors of one ISA on GCC/Clang vector extensions, plus what these lack: partial loads and stores.
//
// Included by kernel sources only. Everything has internal linkage (see table.h for the reason).
#pragma once

#include <stddef.h>
#include <stdint.h>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__clang__)
#define FASTCONV_UNROLL _Pragma("clang loop unroll(full)")
#else
#define FASTCONV_UNROLL _Pragma("GCC unroll 16")
#endif
#define FASTCONV_INLINE inline __attribute__((always_inline))

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

#if defined(__AVX512F__)
constexpr int vector_bytes = 64;
constexpr int registers = 32;
#elif defined(__AVX2__)
constexpr int vector_bytes = 32;
constexpr int registers = 16;
#else
constexpr int vector_bytes = 16;
constexpr int registers = 16;
#endif

template <class T>
struct VectorOf;
template <>
struct VectorOf<float> {
    typedef float type __attribute__((vector_size(vector_bytes)));
    typedef float unaligned __attribute__((vector_size(vector_bytes), aligned(4), may_alias));
    typedef int32_t index __attribute__((vector_size(vector_bytes)));
    typedef int32_t lane;
};
template <>
struct VectorOf<double> {
    typedef double type __attribute__((vector_size(vector_bytes)));
    typedef double unaligned __attribute__((vector_size(vector_bytes), aligned(8), may_alias));
    typedef int64_t index __attribute__((vector_size(vector_bytes)));
    typedef int64_t lane;
};
template <class T>
using Vec = typename VectorOf<T>::type;
template <class T>
using Index = typename VectorOf<T>::index; // lanes of T's size; also the type of a comparison
template <class T>
constexpr int width = vector_bytes / static_cast<int>(sizeof(T));

template <class T>
FASTCONV_INLINE Vec<T> load(const T* from) {
    return *reinterpret_cast<const typename VectorOf<T>::unaligned*>(from);
}
template <class T>
FASTCONV_INLINE void store(T* to, Vec<T> value) {
    *reinterpret_cast<typename VectorOf<T>::unaligned*>(to) = value;
}
/// x - 0 is x for every x, and so folds to a plain broadcast (x + 0 does not: -0 + 0 is 0).
template <class T>
FASTCONV_INLINE Vec<T> broadcast(T value) {
    return value - Vec<T>{};
}

/// Keeps the compiler from loading the value again for each use: a load that crosses a cache line costs two.
template <class V>
FASTCONV_INLINE void keep_in_register(V& value) {
#if defined(__x86_64__)
    __asm__("" : "+v"(value));
#endif
}

// load_part / store_part touch the first `count` (1 ... width) elements only; the other lanes read as zero.
#if defined(__AVX512F__)
FASTCONV_INLINE Vec<float> load_part(const float* from, int64_t count) {
    return (Vec<float>)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), from);
}
FASTCONV_INLINE Vec<double> load_part(const double* from, int64_t count) {
    return (Vec<double>)_mm512_maskz_loadu_pd((__mmask8)((1u << count) - 1), from);
}
FASTCONV_INLINE void store_part(float* to, Vec<float> value, int64_t count) {
    _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1), (__m512)value);
}
FASTCONV_INLINE void store_part(double* to, Vec<double> value, int64_t count) {
    _mm512_mask_storeu_pd(to, (__mmask8)((1u << count) - 1), (__m512d)value);
}
#elif defined(__AVX2__)
FASTCONV_INLINE __m256i first_lanes(const float*, int64_t count) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32((int)count), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
FASTCONV_INLINE __m256i first_lanes(const double*, int64_t count) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(count), _mm256_setr_epi64x(0, 1, 2, 3));
}
FASTCONV_INLINE Vec<float> load_part(const float* from, int64_t count) {
    return (Vec<float>)_mm256_maskload_ps(from, first_lanes(from, count));
}
FASTCONV_INLINE Vec<double> load_part(const double* from, int64_t count) {
    return (Vec<double>)_mm256_maskload_pd(from, first_lanes(from, count));
}
FASTCONV_INLINE void store_part(float* to, Vec<float> value, int64_t count) {
    _mm256_maskstore_ps(to, first_lanes(to, count), (__m256)value);
}
FASTCONV_INLINE void store_part(double* to, Vec<double> value, int64_t count) {
    _mm256_maskstore_pd(to, first_lanes(to, count), (__m256d)value);
}
#else
template <class T>
FASTCONV_INLINE Vec<T> load_part(const T* from, int64_t count) {
    Vec<T> value{};
    for (int64_t i = 0; i < count; ++i) value[i] = from[i];
    return value;
}
template <class T>
FASTCONV_INLINE void store_part(T* to, Vec<T> value, int64_t count) {
    for (int64_t i = 0; i < count; ++i) to[i] = value[i];
}
#endif

/// The sum of all lanes, added by halves: lane i + lane i + width/2, and so on. (maskz forms: GCC 12 warns of the
/// plain.)
#if defined(__AVX2__)
FASTCONV_INLINE float add_lanes(__m128 value) {
    value = _mm_add_ps(value, _mm_movehl_ps(value, value));
    return _mm_cvtss_f32(_mm_add_ss(value, _mm_movehdup_ps(value)));
}
FASTCONV_INLINE double add_lanes(__m128d value) {
    return _mm_cvtsd_f64(_mm_add_sd(value, _mm_unpackhi_pd(value, value)));
}
FASTCONV_INLINE float add_lanes(__m256 value) {
    return add_lanes(_mm_add_ps(_mm256_castps256_ps128(value), _mm256_extractf128_ps(value, 1)));
}
FASTCONV_INLINE double add_lanes(__m256d value) {
    return add_lanes(_mm_add_pd(_mm256_castpd256_pd128(value), _mm256_extractf128_pd(value, 1)));
}
#if defined(__AVX512F__)
FASTCONV_INLINE float add_lanes(Vec<float> value) {
    return add_lanes(_mm256_add_ps(_mm512_maskz_extractf32x8_ps(0xFF, (__m512)value, 0),
                                   _mm512_maskz_extractf32x8_ps(0xFF, (__m512)value, 1)));
}
FASTCONV_INLINE double add_lanes(Vec<double> value) {
    return add_lanes(_mm256_add_pd(_mm512_maskz_extractf64x4_pd(0xF, (__m512d)value, 0),
                                   _mm512_maskz_extractf64x4_pd(0xF, (__m512d)value, 1)));
}
#endif
#else
FASTCONV_INLINE float add_lanes(Vec<float> value) { return (value[0] + value[2]) + (value[1] + value[3]); }
FASTCONV_INLINE double add_lanes(Vec<double> value) { return value[0] + value[1]; }
#endif

} // namespace
} // namespace FASTCONV_ISA
} // namespace fastconv
