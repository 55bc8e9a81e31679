// The direct algorithm with all filters packed first.
//
// A panel of filters is a block of channels times a block of filters. The loops are, outermost first: groups of panels
// whose input stays in L2, blocks of filters, panels of the group, pixels of the tile. A panel therefore stays in L1 or
// L2 while the pixels pass by. The next panel is prefetched in the meantime.
//
// In small images, much of a window may be padding. Then one tap of the panel after the other adds its products to the
// sums of those pixels where it is inside the image. The order of a sum stays the same.
//
// The blocks of channels follow from the layer and the ISA only, because they decide the order of a sum: each block
// adds its sum to the output. Tiles of pixels, groups and blocks of filters change no bit, so they may depend on
// anything.
#include "algorithms/direct.h"

#include "algorithms/epilogue.h"
#include "algorithms/filter_blocks.h"
#include "algorithms/tiled_correlation.h"
#include "core/isa.h"

namespace fastconv {
namespace {

constexpr std::int64_t kNextFilters = 256 << 10; // the next panel is prefetched if it has at most this many bytes

struct DirectDecisions : Decisions {
    Correlation g;
    FilterBlocks blocks;
    TilePlan tiles;
    PackKey key;

    /// The sums of a tile that are kept from tap to tap.
    std::int64_t sums(std::int64_t rows, std::int64_t columns) const {
        return tiles.tap_by_tap ? rows * columns * ceil_div(blocks.vectors, blocks.k_blocks) * blocks.width : 0;
    }
    std::vector<Phase> phases() const override {
        if (g.window() == 0)
            return {phase_of("empty sums", empty_sum_tasks(g),
                             [&](std::int64_t) { return TaskCost{0, empty_sum_values(g)}; })};
        return {packing_phase(g, blocks), phase_of("tiles", tiles.tasks(g), [&](std::int64_t at) {
                    const TileTask task = tiles.task(g, at);
                    std::int64_t filters = 0;
                    for (std::int64_t kb = task.first_block; kb < task.last_block; ++kb)
                        filters += blocks.filters_of(kb, g.k);
                    return tiles.cost(g, task, filters);
                })};
    }
};

/// One tile of the output and how to compute it.
template <class T>
class TileSum {
  public:
    /// `packed` is [group][filter block][channel block].
    TileSum(const DirectDecisions& plan, const Operands<T>& operands, const T* packed, const TileTask& task, T* copy,
            std::ptrdiff_t* segments)
        : plan_(plan), operands_(operands), task_(task), copy_(copy), segments_(segments),
          packed_(packed + task.group * packed_filter_size(plan.g, plan.blocks)),
          input_(operands.input + plan.g.input_start + task.image * plan.g.image + task.group * plan.g.group_in),
          output_(operands.output + plan.g.output_start + task.image * plan.g.out_image +
                  task.group * plan.g.out_group + task.tile.y0 * plan.g.out_row + task.tile.x0 * plan.g.out_pixel) {}

    void compute() {
        if (!plan_.tiles.tap_by_tap) return add_panels();
        const Scratch<T> sums(plan_.sums(task_.tile.rows, task_.tile.columns));
        sums_ = sums.get();
        add_panels();
    }

  private:
    void add_panels() {
        const FilterBlocks& blocks = plan_.blocks;
        for (std::int64_t first = 0; first < blocks.c_blocks; first += plan_.tiles.group) {
            const std::int64_t last = std::min(blocks.c_blocks, first + plan_.tiles.group);
            group_start_ = blocks.channel(first, plan_.g.c);
            for (std::int64_t cb = first; copy_ != nullptr && cb < last; ++cb) fill_copy(cb);
            for (std::int64_t kb = task_.first_block; kb < task_.last_block; ++kb) {
                for (std::int64_t cb = first; cb < last; ++cb) {
                    const bool same_filters = cb + 1 < last;
                    const std::int64_t next_kb = same_filters ? kb : kb + 1;
                    add_panel(cb, kb,
                              next_kb < blocks.k_blocks ? panel(same_filters ? cb + 1 : first, next_kb) : nullptr);
                }
            }
        }
    }

