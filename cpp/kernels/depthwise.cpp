// Depthwise convolution of rows of pixels, and its filter gradient.
//
// Vectorised over channels. Forward: P pixels x KV vectors of channels sit in registers, 4x4 with 32 registers and 4x2
// with 16. The filters of a tap are loaded once for P pixels. The KV vectors are neighbours in memory, so they fall
// into different sets of L1. The same channels of pixels a power of two apart would evict each other. Filter gradient:
// up to 9 taps x 2 vectors of channels sit in registers (1 vector with 16 registers). A loaded vector of dy serves all
// taps.
//
// Ceiling: the load ports, because each FMA takes its own load of x. That is two vectors a cycle from L1, or one if x
// is not aligned to cache lines.
//
// Windows 3, 5 or 7 columns wide slide at strides 1 and 2: a loaded x serves all windows that it lies in. A row of S
// taps then takes (P - 1)*stride + S loads instead of S*P in the forward pass. In the filter gradient, three columns at
// stride 1 take one load instead of three per pixel. The forward tile is 6 pixels x 2 vectors, with S*2 filters and x
// in other registers. It takes two vectors because one may be half a cache line, and the line would be evicted before
// its other half is used. With 16 registers, it is 4x2 for S = 3 (8 sums, 6 filters and x), 8x1 for S = 5, and 6x1 for
// S = 7, narrower at stride 2. Tiles that slide along the row alone skip the columns outside the image, so that pixels
// at the border need no tiles of their own.
//
// Tiles that slide along the row alone prefetch the next rows if images come from memory (`rows_below`).
//
// 3x3 windows at stride 1 slide down as well: a tile of 4 rows x 4 pixels (2x4 with 16 registers) takes 36 loads of x
// for 144 FMAs.
//
// With many channels, pixels are far apart in memory. At 2 KB from pixel to pixel, all cache lines of a window fall
// into two sets of L1 and evict each other. For the filter gradient, split_channels therefore copies each vector of
// channels into a plane of its own. (In the forward pass the copies cost what they save.)
//
// Arguments: any number of channels and taps. `sliding` and `sliding_rows` may be set only for such taps as table.h
// describes. Nothing needs to be aligned.
#include "kernels/depthwise_gradient.h"
#include "kernels/simd.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr int most_vectors = registers == 32 ? 4 : 2;

template <class T, int KV, int P, bool Part>
FASTCONV_INLINE void finish_tile(const DepthwiseRow<T>& a, const Vec<T> (&sum)[P][KV], T* y, int64_t c, int64_t count) {
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) {
        FASTCONV_UNROLL
        for (int j = 0; j < KV; ++j) {
            Vec<T> value = sum[p][j];
            if (a.bias) value += fetch<T, Part>(a.bias + c + j * width<T>, count);
            value = within<T>(a.bounds, value);
            put<T, Part>(y + p * a.y_step + c + j * width<T>, value, count);
        }
    }
}

template <class T, int KV, int P, bool Part>
void depthwise_tile(const DepthwiseRow<T>& a, const T* x, T* y, int64_t c, int64_t count) {
    Vec<T> sum[P][KV];
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) {
        FASTCONV_UNROLL
        for (int j = 0; j < KV; ++j) sum[p][j] = Vec<T>{};
    }
    for (int64_t t = 0; t < a.taps; ++t) {
        const T* taps = a.filters + a.filter_offsets[t] + c;
        const T* from = x + a.offsets[t] + c;
        Vec<T> filter[KV];
        FASTCONV_UNROLL
        for (int j = 0; j < KV; ++j) filter[j] = fetch<T, Part>(taps + j * width<T>, count);
        FASTCONV_UNROLL
        for (int p = 0; p < P; ++p) {
            FASTCONV_UNROLL
            for (int j = 0; j < KV; ++j)
                sum[p][j] += fetch<T, Part>(from + p * a.x_step + j * width<T>, count) * filter[j];
        }
    }
    finish_tile<T, KV, P, Part>(a, sum, y, c, count);
}

