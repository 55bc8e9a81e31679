// The interface of the kernels: plain structs of pointers, strides and counts. Algorithms fill them in.
//
// Define no function here. Kernel sources are compiled once per ISA. If several of them instantiate the same inline
// function, the linker keeps one copy for all, and that copy may need an ISA that the CPU lacks.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace fastconv {

/// The bounds of finished values. NaN stays NaN. ReLU is a bound. Kernels read `low` and `high` only if they are set.
template <class T>
struct Bounds {
    T low, high;
    bool set;
};

/// A run of output pixels. For each pixel i,
/// y[i][k] (+)= sum over segments and their elements e of x[window(i) + segment + e] * filters[..][k].
/// window(i) = i*x_step. If row_pixels is not 0, the run covers several rows: window(i) = i/row_pixels*row_step +
/// i%row_pixels*x_step, and y is laid out likewise.
template <class T>
struct ConvRow {
    const T* x;
    ptrdiff_t x_step, row_step; // distance in elements between the windows of neighbouring pixels, and of rows
    int64_t row_pixels;
    const ptrdiff_t* segments; // offsets of a window's contiguous runs
    int64_t segment_count, segment_length;
    const T* filters;                // [segment][element][vectors * width], zero-padded
    const ptrdiff_t* filter_offsets; // where the filters of each segment start, from `filters` on, or null
    const T* next_filters;           // the filters of the next call, to be prefetched in the meantime, or null
    const T* bias;                   // `channels` values or null; added to the finished sum
    const T* pixel_bias;             // likewise, a value for each pixel; null if row_pixels is not 0
    const T* residual;               // laid out as y, or null; added after the bias
    T* y;
    ptrdiff_t y_step, y_row_step;
    int64_t pixels, channels;    // (vectors - 1) * width < channels <= vectors * width
    Bounds<T> bounds;            // applied last
    bool accumulate;             // the finished sum is added to y
    bool resume;                 // the sum starts from y, to continue that of an earlier call
    bool sums_in_x;              // with resume: the sum starts from x, which has whole vectors. There are no segments.
    bool prefetch_x, prefetch_y; // x or y is not in L2 yet; prefetch_x is for 1x1 windows
};

/// As ConvRow, for few filters: `filters` is [filter][segment][element], each segment zero-padded to whole vectors.
template <class T>
struct SmallKReduceRow {
    const T* x;
    ptrdiff_t x_step;
    const ptrdiff_t* segments;
    int64_t segment_count, segment_length;
    const T* filters;
    ptrdiff_t filter_step; // elements from one filter to the next
    const T* bias;
    T* y;
    ptrdiff_t y_step;
    int64_t pixels, filter_count; // filter_count: at most max_reduced_filters
    Bounds<T> bounds;
    bool accumulate;
};

/// Rows of outputs for few filters. The lanes of vectors run along the flattened (pixel, filter) axis of an output row.
/// The input is planar: element (c, row, column) is at c*x_plane + row*x_row + column. Up to one vector beyond the last
/// column is read. `pattern` is the number of a lane pattern (see small_k_spread.cpp).
template <class T>
struct SmallKSpreadRows {
    const T* x;
    ptrdiff_t x_plane, x_row;
    int64_t channels, window_rows, columns; // window_rows: 3 or 5; columns: those of the window
    const T* filters;                       // [pattern][c][column][row][width]: each lane has the tap of its own filter
    const T* bias;                          // [pattern][width] or null
    T* y;
    ptrdiff_t y_row;
    int64_t rows, pixels, filter_count; // filter_count: at most width
    Bounds<T> bounds;
};

/// The filter gradient of such rows. sums[pattern][c][column][row][lane] += sum of x * dy over the lane's pixels, for
/// this tap of the lane's filter.
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

/// out[out_offsets[m] + k] += sum over rows and pixels of x[row, pixel, offsets[m]] * dy[row, pixel, k], for m < count.
template <class T>
struct OuterProducts {
    const T* x;
    ptrdiff_t x_row, x_step;
    const ptrdiff_t *offsets, *out_offsets;
    const T* dy;
    ptrdiff_t dy_row, dy_step;
    int64_t rows, pixels, count, channels; // count: at most outer_products_count; channels: as in ConvRow
    T* out;
};

