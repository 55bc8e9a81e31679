// The windows of a convolution or a pooling: where output pixels read their input. Also tiles and valid taps.
#pragma once

#include "core/numbers.h"
#include "fastconv/convolution.h"

#include <algorithm>
#include <cstdint>

namespace fastconv {

/// Output pixel (y, x) reads input rows y*stride_h + base_h + i*dilation_h for i in [0, r), and columns likewise.
struct Windows {
    std::int64_t h, w; // input
    std::int64_t p, q; // output
    std::int64_t r, s; // window
    std::int64_t stride_h, stride_w, dilation_h, dilation_w;
    std::int64_t base_h, base_w; // negative if there is padding

    bool crosses_columns() const { return base_w < 0 || base_w + (q - 1) * stride_w + (s - 1) * dilation_w >= w; }
    bool crosses_rows() const { return base_h < 0 || base_h + (p - 1) * stride_h + (r - 1) * dilation_h >= h; }
    /// Whether windows overlap or touch. If so, a padded copy is an image that all windows share. If not, each window
    /// is copied on its own, as [pixel row][i][j][pixel][channel].
    bool overlapping() const { return dilation_h == 1 && dilation_w == 1 && stride_h <= r && stride_w <= s; }
};

inline Windows windows_of(const ConvProblem& o) {
    return {o.h, o.w, o.p, o.q, o.r, o.s, o.stride_h, o.stride_w, o.dilation_h, o.dilation_w, -o.pad_top, -o.pad_left};
}

/// A tile of output pixels.
struct Tile {
    std::int64_t y0, rows, x0, columns;
};

/// Some rows of an image.
struct ImageRows {
    std::int64_t image, first, count;
};

/// The output rows of some images, cut into tiles of at most `rows` rows each.
struct RowTiles {
    std::int64_t images = 0, p = 0, rows = 1, of_image = 0; // of_image: tiles of an image

    RowTiles() = default;
    RowTiles(std::int64_t images, std::int64_t p, std::int64_t rows)
        : images(images), p(p), rows(rows), of_image(ceil_div(p, rows)) {}
    std::int64_t count() const { return images * of_image; }
    ImageRows tile(std::int64_t at) const {
        const std::int64_t image = at / of_image, first = (at - image * of_image) * rows;
        return {image, first, std::min(rows, p - first)};
    }
};

/// `channels` channels, cut into `count` parts of whole vectors of `width`. The last vector may be partial.
struct ChannelParts {
    std::int64_t count, channels, width;

    std::int64_t first(std::int64_t part) const {
        return std::min(channels, part_start(part, count, ceil_div(channels, width)) * width);
    }
    std::int64_t size(std::int64_t part) const { return first(part + 1) - first(part); }
};

/// The taps [first, last) of `window` whose position base + i*dilation lies in [0, size).
inline void valid_taps(std::int64_t base, std::int64_t dilation, std::int64_t window, std::int64_t size,
                       std::int64_t& first, std::int64_t& last) {
    first = base >= 0 ? 0 : std::min(window, (-base + dilation - 1) / dilation);
    last = base >= size ? 0 : std::min(window, (size - 1 - base) / dilation + 1);
    last = std::max(first, last);
}

/// Output columns [first, last) whose whole window lies inside the line. The other columns have fewer valid taps.
inline void inner_columns(const Windows& a, std::int64_t& first, std::int64_t& last) {
    first = a.base_w >= 0 ? 0 : std::min(a.q, (-a.base_w + a.stride_w - 1) / a.stride_w);
    const std::int64_t room = a.w - 1 - (a.s - 1) * a.dilation_w - a.base_w;
    last = std::max(first, room < 0 ? 0 : std::min(a.q, room / a.stride_w + 1));
}

} // namespace fastconv
