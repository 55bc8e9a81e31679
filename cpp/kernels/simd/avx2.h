// AVX2 and FMA: 16 registers of 32 bytes.
#pragma once

#include <immintrin.h>

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr int vector_bytes = 32;
constexpr int registers = 16;
constexpr bool has_permute = true;
constexpr bool has_masks = false;

} // namespace
} // namespace FASTCONV_ISA
} // namespace fastconv

#include "kernels/simd/avx_common.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <>
FASTCONV_INLINE Vec<float> load_part(const float* from, int64_t count) {
    return (Vec<float>)_mm256_maskload_ps(from, first_lanes_32(count));
}
template <>
FASTCONV_INLINE Vec<double> load_part(const double* from, int64_t count) {
    return (Vec<double>)_mm256_maskload_pd(from, first_lanes_64(count));
}
template <>
FASTCONV_INLINE void store_part(float* to, Vec<float> value, int64_t count) {
    _mm256_maskstore_ps(to, first_lanes_32(count), (__m256)value);
}
template <>
FASTCONV_INLINE void store_part(double* to, Vec<double> value, int64_t count) {
    _mm256_maskstore_pd(to, first_lanes_64(count), (__m256d)value);
}

template <>
FASTCONV_INLINE Vec<float> load_lanes<float>(const float* from, Index<float> mask) {
    return (Vec<float>)_mm256_maskload_ps(from, (__m256i)mask);
}
template <>
FASTCONV_INLINE Vec<double> load_lanes<double>(const double* from, Index<double> mask) {
    return (Vec<double>)_mm256_maskload_pd(from, (__m256i)mask);
}

// If one operand is NaN, the result is the second one.
template <>
FASTCONV_INLINE Vec<float> at_most(Vec<float> x, float limit) {
    return (Vec<float>)_mm256_min_ps((__m256)broadcast(limit), (__m256)x);
}
template <>
FASTCONV_INLINE Vec<double> at_most(Vec<double> x, double limit) {
    return (Vec<double>)_mm256_min_pd((__m256d)broadcast(limit), (__m256d)x);
}
template <>
FASTCONV_INLINE Vec<float> at_least(Vec<float> x, float limit) {
    return (Vec<float>)_mm256_max_ps((__m256)broadcast(limit), (__m256)x);
}
template <>
FASTCONV_INLINE Vec<double> at_least(Vec<double> x, double limit) {
    return (Vec<double>)_mm256_max_pd((__m256d)broadcast(limit), (__m256d)x);
}

template <>
FASTCONV_INLINE void store_streaming(float* to, Vec<float> value) {
    _mm256_stream_ps(to, (__m256)value);
}
template <>
FASTCONV_INLINE void store_streaming(double* to, Vec<double> value) {
    _mm256_stream_pd(to, (__m256d)value);
}

template <>
FASTCONV_INLINE float add_lanes<float>(Vec<float> value) {
    return add_lanes_256((__m256)value);
}
template <>
FASTCONV_INLINE double add_lanes<double>(Vec<double> value) {
    return add_lanes_256((__m256d)value);
}

template <>
FASTCONV_INLINE Vec<float> permute<float>(Vec<float> values, Index<float> lanes) {
    return (Vec<float>)_mm256_permutevar8x32_ps((__m256)values, (__m256i)lanes);
}
template <>
FASTCONV_INLINE Vec<double> permute<double>(Vec<double> values, Index<double> lanes) {
    const Index<double> two = lanes + lanes, pair = two | ((two + 1) << 32);
    return (Vec<double>)_mm256_permutevar8x32_ps((__m256)values, (__m256i)pair);
}
template <>
FASTCONV_INLINE Vec<float> evens<float>(Vec<float> low, Vec<float> high) {
    return (Vec<float>)_mm256_shuffle_ps((__m256)low, (__m256)high, 0x88);
}
template <>
FASTCONV_INLINE Vec<double> evens<double>(Vec<double> low, Vec<double> high) {
    return (Vec<double>)_mm256_unpacklo_pd((__m256d)low, (__m256d)high);
}
template <>
FASTCONV_INLINE Vec<float> odds<float>(Vec<float> low, Vec<float> high) {
    return (Vec<float>)_mm256_shuffle_ps((__m256)low, (__m256)high, 0xDD);
}
template <>
FASTCONV_INLINE Vec<double> odds<double>(Vec<double> low, Vec<double> high) {
    return (Vec<double>)_mm256_unpackhi_pd((__m256d)low, (__m256d)high);
}
/// The order of evens and odds is that of pairs of floats, or of doubles: each half has one of `low` and one of `high`.
template <>
FASTCONV_INLINE Vec<double> in_order<double>(Vec<double> values) {
    return (Vec<double>)_mm256_permute4x64_pd((__m256d)values, 0xD8);
}
template <>
FASTCONV_INLINE Vec<float> in_order<float>(Vec<float> values) {
    return (Vec<float>)in_order<double>((Vec<double>)values);
}
template <>
FASTCONV_INLINE void interleave<float>(Vec<float>& even, Vec<float>& odd) {
    const __m256 low = _mm256_unpacklo_ps((__m256)even, (__m256)odd);
    const __m256 high = _mm256_unpackhi_ps((__m256)even, (__m256)odd);
    even = (Vec<float>)_mm256_permute2f128_ps(low, high, 0x20);
    odd = (Vec<float>)_mm256_permute2f128_ps(low, high, 0x31);
}
template <>
FASTCONV_INLINE void interleave<double>(Vec<double>& even, Vec<double>& odd) {
    const __m256d low = _mm256_unpacklo_pd((__m256d)even, (__m256d)odd);
    const __m256d high = _mm256_unpackhi_pd((__m256d)even, (__m256d)odd);
    even = (Vec<double>)_mm256_permute2f128_pd(low, high, 0x20);
    odd = (Vec<double>)_mm256_permute2f128_pd(low, high, 0x31);
}
// The values fill at most half a vector. The load broadcasts that half to both halves, so a permutation within halves
// is enough. Such a permutation is one operation on every CPU, while vpermps is two on Zen 3 and older.
template <>
FASTCONV_INLINE Vec<float> load_spread(const float* from, Index<float> lanes) {
    return (Vec<float>)_mm256_permutevar_ps(_mm256_broadcast_ps((const __m128*)from), (__m256i)lanes);
}
template <>
FASTCONV_INLINE Vec<double> load_spread(const double* from, Index<double> lanes) {
    const __m256i second_bit = _mm256_slli_epi64((__m256i)lanes, 1); // vpermilpd reads the second bit
    return (Vec<double>)_mm256_permutevar_pd(_mm256_broadcast_pd((const __m128d*)from), second_bit);
}

