// The axis of the vectors of a direct filter gradient: filters, or channels if filters are few.
#pragma once

#include "algorithms/windows.h"

#include <cstdint>

namespace fastconv {

/// The filter gradient of one group.
struct GroupGradient {
    Windows a;
    std::int64_t c, k;
    bool joins_taps; // whether the taps of a window row are neighbours in memory
};

GroupGradient group_gradient(const ConvProblem& o);

/// The vectors that are multiplied and loaded per output pixel.
struct PixelCost {
    std::int64_t products, loads;

    std::int64_t total() const { return 4 * products + loads; } // a load takes as long as a quarter of a product
};

/// The cost if vectors run along filters, and if they run along channels.
template <class T>
PixelCost filter_cost(const GroupGradient& g);
template <class T>
PixelCost channel_cost(const GroupGradient& g);

/// Whether vectors run along channels. This changes no sum.
template <class T>
bool channel_lanes_pay(const GroupGradient& g) {
    return 100 * channel_cost<T>(g).total() < 97 * filter_cost<T>(g).total();
}

/// The vectors of channels of a register tile for `k` filters.
template <class T>
std::int64_t most_channel_vectors(std::int64_t k);

} // namespace fastconv
