// Dense 1x1 layers in NCHW. The output is the product of two matrices: filters x channels and channels x pixels.
//
// conv_row multiplies lanes of packed values by broadcast values. Here the lanes are pixels, and the "pixels" of the
// kernel are filters. The pixels of all images form one sequence. It is cut into panels of as many lanes as a register
// tile has. A task packs its panels as [channel][lane]. If the layer has strides, packing gathers the pixels. The
// filters are read as rows over the channels. The filters of an input gradient are such rows. Those of a forward pass
// are transposed first.
//
// The loops of a task are, outermost first: groups of panels, blocks of filters, panels of the group, blocks of
// channels. The panels of a group stay in L2. They are neighbours, so that the reads and writes of a plane form long
// runs. A block has few filters, so that few planes are written at a time.
//
// A panel that crosses from one image to the next is first written to scratch memory. So are all panels of an input
// gradient with strides, because its pixels are spread over the output, with zeros between them.
//
// Each sum adds its terms in the order of the direct algorithm, block of channels by block of channels. The bits are
// therefore the same.
#include "algorithms/planes_dense.h"

#include "algorithms/epilogue.h"
#include "algorithms/filter_blocks.h"
#include "algorithms/plane_copy.h"
#include "core/isa.h"
#include "core/packed.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"

#include <algorithm>
#include <memory>
#include <utility>

namespace fastconv {
namespace {

constexpr std::int64_t kGroupBytes = 512 << 10; // the most bytes of a group of panels, unless it is one panel
constexpr std::int64_t kGroupPixels = 1024;     // the most pixels of a group
constexpr std::int64_t kBlockBytes = 24 << 10;  // the filters of a block, which stay in L1
constexpr std::int64_t kBlockTiles = 4;         // the most register tiles of filters in a block
constexpr std::int64_t kMostBytes = 1 << 20;    // the most bytes of a task's memory
constexpr std::int64_t kMostGroups = 4;         // of panels, that a task takes
constexpr std::int64_t kTasksOfThread = 4;      // if there are enough panels
constexpr std::int64_t kLeastFilters = 64;      // of a task
constexpr std::int64_t kAhead = 8;              // planes that are prefetched
constexpr double kFilledLanes = 0.85;           // the least part of the lanes that pixels fill
// Transposing a filter takes as long as multiplying it by a few vectors of pixels. This many vectors pay for it.
constexpr std::int64_t kLeastVectors = 32;
constexpr std::int64_t kStripChannels = 32, kStripFilters = 64; // that are transposed at a time

/// Pixels of one row of one image: lanes [lane, lane + count) of a panel.
struct Run {
    std::int64_t lane, count, image, row, column;
};

/// The pixels of an image that take part in sums. Pixel (y, x) is at y*row + x*step of a plane. If the pixels are
/// contiguous in the input and in the output, they are one row.
struct PlanePixels {
    std::int64_t plane, row, step;
};

struct DenseDecisions : Decisions {
    Correlation g; // of the NHWC layer
    PlanePixels in, out;
    std::int64_t rows, columns;    // of pixels
    bool spreads;                  // the pixels are spread over the output
    std::int64_t height, width;    // of the output planes
    std::int64_t stride;           // of rows, if the pixels are spread
    std::int64_t lanes, panels;    // lanes: of a full panel
    std::int64_t group, filters;   // panels of a group, filters of a block
    std::int64_t parts, k_parts;   // of the panels and of the filters; a task takes one of each
    std::int64_t pitch;            // the distance of two filters
    std::int64_t filter_group = 0; // the distance of the filters of two groups
    FilterBlocks blocks;           // only those of channels are used
    PackKey key;

    std::int64_t image_pixels() const { return rows * columns; }
    std::int64_t pixels() const { return g.n * image_pixels(); }
    std::int64_t first_pixel(std::int64_t panel) const {
        return std::min(pixels(), part_start(panel, panels, ceil_div(pixels(), blocks.width)) * blocks.width);
    }
    std::int64_t pixels_of(std::int64_t panel) const { return first_pixel(panel + 1) - first_pixel(panel); }
    std::int64_t lanes_of(std::int64_t panel) const { return ceil_div(pixels_of(panel), blocks.width) * blocks.width; }
    std::int64_t first_panel(std::int64_t part) const { return part_start(part, parts, panels); }
    std::int64_t first_filter(std::int64_t k_part) const { return part_start(k_part, k_parts, g.k); }
    bool packs_filters() const { return g.f_c != 1; }

