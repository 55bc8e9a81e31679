// The direct algorithm: sums of products in plain order, for any correlation and any filter gradient.
//
// direct and direct_streamed give the same bits. small_k_reduce and small_k_spread are for few filters, and add in
// another order.
#pragma once

#include "algorithms/algorithm.h"

namespace fastconv {

/// Any correlation, with all filters packed beforehand.
template <class T>
const Algorithm<T>& direct();

/// Correlations of 1x1 windows with many filters and few pixels, whose filters are packed block by block.
template <class T>
const Algorithm<T>& direct_streamed();

/// Any filter gradient: outer products of input values and output gradients.
template <class T>
const Algorithm<T>& direct_filter_gradient();

/// Few filters, vectors along the values of a window.
template <class T>
const Algorithm<T>& small_k_reduce();

/// Few filters, vectors along the flattened axis of pixels and filters: correlations and filter gradients.
template <class T>
const Algorithm<T>& small_k_spread();
template <class T>
const Algorithm<T>& small_k_spread_filter_gradient();

/// Plans a correlation in two halves where it is too large for one pass: its packed filters, or the length of a sum.
/// Returns whether it did. `packed_values`: of all packed filters.
template <class T>
bool plan_halves(const Request& request, std::int64_t packed_values, bool splits_filters, ConvPlan<T>& plan);

} // namespace fastconv
