// The arguments of the kernels of depthwise_planes.cpp. As in table.h, define no function here.
#pragma once

#include "kernels/table.h"

#include <stddef.h>
#include <stdint.h>

namespace fastconv {

/// Rows of some neighbouring planes of a depthwise layer in NCHW. x is a plane of height x width values, and `window`
/// is 3 or 5.
///
/// depthwise_plane: y[row][i] = sum over window rows r and columns s of x[first_row + row*stride + r][first_column +
/// i*stride + s] * filters[r*window + s]. The stride is 1 or 2.
///
/// depthwise_plane_gradient: the input gradient with a stride of 2. x is dy. Row `row` and column i of dy add
/// x[row][i] * filters[r*window + s] to y[row*2 + r + first_row][i*2 + s + first_column]. first_row and first_column
/// are at most 0.
///
/// Values outside x count as zero. Then comes the bias, then the bounds.
template <class T>
struct DepthwisePlane {
    const T* x;
    int64_t height, width, first_row, first_column;
    const T* zeros; // `width` zeros
    const T* filters;
    int64_t window, stride;
    const T* bias; // one value of each plane, or null
    T* y;
    ptrdiff_t y_row;
    int64_t row, rows, pixels; // rows [row, row + rows) are computed
    int64_t planes;            // planes follow each other: x is `height * width` values further, and filters a window
    ptrdiff_t y_plane;
    Bounds<T> bounds;
};

} // namespace fastconv