    Tasks tasks() const { return {parts * k_parts * g.groups, 2.0 * g.multiplications()}; }
    Tasks packing_tasks() const { return moving_tasks(g.groups * ceil_div(g.c, kStripChannels), g.groups * g.c * g.k); }
    std::vector<Phase> phases() const override {
        std::vector<Phase> all;
        if (packs_filters())
            all.push_back(phase_of("pack filters", packing_tasks(), [&](std::int64_t task) {
                const std::int64_t c0 = task % ceil_div(g.c, kStripChannels) * kStripChannels;
                return TaskCost{0, static_cast<double>(std::min(kStripChannels, g.c - c0) * g.k)};
            }));
        all.push_back(phase_of("panels", tasks(), [&](std::int64_t task) {
            const std::int64_t k_part = task / g.groups % k_parts, part = task / g.groups / k_parts;
            const std::int64_t packed = (first_pixel(first_panel(part + 1)) - first_pixel(first_panel(part))) * g.c;
            const std::int64_t count = first_filter(k_part + 1) - first_filter(k_part);
            return TaskCost{static_cast<double>(packed) * static_cast<double>(count), static_cast<double>(packed)};
        }));
        return all;
    }

    /// Calls body(run) for the runs of a panel.
    template <class Body>
    void each_run(std::int64_t panel, const Body& body) const {
        const std::int64_t first = first_pixel(panel), last = first_pixel(panel + 1);
        for (std::int64_t at = first; at < last;) {
            const std::int64_t line = at / columns, column = at - line * columns, image = line / rows;
            const std::int64_t count = std::min(last - at, columns - column);
            body(Run{at - first, count, image, line - image * rows, column});
            at += count;
        }
    }
};

/// Copies every second value. Compilers vectorise the loop.
template <class T>
void copy_even(const T* __restrict from, std::int64_t count, T* __restrict to) {
    for (std::int64_t i = 0; i < count; ++i) to[i] = from[2 * i];
}

/// Spreads values: they are `step` apart, and the rest of `width` values is zero.
template <class T>
void spread(const T* __restrict from, std::int64_t count, std::int64_t step, T zero, T* __restrict to,
            std::int64_t width) {
    if (step == 2) {
        const std::int64_t pairs = width / 2; // compilers vectorise the loop
        for (std::int64_t i = 0; i < pairs; ++i) {
            to[2 * i] = from[i];
            to[2 * i + 1] = zero;
        }
        if (pairs < count) to[2 * pairs] = from[pairs];
    } else {
        std::fill_n(to, width, zero);
        for (std::int64_t i = 0; i < count; ++i) to[i * step] = from[i];
    }
}

/// A run on its way into a packed panel.
template <class T>
struct PackedRun {
    const T* from;
    T* to;
    std::int64_t count, lanes;
};

/// Some panels and some filters of a group of channels.
template <class T>
class DenseTask {
  public:
    DenseTask(const DenseDecisions& plan, const Operands<T>& operands, const T* filters, std::int64_t task)
        : plan_(plan), operands_(operands), channels_(task % plan.g.groups), part_(task / plan.g.groups / plan.k_parts),
          k_part_(task / plan.g.groups % plan.k_parts), filters_(filters + channels_ * plan.filter_group),
          packed_(plan.group * plan.lanes * plan.g.c), sums_(plan.filters * plan.lanes),
          runs_(plan.group * plan.lanes) {}

    void compute() const {
        const std::int64_t start = plan_.first_panel(part_), count = plan_.first_panel(part_ + 1) - start;
        const std::int64_t groups = ceil_div(count, plan_.group), k_end = plan_.first_filter(k_part_ + 1);
        for (std::int64_t group = 0; group < groups; ++group) {
            const std::int64_t first = start + part_start(group, groups, count);
            const std::int64_t last = start + part_start(group + 1, groups, count);
            pack(first, last);
            for (std::int64_t k0 = plan_.first_filter(k_part_); k0 < k_end; k0 += plan_.filters)
                for (std::int64_t panel = first; panel < last; ++panel)
                    multiply(panel, panel_memory(panel - first), k0, std::min(plan_.filters, k_end - k0));
        }
    }

