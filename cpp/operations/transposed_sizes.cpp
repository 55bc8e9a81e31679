// The size of a transposed convolution's output, if the caller gives output_padding instead of output_shape.
#include "core/errors.h"
#include "operations/entries.h"

#include <algorithm>

namespace fastconv {
namespace {

/// One axis of the transposed convolution.
struct Axis {
    const char* name;
    std::int64_t size, kernel, stride, dilation, before, after, output_padding;
    bool same;
};

/// (size - 1)*stride + (kernel - 1)*dilation + 1 - padding + output_padding. With SAME, the padding is that of Keras:
/// half of the window on each side.
std::int64_t output_size(const Axis& a) {
    if (a.output_padding >= std::max(a.stride, a.dilation))
        fail("output_padding along the ", a.name, " must be smaller than the stride ", a.stride, " or the dilation ",
             a.dilation, ", got ", a.output_padding);
    std::int64_t steps = 0, extent = 0, padding = 0, size = 0;
    bool overflows = __builtin_mul_overflow(a.size - 1, a.stride, &steps) ||
                     __builtin_mul_overflow(a.kernel - 1, a.dilation, &extent) ||
                     __builtin_add_overflow(extent, 1, &extent);
    overflows =
        overflows || (a.same ? (padding = extent / 2 * 2, false) : __builtin_add_overflow(a.before, a.after, &padding));
    overflows = overflows || __builtin_add_overflow(steps, extent - padding, &size) ||
                __builtin_add_overflow(size, a.output_padding, &size);
    if (overflows) fail("output_padding: the ", a.name, " of the output overflows 64 bits");
    if (size < 0)
        fail("output_padding: the output ", a.name, " is negative: ", size, " for input ", a.name, " ", a.size,
             " with padding (", a.before, ", ", a.after, "); pad less or use a larger input");
    if (a.same && (size <= steps || size - steps > a.stride))
        fail("output_padding along the ", a.name, " must be from ", 1 - extent % 2, " to ", a.stride - extent % 2,
             " with padding 'SAME' and a window of ", extent, ", got ", a.output_padding);
    return size;
}

} // namespace

void set_transposed_sizes(Call& call, std::size_t input_index, std::size_t sizes_index) {
    Shape& sizes = call.inputs[sizes_index];
    const std::optional<Pair>& output_padding = call.attributes.output_padding;
    if (sizes.given) {
        if (output_padding)
            fail("output_padding must be None if output_shape is given, got (", (*output_padding)[0], ", ",
                 (*output_padding)[1], ")");
        return;
    }
    if (!output_padding)
        fail("output_shape must be given, got None; or pass output_padding=0 to derive the size from the input");
    check_rank(call, input_index, ArrayKind::output);
    check_rank(call, 1, ArrayKind::filters);
    const ConvArguments& a = call.attributes.convolution;
    const Dims &input = call.inputs[input_index].dims, &filters = call.inputs[1].dims;
    const std::size_t height = channel_axis(a.format) == 3 ? 1 : 2;
    const bool same = a.padding.mode == Padding::Mode::same;
    sizes.dims = {output_size({"height", input[height], filters[0], a.strides[0], a.dilations[0], a.padding.top,
                               a.padding.bottom, (*output_padding)[0], same}),
                  output_size({"width", input[height + 1], filters[1], a.strides[1], a.dilations[1], a.padding.left,
                               a.padding.right, (*output_padding)[1], same})};
}

} // namespace fastconv
