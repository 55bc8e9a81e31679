// What kernels take and offer: plain structs of pointers, strides and counts, which algorithms fill in and kernels
// read.
//
// Nothing here may be a function: kernel sources are compiled once per ISA, and an inline function that one of them
// instantiates could be the copy which the linker keeps for everyone.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace fastconv {

/// y[i][k] (+)= sum over segments and their elements e of x[i*x_step + segment + e] * filters[..][k], for `pixels` i.
template <class T>
struct ConvRow {
    const T* x;
    ptrdiff_t x_step;          // elements between the windows of neighbouring pixels
    const ptrdiff_t* segments; // offsets of the contiguous runs of a window
    int64_t segment_count, segment_length;
    const T* filters; // [segment][element][vectors * width], zero-padded
    const T* bias;    // `channels` values or null; added last
    T* y;
    ptrdiff_t y_step;
    int64_t pixels, channels; // channels: at most vectors * width, more than (vectors - 1) * width
    bool accumulate, relu;
    bool resume; // the sums go on from what is in y, as if one call had run over both windows
};

/// As ConvRow for few filters: `filters` is [filter][segment][element, zero-padded to whole vectors].
template <class T>
struct SmallKReduceRow {
    const T* x;
    ptrdiff_t x_step;
    const ptrdiff_t* segments;
    int64_t segment_count, segment_length;
    const T* filters;
    ptrdiff_t filter_step;
    const T* bias;
    T* y;
    ptrdiff_t y_step;
    int64_t pixels, filter_count; // filter_count: at most max_reduced_filters
    bool accumulate, relu;
};

/// Few filters: output row `row`, lane v*width + l of its pixels x filters, from a planar input, whose element (c, row,
/// column) is at c*x_plane + row*x_row + column. At most a vector beyond the last column is read.
template <class T>
struct SmallKSpreadRows {
    const T* x;
    ptrdiff_t x_plane, x_row;
    int64_t channels, window_rows, columns; // window_rows: 3 or 5; columns: of the window
    const T* filters;                       // [pattern][c][column][row][width]: of the filter that the lane belongs to
    const T* bias;                          // [pattern][width] or null
    T* y;
    ptrdiff_t y_row;
    int64_t rows, pixels, filter_count; // filter_count: at most a vector
    bool relu;
};

/// sums[pattern][c][column][row][lane] += what the lane's pixels contribute to that tap of the lane's filter.
template <class T>
struct SmallKSpreadFilterRows {
    const T* x;
    ptrdiff_t x_plane, x_row;
    int64_t channels, window_rows, columns;
    const T* dy; // rows of pixels x filters
    ptrdiff_t dy_row;
    T* sums;
    int64_t rows, pixels, filter_count;
};

/// out[out_offsets[m] + k] += sum over rows and pixels of x[row, pixel, offsets[m]] * dy[row, pixel, k], for `count` m.
template <class T>
struct OuterProducts {
    const T* x;
    ptrdiff_t x_row, x_step;
    const ptrdiff_t *offsets, *out_offsets;
    const T* dy;
    ptrdiff_t dy_row, dy_step;
    int64_t rows, pixels, count, channels; // channels: as in ConvRow
    T* out;
};

/// y[row, i][c] = sum over taps of x[row, i*x_step + offsets[t] + c] * filters[filter_offsets[t] + c].
template <class T>
struct DepthwiseRow {
    const T* x;
    ptrdiff_t x_row, x_step;
    const ptrdiff_t *offsets, *filter_offsets;
    int64_t taps;
    const T* filters;
    const T* bias;
    T* y;
    ptrdiff_t y_row, y_step;
    int64_t rows, pixels, channels;
    bool relu;
    bool sliding;      // the taps are rows of three, and tap j of pixel i + 1 is tap j + 1 of pixel i
    bool sliding_rows; // also: three rows, and row i of output row y + 1 is row i + 1 of output row y
};

