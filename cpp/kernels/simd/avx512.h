// AVX-512 F, DQ, BW, VL and FMA: 32 registers of 64 bytes, and masks.
#pragma once

#include <immintrin.h>

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr int vector_bytes = 64;
constexpr int registers = 32;
constexpr bool has_permute = true;
constexpr bool has_masks = true;

} // namespace
} // namespace FASTCONV_ISA
} // namespace fastconv

#include "kernels/simd/avx_common.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

template <>
FASTCONV_INLINE Vec<float> load_part(const float* from, int64_t count) {
    return (Vec<float>)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), from);
}
template <>
FASTCONV_INLINE Vec<double> load_part(const double* from, int64_t count) {
    return (Vec<double>)_mm512_maskz_loadu_pd((__mmask8)((1u << count) - 1), from);
}
template <>
FASTCONV_INLINE void store_part(float* to, Vec<float> value, int64_t count) {
    _mm512_mask_storeu_ps(to, (__mmask16)((1u << count) - 1), (__m512)value);
}
template <>
FASTCONV_INLINE void store_part(double* to, Vec<double> value, int64_t count) {
    _mm512_mask_storeu_pd(to, (__mmask8)((1u << count) - 1), (__m512d)value);
}

template <>
FASTCONV_INLINE Vec<float> load_lanes<float>(const float* from, Index<float> mask) {
    return (Vec<float>)_mm512_maskz_loadu_ps(_mm512_movepi32_mask((__m512i)mask), from);
}
template <>
FASTCONV_INLINE Vec<double> load_lanes<double>(const double* from, Index<double> mask) {
    return (Vec<double>)_mm512_maskz_loadu_pd(_mm512_movepi64_mask((__m512i)mask), from);
}

// If one operand is NaN, the result is the second one.
template <>
FASTCONV_INLINE Vec<float> at_most(Vec<float> x, float limit) {
    return (Vec<float>)_mm512_maskz_min_ps(0xFFFF, (__m512)broadcast(limit), (__m512)x);
}
template <>
FASTCONV_INLINE Vec<double> at_most(Vec<double> x, double limit) {
    return (Vec<double>)_mm512_maskz_min_pd(0xFF, (__m512d)broadcast(limit), (__m512d)x);
}
template <>
FASTCONV_INLINE Vec<float> at_least(Vec<float> x, float limit) {
    return (Vec<float>)_mm512_maskz_max_ps(0xFFFF, (__m512)broadcast(limit), (__m512)x);
}
template <>
FASTCONV_INLINE Vec<double> at_least(Vec<double> x, double limit) {
    return (Vec<double>)_mm512_maskz_max_pd(0xFF, (__m512d)broadcast(limit), (__m512d)x);
}
template <>
FASTCONV_INLINE Vec<float> times_power_of_two<float>(Vec<float> value, Index<float> exponent) {
    return (Vec<float>)_mm512_maskz_scalef_ps(0xFFFF, (__m512)value, _mm512_cvtepi32_ps((__m512i)exponent));
}
template <>
FASTCONV_INLINE Vec<double> times_power_of_two<double>(Vec<double> value, Index<double> exponent) {
    return (Vec<double>)_mm512_maskz_scalef_pd(0xFF, (__m512d)value, _mm512_cvtepi64_pd((__m512i)exponent));
}

template <>
FASTCONV_INLINE void store_streaming(float* to, Vec<float> value) {
    _mm512_stream_ps(to, (__m512)value);
}
template <>
FASTCONV_INLINE void store_streaming(double* to, Vec<double> value) {
    _mm512_stream_pd(to, (__m512d)value);
}

// These use the maskz forms because GCC 12 warns about the plain forms.
template <>
FASTCONV_INLINE float add_lanes<float>(Vec<float> value) {
    return add_lanes_256(_mm256_add_ps(_mm512_maskz_extractf32x8_ps(0xFF, (__m512)value, 0),
                                       _mm512_maskz_extractf32x8_ps(0xFF, (__m512)value, 1)));
}
template <>
FASTCONV_INLINE double add_lanes<double>(Vec<double> value) {
    return add_lanes_256(_mm256_add_pd(_mm512_maskz_extractf64x4_pd(0xF, (__m512d)value, 0),
                                       _mm512_maskz_extractf64x4_pd(0xF, (__m512d)value, 1)));
}

