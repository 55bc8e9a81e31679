// Stride residues: the input gradient with stride s as s*s dense problems of stride 1, without inserted zeros.
//
// The input rows of one residue are h = first + s*t. Only the filter taps r with r*d = first + pad (mod s) reach these
// rows, where d is the dilation. From one t to the next, each of these taps moves on by one row of dy, as in a
// convolution of stride 1. The order of the taps is reversed, so that they read rows of dy from top to bottom.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>

namespace fastconv {

/// One axis of one residue. Its input positions are first + stride*t for t in [0, count). For i in [0, taps), position
/// t multiplies dy at base + t + i*dilation with filter tap last_tap - i*tap_step.
struct StrideResidue {
    std::int64_t first, count, taps, base, dilation, last_tap, tap_step;
};

inline StrideResidue stride_residue(std::int64_t first, std::int64_t size, std::int64_t stride, std::int64_t dilation,
                                    std::int64_t window, std::int64_t pad) {
    StrideResidue residue{};
    residue.first = first;
    residue.count = first < size ? (size - first + stride - 1) / stride : 0;
    residue.tap_step = stride / std::gcd(stride, dilation);
    residue.dilation = residue.tap_step * dilation / stride;
    std::int64_t tap = 0; // the first tap that reaches this residue; the others follow at distances of tap_step
    while (tap < std::min(window, residue.tap_step) && (first + pad - tap * dilation) % stride != 0) ++tap;
    if (tap >= std::min(window, residue.tap_step)) return residue;
    residue.taps = (window - 1 - tap) / residue.tap_step + 1;
    residue.last_tap = tap + (residue.taps - 1) * residue.tap_step;
    residue.base = (first + pad - residue.last_tap * dilation) / stride; // divides exactly
    return residue;
}

} // namespace fastconv
