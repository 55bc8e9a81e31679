#include "algorithms/gradient_lanes.h"

#include "core/isa.h"

#include <algorithm>

namespace fastconv {
namespace {

/// The fewest products that a register tile takes the time of. A sum waits for the one before: with two FMAs a cycle of
/// four cycles each, 8 sums keep both units busy.
constexpr std::int64_t kLeastProducts = 8;

} // namespace

GroupGradient group_gradient(const ConvProblem& o) {
    const Windows a = windows_of(o);
    const bool copied = a.crosses_columns() || a.crosses_rows();
    return {a, o.c / o.groups, o.k / o.groups, a.overlapping() && (copied || o.groups == 1)};
}

template <class T>
PixelCost filter_cost(const GroupGradient& g) {
    const KernelsOf<T>& kernel = kernels<T>();
    const std::int64_t vectors = ceil_div(g.k, kernel.width), calls = ceil_div(vectors, kernel.max_vectors);
    const std::int64_t values = g.a.r * g.a.s * g.c;
    const std::int64_t reads = ceil_div(values, kernel.outer_products_count[ceil_div(vectors, calls) - 1]);
    return {values * vectors, reads * vectors + values * calls};
}

template <class T>
PixelCost channel_cost(const GroupGradient& g) {
    const KernelsOf<T>& kernel = kernels<T>();
    const std::int64_t per_row = g.joins_taps ? 1 : g.a.s, runs = g.a.r * per_row;
    const std::int64_t vectors = ceil_div(g.a.s / per_row * g.c, kernel.width);
    const std::int64_t calls = ceil_div(vectors, most_channel_vectors<T>(g.k));
    PixelCost cost{};
    for (std::int64_t call = 0; call < calls; ++call) {
        const std::int64_t wide = part_start(call + 1, calls, vectors) - part_start(call, calls, vectors);
        const std::int64_t reads = ceil_div(g.k, kernel.outer_products_count[wide - 1]);
        cost.products += runs * std::max(kLeastProducts * reads, wide * g.k);
        cost.loads += runs * (reads * wide + g.k);
    }
    return cost;
}

/// Of the tiles that read x least often, takes the widest. With one vector, there would be more loads than products.
template <class T>
std::int64_t most_channel_vectors(std::int64_t k) {
    const KernelsOf<T>& kernel = kernels<T>();
    const auto reads = [&](std::int64_t vectors) { return ceil_div(k, kernel.outer_products_count[vectors - 1]); };
    std::int64_t best = 2;
    for (std::int64_t vectors = 3; vectors <= kernel.max_vectors; ++vectors)
        if (reads(vectors) <= reads(best)) best = vectors;
    return best;
}

#define FASTCONV_GRADIENT_LANES(T)                                                                                     \
    template PixelCost filter_cost<T>(const GroupGradient&);                                                           \
    template PixelCost channel_cost<T>(const GroupGradient&);                                                          \
    template std::int64_t most_channel_vectors<T>(std::int64_t);
FASTCONV_GRADIENT_LANES(float)
FASTCONV_GRADIENT_LANES(double)

} // namespace fastconv