  private:
    T* panel_memory(std::int64_t at) const { return packed_.get() + at * plan_.lanes * plan_.g.c; }
    /// Where a run starts in the output planes of filter k.
    std::int64_t output_of(const Run& run, std::int64_t k) const {
        return ((run.image * plan_.g.groups + channels_) * plan_.g.k + k) * plan_.out.plane + run.row * plan_.out.row +
               run.column * plan_.out.step;
    }

    /// Packs panels [first, last), plane after plane.
    void pack(std::int64_t first, std::int64_t last) const {
        const Correlation& g = plan_.g;
        const PlanePixels& in = plan_.in;
        PackedRun<T>* end = runs_.get();
        for (std::int64_t panel = first; panel < last; ++panel) {
            T* const to = panel_memory(panel - first);
            const std::int64_t lanes = plan_.lanes_of(panel), pixels = plan_.pixels_of(panel);
            plan_.each_run(panel, [&](const Run& run) {
                const T* const from = operands_.input + (run.image * g.groups + channels_) * g.c * in.plane +
                                      run.row * in.row + run.column * in.step;
                *end++ = {from, to + run.lane, run.count, lanes};
            });
            for (std::int64_t c = 0; pixels < lanes && c < g.c; ++c)
                std::fill(to + c * lanes + pixels, to + (c + 1) * lanes, T{});
        }
        for (std::int64_t c = 0; c < g.c; ++c)
            for (PackedRun<T>* run = runs_.get(); run != end; ++run) {
                if (c + kAhead < g.c) prefetch_run(run->from + kAhead * in.plane, run->count * in.step, in.step);
                copy(*run);
                run->from += in.plane;
                run->to += run->lanes;
            }
    }
    void copy(const PackedRun<T>& run) const {
        const std::int64_t step = plan_.in.step;
        if (step == 1)
            copy_run(run.from, run.count, run.to);
        else if (step == 2)
            copy_even(run.from, run.count, run.to);
        else
            for (std::int64_t i = 0; i < run.count; ++i) run.to[i] = run.from[i * step];
    }

    /// Computes `count` filters of a panel, from filter k0 on.
    void multiply(std::int64_t panel, const T* packed, std::int64_t k0, std::int64_t count) const {
        const Correlation& g = plan_.g;
        const std::int64_t lanes = plan_.lanes_of(panel), pixels = plan_.pixels_of(panel);
        const std::int64_t image = plan_.first_pixel(panel) / plan_.image_pixels();
        const std::int64_t start = plan_.first_pixel(panel) - image * plan_.image_pixels();
        const bool in_place = !plan_.spreads && start + pixels <= plan_.image_pixels();
        const std::ptrdiff_t segment = 0;
        ConvRow<T> row{};
        row.x_step = plan_.pitch;
        row.segments = &segment;
        row.segment_count = 1;
        row.y = in_place ? operands_.output + output_of({0, pixels, image, 0, start}, k0) : sums_.get();
        row.y_step = in_place ? plan_.out.plane : lanes;
        row.prefetch_y = in_place;
        row.pixels = count;
        row.channels = pixels;
        for (std::int64_t cb = 0; cb < plan_.blocks.c_blocks; ++cb) {
            const std::int64_t c0 = plan_.blocks.channel(cb, g.c);
            const bool last = cb == plan_.blocks.c_blocks - 1;
            row.segment_length = plan_.blocks.channels_of(cb, g.c);
            row.x = filters_ + k0 * plan_.pitch + c0;
            row.filters = packed + c0 * lanes;
            row.accumulate = cb > 0;
            row.pixel_bias = last && operands_.bias ? operands_.bias + channels_ * g.k + k0 : nullptr;
            if (last) row.bounds = operands_.kernel_bounds();
            kernels<T>().conv_row[lanes / plan_.blocks.width - 1](row);
        }
        if (!in_place) plan_.each_run(panel, [&](const Run& run) { write(run, lanes, k0, count); });
        if (operands_.finishes()) plan_.each_run(panel, [&](const Run& run) { finish(run, k0, count); });
    }