/// y[row, i][c] = sum over taps of x[row, i*x_step + offsets[t] + c] * filters[filter_offsets[t] + c], plus the bias
/// (which may be null), within the bounds.
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
    Bounds<T> bounds;
    // sliding: if not 0, the taps form rows of this length, 3, 5 or 7, in neighbouring columns of the image. The stride
    // is 1 or 2 columns, and x_column is the distance of two columns. Tap j of pixel i is in column
    // first_column + i*stride + j. Only columns 0 to width - 1 are in the image. Taps in other columns are skipped.
    int64_t sliding, stride, first_column, width; // stride = -2: an input gradient, see depthwise_gradient.h
    ptrdiff_t x_column;
    // For images from memory: how many of the last tap rows of the next output row are prefetched. Else 0.
    int64_t rows_below;
    bool sliding_rows; // 3 x 3 taps; tap row i of output row y + 1 reads what row i + 1 of row y reads
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
    bool sliding; // the taps form rows of three; in a row, tap j of pixel i + 1 reads what tap j + 1 of pixel i reads
};

template <class T>
struct DepthwisePlane; // in depthwise_planes.h
template <class T>
struct PlaneFilterRows; // in plane_filter_rows.h

/// Rows of outputs of groups with few channels. Output channel k of group g is
/// y[row, i][g*outputs + k] = sum over runs, input channels c < inputs and taps s < taps of
/// x[row, column i*stride + s][offsets[run] + g*inputs + c] * the filter's value.
template <class T>
struct GroupedRows {
    const T* x;
    ptrdiff_t x_row, x_column;
    // Tap 0 of pixel i is in column first_column + i*stride. Only columns 0 to width - 1 are in the image. Taps in
    // other columns are skipped.
    int64_t stride, first_column, width;
    const ptrdiff_t *offsets, *filter_offsets;
    int64_t runs, taps; // taps: of a run, 1, 2, 3 or 5. The stride is 1; with 3 taps, it may be 2
    // [vector][run][c][tap][width], zero-padded: a vector holds vector_groups groups, the last one perhaps fewer.
    const T* filters;
    ptrdiff_t filter_vector; // elements from one vector to the next
    const T* bias;
    T* y;
    ptrdiff_t y_row, y_step;
    int64_t rows, pixels, groups, vector_groups, inputs, outputs; // inputs, outputs: channels of a group
    Bounds<T> bounds;
};

/// The filter gradient of the groups of one vector. For output channel k and input channel c of group g,
/// sums[tap][k][g*inputs + c] += sum over rows and pixels of
/// x[row, pixel, offsets[tap] + g*inputs + c] * dy[row, pixel, g*outputs + k].
template <class T>
struct GroupedFilterRows {
    const T* x;
    ptrdiff_t x_row, x_step;
    const ptrdiff_t* offsets;
    int64_t taps;
    const T* dy;
    ptrdiff_t dy_row, dy_step;
    T* sums; // [tap][output channel of a group][width]
    int64_t rows, pixels, groups, inputs, outputs;
};

/// sums[c] = sum over rows r of x[r*row + c]. With features, the kernel writes `masked` and sums it instead of x.
/// `masked` is x where features > 0, and 0 elsewhere. It may be the same memory as x.
template <class T>
struct ColumnSums {
    const T* x;
    const T* features; // may be null
    T* masked;
    ptrdiff_t row;
    int64_t rows, columns;
    T* sums;
};

/// Rows of output pixels: y = activation(x + residual). x may be y. Both have the layout of y, and so has the residual,
/// which may be null.
template <class T>
struct FinishRows {
    const T* x;
    T* y;
    const T* residual;
    ptrdiff_t y_row, y_step;
    int64_t rows, pixels, channels;
    T alpha, beta; // the activation's parameters
};
constexpr int activation_kernels = 13;

