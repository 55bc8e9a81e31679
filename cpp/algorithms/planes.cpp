// The forward passes and input gradients of NCHW layers on their planes, with the kernels of NHWC in other roles.
//
// Dense layers with few channels: conv_row multiplies lanes of packed values by broadcast values. Here the lanes are
// pixels of an output row, read where the window's elements are in the copy of the rows (see below), and the broadcast
// values are the filters, read in place. The "pixels" of the kernel are filters, and its rows end up in the planes of
// the output. (planes_dense.cpp serves windows of 1x1.)
//
// Depthwise: a plane is an image with one channel and one filter. For windows of 3 or 5 rows at stride 1, that is what
// small_k_spread_rows computes. For other windows, depthwise_row goes along contiguous lanes. Here they are the columns
// of a plane, and the "pixels" are its rows. A tap of the filter is written to all lanes first. (Common windows have
// kernels of their own, see depthwise_planes.cpp.)
//
// A task copies the rows that its output rows read, with their padding, to memory that stays in L1 or L2. If the stride
// is s, the columns of a copied row are sorted by their residue modulo s, so that vectors of output pixels read
// neighbours. Input gradients with strides are left to NHWC: merging the residues of their columns costs what is saved.
//
// Each sum adds its terms in the order of the NHWC layer, so the bits are the same. Where small_k_spread_rows adds in
// another order (see its header), the choice of these planes follows from the layer and the ISA alone.
#include "algorithms/planes.h"

#include "algorithms/epilogue.h"
#include "algorithms/filter_blocks.h"
#include "algorithms/plane_copy.h"
#include "algorithms/tiled_correlation.h"
#include "core/isa.h"
#include "core/workspace.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace fastconv {
namespace {

constexpr std::int64_t kCopyBytes = 128 << 10; // the copy of a tile, which stays in L2
constexpr std::int64_t kPlaneBytes = 20 << 10; // the copy of a single plane, which stays in L1
constexpr std::int64_t kMostBytes = 1 << 20;   // the most bytes of a task's memory
constexpr double kFilledLanes = 0.8;           // the least part of the lanes that rows must fill
constexpr double kTaskWork = 128 << 10;        // the least multiplications of a task
constexpr std::int64_t kTasksOfThread = 4;     // if there are enough rows
constexpr std::int64_t kLeastRows = 4;         // of a tile, unless it would be too large
constexpr std::int64_t kLongRow = 48;          // the least columns of a strided depthwise layer
constexpr std::int64_t kMemoryBytes = 4 << 20; // the least bytes of its input

struct PlaneDecisions : Decisions {
    Correlation g;                     // its channels are planes
    std::int64_t channel, out_channel; // the distance of planes, in the input and in the output
    bool depthwise, spread;            // spread: small_k_spread_rows
    Tiling tiling;
    std::int64_t tiles_of_task;

