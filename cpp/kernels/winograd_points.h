// The arguments of Winograd's transforms (see winograd.cpp). As in table.h, there is no function here.
#pragma once

#include "kernels/table.h"

#include <stddef.h>
#include <stdint.h>

namespace fastconv {

/// Transforms one tile, a square of pixels, into 6x6 points. Point (i, j) of channel c is points[(i*6 + j)*plane + c].
/// Rows [row0, row1) and columns [column0, column1) of the square exist. The others count as zero.
template <class T>
struct WinogradTile {
    const T* pixels;
    ptrdiff_t row, pixel;
    int64_t row0, row1, column0, column1;
    T* points;
    ptrdiff_t plane;
    int64_t channels;
};

/// Transforms the 36 points of one tile back into a square of values. winograd_output writes the first `rows` x
/// `columns` of them, with bias and bounds. winograd_taps writes all taps of a filter, or adds them to y if
/// `accumulate`.
template <class T>
struct WinogradOutput {
    const T* points;
    ptrdiff_t plane;
    const T* bias;
    T* y;
    ptrdiff_t row, pixel;
    int64_t rows, columns, channels;
    Bounds<T> bounds;
    bool accumulate;
};

} // namespace fastconv
