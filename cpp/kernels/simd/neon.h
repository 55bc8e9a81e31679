// NEON, which every AArch64 CPU has: 32 registers of 16 bytes.
#pragma once

#include <arm_neon.h>

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr int vector_bytes = 16;
constexpr int registers = 32;
constexpr bool has_permute = true;
constexpr bool has_masks = false;

} // namespace
} // namespace FASTCONV_ISA
} // namespace fastconv

#include "kernels/simd/vectors.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

// Not inlined, for the reason that vectors.h gives.
template <>
FASTCONV_NOINLINE Vec<float> load_part(const float* from, int64_t count) {
    const float32x2_t zero = vdup_n_f32(0);
    if (count >= 4) return load(from);
    if (count == 1) return (Vec<float>)vcombine_f32(vld1_lane_f32(from, zero, 0), zero);
    return (Vec<float>)vcombine_f32(vld1_f32(from), count == 3 ? vld1_lane_f32(from + 2, zero, 0) : zero);
}
template <>
FASTCONV_INLINE Vec<double> load_part(const double* from, int64_t count) {
    return count >= 2 ? load(from) : (Vec<double>)vcombine_f64(vld1_f64(from), vdup_n_f64(0));
}
template <>
FASTCONV_NOINLINE void store_part(float* to, Vec<float> value, int64_t count) {
    const float32x4_t lanes = (float32x4_t)value;
    if (count >= 4) return store(to, value);
    if (count == 1) return vst1q_lane_f32(to, lanes, 0);
    vst1_f32(to, vget_low_f32(lanes));
    if (count == 3) vst1q_lane_f32(to + 2, lanes, 2);
}
template <>
FASTCONV_INLINE void store_part(double* to, Vec<double> value, int64_t count) {
    if (count >= 2) return store(to, value);
    vst1q_lane_f64(to, (float64x2_t)value, 0);
}

template <>
FASTCONV_INLINE float add_lanes<float>(Vec<float> value) {
    const float32x4_t lanes = (float32x4_t)value;
    return vpadds_f32(vadd_f32(vget_low_f32(lanes), vget_high_f32(lanes)));
}
template <>
FASTCONV_INLINE double add_lanes<double>(Vec<double> value) {
    return vpaddd_f64((float64x2_t)value);
}

// Byte b of lane l is byte 4 * lanes[l] + b of `values`. In loops, the lanes are constant, and a permutation is one
// instruction.
template <>
FASTCONV_INLINE Vec<float> permute<float>(Vec<float> values, Index<float> lanes) {
    const Index<float> bytes = (lanes & 3) * 0x04040404 + 0x03020100;
    return (Vec<float>)vqtbl1q_u8((uint8x16_t)values, (uint8x16_t)bytes);
}
template <>
FASTCONV_INLINE Vec<double> permute<double>(Vec<double> values, Index<double> lanes) {
    const Index<double> two = lanes + lanes, pair = two | ((two + 1) << 32);
    return (Vec<double>)permute<float>((Vec<float>)values, (Index<float>)pair);
}
template <>
FASTCONV_INLINE Vec<float> evens<float>(Vec<float> low, Vec<float> high) {
    return (Vec<float>)vuzp1q_f32((float32x4_t)low, (float32x4_t)high);
}
template <>
FASTCONV_INLINE Vec<double> evens<double>(Vec<double> low, Vec<double> high) {
    return (Vec<double>)vuzp1q_f64((float64x2_t)low, (float64x2_t)high);
}
template <>
FASTCONV_INLINE Vec<float> odds<float>(Vec<float> low, Vec<float> high) {
    return (Vec<float>)vuzp2q_f32((float32x4_t)low, (float32x4_t)high);
}
template <>
FASTCONV_INLINE Vec<double> odds<double>(Vec<double> low, Vec<double> high) {
    return (Vec<double>)vuzp2q_f64((float64x2_t)low, (float64x2_t)high);
}
template <>
FASTCONV_INLINE void interleave<float>(Vec<float>& even, Vec<float>& odd) {
    const float32x4_t low = vzip1q_f32((float32x4_t)even, (float32x4_t)odd);
    odd = (Vec<float>)vzip2q_f32((float32x4_t)even, (float32x4_t)odd);
    even = (Vec<float>)low;
}
template <>
FASTCONV_INLINE void interleave<double>(Vec<double>& even, Vec<double>& odd) {
    const float64x2_t low = vzip1q_f64((float64x2_t)even, (float64x2_t)odd);
    odd = (Vec<double>)vzip2q_f64((float64x2_t)even, (float64x2_t)odd);
    even = (Vec<double>)low;
}

template <>
FASTCONV_INLINE Index<float> widen<float>(Bytes<float> bytes) {
    const uint16x8_t words = vmovl_u8(vreinterpret_u8_u32(vdup_n_u32((uint32_t)bytes)));
    return (Index<float>)vmovl_u16(vget_low_u16(words));
}
template <>
FASTCONV_INLINE Index<double> widen<double>(Bytes<double> bytes) {
    const uint16x8_t words = vmovl_u8(vreinterpret_u8_u16(vdup_n_u16((uint16_t)bytes)));
    return (Index<double>)vmovl_u32(vget_low_u32(vmovl_u16(vget_low_u16(words))));
}
template <>
FASTCONV_INLINE Bytes<float> narrow<float>(Index<float> value) {
    const uint16x4_t words = vmovn_u32((uint32x4_t)value);
    return (Bytes<float>)vget_lane_u32(vreinterpret_u32_u8(vmovn_u16(vcombine_u16(words, words))), 0);
}
template <>
FASTCONV_INLINE Bytes<double> narrow<double>(Index<double> value) {
    const uint32x2_t pair = vmovn_u64((uint64x2_t)value);
    const uint16x4_t words = vmovn_u32(vcombine_u32(pair, pair));
    return (Bytes<double>)vget_lane_u16(vreinterpret_u16_u8(vmovn_u16(vcombine_u16(words, words))), 0);
}

template <>
constexpr int square_side<float> = 4;
template <>
constexpr int square_side<double> = 2;

template <>
FASTCONV_INLINE void transpose_square(const double* from, ptrdiff_t from_row, double* to, ptrdiff_t to_row) {
    const float64x2_t even = vld1q_f64(from), odd = vld1q_f64(from + from_row);
    vst1q_f64(to, vtrn1q_f64(even, odd));
    vst1q_f64(to + to_row, vtrn2q_f64(even, odd));
}
template <>
FASTCONV_INLINE void transpose_square(const float* from, ptrdiff_t from_row, float* to, ptrdiff_t to_row) {
    float32x4_t a[4];
    FASTCONV_UNROLL
    for (int r = 0; r < 4; ++r) a[r] = vld1q_f32(from + r * from_row);
    FASTCONV_UNROLL
    for (int c = 0; c < 2; ++c) {
        const float32x4_t low = c == 0 ? vtrn1q_f32(a[0], a[1]) : vtrn2q_f32(a[0], a[1]);
        const float32x4_t high = c == 0 ? vtrn1q_f32(a[2], a[3]) : vtrn2q_f32(a[2], a[3]);
        const float64x2_t low_pairs = vreinterpretq_f64_f32(low), high_pairs = vreinterpretq_f64_f32(high);
        vst1q_f32(to + c * to_row, vreinterpretq_f32_f64(vtrn1q_f64(low_pairs, high_pairs)));
        vst1q_f32(to + (c + 2) * to_row, vreinterpretq_f32_f64(vtrn2q_f64(low_pairs, high_pairs)));
    }
}

} // namespace
} // namespace FASTCONV_ISA
} // namespace fastconv