/// Window rows of S neighbouring taps. Pixel p + 1 starts where tap Stride of pixel p lies.
template <class T, int S, int Stride, int KV, int P, bool Part>
void sliding_tile(const DepthwiseRow<T>& a, const T* x, T* y, int64_t c, int64_t count, uint32_t inside) {
    constexpr int columns = (P - 1) * Stride + S;
    static_assert(columns <= 16, "FASTCONV_UNROLL unrolls no longer loop");
    Vec<T> sum[P][KV];
    FASTCONV_UNROLL
    for (int p = 0; p < P; ++p) {
        FASTCONV_UNROLL
        for (int j = 0; j < KV; ++j) sum[p][j] = Vec<T>{};
    }
    for (int64_t t = 0; t < a.taps; t += S) {
        const T* from = x + a.offsets[t] + c;
        Vec<T> filter[S][KV];
        FASTCONV_UNROLL
        for (int s = 0; s < S; ++s) {
            FASTCONV_UNROLL
            for (int j = 0; j < KV; ++j)
                filter[s][j] = fetch<T, Part>(a.filters + a.filter_offsets[t + s] + c + j * width<T>, count);
        }
        FASTCONV_UNROLL
        for (int column = 0; column < columns; ++column) {
            if ((inside >> column & 1) == 0) continue;
            FASTCONV_UNROLL
            for (int j = 0; j < KV; ++j) {
                Vec<T> value = fetch<T, Part>(from + column * a.x_column + j * width<T>, count);
                keep_in_register(value);
                // Each sum adds its taps in the order of depthwise_tile.
                FASTCONV_UNROLL
                for (int p = 0; p < P; ++p)
                    if (column >= p * Stride && column < p * Stride + S)
                        sum[p][j] += value * filter[column - p * Stride][j];
            }
        }
    }
    finish_tile<T, KV, P, Part>(a, sum, y, c, count);
}

template <class T, int S, int Stride, int KV, int P>
void sliding_pixels(const DepthwiseRow<T>& a, const T* x, T* y, uint32_t inside) {
    int64_t c = 0;
    for (; c + KV * width<T> <= a.channels; c += KV * width<T>)
        sliding_tile<T, S, Stride, KV, P, false>(a, x, y, c, width<T>, inside);
    for (; KV > 1 && c + width<T> <= a.channels; c += width<T>)
        sliding_tile<T, S, Stride, 1, P, false>(a, x, y, c, width<T>, inside);
    if (c < a.channels) sliding_tile<T, S, Stride, 1, P, true>(a, x, y, c, a.channels - c, inside);
}

/// The pixels of a sliding tile.
template <int S, int Stride>
constexpr int sliding_width() {
    if (S == 3) return registers == 32 ? 6 : 4;
    if (S == 5) return registers == 32 || Stride == 2 ? 6 : 8;
    return Stride == 2 ? 4 : 6;
}

/// Brings into L2 what the tiles of the next output row read below this one's window, for some columns from x on. The
/// hardware prefetchers do not follow a tile, which goes along the columns of several rows.
template <class T, int S>
FASTCONV_INLINE void prefetch_below(const DepthwiseRow<T>& a, const T* x, int64_t columns) {
    constexpr int64_t line = 64;
    for (int64_t t = a.taps - a.rows_below * S; t < a.taps; t += S) {
        const T* from = x + a.x_row + a.offsets[t];
        for (int64_t column = 0; column < columns; ++column) {
            const char* const pixel = reinterpret_cast<const char*>(from + column * a.x_column);
            for (int64_t i = 0; i < a.channels * static_cast<int64_t>(sizeof(T)); i += line)
                __builtin_prefetch(pixel + i, 0, 2);
        }
    }
}

template <class T, int S, int Stride>
void sliding_row(const DepthwiseRow<T>& a, const T* x, T* y, bool prefetches) {
    constexpr int vectors = registers == 32 || S == 3 ? 2 : 1, most = sliding_width<S, Stride>();
    for (int64_t i = 0; i < a.pixels;) {
        const int64_t left = a.pixels - i;
        const auto tile = [&](auto pixels) {
            if (prefetches) prefetch_below<T, S>(a, x + i * a.x_step, pixels * Stride);
            sliding_pixels<T, S, Stride, vectors, pixels>(a, x + i * a.x_step, y + i * a.y_step,
                                                          columns_inside(a.first_column + i * Stride, a.width));
            i += pixels;
        };
        if (left >= most)
            tile(Constant<most>{});
        else if (most > 4 && left >= 4)
            tile(Constant<4>{});
        else if (left >= 2)
            tile(Constant<2>{});
        else
            tile(Constant<1>{});
    }
}