    std::int64_t tiles() const { return g.n * g.groups * tiling.tiles(); }
    Tasks tasks() const { return {ceil_div(tiles(), tiles_of_task), 2.0 * summary.multiplications}; }
    std::int64_t elements() const { return g.window() * g.c; } // of a window
    /// The values that a tile copies.
    std::int64_t copied() const { return PlaneCopy(g.windows, tiling.rows, tiling.columns).plane * g.c; }
    double multiplications_of(const Tile& tile) const {
        return static_cast<double>(tile.rows * tile.columns) * static_cast<double>(elements() * g.k);
    }
    std::vector<Phase> phases() const override {
        return {phase_of("tiles", tasks(), [&](std::int64_t task) {
            TaskCost cost;
            for (std::int64_t at = task * tiles_of_task; at < std::min(tiles(), (task + 1) * tiles_of_task); ++at) {
                cost.multiplications += multiplications_of(tiling.tile(at % tiling.tiles(), g.windows));
                cost.moved_values += static_cast<double>(copied());
            }
            return cost;
        })};
    }
};

/// The memory of a task.
template <class T>
struct PlaneMemory {
    T* copy;
    T* taps;                  // of a depthwise filter, and its bias, each in all lanes
    std::ptrdiff_t* offsets;  // of the taps in the copy
    std::ptrdiff_t* elements; // of the window's elements in the copy
    std::ptrdiff_t* filters;  // likewise in the filters
};

/// A tile of the output of one group.
template <class T>
struct PlaneTile {
    const Correlation& g;
    std::int64_t group;
    Tile tile;
    const T* x; // the copy
    std::ptrdiff_t x_row, x_channel;
    T* y;
    std::ptrdiff_t y_channel;
};

/// Multiplies `columns` pixels of one output row, from x0 on, by all filters of the group.
template <class T>
void compute_run(const Operands<T>& operands, const PlaneTile<T>& part, std::int64_t row, std::int64_t x0,
                 std::int64_t columns, const PlaneMemory<T>& memory) {
    const Correlation& g = part.g;
    const std::int64_t vectors = ceil_div(columns, kernels<T>().width);
    ConvRow<T> products{};
    products.x = operands.filters + g.filters_start + part.group * g.f_group;
    products.x_step = g.f_k;
    products.segments = memory.filters;
    products.segment_length = 1;
    products.segment_count = g.window() * g.c;
    products.filters = part.x + row * part.x_row + x0;
    products.filter_offsets = memory.elements;
    products.y = part.y + row * g.out_row + x0;
    products.y_step = part.y_channel;
    products.pixels = g.k;
    products.channels = columns;
    products.pixel_bias = operands.bias ? operands.bias + part.group * g.k : nullptr;
    products.bounds = operands.kernel_bounds();
    products.prefetch_y = true; // the tile writes a piece of each of its planes, which come from memory
    kernels<T>().conv_row[vectors - 1](products);
}

template <class T>
void compute_dense(const Operands<T>& operands, const PlaneTile<T>& part, const PlaneMemory<T>& memory) {
    const Correlation& g = part.g;
    std::int64_t at = 0;
    for (std::int64_t i = 0; i < g.windows.r; ++i)
        for (std::int64_t j = 0; j < g.windows.s; ++j)
            for (std::int64_t c = 0; c < g.c; ++c, ++at) {
                memory.filters[at] = i * g.f_i + j * g.f_j + c * g.f_c;
                memory.elements[at] = memory.offsets[i * g.windows.s + j] + c * part.x_channel;
            }
    const std::int64_t most = kernels<T>().max_vectors * kernels<T>().width, columns = part.tile.columns;
    for (std::int64_t row = 0; row < part.tile.rows; ++row)
        for (std::int64_t x0 = 0; x0 < columns; x0 += most)
            compute_run(operands, part, row, x0, std::min(most, columns - x0), memory);
}

template <class T>
void compute_spread(const Operands<T>& operands, const PlaneTile<T>& part, const PlaneMemory<T>& memory) {
    const Correlation& g = part.g;
    const std::int64_t width = kernels<T>().width;
    const T* const filters = operands.filters + g.filters_start + part.group * g.f_group;
    T* to = memory.taps;
    for (std::int64_t j = 0; j < g.windows.s; ++j)
        for (std::int64_t i = 0; i < g.windows.r; ++i) to = std::fill_n(to, width, filters[i * g.f_i + j * g.f_j]);
    SmallKSpreadRows<T> rows{};
    rows.x = part.x;
    rows.x_row = part.x_row;
    rows.channels = rows.filter_count = 1;
    rows.window_rows = g.windows.r;
    rows.columns = g.windows.s;
    rows.filters = memory.taps;
    if (operands.bias != nullptr) {
        std::fill_n(to, width, operands.bias[part.group]);
        rows.bias = to;
    }
    rows.y = part.y;
    rows.y_row = g.out_row;
    rows.rows = part.tile.rows;
    rows.pixels = part.tile.columns;
    rows.bounds = operands.kernel_bounds();
    kernels<T>().small_k_spread_rows(rows);
}

template <class T>
void compute_depthwise(const Operands<T>& operands, const PlaneTile<T>& part, const PlaneMemory<T>& memory) {
    const Correlation& g = part.g;
    const std::int64_t columns = part.tile.columns, window = g.window();
    const T* const filters = operands.filters + g.filters_start + part.group * g.f_group;
    for (std::int64_t tap = 0; tap < window; ++tap) {
        const T value = filters[tap / g.windows.s * g.f_i + tap % g.windows.s * g.f_j];
        std::fill_n(memory.taps + tap * columns, columns, value);
        memory.filters[tap] = tap * columns;
    }
    DepthwiseRow<T> products{};
    products.x = part.x;
    products.x_step = part.x_row;
    products.offsets = memory.offsets;
    products.filter_offsets = memory.filters;
    products.taps = window;
    products.filters = memory.taps;
    if (operands.bias != nullptr) {
        std::fill_n(memory.taps + window * columns, columns, operands.bias[part.group]);
        products.bias = memory.taps + window * columns;
    }
    products.bounds = operands.kernel_bounds();
    products.y = part.y;
    products.y_step = g.out_row;
    products.rows = 1;
    products.pixels = part.tile.rows;
    products.channels = columns;
    kernels<T>().depthwise_row(products);
}

template <class T>
void compute_tile(const PlaneDecisions& plan, const Operands<T>& operands, std::int64_t at,
                  const PlaneMemory<T>& memory) {
    const Correlation& g = plan.g;
    const Windows& a = g.windows;
    const std::int64_t unit = at / plan.tiling.tiles(), image = unit / g.groups, group = unit % g.groups;
    const Tile tile = plan.tiling.tile(at % plan.tiling.tiles(), a);
    const PlaneCopy copy(a, tile.rows, tile.columns);
    const T* const input = operands.input + image * g.image + group * g.group_in;
    for (std::int64_t i = 0; i < a.r && !plan.spread; ++i) // small_k_spread_rows needs none
        for (std::int64_t j = 0; j < a.s; ++j) memory.offsets[i * a.s + j] = copy.offset(a, i, j);
    for (std::int64_t c = 0; c < g.c; ++c)
        copy_plane(a, tile, copy, input + c * plan.channel, memory.copy + c * copy.plane);
    T* const y = operands.output + image * g.out_image + group * g.out_group + tile.y0 * g.out_row + tile.x0;
    const PlaneTile<T> part{g, group, tile, memory.copy, a.stride_h * copy.line, copy.plane, y, plan.out_channel};
    if (plan.spread)
        compute_spread(operands, part, memory);
    else if (plan.depthwise)
        compute_depthwise(operands, part, memory);
    else
        compute_dense(operands, part, memory);
    finish_planes(operands, y - operands.output, g.k, plan.out_channel, tile.rows, g.out_row, tile.columns);
}

/// The values of PlaneMemory::taps.
template <class T>
std::int64_t tap_values(const PlaneDecisions& plan) {
    const std::int64_t width = kernels<T>().width;
    if (plan.spread) return (plan.elements() + 1) * width;
    if (plan.depthwise) return (plan.elements() + 1) * plan.tiling.columns;
    return 0;
}

template <class T>
void run(const Decisions& decisions, const Operands<T>& operands) {
    const auto& plan = static_cast<const PlaneDecisions&>(decisions);
    parallel_for(plan.tasks(), [&](std::int64_t task) {
        // small_k_spread_rows and conv_row read up to a vector beyond the last column.
        const Scratch<T> copy(plan.copied() + kernels<T>().width), taps(tap_values<T>(plan));
        const Scratch<std::ptrdiff_t> offsets(plan.g.window()), elements(plan.elements()), filters(plan.elements());
        const PlaneMemory<T> memory{copy.get(), taps.get(), offsets.get(), elements.get(), filters.get()};
        const std::int64_t end = std::min(plan.tiles(), (task + 1) * plan.tiles_of_task);
        for (std::int64_t at = task * plan.tiles_of_task; at < end; ++at) compute_tile(plan, operands, at, memory);
    });
}

/// The planes of the correlation of an NHWC layer. They are contiguous rows.
Correlation of_planes(const Correlation& nhwc, const ConvProblem& o, bool forward) {
    Correlation g = nhwc;
    const std::int64_t in = forward ? o.h * o.w : o.p * o.q, out = forward ? o.p * o.q : o.h * o.w;
    const std::int64_t channels = forward ? o.k : o.c; // of the output
    g.pixel = 1;
    g.group_in = g.c * in;
    g.out_pixel = nhwc.out_pixel / channels;
    g.out_row = nhwc.out_row / channels;
    g.out_group = g.k * out;
    return g;
}

/// Whether the loops over the planes are efficient, and no size overflows.
template <class T>
bool pays(const PlaneDecisions& d) {
    const Windows& a = d.g.windows;
    const std::int64_t width = kernels<T>().width, lanes = ceil_div(a.q, width) * width;
    if (a.p == 0 || a.q == 0 || !can_copy_planes(a) ||
        static_cast<double>(a.q) < kFilledLanes * static_cast<double>(lanes))
        return false;
    if (d.spread) return true;
    // Strided planes are copied slowly. They pay if they are large and come from memory.
    if (d.depthwise) return a.q >= kLongRow && d.g.n * d.g.image * std::int64_t{sizeof(T)} >= kMemoryBytes;
    // Each filter reads all elements of a window from the copy, mostly across cache lines. With 16 registers, loads are
    // the limit. NHWC takes a few copies of the input and the output.
    const std::int64_t copies = kernels<T>().max_vectors > 2 ? 3 : 2;
    return d.elements() <= d.g.c || d.elements() <= copies * (d.g.c + d.g.k);
}

/// Cuts the rows into tiles.
template <class T>
void choose_tiling(PlaneDecisions& d, std::int64_t threads) {
    const Windows& a = d.g.windows;
    const std::int64_t most = (d.depthwise ? kPlaneBytes : kCopyBytes) / std::int64_t{sizeof(T)};
    const auto set_rows = [&](std::int64_t rows) { d.tiling = {rows, a.q, ceil_div(a.p, rows), 1, 1}; };
    set_rows(a.p);
    while (d.tiling.rows > 1 && d.copied() > most) set_rows(ceil_div(d.tiling.rows, 2));
    while (threads > 1 && d.tiling.rows > kLeastRows && d.tiles() < kTasksOfThread * threads)
        set_rows(ceil_div(d.tiling.rows, 2));
    const double of_tile = d.multiplications_of(d.tiling.tile(0, a));
    const auto enough = static_cast<std::int64_t>(kTaskWork / std::max(1.0, of_tile));
    const std::int64_t most_tiles = d.tiles() / (2 * kTasksOfThread * threads);
    d.tiles_of_task = std::clamp<std::int64_t>(enough, 1, std::max<std::int64_t>(1, most_tiles));
}

template <class T>
const Algorithm<T>& planes() { // plan_planes plans it, so it has no cost
    static constexpr Algorithm<T> algorithm{"planes", "direct", nullptr, nullptr, nullptr, nullptr, run<T>};
    return algorithm;
}

template <class T>
void summarize(PlaneDecisions& d) {
    const KernelsOf<T>& kernel = kernels<T>();
    const std::int64_t vectors = std::min(kernel.max_vectors, ceil_div(d.g.windows.q, kernel.width));
    PlanSummary& summary = d.summary;
    summary.kernel = d.spread ? "small_k_spread_rows" : d.depthwise ? "depthwise_row" : "conv_row";
    summary.tile_pixels = d.depthwise ? kernel.width : vectors * kernel.width;
    summary.tile_filters = d.depthwise ? 1 : kernel.conv_row_pixels[vectors - 1];
    summary.tasks = d.tasks().count;
    summary.thread_bytes = (d.copied() + tap_values<T>(d)) * std::int64_t{sizeof(T)};
}

} // namespace