/// out[out_offsets[t] + c] += sum over rows and pixels of x[row, pixel, offsets[t] + c] * dy[row, pixel, c].
template <class T>
struct DepthwiseFilterRows {
    const T* x;
    ptrdiff_t x_row, x_step;
    const ptrdiff_t *offsets, *out_offsets;
    int64_t taps;
    const T* dy;
    ptrdiff_t dy_row, dy_step;
    T* out;
    int64_t rows, pixels, channels;
    bool sliding; // as in DepthwiseRow
};

/// sums[c] = sum over rows of x[r*row + c]; with features, of masked[r*row + c], which becomes x where features > 0,
/// else 0 (masked may be x).
template <class T>
struct ColumnSums {
    const T* x;
    const T* features; // may be null
    T* masked;
    ptrdiff_t row;
    int64_t rows, columns;
    T* sums;
};

/// Rows of pooling windows of one shape: window i of row r holds x[r*x_row + i*x_step + offsets[t] + c] for the taps t.
template <class T>
struct PoolRow {
    const T* x;
    ptrdiff_t x_row, x_step;
    const ptrdiff_t* offsets;
    int64_t taps;
    T* y; // output, or in a gradient the gradient of the input (stepped as x is)
    ptrdiff_t y_row, y_step;
    const T* grad; // gradients only
    ptrdiff_t grad_row, grad_step;
    int64_t* argmax; // max pool only, may be null, laid out as y: argmax_base + r*x_row + i*x_step + offsets[t] + c
    int64_t argmax_base;
    uint8_t* tap;              // max pool only, may be null, laid out as y: t
    const uint8_t* chosen_tap; // its gradient only, laid out as grad: what `tap` was; null: found again in x
    int64_t rows, pixels, channels;
    bool disjoint; // gradients: no two windows overlap, so that y is written, not added to
};

/// Gradients of what went into a max-pooling: for each pooling window, the pooled gradient of `filters` filters, and
/// the tap of its window that each goes to, a number from taps_count on meaning none.
///
/// patches[window] = sum over filters k of grad[window][k] * shifts[k*patch + tap*tap_step], of `patch` values each.
template <class T>
struct PooledPatches {
    const uint8_t* taps;
    const T* grad;
    int64_t windows, filters, taps_count;
    const T* shifts;
    ptrdiff_t tap_step;
    T* patches;
    int64_t patch; // whole vectors
};

/// sums[k] += sum over windows of grad[window][k] * what the convolution's window at the tap reads, `runs` runs of
/// `run` values, of which the rest up to `column` may be anything. For each of the three kernels x is another form of
/// the input:
///
/// - pooled_products: columns that window_columns copied, one at x[row*.row + window*.step + offsets[tap]].
/// - pooled_runs: at most 3 runs of up to 4 values, run j at x[row*.row + window*.step + offsets[tap] + j*x_row], of
///   which 4 are read.
/// - pooled_spreads: a pooling window's patch is 4 rows of up to 4 values, row j at x[row*.row + window*.step +
///   j*x_row], of which 4 are read, and elements[tap*width + lane] tells which of the 16 the lane's is.
template <class T>
struct PooledProducts {
    const uint8_t* taps;
    const T* grad;
    int64_t rows, windows, filters, taps_count; // windows: of a row
    const T* x;
    ptrdiff_t row, step, x_row;
    const ptrdiff_t* offsets;
    const int32_t* elements;
    int64_t runs, run;
    T* sums;        // [filter][column]
    int64_t column; // whole vectors
};

/// columns[row*pixels + i] = `runs` runs of `run` values, run j from x[(row + j)*x_row + i*x_step]. At least 3 values a
/// run, or at most 6 runs. What follows in x, of which a vector may be read, fills up the last vector.
template <class T>
struct WindowColumns {
    const T* x;
    ptrdiff_t x_row, x_step;
    int64_t rows, pixels, runs, run;
    T* columns;
    int64_t column; // runs*run, rounded up to whole vectors
};