    /// The columns and rows of the output that a run fills: its pixels and the zeros to their right and below.
    std::int64_t columns_of(const Run& run) const {
        const std::int64_t end = run.column + run.count, step = plan_.out.step;
        return (plan_.spreads && end == plan_.columns ? plan_.width : end * step) - run.column * step;
    }
    std::int64_t rows_of(const Run& run) const {
        return plan_.spreads ? std::min(plan_.stride, plan_.height - run.row * plan_.stride) : 1;
    }

    /// Writes sums to the output.
    void write(const Run& run, std::int64_t lanes, std::int64_t k0, std::int64_t count) const {
        const std::int64_t columns = columns_of(run), rows = rows_of(run);
        for (std::int64_t k = 0; k < count; ++k) {
            const T* const from = sums_.get() + k * lanes + run.lane;
            T* const to = operands_.output + output_of(run, k0 + k);
            if (!plan_.spreads) {
                std::copy_n(from, run.count, to);
                continue;
            }
            T zero = operands_.bias ? operands_.bias[channels_ * plan_.g.k + k0 + k] : T{};
            zero = within(operands_.kernel_bounds(), zero);
            spread(from, run.count, plan_.out.step, zero, to, columns);
            for (std::int64_t y = 1; y < rows; ++y) std::fill_n(to + y * plan_.width, columns, zero);
        }
    }

    void finish(const Run& run, std::int64_t k0, std::int64_t count) const {
        finish_planes(operands_, output_of(run, k0), count, plan_.out.plane, rows_of(run), plan_.width,
                      columns_of(run));
    }

