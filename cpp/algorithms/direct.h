// The direct algorithms: sums of products, for any correlation and any filter gradient.
//
// direct and direct_streamed give the same bits. direct_grouped is for groups with few channels, small_k_reduce and
// small_k_spread are for few filters. Each of the three adds in its own order.
#pragma once

#include "algorithms/algorithm.h"

namespace fastconv {

/// Any correlation. Packs all filters first.
template <class T>
const Algorithm<T>& direct();

/// Correlations of 1x1 windows with many filters and few pixels. Packs the filters block by block.
template <class T>
const Algorithm<T>& direct_streamed();

/// Any filter gradient: outer products of input values and output gradients.
template <class T>
const Algorithm<T>& direct_filter_gradient();

/// Groups with few channels; a vector takes several groups. Correlations and filter gradients.
template <class T>
const Algorithm<T>& direct_grouped();
template <class T>
const Algorithm<T>& direct_grouped_filter_gradient();

/// Few filters; vectors run along the values of a window.
template <class T>
const Algorithm<T>& small_k_reduce();

/// Few filters; vectors run along the flattened (pixel, filter) axis. Correlations and filter gradients.
template <class T>
const Algorithm<T>& small_k_spread();
template <class T>
const Algorithm<T>& small_k_spread_filter_gradient();

/// If the packed filters are too large or the sums too long for one pass, plans two halves and returns true.
/// `packed_values` is the number of values of all packed filters. With `splits_filters`, the filters may be split.
template <class T>
bool plan_halves(const Request& request, std::int64_t packed_values, bool splits_filters, ConvPlan<T>& plan);

} // namespace fastconv
