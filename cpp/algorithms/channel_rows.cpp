#include "algorithms/channel_rows.h"

#include <numeric>

namespace fastconv {
namespace {

/// Planes of up to so many values are small. Rows of such planes have about kGroupColumns columns.
constexpr std::int64_t kSmallPlane = 512, kGroupColumns = 1024;

} // namespace

ChannelGroups::ChannelGroups(const BatchNormProblem& problem, std::int64_t width)
    : problem_(problem), width_(width), of_group_(1),
      small_planes_(problem.format == DataFormat::nchw && problem.plane > 0 && problem.plane <= kSmallPlane) {
    if (problem.format == DataFormat::nhwc) of_group_ = problem.channels;
    if (!small_planes_) return;
    const std::int64_t most = kGroupColumns / problem.plane, tasks = 2 * threads_for_tasks();
    const std::int64_t whole = width / std::gcd(problem.plane, width); // channels that fill vectors
    of_group_ = std::min(most, ceil_div(problem.channels, tasks));
    of_group_ = of_group_ < whole ? std::min(most, whole) : of_group_ / whole * whole;
}

BatchNormProblem ChannelGroups::problem(std::int64_t group) const {
    BatchNormProblem some = problem_;
    some.channels = std::min(of_group_, problem_.channels - first_channel(group));
    return some;
}

ChannelRows ChannelGroups::rows(std::int64_t group) const {
    ChannelRows all{};
    const std::int64_t plane = problem_.plane, four = 4 * width_, image = problem_.channels * plane;
    all.channels = problem(group).channels;
    all.tensor_size = problem_.images * image;
    if (small_planes_) {
        all.repeats = plane;
        all.columns = all.channels * plane;
        all.rows = problem_.images;
        all.row = image;
        return all;
    }
    std::int64_t values = plane;
    if (problem_.format == DataFormat::nchw) {
        all.planes = problem_.images;
        all.plane_step = image;
        all.columns = all.repeats = width_ * std::clamp<std::int64_t>(plane / four, 1, 4);
    } else {
        const std::int64_t least = width_ / std::gcd(all.channels, width_); // pixels that fill vectors
        const std::int64_t pixels = all.channels < four ? ceil_div(four, all.channels * least) * least : 1;
        all.columns = pixels * all.channels;
        values *= all.channels;
    }
    all.row = all.columns;
    all.rows = values / all.columns;
    all.rest = values % all.columns;
    return all;
}

RowParts::RowParts(const ChannelRows& rows_of_all) : all(rows_of_all), parts(1) {
    if (all.repeats > 1) return;
    const std::int64_t most = std::clamp<std::int64_t>((std::int64_t{1} << 20) / all.columns, 1, 64);
    parts = std::clamp<std::int64_t>(all.rows * all.columns / 65536, 1, most);
}

} // namespace fastconv
