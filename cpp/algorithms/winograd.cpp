// Winograd's algorithm, forward and input gradient. It transforms tiles of the input, multiplies them with transformed
// filters at each of the 36 points, and transforms the products back. conv_row over tiles computes the products.
//
// There are two orders of work. Both give the same bits. If tiles are many, all transformed filters are stored, and
// each task takes a block of tiles through all of them. If tiles are few, each task takes a block of filters through
// many tiles, so that a thread reads only a part of the filters. If blocks of tiles would be too few for the threads,
// tasks take blocks of filters, too. In this second order, transformed filters are stored only if they stay for later
// calls and are not too large. Otherwise, they are streamed: a task transforms a part of the filters into L2,
// multiplies it with the tiles, and then drops it. Transformed filters are up to 4 times as large as the filters, so
// storing them would cost more. The sums over channels resume from part to part. Streamed filters that stay are
// reordered once, into the order in which they are transformed.
#include "algorithms/winograd.h"

#include "algorithms/algorithms.h"
#include "algorithms/epilogue.h"
#include "algorithms/winograd_plan.h"
#include "core/environment.h"
#include "core/layout.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"

#include <limits>
#include <vector>

namespace fastconv {
namespace {

constexpr std::int64_t kCachedBytes = 1 << 20; // transformed filters that may still be in L2 from the last call
constexpr std::size_t kTilesAgain = 1 << 14;   // most tiles that are computed directly in one go

/// Multiplies the points of `tiles` tiles at `in` with a part of the transformed filters, stored as planes of
/// [c][lane]. If the filters come from memory, each plane is prefetched while the plane before it is multiplied.
template <class T>
void multiply(const T* in, std::int64_t in_plane, std::int64_t in_step, std::int64_t tiles, const T* filters,
              std::int64_t channels, std::int64_t lanes, T* out, std::int64_t out_plane, bool resume,
              bool from_memory) {
    const std::int64_t filter_plane = WinogradFilters::plane<T>(channels, lanes);
    const KernelsOf<T>& kernel = kernels<T>();
    const std::ptrdiff_t start = 0;
    ConvRow<T> row{};
    row.x_step = in_step;
    row.segments = &start;
    row.segment_count = 1;
    row.segment_length = channels;
    row.y_step = lanes;
    row.pixels = tiles;
    row.channels = lanes;
    row.resume = resume;
    for (std::int64_t point = 0; point < kPoints; ++point) {
        row.x = in + point * in_plane;
        row.filters = filters + point * filter_plane;
        row.next_filters = from_memory ? row.filters + filter_plane : nullptr;
        row.y = out + point * out_plane;
        kernel.conv_row[lanes / kernel.width - 1](row);
    }
}

/// The images that the plan reads.
template <class T>
TileImages<const T> input_images(const WinogradDecisions& d, const T* input) {
    const Correlation& g = d.g;
    const Windows& a = g.windows;
    if (d.planes) return {input, g.image, a.w, 1, a.h * a.w, true};
    return {input + g.input_start, g.image, a.w * g.pixel, g.pixel, 1, false};
}

/// The images that the plan writes.
template <class T>
TileImages<T> output_images(const WinogradDecisions& d, T* output) {
    const Correlation& g = d.g;
    const Windows& a = g.windows;
    if (d.planes) return {output, g.out_image, a.q, 1, a.p * a.q, true};
    return {output + g.output_start, g.out_image, g.out_row, g.out_pixel, 1, false};
}

/// The pixels that a rectangle of tiles from tile t on computes.
Tile pixels_written(const WinogradDecisions& d, std::int64_t t, std::int64_t rows, std::int64_t columns) {
    const std::int64_t y = d.grid.y(t), x = d.grid.x(t);
    return {y, std::min(rows * d.form.tile, d.g.windows.p - y), x, std::min(columns * d.form.tile, d.g.windows.q - x)};
}

/// Writes filters [k0, k0 + channels) of some pixels, which are NHWC at `from`, to the planes of the output, and
/// finishes them.
template <class T>
void write_planes(const WinogradDecisions& d, const Operands<T>& operands, std::int64_t image, const Tile& pixels,
                  std::int64_t k0, std::int64_t channels, const T* from, std::int64_t from_row,
                  std::int64_t from_pixel) {
    const TileImages<T> to = output_images(d, operands.output).from_channel(k0);
    T* const first = to.data + image * to.image + pixels.y0 * to.row + pixels.x0;
    copy_to_planes(from, from_row, from_pixel, pixels.rows, pixels.columns, channels, first, to.row, to.channel);
    finish_planes(operands, first - operands.output, channels, to.channel, pixels.rows, to.row, pixels.columns);
}

/// Prefetches filters [k0, k0 + channels) of some pixels of the output. Their planes are so far apart that CPUs do not
/// see a pattern in the writes.
template <class T>
void prefetch_planes(const WinogradDecisions& d, const Operands<T>& operands, std::int64_t image, const Tile& pixels,
                     std::int64_t k0, std::int64_t channels) {
    const TileImages<T> to = output_images(d, operands.output).from_channel(k0);
    const T* const first = to.data + image * to.image + pixels.y0 * to.row + pixels.x0;
    for (std::int64_t k = 0; k < channels; ++k)
        for (std::int64_t y = 0; y < pixels.rows; ++y)
            for (std::int64_t x = 0; x < pixels.columns + strip_channels<T> - 1; x += strip_channels<T>)
                __builtin_prefetch(first + k * to.channel + y * to.row + std::min(x, pixels.columns - 1), 1);
}

/// Transforms `channels` filters from k0 on of tiles [first, last) back to NHWC images. Points of two tiles are `step`
/// values apart. Marks tiles that are not finite.
template <class T>
void transform_back(const WinogradDecisions& d, const Operands<T>& operands, const TileImages<T>& to,
                    std::int64_t first, std::int64_t last, std::int64_t k0, std::int64_t channels, const T* points,
                    std::int64_t step, std::int64_t plane, std::vector<unsigned char>& finite) {
    const Correlation& g = d.g;
    WinogradOutput<T> tile{};
    tile.plane = plane;
    tile.bias = operands.bias ? operands.bias + g.bias_start + k0 : nullptr;
    tile.bounds = operands.kernel_bounds();
    tile.row = to.row;
    tile.pixel = to.pixel;
    tile.channels = channels;
    for (std::int64_t t = first; t < last; ++t) {
        const Tile pixels = pixels_written(d, t, 1, 1);
        tile.points = points + (t - first) * step;
        tile.y = to.data + d.grid.n(t) * to.image + pixels.y0 * to.row + pixels.x0 * to.pixel;
        tile.rows = pixels.rows;
        tile.columns = pixels.columns;
        // Several tasks may write this byte, because they compute different filters of one tile. All of them write 0.
        if (!kernels<T>().winograd_output[d.form.index](tile))
            __atomic_store_n(&finite[static_cast<std::size_t>(t)], static_cast<unsigned char>(0), __ATOMIC_RELAXED);
        if (!d.planes) finish_tile(g, operands, d.grid.n(t), 0, pixels, k0, channels);
    }
}

/// Transforms tiles [first, last) back to filters [k0, k0 + lanes) of the output. Marks tiles that are not finite.
template <class T>
void transform_outputs(const WinogradDecisions& d, const Operands<T>& operands, std::int64_t first, std::int64_t last,
                       std::int64_t k0, std::int64_t lanes, const T* points, std::int64_t plane,
                       std::vector<unsigned char>& finite) {
    const std::int64_t channels = std::min(lanes, d.g.k - k0);
    if (!d.planes)
        return transform_back(d, operands, output_images(d, operands.output).from_channel(k0), first, last, k0,
                              channels, points, lanes, plane, finite);
    const Scratch<T> strip(kStripPixels * strip_channels<T>);
    each_rectangle(d.grid, first, last, [&](std::int64_t t, std::int64_t rows, std::int64_t columns) {
        const Tile pixels = pixels_written(d, t, rows, columns);
        for (std::int64_t c = 0; c < channels; c += strip_channels<T>) {
            const std::int64_t count = std::min(strip_channels<T>, channels - c);
            const TileImages<T> copy = strip_images(strip.get(), pixels, count);
            prefetch_planes(d, operands, d.grid.n(t), pixels, k0 + c + count,
                            std::min(strip_channels<T>, channels - c - count));
            transform_back(d, operands, copy, t, t + rows * columns, k0 + c, count, points + (t - first) * lanes + c,
                           lanes, plane, finite);
            write_planes(d, operands, d.grid.n(t), pixels, k0 + c, count, strip.get(), copy.row, copy.pixel);
        }
    });
}

/// All transformed filters.
template <class T>
Packed<T> transformed_filters(const WinogradDecisions& d, const Operands<T>& operands) {
    const Correlation& g = d.g;
    const WinogradFilters& f = d.filters;
    return Packed<T>(operands.cache, d.key, f.total<T>(g.c), [&](T* to) {
        const std::int64_t strips = ceil_div(g.c, kFilterStrip);
        parallel_for(d.filter_tasks(), [&](std::int64_t task) {
            const std::int64_t kb = task / strips, c0 = task % strips * kFilterStrip, lanes = f.lanes(kb);
            transform_filters(g, d.form, operands.filters, c0, std::min(g.c, c0 + kFilterStrip), f.first(kb), lanes,
                              to + f.block_start<T>(kb, g.c) + c0 * lanes, f.plane<T>(g.c, lanes));
        });
    });
}

template <class T>
void run_by_tiles(const WinogradDecisions& d, const Operands<T>& operands, std::vector<unsigned char>& finite) {
    const Correlation& g = d.g;
    const WinogradFilters& f = d.filters;
    const Packed<T> filters = transformed_filters(d, operands);
    const std::int64_t block = d.block;
    const std::int64_t in_plane = block * g.c + plane_padding<T>,
                       out_plane = block * f.widest_filters + plane_padding<T>;
    // If each thread has at most two tasks, most filters come from memory.
    const bool from_memory =
        f.total<T>(g.c) * value_bytes<T> > kCachedBytes && ceil_div(d.tiles, block) <= 2 * d.threads;
    parallel_for(d.tile_tasks(), [&](std::int64_t task) {
        const std::int64_t first = task * block, last = std::min(d.tiles, first + block);
        const Scratch<T> in(kPoints * in_plane), out(kPoints * out_plane);
        transform_tiles(input_squares<T>(g.windows), d.grid, input_images(d, operands.input), g.c, first, last,
                        in.get(), in_plane);
        for (std::int64_t kb = 0; kb < f.k_blocks; ++kb) {
            const std::int64_t k0 = f.first(kb), lanes = f.lanes(kb);
            multiply(in.get(), in_plane, g.c, last - first, filters.get() + f.block_start<T>(kb, g.c), g.c, lanes,
                     out.get(), out_plane, false, from_memory);
            transform_outputs(d, operands, first, last, k0, lanes, out.get(), out_plane, finite);
        }
    });
}

/// Filters that stay, in the order in which they are transformed: [filter block][channel][tap][lane]. In the caller's
/// order, a tap is a run of only a few cache lines, and the next tap is far away.
template <class T>
Packed<T> ordered_filters(const WinogradDecisions& d, const Operands<T>& operands) {
    const Correlation& g = d.g;
    const WinogradFilters& f = d.filters;
    return Packed<T>(operands.cache, d.key, g.window() * g.c * f.vectors * f.width, [&](T* to) {
        parallel_for(f.k_blocks, static_cast<double>(g.window() * g.c * g.k), [&](std::int64_t kb) {
            const std::int64_t k0 = f.first(kb), lanes = f.lanes(kb), valid = std::min(g.k - k0, lanes);
            T* tap = to + g.window() * g.c * k0;
            for (std::int64_t at = 0; at < g.c * g.window(); ++at, tap += lanes) {
                const std::int64_t c = at / g.window(), i = at % g.window() / g.windows.s, j = at % g.windows.s;
                const T* from = operands.filters + g.filters_start + c * g.f_c + i * g.f_i + j * g.f_j + k0 * g.f_k;
                for (std::int64_t lane = 0; lane < lanes; ++lane) tap[lane] = lane < valid ? from[lane * g.f_k] : T{};
            }
        });
    });
}

/// The correlation whose filters are a block of ordered filters.
Correlation ordered_block(const WinogradDecisions& d, std::int64_t kb) {
    Correlation g = d.g;
    const std::int64_t k0 = d.filters.first(kb), lanes = d.filters.lanes(kb);
    g.k = k0 + lanes;
    g.filters_start = g.window() * g.c * k0 - k0;
    g.f_k = 1;
    g.f_j = lanes;
    g.f_i = g.windows.s * lanes;
    g.f_c = g.window() * lanes;
    return g;
}

template <class T>
void run_by_filters(const WinogradDecisions& d, const Operands<T>& operands, std::vector<unsigned char>& finite) {
    const Correlation& g = d.g;
    const WinogradFilters& f = d.filters;
    const std::int64_t chunk = d.chunk, block = d.block, out_plane = block * f.widest_filters + plane_padding<T>;
    // Points of the input are stored as [part of the channels][point][tile][channel], so that a product reads one run.
    const auto in_offset = [&](std::int64_t part) {
        return kPoints * (chunk * f.part(part, g.c) + part * plane_padding<T>);
    };
    const Scratch<T> in(in_offset(f.c_parts));
    const bool ordered = !f.stored && operands.cache != nullptr;
    const auto no_filters = [] { return Packed<T>(nullptr, {}, 0, [](T*) {}); };
    const Packed<T> packed = f.stored  ? transformed_filters(d, operands)
                             : ordered ? ordered_filters(d, operands)
                                       : no_filters();
    for (std::int64_t start = 0; start < d.tiles; start += chunk) {
        const std::int64_t count = std::min(chunk, d.tiles - start), tile_blocks = ceil_div(count, block);
        parallel_for(d.input_tasks(count), [&](std::int64_t task) {
            const std::int64_t first = task * d.input_tiles, last = std::min(count, first + d.input_tiles);
            for (std::int64_t part = 0; part < f.c_parts; ++part) {
                const std::int64_t c0 = f.part(part, g.c), channels = f.part(part + 1, g.c) - c0;
                transform_tiles(input_squares<T>(g.windows), d.grid, input_images(d, operands.input).from_channel(c0),
                                channels, start + first, start + last, in.get() + in_offset(part) + first * channels,
                                chunk * channels + plane_padding<T>);
            }
        });
        parallel_for(d.product_tasks(count), [&](std::int64_t task) {
            const std::int64_t kb = task / tile_blocks, first = task % tile_blocks * block;
            const std::int64_t last = std::min(count, first + block);
            const std::int64_t k0 = f.first(kb), lanes = f.lanes(kb);
            const Scratch<T> part_filters(f.stored ? 0 : kPoints * f.plane<T>(ceil_div(g.c, f.c_parts), lanes));
            const Scratch<T> out(kPoints * out_plane);
            const Correlation source = ordered ? ordered_block(d, kb) : g;
            for (std::int64_t part = 0; part < f.c_parts; ++part) {
                const std::int64_t c0 = f.part(part, g.c), channels = f.part(part + 1, g.c) - c0;
                if (!f.stored)
                    transform_filters(source, d.form, ordered ? packed.get() : operands.filters, c0, c0 + channels, k0,
                                      lanes, part_filters.get(), f.plane<T>(channels, lanes));
                const T* const filters = f.stored ? packed.get() + f.block_start<T>(kb, g.c) : part_filters.get();
                multiply(in.get() + in_offset(part) + first * channels, chunk * channels + plane_padding<T>, channels,
                         last - first, filters, channels, lanes, out.get(), out_plane, part > 0, f.stored);
            }
            transform_outputs(d, operands, start + first, start + last, k0, lanes, out.get(), out_plane, finite);
        });
    }
}

/// Computes tiles of one image on NHWC copies of the image, and writes them to the planes.
template <class T>
void compute_on_copies(const WinogradDecisions& d, const ConvPlan<T>& plan, const Operands<T>& operands,
                       std::vector<ImageTile>& tiles) {
    const Correlation& g = d.g;
    const Windows& a = g.windows;
    const std::int64_t image = tiles.front().image;
    const Scratch<T> x(a.h * a.w * g.c), y(a.p * a.q * g.k);
    transpose_images(1, g.c, a.h * a.w, operands.input + image * g.image, x.get());
    for (ImageTile& tile : tiles) tile.image = 0;
    Operands<T> copies = operands.without_finish(); // the residual is NCHW, so write_planes finishes the tiles
    copies.input = x.get();
    copies.output = y.get();
    copies.only = &tiles;
    plan.run(copies);
    for (const ImageTile& tile : tiles)
        write_planes(d, operands, image, tile.tile, 0, g.k,
                     y.get() + tile.tile.y0 * g.out_row + tile.tile.x0 * g.out_pixel, g.out_row, g.out_pixel);
}

/// Computes the tiles that are not finite again, by the direct algorithm.
template <class T>
void compute_again(const WinogradDecisions& d, Operands<T> operands, const std::vector<unsigned char>& finite) {
    std::vector<ImageTile> again;
    ConvPlan<T> plan;
    const auto compute = [&] {
        if (again.empty()) return;
        if (plan.empty()) plan_cheapest(d.again(), plan);
        operands.only = &again;
        if (d.planes)
            compute_on_copies(d, plan, operands, again);
        else
            plan.run(operands);
        again.clear();
    };
    for (std::int64_t t = 0; t < d.tiles; ++t) {
        if (finite[static_cast<std::size_t>(t)]) continue;
        const std::int64_t image = d.grid.n(t);
        if (again.size() == kTilesAgain || (d.planes && !again.empty() && again.back().image != image)) compute();
        again.push_back({image, pixels_written(d, t, 1, 1)});
    }
    compute();
}

template <class T>
void run(const Decisions& decisions, const Operands<T>& operands) {
    const auto& d = static_cast<const WinogradDecisions&>(decisions);
    std::vector<unsigned char> finite(static_cast<std::size_t>(d.tiles), 1);
    if (d.chunk == 0)
        run_by_tiles(d, operands, finite);
    else
        run_by_filters(d, operands, finite);
    compute_again(d, operands, finite);
}

template <class T>
void plan(const Request& request, ConvPlan<T>& plan);

/// Plans each half of the filters on its own, because the transformed filters do not all fit.
template <class T>
void plan_filter_halves(const Request& request, std::int64_t first_half, ConvPlan<T>& plan_of_both) {
    Correlation half = request.part;
    half.k = first_half;
    plan(request.with(half), plan_of_both);
    half.k = request.part.k - first_half;
    half.filters_start += first_half * half.f_k;
    half.output_start += first_half;
    half.bias_start += first_half;
    plan(request.with(half), plan_of_both);
}

template <class T>
void plan(const Request& request, ConvPlan<T>& plan) {
    const Correlation& g = request.part;
    if (g.window() == 0) { // nothing to multiply
        if (request.planes) return;
        Request zeros = request;
        zeros.only_direct = true;
        return plan_cheapest(zeros, plan);
    }
    const WinogradFilters f = choose_winograd_filters<T>(g, request.filters_stay);
    if (f.stored && f.k_blocks > 1 && f.total<T>(g.c) * value_bytes<T> > kWinogradFilterBytes) {
        if (request.planes) return;
        return plan_filter_halves(request, f.first(f.k_blocks / 2), plan);
    }
    auto decisions = std::make_unique<WinogradDecisions>(request);
    WinogradDecisions& d = *decisions;
    d.filters = f;
    PlanSummary& summary = d.summary;
    summary.kernel = d.form.tile == 4 ? "conv_row on 36 points of 4x4 tiles" : "conv_row on 36 points of 2x2 tiles";
    summary.multiplications = static_cast<double>(kPoints * d.tiles) * static_cast<double>(g.c * g.k);
    choose_winograd_cut<T>(d);
    if (request.planes && d.chunk > 0) return;
    const WinogradFilters& cut = d.filters;
    d.key = pack_key(g, cut.stored ? PackForm::winograd : PackForm::winograd_ordered, {cut.k_blocks, 0, 0, 0});
    summary.tile_filters = cut.widest_filters;
    summary.tile_pixels = std::min(d.block, kernels<T>().conv_row_pixels[cut.widest_filters / cut.width - 1]);
    plan.add(winograd<T>(), std::move(decisions));
}

} // namespace

double winograd_products(const ConvProblem& o) {
    // Outputs of fewer than 36 pixels have too few tiles to pay for the filter transform.
    if (!winograd_enabled() || o.p * o.q < 36) return std::numeric_limits<double>::infinity();
    // A tile takes 36 products, even if it reaches beyond the edge.
    const std::int64_t tiles = TileGrid(WinogradForm(o.r), o.p, o.q).tiles_per_image();
    return static_cast<double>(kPoints * tiles) / static_cast<double>(o.p * o.q);
}

namespace {

/// The cost per output pixel, channel and vector of filters, in products, for sums of `c` products and `k` outputs.
template <class T>
double winograd_cost(const ConvProblem& o, std::int64_t c, std::int64_t k) {
    constexpr std::int64_t wide = 32, fewest = 12;
    const double points = winograd_products(o);
    // Each product counts twice: the transforms take up to half as long as the products, and the products run below
    // the peak because they read both factors from L2.
    if (c >= wide && k >= wide) return 2 * points;
    if (c < fewest || k < fewest) return std::numeric_limits<double>::infinity();
    // The transforms take longer: that of a channel serves few filters, and that of a vector of filters few channels.
    // In products, they take about 8 / lanes and 20 / c, as measured with AVX2 and AVX-512. The factor 1.2 leaves
    // layers to the direct algorithm that would hardly gain.
    const auto lanes = static_cast<double>(ceil_div(k, kernels<T>().width) * kernels<T>().width);
    return 1.2 * points * (1.3 + 8 / lanes + 20 / static_cast<double>(c));
}

} // namespace

/// The cost of transforming streamed filters, in the unit of winograd_cost. All images of the batch share this cost, so
/// it counts only if the batch may decide. The 36 points of a vector of filters are written to L2 and read again. With
/// AVX-512, this takes as long as about 200 products. With AVX2 it takes half as many, but the direct algorithm skips
/// the padding of such small images, so one image of 7x7x512 is faster by it there, too (1.1 to 1.3 times).
template <class T>
double streaming_cost(const Request& request) {
    const ConvProblem& o = request.layer; // not the part: all halves of the filters decide alike
    if (o.deciding_batch == 0 || !streams_filters<T>(o)) return 0;
    return 200 / static_cast<double>(o.deciding_batch * o.p * o.q);
}

template <class T>
const Algorithm<T>& winograd() {
    static constexpr Algorithm<T> algorithm{
        "winograd",
        "winograd",
        kWinogradLimits,
        [](const Request& request) { return request.is_correlation() && winograd_serves<T>(request.layer); },
        [](const Request& request) {
            const Correlation& g = request.part;
            const double cost = winograd_cost<T>(request.layer, g.c, g.k) + streaming_cost<T>(request);
            return cost * static_cast<double>(g.c * ceil_div(g.k, kernels<T>().width));
        },
        plan<T>,
        run<T>};
    return algorithm;
}

template const Algorithm<float>& winograd();
template const Algorithm<double>& winograd();

} // namespace fastconv