    T* copy_of(std::int64_t cb) const { // each block of channels has a copy of its own
        if (copy_ == nullptr) return nullptr;
        const std::int64_t before = plan_.blocks.channel(cb, plan_.g.c) - group_start_;
        return copy_ + padded_tile_size(plan_.g.windows, task_.tile.rows, task_.tile.columns, before);
    }
    void fill_copy(std::int64_t cb) const {
        const Correlation& g = plan_.g;
        fill_padded_tile(g.windows, task_.tile, input_ + plan_.blocks.channel(cb, g.c), g.pixel,
                         plan_.blocks.channels_of(cb, g.c), copy_of(cb));
    }
    const T* panel(std::int64_t cb, std::int64_t kb) const {
        return packed_ + plan_.blocks.panel_start(plan_.g, cb, kb);
    }

    /// Adds the products of a block of channels to the sums of a block of filters.
    void add_panel(std::int64_t cb, std::int64_t kb, const T* next) const {
        const Correlation& g = plan_.g;
        const Windows& a = g.windows;
        const FilterBlocks& blocks = plan_.blocks;
        const std::int64_t c0 = blocks.channel(cb, g.c), channels = blocks.channels_of(cb, g.c);
        const std::int64_t k0 = blocks.first_vector(kb) * blocks.width, lanes = blocks.vectors_of(kb) * blocks.width;
        const bool last_block = cb == blocks.c_blocks - 1; // completes the sum, so the epilogue follows
        const TileSource<T> source(a, g.pixel, input_ + c0, task_.tile, channels, copy_of(cb));
        ConvRow<T> row{};
        row.y_step = g.out_pixel;
        row.channels = std::min(lanes, g.k - k0);
        row.accumulate = g.accumulate || cb > 0;
        if (g.finish && last_block) {
            if (operands_.bias) row.bias = operands_.bias + g.bias_start + task_.group * g.k + k0;
            if (operands_.in_registers()) {
                row.residual = operands_.residual;
                row.bounds = operands_.bounds;
            }
        }
        if (plan_.tiles.tap_by_tap) {
            sum_taps(source, cb, kb, next);
            add_sums(row, kb);
        } else {
            row.next_filters =
                g.window() * channels * lanes <= kNextFilters / static_cast<std::int64_t>(sizeof(T)) ? next : nullptr;
            row.prefetch_x = kb == task_.first_block && has_short_runs<T>(g, channels);
            row.prefetch_y = g.window() == 1 && (cb == 0 || row.residual != nullptr);
            add_windows(row, source, cb, kb);
        }
        if (last_block && !operands_.in_registers())
            finish_tile(g, operands_, task_.image, task_.group, task_.tile, k0, row.channels);
    }

    void set_output(ConvRow<T>& row, std::int64_t offset) const {
        row.y = output_ + offset;
        if (row.residual != nullptr) row.residual = operands_.residual + (row.y - operands_.output);
    }

    /// Adds the products of whole windows.
    void add_windows(ConvRow<T>& row, const TileSource<T>& source, std::int64_t cb, std::int64_t kb) const {
        const Correlation& g = plan_.g;
        const Windows& a = g.windows;
        const FilterBlocks& blocks = plan_.blocks;
        const std::int64_t channels = blocks.channels_of(cb, g.c), k0 = blocks.first_vector(kb) * blocks.width;
        const std::int64_t window_row = a.s * channels * blocks.vectors_of(kb) * blocks.width; // of filters
        // A window row is one run if its columns and channels are contiguous.
        const bool whole_rows = source.layout.window_column == channels;
        const std::int64_t per_row = window_segments(a, source.layout, whole_rows, segments_);
        row.x_step = source.layout.step;
        row.row_step = source.layout.row;
        row.segment_length = whole_rows ? a.s * channels : channels;
        row.y_row_step = task_.tile.columns * g.out_pixel; // runs of several rows are contiguous
        for_each_run([&](std::int64_t y, std::int64_t rows, std::int64_t first, std::int64_t last) {
            row.x = source.x + y * source.layout.row;
            row.segments = segments_ + first * per_row;
            row.segment_count = (last - first) * per_row;
            row.filters = panel(cb, kb) + first * window_row;
            set_output(row, y * g.out_row + k0);
            row.pixels = rows * task_.tile.columns;
            row.row_pixels = rows > 1 ? task_.tile.columns : 0;
            kernels<T>().conv_row[blocks.vectors_of(kb) - 1](row);
        });
    }