template <class T, int Stride>
void sliding_row(const DepthwiseRow<T>& a, const T* x, T* y, bool prefetches) {
    if (a.sliding == 3)
        sliding_row<T, 3, Stride>(a, x, y, prefetches);
    else if (a.sliding == 5)
        sliding_row<T, 5, Stride>(a, x, y, prefetches);
    else
        sliding_row<T, 7, Stride>(a, x, y, prefetches);
}

/// All channels of P pixels. Memory is read in order along the channels, so the hardware prefetchers keep up.
template <class T, int P>
void depthwise_pixels(const DepthwiseRow<T>& a, const T* x, T* y) {
    int64_t c = 0;
    for (; c + most_vectors * width<T> <= a.channels; c += most_vectors * width<T>)
        depthwise_tile<T, most_vectors, P, false>(a, x, y, c, width<T>);
    for (; c + width<T> <= a.channels; c += width<T>) depthwise_tile<T, 1, P, false>(a, x, y, c, width<T>);
    if (c < a.channels) depthwise_tile<T, 1, P, true>(a, x, y, c, a.channels - c);
}

/// Rows x P outputs of 3x3 windows: a loaded x serves up to nine of them.
template <class T, int Rows, int P, bool Part>
FASTCONV_INLINE void square_tile(const DepthwiseRow<T>& a, const T* x, T* y, int64_t c, int64_t count) {
    Vec<T> sum[Rows][P];
    FASTCONV_UNROLL
    for (int row = 0; row < Rows; ++row) {
        FASTCONV_UNROLL
        for (int p = 0; p < P; ++p) sum[row][p] = Vec<T>{};
    }
    const T* from = x + a.offsets[0] + c;
    FASTCONV_UNROLL
    for (int t = 0; t < Rows + 2; ++t) {
        FASTCONV_UNROLL
        for (int column = 0; column < P + 2; ++column) {
            Vec<T> value = fetch<T, Part>(from + t * a.x_row + column * a.x_step, count);
            keep_in_register(value);
            // Each sum adds its taps in the order of depthwise_tile.
            FASTCONV_UNROLL
            for (int row = 0; row < Rows; ++row) {
                FASTCONV_UNROLL
                for (int s = 0; s < 3; ++s)
                    if (t - row >= 0 && t - row < 3 && column - s >= 0 && column - s < P)
                        sum[row][column - s] +=
                            value * fetch<T, Part>(a.filters + a.filter_offsets[(t - row) * 3 + s] + c, count);
            }
        }
    }
    FASTCONV_UNROLL
    for (int row = 0; row < Rows; ++row) {
        Vec<T> line[P][1];
        FASTCONV_UNROLL
        for (int p = 0; p < P; ++p) line[p][0] = sum[row][p];
        finish_tile<T, 1, P, Part>(a, line, y + row * a.y_row, c, count);
    }
}

template <class T, int Rows, int P>
void square_pixels(const DepthwiseRow<T>& a, const T* x, T* y) {
    int64_t c = 0;
    for (; c + width<T> <= a.channels; c += width<T>) square_tile<T, Rows, P, false>(a, x, y, c, width<T>);
    if (c < a.channels) square_tile<T, Rows, P, true>(a, x, y, c, a.channels - c);
}

template <class T, int Rows>
void square_rows(const DepthwiseRow<T>& a, const T* x, T* y) {
    int64_t i = 0;
    for (; i + 4 <= a.pixels; i += 4) square_pixels<T, Rows, 4>(a, x + i * a.x_step, y + i * a.y_step);
    for (; i + 2 <= a.pixels; i += 2) square_pixels<T, Rows, 2>(a, x + i * a.x_step, y + i * a.y_step);
    for (; i < a.pixels; ++i) square_pixels<T, Rows, 1>(a, x + i * a.x_step, y + i * a.y_step);
}

/// Computes the first of `left` output rows, or several. Returns how many.
template <class T>
int64_t slide_down(const DepthwiseRow<T>& a, const T* x, T* y, int64_t left) {
    if (registers == 32 && left >= 4) {
        square_rows<T, 4>(a, x, y);
        return 4;
    }
    left >= 2 ? square_rows<T, 2>(a, x, y) : square_rows<T, 1>(a, x, y);
    return left >= 2 ? 2 : 1;
}

