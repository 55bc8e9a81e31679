#include "network/broadcast.h"

#include "core/errors.h"

namespace fastconv::network {

Broadcast::Broadcast(const Dims& a, const Dims& b) {
    const std::size_t rank = std::max(a.size(), b.size());
    output_.assign(rank, 1);
    std::int64_t a_step = 1, b_step = 1;
    for (std::size_t i = 0; i < rank; ++i) { // i = 0 is the last axis
        const std::int64_t a_size = i < a.size() ? a[a.size() - 1 - i] : 1,
                           b_size = i < b.size() ? b[b.size() - 1 - i] : 1;
        if (a_size != b_size && a_size != 1 && b_size != 1)
            fail("shapes ", show(a), " and ", show(b), " cannot be broadcast together");
        const Axis axis{a_size == 1 ? b_size : a_size, a_size == 1 ? 0 : a_step, b_size == 1 ? 0 : b_step};
        a_step *= a_size;
        b_step *= b_size;
        output_[rank - 1 - i] = axis.size;
        if (axis.size == 1) continue;
        Axis& last = axes_[count_ > 0 ? count_ - 1 : 0];
        if (count_ > 0 && axis.a == last.a * last.size && axis.b == last.b * last.size)
            last.size *= axis.size;
        else
            axes_[count_++] = axis;
    }
    element_count(output_, DataType::float64); // throws before the product below could overflow
    total_ = product(output_, 0, rank);
}

Broadcast::Part Broadcast::outer_part(std::int64_t index) const {
    Part part{};
    part.a_row = axes_[1].a;
    part.b_row = axes_[1].b;
    part.a_step = axes_[0].a;
    part.b_step = axes_[0].b;
    std::int64_t y = axes_[0].size * axes_[1].size;
    for (std::size_t i = 2; i < count_; ++i) {
        const Axis& axis = axes_[i];
        const std::int64_t at = index % axis.size;
        index /= axis.size;
        part.a += at * axis.a;
        part.b += at * axis.b;
        part.y += at * y;
        y *= axis.size;
    }
    return part;
}

} // namespace fastconv::network
