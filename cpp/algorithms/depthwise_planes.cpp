// Depthwise convolution of NCHW planes. A task computes some planes, or some rows of a plane if planes are few. The
// kernel reads them in place. A task needs no memory but for the taps and a row of zeros, the padding above and below.
#include "algorithms/depthwise_planes.h"

#include "algorithms/epilogue.h"
#include "algorithms/stride_residue.h"
#include "core/isa.h"
#include "core/workspace.h"
#include "kernels/depthwise_planes.h"

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

namespace fastconv {
namespace {

constexpr double kTaskWork = 128 << 10;       // the least multiplications of a task
constexpr std::int64_t kTasksOfThread = 4;    // if there are enough rows
constexpr std::int64_t kLeastRows = 8;        // of a task
constexpr std::int64_t kMostWidth = 32 << 10; // of the row of zeros
constexpr std::int64_t kMostPlanes = 32;      // of a call of the kernel

struct DepthwisePlaneDecisions : Decisions {
    std::int64_t channels, window, stride;               // stride: of the kernel
    std::int64_t height, width, first_row, first_column; // of the planes that are read
    std::int64_t p, q;                                   // of the planes that are written
    std::int64_t filters_start, f_i, f_j;                // of the filter of a channel
    bool gradient;                                       // depthwise_plane_gradient
    std::array<std::int64_t, 2> row_products;            // the multiplications of even and odd rows
    RowTiles tiles;                                      // of all planes
    std::int64_t tiles_of_task;

