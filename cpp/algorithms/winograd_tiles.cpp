#include "algorithms/winograd_tiles.h"

#include "core/layout.h"
#include "core/workspace.h"

namespace fastconv {
namespace {

/// The part of a square of `size` pixels from `base` that lies inside [0, limit).
void valid_part(std::int64_t base, std::int64_t size, std::int64_t limit, std::int64_t& first, std::int64_t& last) {
    first = std::clamp<std::int64_t>(-base, 0, size);
    last = std::clamp<std::int64_t>(limit - base, first, size);
}

/// As transform_tiles, from NHWC. The points of two tiles are `step` values apart.
template <class T>
void transform_pixels(const TileSquares<T>& squares, const TileGrid& grid, const TileImages<const T>& from,
                      std::int64_t channels, std::int64_t first, std::int64_t last, T* points, std::int64_t step,
                      std::int64_t plane) {
    WinogradTile<T> tile{};
    tile.row = from.row;
    tile.pixel = from.pixel;
    tile.plane = plane;
    tile.channels = channels;
    for (std::int64_t t = first; t < last; ++t) {
        const std::int64_t y = grid.y(t) + squares.base_h, x = grid.x(t) + squares.base_w;
        tile.pixels = from.data + grid.n(t) * from.image + y * from.row + x * from.pixel;
        valid_part(y, squares.size, squares.h, tile.row0, tile.row1);
        valid_part(x, squares.size, squares.w, tile.column0, tile.column1);
        tile.points = points + (t - first) * step;
        squares.transform(tile);
    }
}

/// The pixels that a rectangle of tiles from tile t on reads.
template <class T>
Tile pixels_read(const TileSquares<T>& squares, const TileGrid& grid, std::int64_t t, std::int64_t rows,
                 std::int64_t columns) {
    const std::int64_t y = grid.y(t) + squares.base_h, x = grid.x(t) + squares.base_w;
    const std::int64_t border = squares.size - grid.tile;
    Tile pixels{};
    valid_part(y, rows * grid.tile + border, squares.h, pixels.y0, pixels.rows);
    valid_part(x, columns * grid.tile + border, squares.w, pixels.x0, pixels.columns);
    return {y + pixels.y0, pixels.rows - pixels.y0, x + pixels.x0, pixels.columns - pixels.x0};
}

} // namespace

template <class T>
void transform_tiles(const TileSquares<T>& squares, const TileGrid& grid, const TileImages<const T>& from,
                     std::int64_t channels, std::int64_t first, std::int64_t last, T* points, std::int64_t plane) {
    if (!from.planes) return transform_pixels(squares, grid, from, channels, first, last, points, channels, plane);
    const Scratch<T> strip(kStripPixels * strip_channels<T>);
    each_rectangle(grid, first, last, [&](std::int64_t t, std::int64_t rows, std::int64_t columns) {
        const Tile pixels = pixels_read(squares, grid, t, rows, columns);
        const T* const planes = from.data + grid.n(t) * from.image + pixels.y0 * from.row + pixels.x0;
        for (std::int64_t c = 0; c < channels; c += strip_channels<T>) {
            const std::int64_t count = std::min(strip_channels<T>, channels - c);
            copy_from_planes(planes + c * from.channel, from.row, from.channel, pixels.rows, pixels.columns, count,
                             strip.get());
            const TileImages<const T> copy = strip_images<const T>(strip.get(), pixels, count);
            transform_pixels(squares, grid, copy, count, t, t + rows * columns, points + (t - first) * channels + c,
                             channels, plane);
        }
    });
}

#define FASTCONV_TRANSFORM_TILES(T)                                                                                    \
    template void transform_tiles(const TileSquares<T>&, const TileGrid&, const TileImages<const T>&, std::int64_t,    \
                                  std::int64_t, std::int64_t, T*, std::int64_t);
FASTCONV_TRANSFORM_TILES(float)
FASTCONV_TRANSFORM_TILES(double)

} // namespace fastconv
