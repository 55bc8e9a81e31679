#include "algorithms/channel_rows.h"

#include <numeric>

namespace fastconv {

ChannelRows::ChannelRows(const BatchNormProblem& problem, std::int64_t width)
    : planar(problem.format == DataFormat::nchw), planes(planar ? problem.images * problem.channels : 1),
      channels(problem.channels) {
    const std::int64_t four = 4 * width;
    std::int64_t size = problem.plane;
    if (planar) {
        columns = width * std::clamp<std::int64_t>(problem.plane / four, 1, 4);
    } else {
        const std::int64_t least = width / std::gcd(channels, width); // pixels that fill vectors
        const std::int64_t pixels = channels < four ? ceil_div(four, channels * least) * least : 1;
        columns = std::max<std::int64_t>(1, pixels * channels);
        size *= channels;
    }
    rows = size / columns;
    rest = size % columns;
}

RowParts::RowParts(const ChannelRows& rows_of_all) : all(rows_of_all), parts(all.channels) {
    if (all.planar) return;
    const std::int64_t most = std::clamp<std::int64_t>((std::int64_t{1} << 20) / all.columns, 1, 64);
    parts = std::clamp<std::int64_t>(all.rows * all.columns / 65536, 1, most);
}

} // namespace fastconv