/// y = grad times the activation's derivative at x, for `count` values. y may be x or grad.
template <class T>
struct ActivationGradient {
    const T *x, *grad;
    T* y;
    int64_t count;
    T alpha, beta; // the activation's parameters
};

// ---- Batch normalisation: rows of columns. Each column belongs to one channel. `row` is the distance of two rows, in
// all tensors, or 0 if the rows are dense.

/// sums[c] += x[r][c] - shift[c], and squares[c] += the square of that, row after row.
template <class T>
struct ShiftedSums {
    const T *x, *shift;
    int64_t rows, columns;
    T *sums, *squares;
    ptrdiff_t row = 0;
};

/// z = (x - mean)*scale + offset, with numbers of each column.
template <class T>
struct ColumnTransform {
    const T *mean, *scale, *offset;
};

/// y = z + residual, bounded by low and high. The residual may be null. Without bounds they are infinite.
template <class T>
struct NormalizedColumns {
    ColumnTransform<T> z;
    const T *x, *residual;
    T* y;
    T low, high;
    int64_t rows, columns;
    bool streaming; // y is so large that it will not stay in the caches
    ptrdiff_t row = 0;
};

/// sums[c] += d, and products[c] += d*(x[r][c] - mean[c]), row after row. d is grad[r][c]. If `masked`, it is 0 unless
/// low < z <= highest.
template <class T>
struct NormGradientSums {
    ColumnTransform<T> z;
    const T *x, *grad;
    bool masked;
    T low, highest;
    int64_t rows, columns;
    T *sums, *products;
    ptrdiff_t row = 0;
};

/// y = d*z.scale + (x - mean)*x_factor + shift, with d as in NormGradientSums. x_factor and shift may both be null. y
/// may be grad.
template <class T>
struct NormInputGradient {
    ColumnTransform<T> z;
    const T *x, *grad, *x_factor, *shift;
    bool masked;
    T low, highest;
    int64_t rows, columns;
    T* y;
    bool streaming; // as in NormalizedColumns
    ptrdiff_t row = 0;
};

/// Rows of pooling windows of one shape: window i of row r holds x[r*x_row + i*x_step + offsets[t] + c] for the taps t.
template <class T>
struct PoolRow {
    const T* x;
    ptrdiff_t x_row, x_step;
    const ptrdiff_t* offsets;
    int64_t taps;
    int64_t counted; // the divisor of a mean: the number of taps, including those in the padding if they count
    T* y;            // the output; in gradients, the gradient of the input, laid out as x
    ptrdiff_t y_row, y_step;
    const T* grad; // gradients only
    ptrdiff_t grad_row, grad_step;
    // Max pooling only. Each may be null, and is laid out as y. t is the tap of the maximum.
    int64_t* argmax; // argmax_base + r*x_row + i*x_step + offsets[t] + c
    int64_t argmax_base;
    uint8_t* tap; // t
    // Gradient of max pooling only, laid out as grad: the taps of the forward pass. If null, they are found again in x.
    const uint8_t* chosen_tap;
    int64_t rows, pixels, channels;
    bool disjoint; // gradients: no two windows overlap, so y is overwritten instead of added to
};

/// A step of separable pooling: y[l][r][i] = x[l][r][i] combined with x[l][r][i + shift] and, in sums, third[l][r][i]
/// unless it is null. If shift is 0, y = x. With divisors, the result is divided by line_divisors[l]*divisors[r][i].
template <class T>
struct ShiftedLines {
    const T* x;
    ptrdiff_t x_line, x_row, shift;
    const T* third;
    ptrdiff_t third_line, third_row;
    const T *line_divisors, *divisors; // may be null
    T* y;                              // may be x if shift is positive
    ptrdiff_t y_line, y_row;
    int64_t lines, rows, count; // rows: of a line; count: the values of a row
};

/// The input gradient of a convolution that was followed by max pooling, from the gradient of the pooled output. For
/// each pooling window and filter, `taps` names the pixel of the window that receives `grad`. If the tap is taps_count
/// or more, no pixel of the window receives `grad`.
///
/// patches[window] = sum over filters k of grad[window][k] * shifts[k*patch + tap*tap_step], `patch` values each.
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

