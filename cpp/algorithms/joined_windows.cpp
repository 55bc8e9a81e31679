#include "algorithms/joined_windows.h"

namespace fastconv {
namespace {

/// With fewer channels than a cache line of float32 holds, a window's row ends within a vector.
constexpr std::int64_t kFewChannels = 16;

/// Whether windows of `size` without gaps and padding cover the axis.
bool side_by_side(std::int64_t axis, std::int64_t size, std::int64_t windows, std::int64_t stride,
                  std::int64_t dilation, std::int64_t pad_before, std::int64_t pad_after) {
    return size > 1 && axis == windows * size && (stride == size || windows == 1) && dilation == 1 && pad_before == 0 &&
           pad_after == 0;
}

} // namespace

ConvProblem join_windows(const ConvProblem& o, Direction direction) {
    const bool pays =
        direction == Direction::input_gradient || (direction == Direction::filter_gradient && o.c < kFewChannels);
    if (!pays || o.format != DataFormat::nhwc || o.groups != 1 || o.depthwise || o.algorithm != kAutoAlgorithm ||
        !side_by_side(o.w, o.s, o.q, o.stride_w, o.dilation_w, o.pad_left, o.pad_right))
        return o;
    ConvProblem joined = o;
    joined.c = o.s * o.c;
    joined.w = o.q;
    joined.s = joined.stride_w = 1;
    if (o.q == 1 && o.p == 1 && side_by_side(o.h, o.r, o.p, o.stride_h, o.dilation_h, o.pad_top, o.pad_bottom)) {
        joined.c *= o.r;
        joined.h = joined.r = joined.stride_h = 1;
    }
    return joined;
}

} // namespace fastconv
