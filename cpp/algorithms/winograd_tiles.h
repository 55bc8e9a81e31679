// Shared by Winograd's forward pass and filter gradient: the two forms, the grid of tiles, the input's transform.
#pragma once

#include "algorithms/correlation.h"
#include "core/isa.h"
#include "kernels/winograd_points.h"

#include <algorithm>
#include <cstdint>

namespace fastconv {

constexpr std::int64_t kSide = 6; // every form reads squares of 6x6 pixels
constexpr std::int64_t kPoints = kSide * kSide;

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

/// Where the images of a batch are in memory. In NCHW, `pixel` is 1, `channel` is the size of a plane, and a row is a
/// row of a plane. In NHWC, `channel` is 1.
template <class T>
struct TileImages {
    T* data;
    std::int64_t image, row, pixel, channel;
    bool planes;

    /// The images from channel `c` on.
    TileImages from_channel(std::int64_t c) const { return {data + c * channel, image, row, pixel, channel, planes}; }
};

/// In NCHW, a transform reads and writes a strip: an NHWC copy of the pixels of a rectangle of tiles. The copy of
/// kStripPixels pixels stays in L2. It has one cache line of channels at a time.
constexpr std::int64_t kStripPixels = 1024;
template <class T>
constexpr std::int64_t strip_channels = 64 / static_cast<std::int64_t>(sizeof(T));

/// Some pixels of one image, as an NHWC copy at `data`.
template <class T>
TileImages<T> strip_images(T* data, const Tile& pixels, std::int64_t channels) {
    const std::int64_t row = pixels.columns * channels;
    return {data - pixels.y0 * row - pixels.x0 * channels, 0, row, channels, 1, false};
}

/// Cuts tiles [first, last) into rectangles, and calls body(t, rows, columns) for each: `rows` rows of `columns` tiles
/// from tile t on. The tiles of a rectangle are consecutive. Its pixels, with those that neighbouring tiles read, too,
/// fit into a strip.
template <class Body>
void each_rectangle(const TileGrid& grid, std::int64_t first, std::int64_t last, Body&& body) {
    const std::int64_t border = kSide - grid.tile, most_columns = (kStripPixels / kSide - border) / grid.tile;
    for (std::int64_t t = first; t < last;) {
        const std::int64_t row = t % grid.tiles_per_image() / grid.columns, column = t % grid.columns;
        std::int64_t rows = 1, columns = std::min(grid.columns - column, last - t);
        if (columns == grid.columns) {
            const std::int64_t fit = (kStripPixels / (columns * grid.tile + border) - border) / grid.tile;
            rows = std::clamp<std::int64_t>(fit, 1, std::min(grid.rows - row, (last - t) / columns));
        }
        const std::int64_t parts = rows > 1 ? 1 : ceil_div(columns, most_columns);
        for (std::int64_t part = 0; part < parts; ++part) {
            const std::int64_t x = part_start(part, parts, columns);
            body(t + x, rows, part_start(part + 1, parts, columns) - x);
        }
        t += rows * columns;
    }
}

/// About as many tiles as `block`: whole rows of tiles, or an equal part of a row. In NCHW, the blocks then read and
/// write long runs of each plane.
inline std::int64_t block_of_rows(std::int64_t block, std::int64_t columns) {
    const std::int64_t most = block + block / 4;
    return most >= columns ? most / columns * columns : ceil_div(columns, ceil_div(columns, most));
}

/// The squares of pixels that tiles read: their size, the first pixel of the first square, the pixels that exist, and
/// the transform.
template <class T>
struct TileSquares {
    std::int64_t size, base_h, base_w, h, w;
    void (*transform)(const WinogradTile<T>&);
};

/// The squares of the input.
template <class T>
TileSquares<T> input_squares(const Windows& a) {
    return {kSide, a.base_h, a.base_w, a.h, a.w, kernels<T>().winograd_input};
}

/// Transforms the squares of tiles [first, last). The points of tile t go to points + (t - first)*channels.
template <class T>
void transform_tiles(const TileSquares<T>& squares, const TileGrid& grid, const TileImages<const T>& from,
                     std::int64_t channels, std::int64_t first, std::int64_t last, T* points, std::int64_t plane);

} // namespace fastconv
