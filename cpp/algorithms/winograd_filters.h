// The filters of Winograd's algorithm: how they are blocked and transformed.
#pragma once

#include "algorithms/winograd_tiles.h"

namespace fastconv {

/// The blocks of filters, and whether transformed filters are stored or streamed.
struct WinogradFilters {
    std::int64_t width, vectors, k_blocks, widest_filters; // widest_filters: how many filters the widest block has
    bool stored;          // whether transformed filters are stored; if not, they are streamed
    bool by_filters;      // whether tasks take blocks of filters instead of tiles; always true if streamed
    std::int64_t c_parts; // if streamed, how many parts the channels are cut into

    /// Block b has filters [first(b), first(b) + lanes(b)). The last block may reach beyond k.
    std::int64_t first(std::int64_t b) const { return part_start(b, k_blocks, vectors) * width; }
    std::int64_t lanes(std::int64_t b) const { return first(b + 1) - first(b); }
    std::int64_t part(std::int64_t p, std::int64_t c) const { return part_start(p, c_parts, c); }
    /// The size of a plane. Transformed filters of one block are 36 planes, each stored as [c][lane]. Planes are
    /// padded, because a transform writes to all planes in turn, and the sizes are often powers of two.
    template <class T>
    static std::int64_t plane(std::int64_t c, std::int64_t lanes) {
        return c * lanes + plane_padding<T>;
    }
    /// Where the planes of block b start in the transformed filters of all blocks.
    template <class T>
    std::int64_t block_start(std::int64_t b, std::int64_t c) const {
        return kPoints * (c * first(b) + b * plane_padding<T>);
    }
    /// The number of values of all transformed filters.
    template <class T>
    std::int64_t total(std::int64_t c) const {
        return block_start<T>(k_blocks, c);
    }
};

template <class T>
WinogradFilters choose_winograd_filters(const Correlation& g, bool filters_stay);
/// Changes the number of blocks, and whether transformed filters are stored. This changes no bit of a result.
template <class T>
void cut_winograd_filters(WinogradFilters& f, std::int64_t channels, std::int64_t k_blocks, bool stored);

/// Whether a layer has such large filters and small images that it streams the filters even if they stay.
template <class T>
bool streams_filters(const ConvProblem& layer);

/// The strips of channels whose filters are transformed by a task.
constexpr std::int64_t kFilterStrip = 16;

/// Transforms channels [c0, c1) of filters [k0, k0 + lanes) to [point][c][lane]. Points are `plane` values apart.
template <class T>
void transform_filters(const Correlation& g, const WinogradForm& form, const T* filters, std::int64_t c0,
                       std::int64_t c1, std::int64_t k0, std::int64_t lanes, T* to, std::int64_t plane);

} // namespace fastconv
