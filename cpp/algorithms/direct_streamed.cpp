// The direct algorithm for few pixels and many filters: a task multiplies all pixels with one block of filters.
//
// Each task packs its own filters into L2 and uses them there. If all filters were packed first, they would leave the
// caches before they are used. Serves only 1x1 windows, and only filters that are packed for one call. The sums have
// the same bits as those of `direct`, so the choice between the two may depend on the threads and the batch.
#include "algorithms/direct.h"

#include "algorithms/epilogue.h"
#include "algorithms/filter_blocks.h"
#include "core/isa.h"
#include "core/threads/parallel_for.h"
#include "core/workspace.h"

#include <cstddef>

namespace fastconv {
namespace {

constexpr std::int64_t kFewPixelsBytes = 1 << 20; // the most bytes of the input, which all tasks read

struct StreamedDecisions : Decisions {
    Correlation g;
    FilterBlocks blocks;

    Tasks tasks() const { return {blocks.k_blocks, 2.0 * g.multiplications()}; }
    std::vector<Phase> phases() const override {
        return {phase_of("blocks of filters", tasks(), [&](std::int64_t kb) {
            const auto pixels = static_cast<double>(g.n * g.windows.p * g.windows.q);
            return TaskCost{pixels * static_cast<double>(g.c * blocks.filters_of(kb, g.k)),
                            static_cast<double>(g.c * blocks.vectors_of(kb) * blocks.width)};
        })};
    }
};

template <class T>
void run(const Decisions& decisions, const Operands<T>& operands) {
    const auto& plan = static_cast<const StreamedDecisions&>(decisions);
    const Correlation& g = plan.g;
    const Windows& a = g.windows;
    const FilterBlocks& blocks = plan.blocks;
    parallel_for(plan.tasks(), [&](std::int64_t kb) {
        const std::int64_t vectors = blocks.vectors_of(kb), lanes = vectors * blocks.width;
        const std::int64_t k0 = blocks.first_vector(kb) * blocks.width;
        const Scratch<T> filters(blocks.widest_channels(g.c) * lanes);
        const std::ptrdiff_t start = 0;
        for (std::int64_t cb = 0; cb < blocks.c_blocks; ++cb) {
            pack_filter_block(g, blocks, operands.filters, 0, cb, kb, 0, blocks.channels_of(cb, g.c), filters.get());
            const bool last = cb == blocks.c_blocks - 1;
            const std::int64_t c0 = blocks.channel(cb, g.c);
            ConvRow<T> row{};
            row.x_step = a.stride_w * g.pixel;
            row.segments = &start;
            row.segment_count = 1;
            row.segment_length = blocks.channels_of(cb, g.c);
            row.filters = filters.get();
            row.y_step = g.out_pixel;
            row.pixels = a.q;
            row.channels = std::min(lanes, g.k - k0);
            row.bias = g.finish && operands.bias && last ? operands.bias + g.bias_start + k0 : nullptr;
            row.accumulate = g.accumulate || cb > 0;
            if (g.finish && last) row.bounds = operands.kernel_bounds();
            row.prefetch_x = has_short_runs<T>(g, row.segment_length);
            const T* const input = operands.input + g.input_start + c0 + (a.base_h * a.w + a.base_w) * g.pixel;
            T* const output = operands.output + g.output_start + k0;
            for (std::int64_t y = 0; y < g.n * a.p; ++y) {
                const std::int64_t n = y / a.p, h = y % a.p;
                row.x = input + n * g.image + h * a.stride_h * a.w * g.pixel;
                row.y = output + n * g.out_image + h * g.out_row;
                kernels<T>().conv_row[vectors - 1](row);
                if (last) finish_tile(g, operands, n, 0, {h, 1, 0, a.q}, k0, row.channels);
            }
        }
    });
}

template <class T>
bool serves(const Request& request) {
    if (!request.is_correlation() || request.single || request.filters_stay) return false;
    const Correlation& g = request.part;
    const Windows& a = g.windows;
    if (a.r != 1 || a.s != 1 || g.groups != 1 || a.crosses_rows() || a.crosses_columns()) return false;
    const FilterBlocks blocks = choose_filter_blocks<T>(g);
    return blocks.k_blocks >= 2 * request.threads &&
           g.n * a.p * a.q * g.c <= kFewPixelsBytes / static_cast<std::int64_t>(sizeof(T)) &&
           packed_filter_size(g, blocks) <= kPackedBytes / static_cast<std::int64_t>(sizeof(T));
}

template <class T>
void plan(const Request& request, ConvPlan<T>& plan) {
    const KernelsOf<T>& kernel = kernels<T>();
    auto decisions = std::make_unique<StreamedDecisions>();
    const Correlation& g = decisions->g = as_one_row(request.part);
    const FilterBlocks& blocks = decisions->blocks = choose_filter_blocks<T>(g);
    const std::int64_t vectors = ceil_div(blocks.vectors, blocks.k_blocks);
    PlanSummary& summary = decisions->summary;
    summary.kernel = "conv_row";
    summary.tile_pixels = std::min(g.windows.q, kernel.conv_row_pixels[vectors - 1]);
    summary.tile_filters = vectors * kernel.width;
    summary.tasks = decisions->tasks().count;
    summary.thread_bytes = blocks.widest_channels(g.c) * vectors * kernel.width * static_cast<std::int64_t>(sizeof(T));
    summary.multiplications = g.multiplications();
    plan.add(direct_streamed<T>(), std::move(decisions));
}

} // namespace

template <class T>
const Algorithm<T>& direct_streamed() {
    static constexpr Algorithm<T> algorithm{"direct_streamed",
                                            "direct",
                                            nullptr,
                                            serves<T>,
                                            [](const Request& request) { return direct_cost<T>(request.part); },
                                            plan<T>,
                                            run<T>};
    return algorithm;
}

template const Algorithm<float>& direct_streamed();
template const Algorithm<double>& direct_streamed();

} // namespace fastconv
