// The arguments of the depthwise filter gradient on planes (see plane_filter_gradient.cpp). As in table.h, there is no
// function here.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace fastconv {

/// The filter gradient of one channel whose pixels are neighbours in memory. Lane i % width of the sums of tap (t, j)
/// gets the products x[row*x_row + offsets[t] + column] * dy[row*dy_row + i], where column is
/// first_column + i*stride + j*dilation. Only columns 0 to columns - 1 are in the image. The others are skipped.
template <class T>
struct PlaneFilterRows {
    const T* x; // column 0
    ptrdiff_t x_row;
    const ptrdiff_t* offsets;
    int64_t window_rows, taps;                       // taps: of a window row
    int64_t stride, dilation, first_column, columns; // stride: 1 or 2
    const T* dy;
    ptrdiff_t dy_row;
    T* sums; // [window row][tap][width]; added to
    int64_t rows, pixels;
};

} // namespace fastconv