    /// Sets sums_ to the sums of a panel, [pixel][lane]. One tap after the other adds its products to the pixels where
    /// it is inside the input. The filters of a tap stay in L1.
    void sum_taps(const TileSource<T>& source, std::int64_t cb, std::int64_t kb, const T* next) const {
        const Windows& a = plan_.g.windows;
        const Tile& tile = task_.tile;
        const std::int64_t channels = plan_.blocks.channels_of(cb, plan_.g.c), vectors = plan_.blocks.vectors_of(kb);
        const std::int64_t lanes = vectors * plan_.blocks.width;
        const std::ptrdiff_t start = 0;
        ConvRow<T> row{};
        row.x_step = source.layout.step;
        row.row_step = source.layout.row;
        row.segments = &start;
        row.segment_count = 1;
        row.segment_length = channels;
        row.y_step = row.channels = lanes;
        row.y_row_step = tile.columns * lanes;
        row.resume = true;
        std::fill_n(sums_, tile.rows * tile.columns * lanes, T{});
        for (std::int64_t tap = 0; tap < plan_.g.window(); ++tap) {
            const std::int64_t i = tap / a.s, j = tap % a.s;
            std::int64_t y0 = 0, y1 = 0, x0 = 0, x1 = 0; // the pixels
            valid_taps(a.base_h + tile.y0 * a.stride_h + i * a.dilation_h, a.stride_h, tile.rows, a.h, y0, y1);
            valid_taps(a.base_w + tile.x0 * a.stride_w + j * a.dilation_w, a.stride_w, tile.columns, a.w, x0, x1);
            if (y0 == y1 || x0 == x1) continue;
            row.x = source.x + y0 * source.layout.row + x0 * source.layout.step + i * source.layout.window_row +
                    j * source.layout.window_column;
            row.filters = panel(cb, kb) + tap * channels * lanes;
            row.next_filters = tap + 1 < plan_.g.window() ? row.filters + channels * lanes : next;
            row.y = sums_ + (y0 * tile.columns + x0) * lanes;
            row.pixels = (y1 - y0) * (x1 - x0);
            row.row_pixels = x1 - x0;
            kernels<T>().conv_row[vectors - 1](row);
        }
    }

    /// Adds sums_ to the output.
    void add_sums(ConvRow<T>& row, std::int64_t kb) const {
        const Tile& tile = task_.tile;
        const std::int64_t vectors = plan_.blocks.vectors_of(kb), lanes = vectors * plan_.blocks.width;
        row.x = sums_;
        row.x_step = lanes;
        row.row_step = tile.columns * lanes;
        row.resume = row.sums_in_x = true;
        set_output(row, plan_.blocks.first_vector(kb) * plan_.blocks.width);
        row.y_row_step = plan_.g.out_row;
        row.pixels = tile.rows * tile.columns;
        row.row_pixels = tile.columns;
        kernels<T>().conv_row[vectors - 1](row);
    }