/// The filter gradient of such a convolution. sums[k] += sum over pooling windows of grad[window][k] * the input values
/// that the convolution reads for the pixel at the tap. These are `runs` runs of `run` values. A filter's further sums,
/// up to `column`, are undefined. The three kernels take different forms of the input as x. For window w of row r:
///
/// - pooled_products: columns that window_columns copied. The column of a tap is at x[r*row + w*step + offsets[tap]].
/// - pooled_runs: at most 3 runs of up to 4 values. Run j is at x[r*row + w*step + offsets[tap] + j*x_row]. 4 values of
///   each run are read.
/// - pooled_spreads: the window's patch, 4 rows of up to 4 values. Row j is at x[r*row + w*step + j*x_row]. 4 values of
///   each row are read. elements[tap*width + lane] says which of these 16 values the lane takes.
template <class T>
struct PooledProducts {
    const uint8_t* taps;
    const T* grad;
    int64_t rows, windows, filters, taps_count; // windows: the number in a row
    const T* x;
    ptrdiff_t row, step, x_row;
    const ptrdiff_t* offsets;
    const int32_t* elements;
    int64_t runs, run;
    T* sums;        // [filter][column]
    int64_t column; // whole vectors
};

/// columns[row*pixels + i] = `runs` runs of `run` values, run j from x[(row + j)*x_row + i*x_step]. A run has at least
/// 3 values, or there are at most 6 runs. The last vector is filled up with what follows in x, so up to a vector is
/// read beyond the last run.
template <class T>
struct WindowColumns {
    const T* x;
    ptrdiff_t x_row, x_step;
    int64_t rows, pixels, runs, run;
    T* columns;
    int64_t column; // runs*run, rounded up to whole vectors
};

/// Adds patches to an image. A patch has patch_rows rows of patch_row values, to_row apart in the image. The patch of
/// window w of row r goes to to[r*row + w*step].
template <class T>
struct AddPatches {
    const T* patches;
    int64_t patch, patch_rows, patch_row;
    int64_t rows, windows;
    T* to;
    ptrdiff_t to_row, row, step;
};

template <class T>
struct WinogradTile; // in winograd_points.h
template <class T>
struct WinogradOutput; // likewise

enum class Arithmetic : uint8_t { add, subtract, multiply, divide, maximum, minimum };

/// y[r*columns + i] = a[r*a_row + i*a_step] combined with b[r*b_row + i*b_step]. The steps are 0 or 1.
template <class T>
struct ArithmeticRows {
    const T *a, *b;
    ptrdiff_t a_row, b_row, a_step, b_step;
    T* y;
    int64_t rows, columns; // columns: at least 1
};

enum class Reduction : uint8_t { sum, product, maximum, minimum };

/// y = (x - mean)/sqrt(variance + epsilon) * scale + offset for each row. Scale and offset may be null.
template <class T>
struct NormalizedRows {
    const T *x, *scale, *offset;
    T* y;
    int64_t rows, columns; // columns: at least 1
    double epsilon;
};

/// A row of pixels, each interpolated between two pixels of row `top` and two pixels of row `bottom`. Pixel i lies
/// weights[i] of the way from left[i] to right[i], which are offsets in both rows, and `weight` of the way from `top`
/// to `bottom`.
template <class T>
struct InterpolatedRow {
    const T *top, *bottom;
    T weight;
    const ptrdiff_t *left, *right;
    const T* weights;
    T* y;
    int64_t pixels, channels;
};