template <class T>
void plain_row(const DepthwiseRow<T>& a, const T* x, T* y) {
    int64_t i = 0;
    for (; i + 4 <= a.pixels; i += 4) depthwise_pixels<T, 4>(a, x + i * a.x_step, y + i * a.y_step);
    for (; i + 2 <= a.pixels; i += 2) depthwise_pixels<T, 2>(a, x + i * a.x_step, y + i * a.y_step);
    for (; i < a.pixels; ++i) depthwise_pixels<T, 1>(a, x + i * a.x_step, y + i * a.y_step);
}

template <class T>
void depthwise_row(const DepthwiseRow<T>& a) {
    const auto sliding = [&](const T* x, T* y, bool prefetches) {
        a.stride == 1 ? sliding_row<T, 1>(a, x, y, prefetches) : sliding_row<T, 2>(a, x, y, prefetches);
    };
    for (int64_t row = 0, taken = 1; row < a.rows; row += taken) {
        const T* x = a.x + row * a.x_row;
        T* y = a.y + row * a.y_row;
        if (a.stride < 0)
            gradient_row(a, x, y);
        else if (a.sliding_rows)
            taken = slide_down(a, x, y, a.rows - row);
        else if (a.sliding != 0)
            sliding(x, y, a.rows_below > 0 && row + 1 < a.rows);
        else
            plain_row(a, x, y);
    }
}

template <class T>
void split_channels(const T* from, ptrdiff_t step, int64_t pixels, int64_t channels, T* to, ptrdiff_t plane) {
    const int64_t whole = channels / width<T> * width<T>;
    for (int64_t i = 0; i < pixels; ++i) {
        T* target = to + i * width<T>;
        for (int64_t c = 0; c < whole; c += width<T>) {
            store(target, load(from + c));
            target += plane;
        }
        if (whole < channels) store(target, load_part(from + whole, channels - whole));
        from += step;
    }
}

template <class T>
void join_channels(const T* from, ptrdiff_t plane, int64_t pixels, int64_t channels, T* to, ptrdiff_t step) {
    const int64_t whole = channels / width<T> * width<T>;
    for (int64_t i = 0; i < pixels; ++i) {
        const T* source = from + i * width<T>;
        for (int64_t c = 0; c < whole; c += width<T>) {
            store(to + c, load(source));
            source += plane;
        }
        if (whole < channels) store_part(to + whole, load(source), channels - whole);
        to += step;
    }
}

template <class T, int KV, int Taps, bool Part>
void filter_tile(const DepthwiseFilterRows<T>& a, int64_t first, int64_t c, int64_t count) {
    Vec<T> sum[Taps][KV];
    ptrdiff_t offset[Taps];
    FASTCONV_UNROLL
    for (int t = 0; t < Taps; ++t) {
        offset[t] = a.offsets[first + t];
        FASTCONV_UNROLL
        for (int j = 0; j < KV; ++j) sum[t][j] = Vec<T>{};
    }
    for (int64_t row = 0; row < a.rows; ++row) {
        const T* x = a.x + row * a.x_row + c;
        const T* dy = a.dy + row * a.dy_row + c;
        for (int64_t i = 0; i < a.pixels; ++i) {
            Vec<T> gradient[KV];
            FASTCONV_UNROLL
            for (int j = 0; j < KV; ++j) gradient[j] = fetch<T, Part>(dy + j * width<T>, count);
            FASTCONV_UNROLL
            for (int t = 0; t < Taps; ++t) {
                FASTCONV_UNROLL
                for (int j = 0; j < KV; ++j)
                    sum[t][j] += fetch<T, Part>(x + offset[t] + j * width<T>, count) * gradient[j];
            }
            x += a.x_step;
            dy += a.dy_step;
        }
    }
    FASTCONV_UNROLL
    for (int t = 0; t < Taps; ++t) {
        FASTCONV_UNROLL
        for (int j = 0; j < KV; ++j) {
            T* to = a.out + a.out_offsets[first + t] + c + j * width<T>;
            put<T, Part>(to, fetch<T, Part>(to, count) + sum[t][j], count);
        }
    }
}

