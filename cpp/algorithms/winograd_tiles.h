// Shared by Winograd's forward pass and filter gradient: the two forms, the grid of tiles, the input's transform.
#pragma once

#include "algorithms/correlation.h"
#include "core/isa.h"

#include <algorithm>
#include <cstdint>

namespace fastconv {

constexpr std::int64_t kPoints = 36; // every form reads 6x6 pixels

/// F(4x4, 3x3) or F(2x2, 5x5), chosen by the window. `index` is the index in the kernel table.
struct WinogradForm {
    std::int64_t window, tile;
    int index;

    explicit WinogradForm(std::int64_t r) : window(r), tile(7 - r), index(r == 5 ? 1 : 0) {}
};

/// The grid of tiles that covers each image of a batch.
struct TileGrid {
    std::int64_t rows, columns, tile;

    TileGrid(const WinogradForm& form, std::int64_t p, std::int64_t q)
        : rows(ceil_div(p, form.tile)), columns(ceil_div(q, form.tile)), tile(form.tile) {}
    std::int64_t tiles_per_image() const { return rows * columns; }
    std::int64_t n(std::int64_t t) const { return t / tiles_per_image(); }
    std::int64_t y(std::int64_t t) const { return t % tiles_per_image() / columns * tile; }
    std::int64_t x(std::int64_t t) const { return t % tiles_per_image() % columns * tile; }
};

/// One cache line of padding between planes of points. Without it, planes a power of two apart would all fall into one
/// set of L1.
template <class T>
constexpr std::int64_t plane_padding = 64 / static_cast<std::int64_t>(sizeof(T));

/// Transforms the pixels that tiles [first, last) read. The points of tile t go to points + (t - first)*channels.
template <class T>
void transform_inputs(const Windows& a, const TileGrid& grid, const T* input, std::int64_t image, std::int64_t pixel,
                      std::int64_t channels, std::int64_t first, std::int64_t last, T* points, std::int64_t plane);

} // namespace fastconv
