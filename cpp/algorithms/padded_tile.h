// A padded tile: the part of an input that a tile of output pixels reads, copied with its padding made explicit.
//
// Only tiles that reach into the padding need a copy. A copy costs one store per input value, while the convolution
// spends K*R*S multiplications on each value.
#pragma once

#include "algorithms/windows.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace fastconv {

/// How to read a padded tile, or the input itself. For output pixel (y0 + y, x0 + x), window element (i, j) is at
/// element y*row + x*step + i*window_row + j*window_column.
struct PaddedTileLayout {
    std::int64_t row, step, window_row, window_column;
};

inline PaddedTileLayout padded_tile_layout(const Windows& a, std::int64_t columns, std::int64_t channels) {
    if (a.overlapping()) {
        const std::int64_t line = ((columns - 1) * a.stride_w + a.s) * channels;
        return {a.stride_h * line, a.stride_w * channels, line, channels};
    }
    const std::int64_t plane = columns * channels;
    return {a.r * a.s * plane, channels, a.s * plane, plane};
}

inline std::int64_t padded_tile_size(const Windows& a, std::int64_t rows, std::int64_t columns, std::int64_t channels) {
    if (a.overlapping()) return ((rows - 1) * a.stride_h + a.r) * ((columns - 1) * a.stride_w + a.s) * channels;
    return rows * columns * a.r * a.s * channels;
}

/// Copies `count` pixels of `channels` values from columns x, x + stride, ... of the line `from`. Neighbouring pixels
/// of the line are `from_step` elements apart. Columns outside [0, w) become zero.
template <class T>
void copy_pixels(T* to, const T* from, std::int64_t from_step, std::int64_t x, std::int64_t stride, std::int64_t count,
                 std::int64_t w, std::int64_t channels) {
    // Pixels [first, last) are inside the line.
    const std::int64_t first = std::min(count, x >= 0 ? 0 : (-x + stride - 1) / stride);
    const std::int64_t last = std::max(first, std::min(count, x >= w ? 0 : (w - 1 - x) / stride + 1));
    std::fill(to, to + first * channels, T{});
    if (stride == 1 && from_step == channels && last > first) {
        std::memcpy(to + first * channels, from + (x + first) * from_step,
                    static_cast<std::size_t>((last - first) * channels) * sizeof(T));
    } else {
        for (std::int64_t i = first; i < last; ++i)
            std::copy_n(from + (x + i * stride) * from_step, channels, to + i * channels);
    }
    std::fill(to + last * channels, to + count * channels, T{});
}

/// Fills `to` (padded_tile_size values) from one image. `input` is the image's first channel to copy. Neighbouring
/// pixels are `pixel` elements apart.
template <class T>
void fill_padded_tile(const Windows& a, const Tile& tile, const T* input, std::int64_t pixel, std::int64_t channels,
                      T* to) {
    const std::int64_t y = a.base_h + tile.y0 * a.stride_h, x = a.base_w + tile.x0 * a.stride_w;
    const auto line = [&](std::int64_t at, std::int64_t column, std::int64_t stride, std::int64_t count) {
        if (at < 0 || at >= a.h)
            std::fill(to, to + count * channels, T{});
        else
            copy_pixels(to, input + at * a.w * pixel, pixel, column, stride, count, a.w, channels);
        to += count * channels;
    };
    if (a.overlapping()) {
        const std::int64_t lines = (tile.rows - 1) * a.stride_h + a.r;
        for (std::int64_t i = 0; i < lines; ++i) line(y + i, x, 1, (tile.columns - 1) * a.stride_w + a.s);
        return;
    }
    for (std::int64_t row = 0; row < tile.rows; ++row)
        for (std::int64_t i = 0; i < a.r; ++i)
            for (std::int64_t j = 0; j < a.s; ++j)
                line(y + row * a.stride_h + i * a.dilation_h, x + j * a.dilation_w, a.stride_w, tile.columns);
}

} // namespace fastconv