    Tasks tasks() const { return {ceil_div(tiles.count(), tiles_of_task), 2.0 * summary.multiplications}; }
    std::int64_t products_of(std::int64_t first, std::int64_t rows) const {
        const std::int64_t odd = (first + rows) / 2 - first / 2;
        return (rows - odd) * row_products[0] + odd * row_products[1];
    }
    std::vector<Phase> phases() const override {
        return {phase_of("planes", tasks(), [&](std::int64_t task) {
            std::int64_t products = 0;
            for (std::int64_t at = task * tiles_of_task; at < std::min(tiles.count(), (task + 1) * tiles_of_task); ++at)
                products += products_of(tiles.tile(at).first, tiles.tile(at).count);
            return TaskCost{static_cast<double>(products), 0};
        })};
    }
};

/// The taps of `planes` neighbouring channels: [channel][row][column].
template <class T>
void take_taps(const DepthwisePlaneDecisions& d, const T* filters, std::int64_t planes, T* taps) {
    for (std::int64_t i = 0; i < d.window; ++i)
        for (std::int64_t j = 0; j < d.window; ++j)
            for (std::int64_t c = 0; c < planes; ++c)
                taps[(c * d.window + i) * d.window + j] = filters[i * d.f_i + j * d.f_j + c];
}

/// Computes some rows of `planes` planes of an image. The "image" of the rows is the first plane.
template <class T>
void compute_rows(const DepthwisePlaneDecisions& d, const Operands<T>& operands, const ImageRows& rows,
                  std::int64_t planes, const T* zeros, T* taps) {
    const std::int64_t channel = rows.image % d.channels;
    take_taps(d, operands.filters + d.filters_start + channel, planes, taps);
    DepthwisePlane<T> plane{};
    plane.x = operands.input + rows.image * d.height * d.width;
    plane.height = d.height;
    plane.width = d.width;
    plane.first_row = d.first_row;
    plane.first_column = d.first_column;
    plane.zeros = zeros;
    plane.filters = taps;
    plane.window = d.window;
    plane.stride = d.stride;
    plane.bias = operands.bias ? operands.bias + channel : nullptr;
    plane.y = operands.output + rows.image * d.p * d.q;
    plane.y_row = d.q;
    plane.row = rows.first;
    plane.rows = rows.count;
    plane.pixels = d.q;
    plane.planes = planes;
    plane.y_plane = d.p * d.q;
    plane.bounds = operands.kernel_bounds();
    d.gradient ? kernels<T>().depthwise_plane_gradient(plane) : kernels<T>().depthwise_plane(plane);
    finish_planes(operands, (rows.image * d.p + rows.first) * d.q, planes, d.p * d.q, rows.count, d.q, d.q);
}

template <class T>
void run(const Decisions& decisions, const Operands<T>& operands) {
    const auto& d = static_cast<const DepthwisePlaneDecisions&>(decisions);
    parallel_for(d.tasks(), [&](std::int64_t task) {
        const Scratch<T> zeros(d.width), taps(kMostPlanes * d.window * d.window);
        std::fill_n(zeros.get(), d.width, T{});
        const std::int64_t end = std::min(d.tiles.count(), (task + 1) * d.tiles_of_task);
        for (std::int64_t at = task * d.tiles_of_task, planes = 1; at < end; at += planes) {
            const ImageRows rows = d.tiles.tile(at);
            if (d.tiles.of_image == 1) planes = std::min({end - at, kMostPlanes, d.channels - rows.image % d.channels});
            compute_rows(d, operands, rows, planes, zeros.get(), taps.get());
        }
    });
}

template <class T>
const Algorithm<T>& depthwise_planes() { // plan_depthwise_planes plans it, so it has no cost
    static constexpr Algorithm<T> algorithm{
        "depthwise_planes", "depthwise", nullptr, nullptr, nullptr, nullptr, run<T>};
    return algorithm;
}

/// A forward pass, or an input gradient with a stride of 1.
void set_correlation(DepthwisePlaneDecisions& d, const Correlation& g) {
    const Windows& a = g.windows;
    d.stride = a.stride_h;
    d.height = a.h;
    d.width = a.w;
    d.first_row = a.base_h;
    d.first_column = a.base_w;
    d.p = a.p;
    d.q = a.q;
    d.filters_start = g.filters_start;
    d.f_i = g.f_i;
    d.f_j = g.f_j;
    d.row_products = {a.q * g.window(), a.q * g.window()};
}

void set_gradient(DepthwisePlaneDecisions& d, const ConvProblem& o) {
    d.gradient = true;
    d.height = o.p;
    d.width = o.q;
    d.first_row = -o.pad_top;
    d.first_column = -o.pad_left;
    d.p = o.h;
    d.q = o.w;
    d.f_i = o.s * o.c;
    d.f_j = o.c;
    std::int64_t of_row = 0; // the multiplications of a row of dx with a row of dy
    for (std::int64_t first = 0; first < 2; ++first) {
        const StrideResidue along = stride_residue(first, o.w, 2, 1, o.s, o.pad_left);
        of_row += along.count * along.taps;
    }
    for (std::int64_t first = 0; first < 2; ++first)
        d.row_products[static_cast<std::size_t>(first)] =
            of_row * stride_residue(first, o.h, 2, 1, o.r, o.pad_top).taps;
}

template <class T>
void choose_tasks(DepthwisePlaneDecisions& d, std::int64_t planes, std::int64_t threads) {
    const std::int64_t parts = ceil_div(kTasksOfThread * threads, planes); // of a plane
    const std::int64_t rows = threads == 1 ? d.p : std::max(kLeastRows, ceil_div(d.p, parts));
    d.tiles = RowTiles(planes, d.p, std::min(d.p, rows));
    const auto of_tile = static_cast<double>(d.products_of(0, d.tiles.rows));
    const auto enough = static_cast<std::int64_t>(kTaskWork / std::max(1.0, of_tile)) + 1;
    d.tiles_of_task = std::min(enough, std::max<std::int64_t>(1, d.tiles.count() / (kTasksOfThread * threads)));
}

} // namespace

template <class T>
void plan_depthwise_planes(const Request& request, ConvPlan<T>& plan) {
    const ConvProblem& o = request.layer;
    if (o.r != o.s || (o.r != 3 && o.r != 5) || o.stride_h != o.stride_w || o.stride_h > 2 || o.dilation_h != 1 ||
        o.dilation_w != 1 || o.n == 0 || o.h == 0 || o.w == 0 || o.p == 0 || o.q == 0)
        return;
    auto decisions = std::make_unique<DepthwisePlaneDecisions>();
    DepthwisePlaneDecisions& d = *decisions;
    d.channels = o.c;
    d.window = o.r;
    if (request.direction == Direction::forward)
        set_correlation(d, forward_correlation(o));
    else if (o.stride_h == 1)
        set_correlation(d, input_gradient_correlations(o)[0]);
    else
        set_gradient(d, o);
    if (d.width > kMostWidth) return;
    const std::int64_t planes = o.n * o.c;
    PlanSummary& summary = d.summary;
    summary.multiplications = static_cast<double>(planes) * static_cast<double>(d.products_of(0, d.p));
    choose_tasks<T>(d, planes, request.threads);
    summary.kernel = d.gradient ? "depthwise_plane_gradient" : "depthwise_plane";
    summary.tile_pixels = kernels<T>().width;
    summary.tile_filters = 1;
    summary.tasks = d.tasks().count;
    summary.thread_bytes = (d.width + kMostPlanes * d.window * d.window) * std::int64_t{sizeof(T)};
    plan.add(depthwise_planes<T>(), std::move(decisions));
}

template void plan_depthwise_planes(const Request&, ConvPlan<float>&);
template void plan_depthwise_planes(const Request&, ConvPlan<double>&);

} // namespace fastconv
