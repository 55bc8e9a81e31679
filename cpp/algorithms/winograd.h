// Winograd's algorithm for dense 3x3 and 5x5 windows of stride 1, in all three directions.
//
// A NaN or infinity in the input, or an overflow in a transform, spreads over its whole tile. Results that are not
// finite are therefore computed again by the direct algorithm (Request::only_direct).
//
// In NCHW, transforms read strips that are copied from the planes, and write strips that are copied to them (see
// winograd_tiles.h). All sums add in the order of NHWC, so the bits are the same. The layer is converted instead, and
// its plan on planes is empty, if tasks take blocks of filters or if the filters are cut into halves.
#pragma once

#include "algorithms/algorithm.h"

namespace fastconv {

template <class T>
const Algorithm<T>& winograd();
template <class T>
const Algorithm<T>& winograd_filter_gradient();

constexpr const char* kWinogradLimits =
    "3x3 and 5x5 filters with strides 1, dilations 1, one group and at most about 1000 channels";
/// Whether the algorithm can compute a layer at all: the layer has such a window, and the scratch memory stays within
/// bounds.
template <class T>
bool winograd_serves(const ConvProblem& layer);
/// The products per output pixel, channel and filter, without the transforms. Infinity if images are too small, or if
/// FASTCONV_WINOGRAD=0 switches the algorithm off.
double winograd_products(const ConvProblem& layer);

} // namespace fastconv
