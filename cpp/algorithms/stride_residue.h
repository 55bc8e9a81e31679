// The input gradient with stride s as s*s dense problems of stride 1, without inserted zeros.
//
// Input rows of one residue, h = first + s*t, are reached by the filter taps r with r*d = first + pad (mod s) only;
// along t these taps read dy densely. Tap order is turned round, so that window positions ascend.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>

namespace fastconv {

/// One axis of one residue: input positions first + stride*t for t in [0, count); position t reads dy at
/// base + t + i*dilation for i in [0, taps), with the filter tap last_tap - i*tap_step.
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
    std::int64_t tap = 0; // the first that hits this residue; they repeat every tap_step
    while (tap < std::min(window, residue.tap_step) && (first + pad - tap * dilation) % stride != 0) ++tap;
    if (tap >= std::min(window, residue.tap_step)) return residue;
    residue.taps = (window - 1 - tap) / residue.tap_step + 1;
    residue.last_tap = tap + (residue.taps - 1) * residue.tap_step;
    residue.base = (first + pad - residue.last_tap * dilation) / stride; // exact
    return residue;
}

} // namespace fastconv
