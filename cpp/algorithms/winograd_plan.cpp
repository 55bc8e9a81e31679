#include "algorithms/winograd_plan.h"

#include "algorithms/winograd.h"

namespace fastconv {
namespace {

constexpr std::int64_t kBlockBytes = 640 << 10; // points of a block of tiles, in and out: most of an L2 cache
constexpr std::int64_t kThreadBytes = 2 << 20;  // limit for the scratch memory of a thread
constexpr std::int64_t kFewestTiles = 4;        // of a task with many threads
constexpr std::int64_t kLeastTiles = 12;        // fewer tiles would read the transformed filters for too few products
// The most tiles that one streamed part of the filters serves. With fewer tiles, filters are transformed and read more
// often. 200 tiles take 2 MB of each thread, and the scratch memory of 16 threads must stay below 64 MB.
constexpr std::int64_t kPartTiles = 200, kPartTilesOfManyThreads = 64;
constexpr std::int64_t kManyBlocks = 8;        // of a thread
constexpr std::int64_t kChunkBytes = 16 << 20; // points of the input

/// The cost of a task that multiplies `tiles` tiles with `k` filters and transforms the products back.
TaskCost products_cost(std::int64_t tiles, std::int64_t c, std::int64_t k) {
    return {static_cast<double>(kPoints * tiles * c * k), static_cast<double>(kPoints * tiles * k)};
}

template <class T>
std::int64_t tile_bytes(std::int64_t c, std::int64_t k) {
    const KernelsOf<T>& kernel = kernels<T>();
    const std::int64_t lanes = std::min(ceil_div(k, kernel.width), kernel.max_vectors) * kernel.width;
    return kPoints * (c + lanes) * value_bytes<T>;
}

/// The tiles whose points fit into L2, a multiple of 12, which fills whole register tiles of 12, 6 or 4.
template <class T>
std::int64_t fitting_tiles(std::int64_t c, std::int64_t k) {
    return std::clamp<std::int64_t>(kBlockBytes / tile_bytes<T>(c, k) / 12 * 12, kLeastTiles, 96);
}
/// The most tiles of a block. A quarter more than fits is better than an uneven share.
template <class T>
std::int64_t most_tiles(std::int64_t c, std::int64_t k) {
    const std::int64_t fit = fitting_tiles<T>(c, k);
    return std::clamp<std::int64_t>(kThreadBytes / tile_bytes<T>(c, k), fit, fit + fit / 4);
}

/// Chooses the tiles of a block, so that there are enough blocks for all threads. Few tiles make one or two equal
/// blocks per thread.
template <class T>
std::int64_t choose_block(std::int64_t tiles, std::int64_t c, std::int64_t k, std::int64_t threads) {
    for (const std::int64_t blocks : {threads, 2 * threads})
        if (ceil_div(tiles, blocks) <= most_tiles<T>(c, k)) return ceil_div(tiles, blocks);
    const std::int64_t share = ceil_div(ceil_div(tiles, 2 * threads), 12) * 12;
    return std::max<std::int64_t>(kLeastTiles, std::min(fitting_tiles<T>(c, k), share));
}

/// The tiles whose input is transformed at once, if tasks take blocks of filters.
template <class T>
std::int64_t tiles_of_chunk(const WinogradDecisions& d) {
    return std::clamp<std::int64_t>(kChunkBytes / (kPoints * d.g.c * value_bytes<T>), 1, d.tiles);
}
/// The least blocks of tiles of a chunk.
std::int64_t fewest_tile_blocks(std::int64_t chunk, std::int64_t threads) {
    return ceil_div(chunk, threads <= 16 ? kPartTiles : kPartTilesOfManyThreads);
}

/// How the tasks are cut: by tiles or by filters, in how many blocks. See WinogradDecisions.
struct WinogradCut {
    bool stored, by_filters;
    std::int64_t k_blocks, block;
};

template <class T>
void set_cut(WinogradDecisions& d, const WinogradCut& cut) {
    cut_winograd_filters<T>(d.filters, d.g.c, cut.k_blocks, cut.stored);
    d.block = cut.block;
    d.chunk = cut.by_filters ? tiles_of_chunk<T>(d) : 0;
    if (d.threads > kFewThreads) d.input_tiles = std::clamp<std::int64_t>(d.chunk / (4 * d.threads), 1, kInputTiles);
    PlanSummary& summary = d.summary;
    const WinogradFilters& f = d.filters;
    const std::int64_t c = d.g.c, stored_bytes = f.stored ? f.total<T>(c) * value_bytes<T> : 0;
    if (!cut.by_filters) {
        summary.tasks = d.tile_tasks().count;
        summary.shared_bytes = stored_bytes + d.tiles;
        summary.thread_bytes = kPoints * (d.block * (c + f.widest_filters) + 2 * plane_padding<T>)*value_bytes<T>;
        if (d.planes) summary.thread_bytes += kStripPixels * strip_channels<T> * value_bytes<T>;
    } else {
        summary.tasks = d.product_tasks(d.chunk).count;
        const std::int64_t points = kPoints * (d.chunk * c + f.c_parts * plane_padding<T>);
        summary.shared_bytes = points * value_bytes<T> + d.tiles + stored_bytes;
        const std::int64_t part = f.stored ? 0 : ceil_div(c, f.c_parts);
        summary.thread_bytes = kPoints * (d.block + part + 2) * (f.widest_filters + plane_padding<T>)*value_bytes<T>;
    }
}

/// The cut for few threads.
template <class T>
WinogradCut plain_cut(const WinogradDecisions& d) {
    const WinogradFilters& f = d.filters;
    if (!f.by_filters) return {f.stored, false, f.k_blocks, choose_block<T>(d.tiles, d.g.c, d.g.k, d.threads)};
    const std::int64_t chunk = tiles_of_chunk<T>(d);
    const std::int64_t enough = ceil_div(2 * d.threads, f.k_blocks); // tasks for all threads
    const std::int64_t blocks = std::max(fewest_tile_blocks(chunk, d.threads), enough);
    return {f.stored, true, f.k_blocks, ceil_div(chunk, std::min(chunk, blocks))};
}

/// Cuts with more tasks in the same order of work.
template <class T>
void add_finer_cuts(const WinogradDecisions& d, std::vector<WinogradCut>& cuts) {
    const WinogradCut first = cuts.front();
    if (!first.by_filters) {
        const std::int64_t most = most_tiles<T>(d.g.c, d.g.k);
        for (const std::int64_t blocks : finer_parts(d.threads, 12 * d.threads)) {
            const std::int64_t block = ceil_div(d.tiles, blocks);
            if (block >= kFewestTiles && block <= most) cuts.push_back({first.stored, false, first.k_blocks, block});
        }
        return;
    }
    // Filters that stay keep their blocks, so that they are packed once for all batches and threads.
    const std::int64_t most_blocks = d.filters_stay ? first.k_blocks : d.filters.vectors;
    const std::int64_t chunk = tiles_of_chunk<T>(d), fewest = fewest_tile_blocks(chunk, d.threads);
    for (const std::int64_t k_blocks : finer_parts(first.k_blocks, most_blocks))
        for (const std::int64_t blocks : finer_parts(fewest, std::max(fewest, chunk / kFewestTiles)))
            cuts.push_back({first.stored, true, k_blocks, ceil_div(chunk, blocks)});
}

/// Whether the scratch memory is at most 64 MB, and 2 MB for each thread beyond 16.
bool memory_fits(const WinogradDecisions& d) {
    const std::int64_t limit = (64 << 20) + (2 << 20) * std::max<std::int64_t>(0, d.threads - 16);
    return d.summary.shared_bytes + d.threads * d.summary.thread_bytes <= limit;
}

/// Removes cuts that need too much scratch memory, except the first.
template <class T>
void remove_large_cuts(WinogradDecisions& d, std::vector<WinogradCut>& cuts) {
    const auto is_large = [&](const WinogradCut& cut) {
        set_cut<T>(d, cut);
        return !memory_fits(d);
    };
    cuts.erase(std::remove_if(cuts.begin() + 1, cuts.end(), is_large), cuts.end());
}

template <class T>
void choose_nhwc_cut(WinogradDecisions& d) {
    std::vector<WinogradCut> cuts{plain_cut<T>(d)};
    const auto set = [&](const WinogradCut& cut) { set_cut<T>(d, cut); };
    if (d.threads <= kFewThreads) return set(cuts.front());
    const bool fits = d.filters.total<T>(d.g.c) * value_bytes<T> <= kWinogradFilterBytes;
    add_finer_cuts<T>(d, cuts);
    remove_large_cuts<T>(d, cuts);
    const WinogradCut chosen = cuts[set_shortest(d, d.threads, cuts, set)];
    const double length = length_of(d.phases(), d.threads);
    if (d.filters_stay || !fits || (chosen.stored && chosen.by_filters)) return;
    // By blocks of filters with all transformed filters stored. All points of the tiles go to memory, too, so that this
    // must be shorter by a tenth.
    const std::int64_t k_blocks = cuts.front().k_blocks;
    cuts.assign(
        1, {true, true, k_blocks, ceil_div(tiles_of_chunk<T>(d), fewest_tile_blocks(tiles_of_chunk<T>(d), d.threads))});
    add_finer_cuts<T>(d, cuts);
    remove_large_cuts<T>(d, cuts);
    set_shortest(d, d.threads, cuts, set);
    if (!memory_fits(d) || length_of(d.phases(), d.threads) > 0.9 * length) set(chosen);
}

} // namespace

std::vector<Phase> WinogradDecisions::phases() const {
    std::vector<Phase> all;
    const auto filters_of = [&](std::int64_t kb) { return std::min(g.k - filters.first(kb), filters.lanes(kb)); };
    if (filters.stored && !filters_stay) {
        const std::int64_t strips = ceil_div(g.c, kFilterStrip);
        all.push_back(phase_of("transform filters", filter_tasks(), [&](std::int64_t task) {
            const std::int64_t channels = std::min(kFilterStrip, g.c - task % strips * kFilterStrip);
            return TaskCost{0, static_cast<double>(kPoints * channels * filters.lanes(task / strips))};
        }));
    }
    const auto input_cost = [&](std::int64_t count) { return static_cast<double>(kPoints * count * g.c); };
    if (chunk == 0) {
        all.push_back(phase_of("blocks of tiles", tile_tasks(), [&](std::int64_t task) {
            const std::int64_t count = std::min(block, tiles - task * block);
            TaskCost cost = products_cost(count, g.c, g.k);
            cost.moved_values += input_cost(count);
            return cost;
        }));
        return all;
    }
    for (std::int64_t start = 0; start < tiles; start += chunk) {
        const std::int64_t count = std::min(chunk, tiles - start), tile_blocks = ceil_div(count, block);
        all.push_back(phase_of("transform input", input_tasks(count), [&](std::int64_t task) {
            return TaskCost{0, input_cost(std::min(input_tiles, count - task * input_tiles))};
        }));
        all.push_back(phase_of("blocks of filters", product_tasks(count), [&](std::int64_t task) {
            const std::int64_t kb = task / tile_blocks, first = task % tile_blocks * block;
            TaskCost cost = products_cost(std::min(block, count - first), g.c, filters_of(kb));
            if (!filters.stored) cost.moved_values += static_cast<double>(kPoints * g.c * filters.lanes(kb));
            return cost;
        }));
    }
    return all;
}

template <class T>
void choose_winograd_cut(WinogradDecisions& d) {
    choose_nhwc_cut<T>(d);
    // If blocks are few, equal shares for all threads matter more than whole rows.
    if (!d.planes || d.chunk > 0 || d.tile_tasks().count < kManyBlocks * d.threads) return;
    const WinogradCut shares{d.filters.stored, false, d.filters.k_blocks, d.block};
    WinogradCut rows = shares;
    rows.block = block_of_rows(d.block, d.grid.columns);
    set_cut<T>(d, rows);
    if (!memory_fits(d)) set_cut<T>(d, shares);
}

template <class T>
bool winograd_serves(const ConvProblem& o) {
    if (o.r != o.s || (o.r != 3 && o.r != 5) || o.stride_h != 1 || o.stride_w != 1 || o.dilation_h != 1 ||
        o.dilation_w != 1 || o.groups != 1)
        return false;
    return kLeastTiles * std::max(tile_bytes<T>(o.c, o.k), tile_bytes<T>(o.k, o.c)) <= kThreadBytes;
}

#define FASTCONV_WINOGRAD_PLAN(T)                                                                                      \
    template void choose_winograd_cut<T>(WinogradDecisions&);                                                          \
    template bool winograd_serves<T>(const ConvProblem&);
FASTCONV_WINOGRAD_PLAN(float)
FASTCONV_WINOGRAD_PLAN(double)

} // namespace fastconv
