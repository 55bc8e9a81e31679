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

} // namespace
} // namespace FASTCONV_ISA
} // namespace fastconv