/// The filter gradient of rows of three neighbouring taps. It takes three pixels at a time, so that the columns of the
/// window rotate through the same three registers.
template <class T, int R, bool Part>
void sliding_filter_tile(const DepthwiseFilterRows<T>& a, int64_t first, int64_t c, int64_t count) {
    Vec<T> sum[R][3];
    FASTCONV_UNROLL
    for (int r = 0; r < R; ++r) {
        FASTCONV_UNROLL
        for (int s = 0; s < 3; ++s) sum[r][s] = Vec<T>{};
    }
    for (int64_t row = 0; row < a.rows; ++row) {
        const T* x[R];
        Vec<T> window[R][3];
        FASTCONV_UNROLL
        for (int r = 0; r < R; ++r) {
            x[r] = a.x + row * a.x_row + a.offsets[first + 3 * r] + c;
            window[r][0] = fetch<T, Part>(x[r], count);
            window[r][1] = fetch<T, Part>(x[r] + a.x_step, count);
        }
        const T* dy = a.dy + row * a.dy_row + c;
        int64_t i = 0;
        for (; i + 3 <= a.pixels; i += 3) {
            FASTCONV_UNROLL
            for (int u = 0; u < 3; ++u) {
                const Vec<T> gradient = fetch<T, Part>(dy + (i + u) * a.dy_step, count);
                FASTCONV_UNROLL
                for (int r = 0; r < R; ++r) {
                    window[r][(u + 2) % 3] = fetch<T, Part>(x[r] + (i + u + 2) * a.x_step, count);
                    FASTCONV_UNROLL
                    for (int s = 0; s < 3; ++s) sum[r][s] += window[r][(u + s) % 3] * gradient;
                }
            }
        }
        for (; i < a.pixels; ++i) {
            const Vec<T> gradient = fetch<T, Part>(dy + i * a.dy_step, count);
            FASTCONV_UNROLL
            for (int r = 0; r < R; ++r) {
                FASTCONV_UNROLL
                for (int s = 0; s < 3; ++s) sum[r][s] += fetch<T, Part>(x[r] + (i + s) * a.x_step, count) * gradient;
            }
        }
    }
    FASTCONV_UNROLL
    for (int r = 0; r < R; ++r) {
        FASTCONV_UNROLL
        for (int s = 0; s < 3; ++s) {
            T* to = a.out + a.out_offsets[first + 3 * r + s] + c;
            put<T, Part>(to, fetch<T, Part>(to, count) + sum[r][s], count);
        }
    }
}

template <class T, int KV, bool Part>
void filter_taps(const DepthwiseFilterRows<T>& a, int64_t c, int64_t count) {
    int64_t t = 0;
    if (KV == 1 && a.sliding) {
        if (registers == 32)
            for (; t + 9 <= a.taps; t += 9) sliding_filter_tile<T, 3, Part>(a, t, c, count);
        for (; t + 3 <= a.taps; t += 3) sliding_filter_tile<T, 1, Part>(a, t, c, count);
    }
    for (; t + 9 <= a.taps; t += 9) filter_tile<T, KV, 9, Part>(a, t, c, count);
    for (; t + 3 <= a.taps; t += 3) filter_tile<T, KV, 3, Part>(a, t, c, count);
    for (; t + 2 <= a.taps; t += 2) filter_tile<T, KV, 2, Part>(a, t, c, count);
    for (; t < a.taps; ++t) filter_tile<T, KV, 1, Part>(a, t, c, count);
}

template <class T>
void depthwise_filter_rows(const DepthwiseFilterRows<T>& a) {
    constexpr int wide = registers == 32 ? 2 : 1; // 9 taps x 2 vectors take 18 registers
    int64_t c = 0;
    for (; !a.sliding && c + wide * width<T> <= a.channels; c += wide * width<T>)
        filter_taps<T, wide, false>(a, c, width<T>);
    for (; c + width<T> <= a.channels; c += width<T>) filter_taps<T, 1, false>(a, c, width<T>);
    if (c < a.channels) filter_taps<T, 1, true>(a, c, a.channels - c);
}

} // namespace

void add_depthwise(KernelTable& table) {
    table.f32.depthwise_row = depthwise_row<float>;
    table.f64.depthwise_row = depthwise_row<double>;
    table.f32.join_channels = join_channels<float>;
    table.f64.join_channels = join_channels<double>;
    table.f32.split_channels = split_channels<float>;
    table.f64.split_channels = split_channels<double>;
    table.f32.depthwise_filter_rows = depthwise_filter_rows<float>;
    table.f64.depthwise_filter_rows = depthwise_filter_rows<double>;
}

} // namespace FASTCONV_ISA
} // namespace fastconv