    const DenseDecisions& plan_;
    const Operands<T>& operands_;
    const std::int64_t channels_, part_, k_part_; // channels_: their group
    const T* const filters_;
    const Scratch<T> packed_, sums_;
    const Scratch<PackedRun<T>> runs_;
};

/// Transposes the filters to rows over the channels.
template <class T>
void pack_rows(const DenseDecisions& plan, const Operands<T>& operands, T* rows) {
    const Correlation& g = plan.g;
    const std::int64_t strips = ceil_div(g.c, kStripChannels);
    parallel_for(plan.packing_tasks(), [&](std::int64_t task) {
        const std::int64_t group = task / strips, c0 = task % strips * kStripChannels;
        const T* const from = operands.filters + g.filters_start + group * g.f_group + c0 * g.f_c;
        T* const to = rows + group * plan.filter_group + c0;
        for (std::int64_t k = 0; k < g.k; k += kStripFilters)
            kernels<T>().transpose(from + k, g.f_c, to + k * plan.pitch, plan.pitch, std::min(kStripChannels, g.c - c0),
                                   std::min(kStripFilters, g.k - k));
    });
}

template <class T>
void run(const Decisions& decisions, const Operands<T>& operands) {
    const auto& plan = static_cast<const DenseDecisions&>(decisions);
    const auto compute = [&](const T* filters) {
        parallel_for(plan.tasks(), [&](std::int64_t task) { DenseTask<T>(plan, operands, filters, task).compute(); });
    };
    if (!plan.packs_filters()) return compute(operands.filters + plan.g.filters_start);
    const Packed<T> packed(operands.cache, plan.key, plan.g.groups * plan.filter_group,
                           [&](T* to) { pack_rows(plan, operands, to); });
    compute(packed.get());
}

template <class T>
const Algorithm<T>& dense_planes() { // plan_dense_planes plans it, so it has no cost
    static constexpr Algorithm<T> algorithm{"planes", "direct", nullptr, nullptr, nullptr, nullptr, run<T>};
    return algorithm;
}

/// Whether the windows are pixels of the image, in all of its rows and columns that the strides reach.
bool is_dense(const ConvProblem& o) {
    return o.n > 0 && o.c > 0 && o.k > 0 && o.r == 1 && o.s == 1 && o.pad_top == 0 && o.pad_left == 0 && o.p > 0 &&
           o.q > 0 && o.p == (o.h - 1) / o.stride_h + 1 && o.q == (o.w - 1) / o.stride_w + 1;
}

void set_pixels(DenseDecisions& d, const ConvProblem& o, bool forward) {
    const bool strided = o.stride_h > 1 || o.stride_w > 1;
    d.rows = strided ? o.p : 1;
    d.columns = strided ? o.q : o.p * o.q;
    d.in = {o.h * o.w, o.stride_h * o.w, o.stride_w};
    d.out = {o.p * o.q, o.q, 1};
    if (!forward) std::swap(d.in, d.out);
    d.spreads = strided && !forward;
    d.height = o.h;
    d.width = o.w;
    d.stride = o.stride_h;
}

/// Chooses panels, groups, blocks and tasks.
template <class T>
void choose_cut(DenseDecisions& d, std::int64_t threads) {
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    const KernelsOf<T>& kernel = kernels<T>();
    const Correlation& g = d.g;
    d.lanes = kernel.max_vectors * kernel.width;
    d.panels = ceil_div(ceil_div(d.pixels(), kernel.width), kernel.max_vectors);
    const std::int64_t tile = kernel.conv_row_pixels[kernel.max_vectors - 1];
    d.filters = std::clamp<std::int64_t>(kBlockBytes / (tile * g.c * size), 1, kBlockTiles) * tile;
    d.group = std::clamp<std::int64_t>(kGroupBytes / (d.lanes * g.c * size), 1, kGroupPixels / d.lanes);
    const std::int64_t wanted = threads > 1 ? kTasksOfThread * threads : 1;
    d.parts = std::min(d.panels, std::max(ceil_div(d.panels, kMostGroups * d.group), wanted));
    d.k_parts =
        std::clamp<std::int64_t>(wanted / (2 * d.parts * g.groups), 1, std::max<std::int64_t>(1, g.k / kLeastFilters));
}

/// Whether the conversion to NHWC takes longer.
template <class T>
bool pays(const DenseDecisions& d, bool filters_stay) {
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    const std::int64_t pixels = d.pixels(), width = d.blocks.width;
    if (d.summary.thread_bytes > kMostBytes || d.g.groups * packed_filter_size(d.g, d.blocks) * size > kPackedBytes)
        return false;
    if (d.packs_filters() && !filters_stay && pixels < kLeastVectors * width) return false;
    return static_cast<double>(pixels) >= kFilledLanes * static_cast<double>(ceil_div(pixels, width) * width);
}

} // namespace

template <class T>
bool plan_dense_planes(const Request& request, ConvPlan<T>& plan) {
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    const ConvProblem& o = request.layer;
    if (!is_dense(o)) return false;
    auto decisions = std::make_unique<DenseDecisions>();
    DenseDecisions& d = *decisions;
    const Correlation& g = d.g = request.part;
    set_pixels(d, o, request.direction == Direction::forward);
    d.blocks = choose_filter_blocks<T>(g);
    d.pitch = d.packs_filters() ? g.c : g.f_k;
    d.filter_group = d.packs_filters() ? g.c * g.k : g.f_group;
    d.key = pack_key(g, PackForm::rows, {});
    choose_cut<T>(d, request.threads);
    const KernelsOf<T>& kernel = kernels<T>();
    const std::int64_t vectors = std::min(kernel.max_vectors, ceil_div(d.pixels(), kernel.width));
    PlanSummary& summary = d.summary;
    summary.kernel = "conv_row";
    summary.tile_pixels = vectors * kernel.width;
    summary.tile_filters = kernel.conv_row_pixels[vectors - 1];
    summary.tasks = d.tasks().count;
    summary.shared_bytes = d.packs_filters() ? g.groups * d.filter_group * size : 0;
    summary.thread_bytes = (d.group * g.c + d.filters) * d.lanes * size +
                           d.group * d.lanes * static_cast<std::int64_t>(sizeof(PackedRun<T>));
    summary.multiplications = g.multiplications();
    if (pays<T>(d, request.filters_stay)) plan.add(dense_planes<T>(), std::move(decisions));
    return true;
}

template bool plan_dense_planes(const Request&, ConvPlan<float>&);
template bool plan_dense_planes(const Request&, ConvPlan<double>&);

} // namespace fastconv