/// Adds patches of patch_rows rows of patch_row values to an image, the one of window x of row y at y*row + x*step.
template <class T>
struct AddPatches {
    const T* patches;
    int64_t patch, patch_rows, patch_row;
    int64_t rows, windows;
    T* to;
    ptrdiff_t to_row, row, step;
};

/// points[i*6 + j][c] of one tile, from a square of pixels of which rows [row0, row1) and columns [column0, column1)
/// exist and the others count as zero.
template <class T>
struct WinogradTile {
    const T* pixels;
    ptrdiff_t row, pixel;
    int64_t row0, row1, column0, column1;
    T* points;
    ptrdiff_t plane;
    int64_t channels;
};

/// A square of values of one tile from its 36 points; the first `rows` x `columns` of an output tile, or all filter
/// taps, are written, the taps added to what is there if `accumulate`.
template <class T>
struct WinogradOutput {
    const T* points;
    ptrdiff_t plane;
    const T* bias;
    T* y;
    ptrdiff_t row, pixel;
    int64_t rows, columns, channels;
    bool relu, accumulate;
};

template <class T>
struct KernelsOf {
    int64_t width;       // elements of a vector
    int64_t max_vectors; // of filters in a register tile
    // Indexed by vectors - 1.
    void (*conv_row[4])(const ConvRow<T>&);
    int64_t conv_row_pixels[4]; // most pixels of a register tile
    int64_t max_reduced_filters;
    void (*small_k_reduce_row)(const SmallKReduceRow<T>&);
    bool spreads; // has fast permutations, which more than one filter needs in:
    void (*small_k_spread_rows)(const SmallKSpreadRows<T>&);
    void (*small_k_spread_filter_rows)(const SmallKSpreadFilterRows<T>&);
    void (*outer_products[4])(const OuterProducts<T>&);
    int64_t outer_products_count[4]; // most `count` that one register tile takes
    void (*depthwise_row)(const DepthwiseRow<T>&);
    /// to[v*plane + i*width + lane] = from[i*step + v*width + lane], for the whole and the last part of a vector.
    void (*split_channels)(const T* from, ptrdiff_t step, int64_t pixels, int64_t channels, T* to, ptrdiff_t plane);
    /// And back.
    void (*join_channels)(const T* from, ptrdiff_t plane, int64_t pixels, int64_t channels, T* to, ptrdiff_t step);
    void (*depthwise_filter_rows)(const DepthwiseFilterRows<T>&);
    // Winograd: [0] for 3x3 windows and tiles of 4x4 outputs, [1] for 5x5 windows and tiles of 2x2.
    void (*winograd_input)(const WinogradTile<T>&);       // 6x6 pixels
    void (*winograd_filter[2])(const WinogradTile<T>&);   // the taps of a window
    void (*winograd_gradient[2])(const WinogradTile<T>&); // a tile of dy
    // These return whether all values are finite (before bias and ReLU).
    bool (*winograd_output[2])(const WinogradOutput<T>&);
    bool (*winograd_taps[2])(const WinogradOutput<T>&);
    /// to[c*to_row + r] = from[r*from_row + c].
    void (*transpose)(const T* from, ptrdiff_t from_row, T* to, ptrdiff_t to_row, int64_t rows, int64_t columns);
    void (*column_sums)(const ColumnSums<T>&);
    void (*pooled_patches)(const PooledPatches<T>&);
    void (*pooled_products)(const PooledProducts<T>&);
    void (*pooled_runs)(const PooledProducts<T>&);
    void (*pooled_spreads)(const PooledProducts<T>&); // may be null
    void (*window_columns)(const WindowColumns<T>&);
    void (*add_patches)(const AddPatches<T>&);
    bool (*all_finite)(const T* x, int64_t count);
    void (*max_row)(const PoolRow<T>&);
    void (*max_grad_row)(const PoolRow<T>&);
    void (*avg_row)(const PoolRow<T>&);
    void (*avg_grad_row)(const PoolRow<T>&);
};

struct KernelTable {
    KernelsOf<float> f32;
    KernelsOf<double> f64;
};

} // namespace fastconv
