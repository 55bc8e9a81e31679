// The direct filter gradient for groups with few channels. A vector takes the input channels of several groups. Their
// sums are [tap][output channel][lane], and are put into the order of the filters at the end.
#include "algorithms/depthwise_runs.h"
#include "algorithms/direct.h"
#include "algorithms/gradient_parts.h"
#include "algorithms/grouped.h"
#include "core/isa.h"
#include "core/partial_sums.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"

#include <algorithm>
#include <cstddef>
#include <vector>

namespace fastconv {
namespace {

constexpr std::int64_t kLongest = 16;            // the most rows that one sum adds; this bounds its error
constexpr std::int64_t kParts = 32;              // tasks for 16 threads; fixed, because it decides the order of the sum
constexpr std::int64_t kPartialBytes = 16 << 20; // all partial sums

struct GroupedGradientDecisions : Decisions {
    ConvProblem o;
    Windows a;
    GroupVectors vectors;
    std::int64_t width;
    std::vector<Run> columns; // runs of pixels of an output row
    std::int64_t splits;      // of all output rows, each with its own sums
    std::int64_t parts;       // of the vectors

    std::int64_t window() const { return o.r * o.s; }
    std::int64_t vector_sums() const { return window() * vectors.outputs * width; }
    std::int64_t total() const { return vectors.vectors() * vector_sums(); }
    std::int64_t first_row(std::int64_t split) const { return part_start(split, splits, o.n * o.p); }
    Tasks tasks() const { return {splits * parts, 2.0 * summary.multiplications}; }
    Tasks adding() const { return moving_tasks(vectors.vectors(), (splits + 1) * total()); }
    std::vector<Phase> phases() const override {
        const auto cost = [&](std::int64_t task) {
            const std::int64_t split = task / parts, part = task % parts;
            const std::int64_t groups = vectors.first_group(part + 1, parts) - vectors.first_group(part, parts);
            const std::int64_t sums = groups * vectors.inputs * vectors.outputs * window();
            const std::int64_t pixels = (first_row(split + 1) - first_row(split)) * o.q;
            return TaskCost{static_cast<double>(pixels) * static_cast<double>(sums), static_cast<double>(sums)};
        };
        const TaskCost added{0, static_cast<double>((splits + 1) * vector_sums())};
        return {phase_of("products", tasks(), cost),
                phase_of("add partial sums", adding(), [&](std::int64_t) { return added; })};
    }
};

/// Adds the products of some rows with the same valid taps to the sums of one vector, from `group` on.
template <class T>
void add_rows(const GroupedGradientDecisions& plan, const Operands<T>& operands, const ImageRows& rows,
              std::int64_t group, T* sums, std::ptrdiff_t* offsets) {
    const ConvProblem& o = plan.o;
    const Windows& a = plan.a;
    std::int64_t i0 = 0, i1 = 0;
    const std::int64_t top = a.base_h + rows.first * a.stride_h;
    valid_taps(top, a.dilation_h, a.r, a.h, i0, i1);
    GroupedFilterRows<T> products{};
    products.x = operands.input + rows.image * o.h * o.w * o.c + group * plan.vectors.inputs;
    products.x_row = rows.count > 1 ? a.stride_h * a.w * o.c : 0; // not used for one row, and could overflow
    products.offsets = offsets;
    products.dy_row = o.q * o.k;
    products.dy_step = o.k;
    products.rows = rows.count;
    products.groups = std::min(plan.vectors.of_vector, o.groups - group);
    products.inputs = plan.vectors.inputs;
    products.outputs = plan.vectors.outputs;
    for (const Run& columns : plan.columns) {
        products.dy = operands.out_backprop + ((rows.image * o.p + rows.first) * o.q + columns.x0) * o.k +
                      group * plan.vectors.outputs;
        products.pixels = columns.pixels;
        products.x_step = columns.pixels > 1 ? a.stride_w * o.c : 0;
        const std::int64_t left = a.base_w + columns.x0 * a.stride_w;
        const auto add_taps = [&](std::int64_t first_tap, std::int64_t count) {
            products.sums = sums + first_tap * plan.vectors.outputs * plan.width;
            products.taps = count;
            kernels<T>().grouped_filter_rows(products);
        };
        std::int64_t count = 0;
        for (std::int64_t i = i0; i < i1; ++i)
            for (std::int64_t j = columns.j0; j < columns.j1; ++j)
                offsets[count++] = ((top + i * a.dilation_h) * a.w + left + j * a.dilation_w) * o.c;
        const std::int64_t of_row = columns.j1 - columns.j0;
        if (of_row == o.s) {
            add_taps(i0 * o.s, count);
            continue;
        }
        for (std::int64_t i = i0; i < i1; ++i, products.offsets += of_row) add_taps(i * o.s + columns.j0, of_row);
        products.offsets = offsets;
    }
}

/// Adds all splits of one vector and writes its filters.
template <class T>
void finish_vector(const GroupedGradientDecisions& plan, std::int64_t vector, T* sums, T* dw) {
    const ConvProblem& o = plan.o;
    const auto [groups, inputs, outputs, of_vector] = plan.vectors;
    const std::int64_t count = plan.vector_sums(), first = vector * of_vector;
    T* const sum = sums + vector * count;
    for (std::int64_t split = 1; split < plan.splits; ++split) {
        const T* const from = sum + split * plan.total();
        for (std::int64_t i = 0; i < count; ++i) sum[i] += from[i];
    }
    for (std::int64_t tap = 0; tap < plan.window(); ++tap)
        for (std::int64_t c = 0; c < inputs; ++c)
            for (std::int64_t group = 0; group < std::min(of_vector, groups - first); ++group)
                for (std::int64_t k = 0; k < outputs; ++k)
                    dw[(tap * inputs + c) * o.k + (first + group) * outputs + k] =
                        sum[(tap * outputs + k) * plan.width + group * inputs + c];
}

template <class T>
void run(const Decisions& decisions, const Operands<T>& operands) {
    const auto& plan = static_cast<const GroupedGradientDecisions&>(decisions);
    const ConvProblem& o = plan.o;
    const Scratch<T> sums(plan.splits * plan.total());
    parallel_for(plan.tasks(), [&](std::int64_t task) {
        const std::int64_t split = task / plan.parts, part = task % plan.parts;
        const std::int64_t end = plan.first_row(split + 1), last = plan.vectors.first_group(part + 1, plan.parts);
        const Scratch<std::ptrdiff_t> offsets(plan.window());
        for (std::int64_t group = plan.vectors.first_group(part, plan.parts); group < last;
             group += plan.vectors.of_vector) {
            T* const sum = sums.get() + split * plan.total() + group / plan.vectors.of_vector * plan.vector_sums();
            std::fill_n(sum, plan.vector_sums(), T{});
            for (std::int64_t at = plan.first_row(split), taken = 0; at < end; at += taken) {
                const std::int64_t y = at % o.p;
                taken = rows_alike(plan.a, y, std::min({o.p, y + end - at, y + kLongest}));
                add_rows(plan, operands, {at / o.p, y, taken}, group, sum, offsets.get());
            }
        }
    });
    parallel_for(plan.adding(), [&](std::int64_t vector) { finish_vector(plan, vector, sums.get(), operands.output); });
}

template <class T>
GroupVectors vectors_of(const ConvProblem& o) {
    return group_vectors<T>(o.groups, o.c / o.groups, o.k / o.groups);
}

template <class T>
bool serves(const Request& request) {
    const ConvProblem& o = request.layer;
    if (request.is_correlation() || request.single) return false;
    const GroupVectors vectors = vectors_of<T>(o);
    return takes_several_groups<T>(vectors) && o.r * o.s * vectors.inputs <= 1024 &&
           vectors.vectors() * o.r * o.s * vectors.outputs * kernels<T>().width *
                   static_cast<std::int64_t>(sizeof(T)) <=
               kPartialBytes;
}

/// The cost of one group, like that of other algorithms, which take longer for a vector. See direct_grouped.
template <class T>
double cost(const Request& request) {
    const ConvProblem& o = request.layer;
    const GroupVectors vectors = vectors_of<T>(o);
    return 0.55 * steps_of_group(vectors, o.r * o.s * vectors.outputs);
}

template <class T>
void plan(const Request& request, ConvPlan<T>& into) {
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    auto decisions = std::make_unique<GroupedGradientDecisions>();
    GroupedGradientDecisions& d = *decisions;
    const ConvProblem& o = d.o = request.layer;
    d.a = windows_of(o);
    d.vectors = vectors_of<T>(o);
    d.width = kernels<T>().width;
    d.columns = runs_of(d.a);
    // The number of splits fixes the order of the sum, so it follows from the problem alone.
    const std::int64_t rows = o.n * o.p, pays = gradient_parts_that_pay(rows * o.q, d.total());
    const std::int64_t fit = kPartialBytes / (d.total() * size);
    d.splits = std::clamp<std::int64_t>(std::min({rows, pays, fit}), 1, kParts);
    PlanSummary& summary = d.summary;
    summary.multiplications =
        static_cast<double>(rows * o.q) * static_cast<double>(d.window() * d.vectors.inputs * o.k);
    set_shortest(d, request.threads, finer_parts(1, d.vectors.vectors()), [&](std::int64_t parts) { d.parts = parts; });
    summary.kernel = "grouped_filter_rows";
    summary.tile_pixels = std::min<std::int64_t>(d.window(), d.vectors.outputs <= 2 ? 6 : 3);
    summary.tile_filters = d.vectors.of_vector * d.vectors.outputs;
    summary.tasks = d.tasks().count;
    summary.shared_bytes = d.splits * d.total() * size;
    into.add(direct_grouped_filter_gradient<T>(), std::move(decisions));
}

} // namespace

template <class T>
const Algorithm<T>& direct_grouped_filter_gradient() {
    static constexpr Algorithm<T> algorithm{
        "direct_grouped_filter_gradient", "direct", nullptr, serves<T>, cost<T>, plan<T>, run<T>};
    return algorithm;
}

template const Algorithm<float>& direct_grouped_filter_gradient();
template const Algorithm<double>& direct_grouped_filter_gradient();

} // namespace fastconv