/// Quarter q of the result holds four partial sums of the q-th argument.
FASTCONV_INLINE __m512 add_quarters(__m512 a, __m512 b, __m512 c, __m512 d) {
    const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xEE));
    const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xEE));
    return _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xDD));
}
template <>
constexpr bool adds_lanes_together<float> = true;
/// Transposes and adds at the same time, at 3 operations a sum.
template <>
FASTCONV_INLINE Vec<float> add_lanes_of_each<float>(const Vec<float> (&values)[16]) {
    __m512 quarters[4];
    FASTCONV_UNROLL
    for (int j = 0; j < 4; ++j)
        quarters[j] =
            add_quarters((__m512)values[j], (__m512)values[4 + j], (__m512)values[8 + j], (__m512)values[12 + j]);
    const __m512d low = _mm512_castps_pd(
        _mm512_add_ps(_mm512_unpacklo_ps(quarters[0], quarters[1]), _mm512_unpackhi_ps(quarters[0], quarters[1])));
    const __m512d high = _mm512_castps_pd(
        _mm512_add_ps(_mm512_unpacklo_ps(quarters[2], quarters[3]), _mm512_unpackhi_ps(quarters[2], quarters[3])));
    return (Vec<float>)_mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(low, high)),
                                     _mm512_castpd_ps(_mm512_unpackhi_pd(low, high)));
}