template <class T>
struct KernelsOf {
    int64_t width;       // elements of a vector
    int64_t max_vectors; // most vectors of filters in a register tile
    // conv_row and outer_products are indexed by the vectors of filters - 1, below max_vectors.
    void (*conv_row[4])(const ConvRow<T>&);
    int64_t conv_row_pixels[4]; // most pixels of a register tile
    int64_t max_reduced_filters;
    void (*small_k_reduce_row)(const SmallKReduceRow<T>&);
    bool spreads; // whether permutations are fast; if not, the next two kernels take one filter only
    void (*small_k_spread_rows)(const SmallKSpreadRows<T>&);
    void (*small_k_spread_filter_rows)(const SmallKSpreadFilterRows<T>&);
    void (*outer_products[4])(const OuterProducts<T>&);
    int64_t outer_products_count[4]; // largest `count` of a register tile, and so of a call
    void (*depthwise_row)(const DepthwiseRow<T>&);
    void (*depthwise_plane)(const DepthwisePlane<T>&);
    void (*depthwise_plane_gradient)(const DepthwisePlane<T>&);
    /// to[v*plane + i*width + lane] = from[i*step + v*width + lane]. The last vector of channels may be partial.
    void (*split_channels)(const T* from, ptrdiff_t step, int64_t pixels, int64_t channels, T* to, ptrdiff_t plane);
    /// The inverse of split_channels.
    void (*join_channels)(const T* from, ptrdiff_t plane, int64_t pixels, int64_t channels, T* to, ptrdiff_t step);
    void (*depthwise_filter_rows)(const DepthwiseFilterRows<T>&);
    void (*plane_filter_rows)(const PlaneFilterRows<T>&);
    void (*grouped_rows)(const GroupedRows<T>&); // this and the next one only if `spreads` is true
    void (*grouped_filter_rows)(const GroupedFilterRows<T>&);
    // Winograd: [0] for 3x3 windows and tiles of 4x4 outputs, [1] for 5x5 windows and tiles of 2x2.
    void (*winograd_input)(const WinogradTile<T>&);       // 6x6 pixels
    void (*winograd_filter[2])(const WinogradTile<T>&);   // the taps of a window
    void (*winograd_gradient[2])(const WinogradTile<T>&); // a tile of dy
    // Both return whether all values were finite before bias and bounds.
    bool (*winograd_output[2])(const WinogradOutput<T>&);
    bool (*winograd_taps[2])(const WinogradOutput<T>&);
    /// to[c*to_row + r] = from[r*from_row + c].
    void (*transpose)(const T* from, ptrdiff_t from_row, T* to, ptrdiff_t to_row, int64_t rows, int64_t columns);
    // For results so large that they will not stay in the caches.
    void (*transpose_streaming)(const T* from, ptrdiff_t from_row, T* to, ptrdiff_t to_row, int64_t rows,
                                int64_t columns);
    void (*finish_rows[activation_kernels])(const FinishRows<T>&); // indexed by Activation (fastconv/types.h)
    void (*activation_gradient[activation_kernels])(const ActivationGradient<T>&); // likewise
    void (*shifted_sums)(const ShiftedSums<T>&);
    void (*normalize_columns)(const NormalizedColumns<T>&);
    void (*norm_gradient_sums)(const NormGradientSums<T>&);
    void (*norm_input_gradient)(const NormInputGradient<T>&);
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
    void (*max_shifted)(const ShiftedLines<T>&);
    void (*add_shifted)(const ShiftedLines<T>&);
    void (*arithmetic[6])(const ArithmeticRows<T>&); // in the order of Arithmetic
    /// y[r*columns + c] = x[r*columns + c] * scale[c] + shift[c]. Scale and shift may be null.
    void (*scale_shift)(const T* x, const T* scale, const T* shift, T* y, int64_t rows, int64_t columns);
    // In the order of Reduction, of at least one value. fold_columns reduces x[r*row + c] over all rows r to y[c].
    // fold_row reduces one row.
    void (*fold_columns[4])(const T* x, ptrdiff_t row, int64_t rows, int64_t columns, T* y);
    T (*fold_row[4])(const T* x, int64_t count);
    void (*normalize_rows)(const NormalizedRows<T>&);
    void (*exp_row)(const T* x, T shift, T* y, int64_t count); // y = exp(x - shift); y may be x
    void (*interpolate_row)(const InterpolatedRow<T>&);
};

struct KernelTable {
    KernelsOf<float> f32;
    KernelsOf<double> f64;
};

} // namespace fastconv
