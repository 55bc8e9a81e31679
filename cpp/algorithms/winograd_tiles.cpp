#include "algorithms/winograd_tiles.h"

namespace fastconv {
namespace {

/// The part of a square of `size` pixels from `base` that lies inside [0, limit).
void valid_part(std::int64_t base, std::int64_t size, std::int64_t limit, std::int64_t& first, std::int64_t& last) {
    first = std::clamp<std::int64_t>(-base, 0, size);
    last = std::clamp<std::int64_t>(limit - base, first, size);
}

} // namespace

template <class T>
void transform_inputs(const Windows& a, const TileGrid& grid, const T* input, std::int64_t image, std::int64_t pixel,
                      std::int64_t channels, std::int64_t first, std::int64_t last, T* points, std::int64_t plane) {
    for (std::int64_t t = first; t < last; ++t) {
        const std::int64_t y = grid.y(t) + a.base_h, x = grid.x(t) + a.base_w;
        WinogradTile<T> tile{};
        tile.pixels = input + grid.n(t) * image + (y * a.w + x) * pixel;
        tile.row = a.w * pixel;
        tile.pixel = pixel;
        valid_part(y, 6, a.h, tile.row0, tile.row1);
        valid_part(x, 6, a.w, tile.column0, tile.column1);
        tile.points = points + (t - first) * channels;
        tile.plane = plane;
        tile.channels = channels;
        kernels<T>().winograd_input(tile);
    }
}

template void transform_inputs(const Windows&, const TileGrid&, const float*, std::int64_t, std::int64_t, std::int64_t,
                               std::int64_t, std::int64_t, float*, std::int64_t);
template void transform_inputs(const Windows&, const TileGrid&, const double*, std::int64_t, std::int64_t, std::int64_t,
                               std::int64_t, std::int64_t, double*, std::int64_t);

} // namespace fastconv
