// The direct algorithm with all filters packed first.
//
// The outermost loop runs over blocks of input channels. They follow from the layer and the ISA only, because they
// decide the order of a sum. Tiles of pixels and blocks of filters change no bit, so they may depend on anything.
#include "algorithms/direct.h"

#include "algorithms/epilogue.h"
#include "algorithms/filter_blocks.h"
#include "algorithms/tiled_correlation.h"
#include "core/isa.h"

namespace fastconv {
namespace {

struct DirectDecisions : Decisions {
    Correlation g;
    FilterBlocks blocks;
    TilePlan tiles;
    PackKey key;
};

/// Computes one tile. `packed` is [group][channel block][filter block].
template <class T>
void compute_tile(const DirectDecisions& plan, const Operands<T>& operands, const T* packed, const TileTask& task,
                  T* copy, std::ptrdiff_t* segments) {
    const Correlation& g = plan.g;
    const Windows& a = g.windows;
    const FilterBlocks& blocks = plan.blocks;
    const Tile& tile = task.tile;
    const std::int64_t padded = blocks.vectors * blocks.width;
    const T* const input = operands.input + g.input_start + task.image * g.image + task.group * g.group_in;
    T* const output = operands.output + g.output_start + task.image * g.out_image + task.group * g.out_group;
    const T* const bias = g.finish && operands.bias ? operands.bias + g.bias_start + task.group * g.k : nullptr;
    const bool rows_cross = a.crosses_rows(); // if not, skip valid_taps, whose division is slow for short rows
    for (std::int64_t cb = 0; cb < blocks.c_blocks; ++cb) {
        const std::int64_t c0 = blocks.channel(cb, g.c), channels = blocks.channels_of(cb, g.c);
        const bool last_block = cb == blocks.c_blocks - 1;
        const TileSource<T> source(a, g.pixel, input + c0, tile, channels, copy);
        // A window row is one run if its columns and channels are contiguous.
        const bool whole_rows = source.layout.window_column == channels;
        const std::int64_t per_row = window_segments(a, source.layout, whole_rows, segments);
        ConvRow<T> row{};
        row.x_step = source.layout.step;
        row.segment_length = whole_rows ? a.s * channels : channels;
        row.y_step = g.out_pixel;
        row.pixels = tile.columns;
        row.accumulate = g.accumulate || cb > 0;
        row.relu = g.finish && operands.relu && last_block;
        for (std::int64_t kb = task.first_block; kb < task.last_block; ++kb) {
            const std::int64_t vectors = blocks.vectors_of(kb), lanes = vectors * blocks.width;
            const std::int64_t k0 = blocks.first_vector(kb) * blocks.width;
            const T* filters =
                packed + task.group * g.window() * g.c * padded + g.window() * (c0 * padded + channels * k0);
            row.channels = std::min(lanes, g.k - k0);
            row.bias = bias && last_block ? bias + k0 : nullptr;
            for (std::int64_t y = 0; y < tile.rows; ++y) {
                // Rows of the filter that meet only padding at the top or bottom are skipped.
                std::int64_t first = 0, last = a.r;
                if (rows_cross) valid_taps(a.base_h + (tile.y0 + y) * a.stride_h, a.dilation_h, a.r, a.h, first, last);
                row.x = source.x + y * source.layout.row;
                row.segments = segments + first * per_row;
                row.segment_count = (last - first) * per_row;
                row.filters = filters + first * a.s * channels * lanes;
                row.y = output + (tile.y0 + y) * g.out_row + tile.x0 * g.out_pixel + k0;
                kernels<T>().conv_row[vectors - 1](row);
            }
            if (last_block) finish_tile(g, operands, task.image, task.group, tile, k0, row.channels);
        }
    }
}

template <class T>
void run(const Decisions& decisions, const Operands<T>& operands) {
    const auto& plan = static_cast<const DirectDecisions&>(decisions);
    const Correlation& g = plan.g;
    if (g.window() == 0) return write_empty_sums(g, operands);
    const Packed<T> packed(operands.cache, plan.key, packed_filter_size(g, plan.blocks) * g.groups,
                           [&](T* to) { pack_filters(g, plan.blocks, operands.filters, to); });
    for_each_tile<T>(g, plan.tiles, operands.only, [&](const TileTask& task, T* copy, std::ptrdiff_t* segments) {
        compute_tile(plan, operands, packed.get(), task, copy, segments);
    });
}

template <class T>
void plan(const Request& request, ConvPlan<T>& plan) {
    constexpr auto size = static_cast<std::int64_t>(sizeof(T));
    auto decisions = std::make_unique<DirectDecisions>();
    const Correlation& g = decisions->g = request.single ? request.part : as_one_row(request.part);
    if (g.window() == 0) return plan.add(direct<T>(), std::move(decisions));
    const FilterBlocks& blocks = decisions->blocks = choose_filter_blocks<T>(g);
    const std::int64_t packed = packed_filter_size(g, blocks) * g.groups;
    if (plan_halves(request, packed, blocks.k_blocks > 1, plan)) return;
    const KernelsOf<T>& kernel = kernels<T>();
    decisions->key = pack_key(g, PackForm::direct, {blocks.k_blocks, blocks.c_blocks, 0, 0});
    decisions->tiles = plan_tiles(g, blocks.k_blocks, blocks.widest_channels(g.c), request.threads, size);
    const std::int64_t vectors = ceil_div(blocks.vectors, blocks.k_blocks);
    PlanSummary& summary = decisions->summary;
    summary.kernel = "conv_row";
    summary.tile_pixels = std::min(g.windows.q, kernel.conv_row_pixels[vectors - 1]);
    summary.tile_filters = vectors * kernel.width;
    summary.tasks = decisions->tiles.tasks(g);
    summary.shared_bytes = packed * size;
    summary.thread_bytes = decisions->tiles.thread_bytes(g, size);
    summary.multiplications = g.multiplications();
    plan.add(direct<T>(), std::move(decisions));
}

} // namespace

template <class T>
const Algorithm<T>& direct() {
    static constexpr Algorithm<T> algorithm{"direct",
                                            "direct",
                                            nullptr,
                                            [](const Request& request) { return request.is_correlation(); },
                                            [](const Request& request) { return direct_cost<T>(request.part); },
                                            plan<T>,
                                            run<T>};
    return algorithm;
}

template const Algorithm<float>& direct();
template const Algorithm<double>& direct();

} // namespace fastconv
