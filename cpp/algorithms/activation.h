// Activations and their gradients for a part of a tensor, on the calling thread. The part should be small enough to
// stay in L1 between the steps of an operation.
#pragma once

#include "fastconv/types.h"
#include "kernels/table.h"

#include <cmath>
#include <cstdint>
#include <limits>

namespace fastconv {

/// y = activation(x + residual) for `count` values, from number `first` of each array on. The residual may be null. y
/// may be x.
void activate_part(const ActivationFunction& activation, DataType dtype, const void* x, const void* residual, void* y,
                   std::int64_t first, std::int64_t count);
/// Overwrites `count` values, from number `first` on.
void activate_in_place(const ActivationFunction& activation, DataType dtype, void* values, std::int64_t first,
                       std::int64_t count);

/// y = grad times the activation's derivative at x. y may be x or grad.
template <class T>
void multiply_by_derivative(const ActivationFunction& activation, const T* x, const T* grad, T* y, std::int64_t count);

/// Whether the activation bounds values and does nothing else: linear, relu, relu6 and clip.
bool is_bound(const ActivationFunction& activation);

/// The bounds of such an activation. Those of `linear` are infinite and not set.
template <class T>
Bounds<T> bounds_of(const ActivationFunction& activation);

/// The value within the bounds. NaN stays NaN.
template <class T>
T within(const Bounds<T>& bounds, T value) {
    if (!bounds.set) return value;
    const T limited = value < bounds.low ? bounds.low : value;
    return limited > bounds.high ? bounds.high : limited;
}

/// The largest value below the upper bound, where the activation still has a gradient. Infinity if there is no bound.
template <class T>
T largest_unbounded(const Bounds<T>& bounds) {
    if (std::isinf(bounds.high)) return bounds.high;
    const T below = std::nextafter(bounds.high, -std::numeric_limits<T>::infinity());
    constexpr T smallest = std::numeric_limits<T>::min(); // kernels take numbers below it for 0
    if (std::abs(below) >= smallest) return below;
    return bounds.high < smallest ? -smallest : T{0};
}

} // namespace fastconv