template <>
FASTCONV_INLINE Index<float> widen<float>(Bytes<float> bytes) {
    return (Index<float>)_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((int64_t)bytes));
}
template <>
FASTCONV_INLINE Index<double> widen<double>(Bytes<double> bytes) {
    return (Index<double>)_mm256_cvtepu8_epi64(_mm_cvtsi32_si128((int32_t)bytes));
}
template <>
FASTCONV_INLINE Bytes<float> narrow<float>(Index<float> value) {
    const __m128i low = _mm256_castsi256_si128((__m256i)value), high = _mm256_extracti128_si256((__m256i)value, 1);
    const __m128i words = _mm_packs_epi32(low, high);
    return (Bytes<float>)_mm_cvtsi128_si64(_mm_packus_epi16(words, words));
}
template <>
FASTCONV_INLINE Bytes<double> narrow<double>(Index<double> value) {
    const __m128i low = _mm256_castsi256_si128((__m256i)value), high = _mm256_extracti128_si256((__m256i)value, 1);
    const __m128i pairs = _mm_packs_epi32(low, high), words = _mm_packs_epi32(pairs, pairs); // a pair is (number, 0)
    return (Bytes<double>)_mm_cvtsi128_si32(_mm_packus_epi16(words, words));
}

// A register is loaded from rows that are half a square apart. Transposing its halves of 16 bytes then needs no shuffle
// across them: one shuffle a vector for double, two for float.
FASTCONV_INLINE __m256 load_halves(const float* low, const float* high) {
    return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(low)), _mm_loadu_ps(high), 1);
}
FASTCONV_INLINE __m256d load_halves(const double* low, const double* high) {
    return _mm256_insertf128_pd(_mm256_castpd128_pd256(_mm_loadu_pd(low)), _mm_loadu_pd(high), 1);
}

template <>
constexpr int square_side<float> = 8;
template <>
constexpr int square_side<double> = 4;

template <>
FASTCONV_INLINE void transpose_square(const float* from, ptrdiff_t from_row, float* to, ptrdiff_t to_row) {
    FASTCONV_UNROLL
    for (int c = 0; c < 8; c += 4) {
        __m256 a[4];
        FASTCONV_UNROLL
        for (int r = 0; r < 4; ++r) a[r] = load_halves(from + r * from_row + c, from + (r + 4) * from_row + c);
        const __m256 b0 = _mm256_unpacklo_ps(a[0], a[1]), b1 = _mm256_unpackhi_ps(a[0], a[1]);
        const __m256 b2 = _mm256_unpacklo_ps(a[2], a[3]), b3 = _mm256_unpackhi_ps(a[2], a[3]);
        _mm256_storeu_ps(to + c * to_row, _mm256_shuffle_ps(b0, b2, 0x44));
        _mm256_storeu_ps(to + (c + 1) * to_row, _mm256_shuffle_ps(b0, b2, 0xEE));
        _mm256_storeu_ps(to + (c + 2) * to_row, _mm256_shuffle_ps(b1, b3, 0x44));
        _mm256_storeu_ps(to + (c + 3) * to_row, _mm256_shuffle_ps(b1, b3, 0xEE));
    }
}
template <>
FASTCONV_INLINE void transpose_square(const double* from, ptrdiff_t from_row, double* to, ptrdiff_t to_row) {
    FASTCONV_UNROLL
    for (int c = 0; c < 4; c += 2) {
        const __m256d even = load_halves(from + c, from + 2 * from_row + c);
        const __m256d odd = load_halves(from + from_row + c, from + 3 * from_row + c);
        _mm256_storeu_pd(to + c * to_row, _mm256_unpacklo_pd(even, odd));
        _mm256_storeu_pd(to + (c + 1) * to_row, _mm256_unpackhi_pd(even, odd));
    }
}

} // namespace
} // namespace FASTCONV_ISA
} // namespace fastconv