template <class T>
void plan_planes(const Request& request, bool depthwise, ConvPlan<T>& plan) {
    const ConvProblem& o = request.layer;
    const bool forward = request.direction == Direction::forward;
    if (!forward && (o.stride_h > 1 || o.stride_w > 1)) return;
    auto decisions = std::make_unique<PlaneDecisions>();
    PlaneDecisions& d = *decisions;
    const Correlation& g = d.g = of_planes(request.part, o, forward);
    const Windows& a = g.windows;
    d.channel = forward ? o.h * o.w : o.p * o.q;
    d.out_channel = forward ? o.p * o.q : o.h * o.w;
    d.depthwise = depthwise;
    d.spread = depthwise && a.stride_h == 1 && a.stride_w == 1 && a.dilation_h == 1 && a.dilation_w == 1 &&
               (a.r == 3 || a.r == 5);
    if (!pays<T>(d)) return;
    // The direct algorithm adds the sums of blocks of channels. They are here one sum.
    if (!depthwise && choose_filter_blocks<T>(g).c_blocks > 1) return;
    d.summary.multiplications = g.multiplications();
    choose_tiling<T>(d, 1);
    summarize<T>(d);
    if (d.summary.thread_bytes > kMostBytes) return;
    choose_tiling<T>(d, request.threads);
    summarize<T>(d);
    // A tap that is not finite may or may not count where it meets padding. There, the threads must not decide.
    const bool pads = o.pad_top != 0 || o.pad_bottom != 0 || o.pad_left != 0 || o.pad_right != 0;
    if (!d.spread && !pads && d.summary.tasks < request.threads) return;
    plan.add(planes<T>(), std::move(decisions));
}

template void plan_planes(const Request&, bool, ConvPlan<float>&);
template void plan_planes(const Request&, bool, ConvPlan<double>&);

} // namespace fastconv