    /// Calls body(y, rows, first, last) for each run of output rows that have the same valid window rows [first, last).
    /// Window rows that meet only padding at the top or bottom are skipped. A run has several rows if they are
    /// contiguous in the output.
    template <class Body>
    void for_each_run(const Body& body) const {
        const Windows& a = plan_.g.windows;
        const Tile& tile = task_.tile;
        const bool rows_cross = a.crosses_rows(); // calls valid_taps only if needed: its division is slow
        const bool contiguous = tile.columns == a.q && plan_.g.out_row == a.q * plan_.g.out_pixel;
        if (contiguous && !rows_cross) return body(0, tile.rows, 0, a.r);
        std::int64_t start = 0, first = 0, last = a.r;
        for (std::int64_t y = 0; y < tile.rows; ++y) {
            std::int64_t next_first = 0, next_last = a.r;
            if (rows_cross)
                valid_taps(a.base_h + (tile.y0 + y) * a.stride_h, a.dilation_h, a.r, a.h, next_first, next_last);
            if (y > start && !(contiguous && next_first == first && next_last == last)) {
                body(start, y - start, first, last);
                start = y;
            }
            first = next_first;
            last = next_last;
        }
        body(start, tile.rows - start, first, last);
    }

    const DirectDecisions& plan_;
    const Operands<T>& operands_;
    const TileTask& task_;
    T* const copy_;
    std::ptrdiff_t* const segments_;
    const T* const packed_;
    const T* const input_; // of the image
    T* const output_;      // of the tile
    T* sums_ = nullptr;
    std::int64_t group_start_ = 0;
};

template <class T>
void run(const Decisions& decisions, const Operands<T>& operands) {
    const auto& plan = static_cast<const DirectDecisions&>(decisions);
    const Correlation& g = plan.g;
    if (g.window() == 0) return write_empty_sums(g, operands);
    const Packed<T> packed(operands.cache, plan.key, packed_filter_size(g, plan.blocks) * g.groups,
                           [&](T* to) { pack_filters(g, plan.blocks, operands.filters, to); });
    for_each_tile<T>(g, plan.tiles, operands.only, [&](const TileTask& task, T* copy, std::ptrdiff_t* segments) {
        TileSum<T>(plan, operands, packed.get(), task, copy, segments).compute();
    });
}

/// Chooses the tiles and the parts of the filters. If threads are many, blocks of filters may be smaller, too, except
/// of filters that stay, which are packed once for all batches and threads.
void choose_cut(DirectDecisions& d, const Request& request, std::int64_t size) {
    struct Cut {
        std::int64_t k_blocks;
        TilePlan tiles;
    };
    std::vector<Cut> cuts;
    FilterBlocks& blocks = d.blocks;
    const std::int64_t threads = request.threads;
    const bool finer = threads > kFewThreads && !request.filters_stay;
    const std::int64_t most = finer ? std::min(blocks.vectors, 4 * blocks.k_blocks) : blocks.k_blocks;
    for (const std::int64_t k_blocks : finer_parts(blocks.k_blocks, most)) {
        const FilterPanels panels{blocks.c_blocks, blocks.widest_channels(d.g.c), k_blocks,
                                  ceil_div(blocks.vectors, k_blocks) * blocks.width};
        for (const TilePlan& tiles : tile_plans(d.g, panels, threads, size, true)) cuts.push_back({k_blocks, tiles});
    }
    set_shortest(d, threads, cuts, [&](const Cut& cut) {
        blocks.k_blocks = cut.k_blocks;
        d.tiles = cut.tiles;
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
    choose_cut(*decisions, request, size);
    const std::int64_t vectors = ceil_div(blocks.vectors, blocks.k_blocks);
    decisions->key = pack_key(g, PackForm::direct, {blocks.k_blocks, blocks.c_blocks, 0, 0});
    PlanSummary& summary = decisions->summary;
    summary.kernel = "conv_row";
    summary.tile_pixels = std::min(g.windows.q, kernel.conv_row_pixels[vectors - 1]);
    summary.tile_filters = vectors * kernel.width;
    summary.tasks = decisions->tiles.tasks(g).count;
    summary.shared_bytes = packed * size;
    const Tiling& tiling = decisions->tiles.tiling;
    summary.thread_bytes = decisions->tiles.thread_bytes(g, size) + size * decisions->sums(tiling.rows, tiling.columns);
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