template <>
FASTCONV_INLINE Vec<float> permute<float>(Vec<float> values, Index<float> lanes) {
    return (Vec<float>)_mm512_permutexvar_ps((__m512i)lanes, (__m512)values);
}
template <>
FASTCONV_INLINE Vec<double> permute<double>(Vec<double> values, Index<double> lanes) {
    return (Vec<double>)_mm512_permutexvar_pd((__m512i)lanes, (__m512d)values);
}
template <>
FASTCONV_INLINE Vec<float> pick<float>(Vec<float> low, Vec<float> high, Index<float> from) {
    return (Vec<float>)_mm512_permutex2var_ps((__m512)low, (__m512i)from, (__m512)high);
}
template <>
FASTCONV_INLINE Vec<double> pick<double>(Vec<double> low, Vec<double> high, Index<double> from) {
    return (Vec<double>)_mm512_permutex2var_pd((__m512d)low, (__m512i)from, (__m512d)high);
}
template <>
FASTCONV_INLINE Vec<float> evens<float>(Vec<float> low, Vec<float> high) {
    return (Vec<float>)_mm512_shuffle_ps((__m512)low, (__m512)high, 0x88);
}
template <>
FASTCONV_INLINE Vec<double> evens<double>(Vec<double> low, Vec<double> high) {
    return (Vec<double>)_mm512_unpacklo_pd((__m512d)low, (__m512d)high);
}
template <>
FASTCONV_INLINE Vec<float> odds<float>(Vec<float> low, Vec<float> high) {
    return (Vec<float>)_mm512_shuffle_ps((__m512)low, (__m512)high, 0xDD);
}
template <>
FASTCONV_INLINE Vec<double> odds<double>(Vec<double> low, Vec<double> high) {
    return (Vec<double>)_mm512_unpackhi_pd((__m512d)low, (__m512d)high);
}
/// The order of evens and odds is that of pairs of floats, or of doubles: each quarter has one of `low` and one of
/// `high`.
template <>
FASTCONV_INLINE Vec<double> in_order<double>(Vec<double> values) {
    return permute<double>(values, Index<double>{0, 2, 4, 6, 1, 3, 5, 7});
}
template <>
FASTCONV_INLINE Vec<float> in_order<float>(Vec<float> values) {
    return (Vec<float>)in_order<double>((Vec<double>)values);
}
template <>
FASTCONV_INLINE void interleave<float>(Vec<float>& even, Vec<float>& odd) {
    const Index<float> first{0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
    const Vec<float> low = pick<float>(even, odd, first);
    odd = pick<float>(even, odd, first + 8);
    even = low;
}
template <>
FASTCONV_INLINE void interleave<double>(Vec<double>& even, Vec<double>& odd) {
    const Index<double> first{0, 8, 1, 9, 2, 10, 3, 11};
    const Vec<double> low = pick<double>(even, odd, first);
    odd = pick<double>(even, odd, first + 4);
    even = low;
}
/// Each load of four values is broadcast to all quarters, and a mask selects one. Loads of whole vectors would nearly
/// always cross a cache line.
template <>
FASTCONV_INLINE Vec<float> load_four_rows(const float* from, ptrdiff_t row) {
    __m512 rows = _mm512_broadcast_f32x4(_mm_loadu_ps(from));
    FASTCONV_UNROLL
    for (int i = 1; i < 4; ++i)
        rows = _mm512_mask_broadcast_f32x4(rows, (__mmask16)(0xFFFFu << 4 * i), _mm_loadu_ps(from + i * row));
    return (Vec<float>)rows;
}

template <>
FASTCONV_INLINE Index<float> widen<float>(Bytes<float> bytes) {
    return (Index<float>)_mm512_cvtepu8_epi32((__m128i)bytes);
}
template <>
FASTCONV_INLINE Index<double> widen<double>(Bytes<double> bytes) {
    return (Index<double>)_mm512_cvtepu8_epi64(_mm_cvtsi64_si128((int64_t)bytes));
}
template <>
FASTCONV_INLINE Bytes<float> load_part_of_bytes<float>(const uint8_t* from, int64_t count) {
    return (Bytes<float>)_mm_maskz_loadu_epi8((__mmask16)((1u << count) - 1), from);
}
template <>
FASTCONV_INLINE Bytes<double> load_part_of_bytes<double>(const uint8_t* from, int64_t count) {
    return (Bytes<double>)_mm_cvtsi128_si64(_mm_maskz_loadu_epi8((__mmask16)((1u << count) - 1), from));
}
template <>
FASTCONV_INLINE void store_part_of_bytes<float>(uint8_t* to, Bytes<float> bytes, int64_t count) {
    _mm_mask_storeu_epi8(to, (__mmask16)((1u << count) - 1), (__m128i)bytes);
}
template <>
FASTCONV_INLINE void store_part_of_bytes<double>(uint8_t* to, Bytes<double> bytes, int64_t count) {
    _mm_mask_storeu_epi8(to, (__mmask16)((1u << count) - 1), _mm_cvtsi64_si128((int64_t)bytes));
}

// A register is loaded from four rows that are a quarter of a square apart. Transposing its quarters of 16 bytes then
// needs no shuffle across them: one shuffle a vector for double, two for float. The loads blend on two ports.
FASTCONV_INLINE __m512 load_quarters(const float* from, ptrdiff_t step) {
    __m512 all = _mm512_castps128_ps512(_mm_loadu_ps(from));
    all = _mm512_mask_broadcast_f32x4(all, 0x00F0, _mm_loadu_ps(from + step));
    all = _mm512_mask_broadcast_f32x4(all, 0x0F00, _mm_loadu_ps(from + 2 * step));
    return _mm512_mask_broadcast_f32x4(all, 0xF000, _mm_loadu_ps(from + 3 * step));
}
FASTCONV_INLINE __m512d load_quarters(const double* from, ptrdiff_t step) {
    __m512d all = _mm512_castpd128_pd512(_mm_loadu_pd(from));
    all = _mm512_mask_broadcast_f64x2(all, 0x0C, _mm_loadu_pd(from + step));
    all = _mm512_mask_broadcast_f64x2(all, 0x30, _mm_loadu_pd(from + 2 * step));
    return _mm512_mask_broadcast_f64x2(all, 0xC0, _mm_loadu_pd(from + 3 * step));
}

template <>
constexpr int square_side<float> = 16;
template <>
constexpr int square_side<double> = 8;

template <>
FASTCONV_INLINE void transpose_square(const float* from, ptrdiff_t from_row, float* to, ptrdiff_t to_row) {
    FASTCONV_UNROLL
    for (int c = 0; c < 16; c += 4) {
        __m512 a[4];
        FASTCONV_UNROLL
        for (int r = 0; r < 4; ++r) a[r] = load_quarters(from + r * from_row + c, 4 * from_row);
        const __m512 b0 = _mm512_unpacklo_ps(a[0], a[1]), b1 = _mm512_unpackhi_ps(a[0], a[1]);
        const __m512 b2 = _mm512_unpacklo_ps(a[2], a[3]), b3 = _mm512_unpackhi_ps(a[2], a[3]);
        _mm512_storeu_ps(to + c * to_row, _mm512_shuffle_ps(b0, b2, 0x44));
        _mm512_storeu_ps(to + (c + 1) * to_row, _mm512_shuffle_ps(b0, b2, 0xEE));
        _mm512_storeu_ps(to + (c + 2) * to_row, _mm512_shuffle_ps(b1, b3, 0x44));
        _mm512_storeu_ps(to + (c + 3) * to_row, _mm512_shuffle_ps(b1, b3, 0xEE));
    }
}
template <>
FASTCONV_INLINE void transpose_square(const double* from, ptrdiff_t from_row, double* to, ptrdiff_t to_row) {
    FASTCONV_UNROLL
    for (int c = 0; c < 8; c += 2) {
        const __m512d even = load_quarters(from + c, 2 * from_row);
        const __m512d odd = load_quarters(from + from_row + c, 2 * from_row);
        _mm512_storeu_pd(to + c * to_row, _mm512_unpacklo_pd(even, odd));
        _mm512_storeu_pd(to + (c + 1) * to_row, _mm512_unpackhi_pd(even, odd));
    }
}

} // namespace
} // namespace FASTCONV_ISA
} // namespace fastconv
