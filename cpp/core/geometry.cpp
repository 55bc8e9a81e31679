// Validates arguments and resolves them to problems, for all front ends.
#include "core/geometry.h"

#include "core/errors.h"
#include "core/numbers.h"
#include "fastconv/convolution.h"
#include "fastconv/pooling.h"

#include <algorithm>
#include <numeric>

namespace fastconv {

void check_size(const char* name, const Dims& dims, DataType dtype, const char* remedy) {
    std::int64_t bytes = size_of(dtype);
    for (const std::int64_t d : dims) {
        if (d != 0 && __builtin_mul_overflow(bytes, d, &bytes)) {
            fail(name, " ", show(dims), " has a size in bytes that overflows 64 bits; ", remedy);
        }
    }
}

namespace {

std::string upper(std::string_view text) {
    std::string result(text);
    for (char& c : result) {
        if (c >= 'a' && c <= 'z') {
            c = static_cast<char>(c - 'a' + 'A');
        }
    }
    return result;
}

const char* name_of(DataFormat format) { return format == DataFormat::nhwc ? "NHWC" : "NCHW"; }

const char* dimensions_of(ArrayKind kind, DataFormat format) {
    switch (kind) {
    case ArrayKind::filters:
        return "(R, S, C/groups, K)";
    case ArrayKind::depthwise_filters:
        return "(R, S, C, multiplier)";
    case ArrayKind::output:
        return format == DataFormat::nhwc ? "(N, P, Q, K)" : "(N, K, P, Q)";
    default:
        return format == DataFormat::nhwc ? "(N, H, W, C)" : "(N, C, H, W)";
    }
}

/// The end of an error message: how to index an array of 2 or 3 dimensions to add the missing ones.
std::string added_dimensions(const char* name, std::size_t rank, ArrayKind kind, DataFormat format) {
    const std::string array = name;
    const bool filters = kind == ArrayKind::filters || kind == ArrayKind::depthwise_filters;
    if (rank == 2) {
        if (filters) return "; " + array + "[:, :, None, None] makes it one filter of one channel";
        return "; " + array + (format == DataFormat::nhwc ? "[None, :, :, None]" : "[None, None]") +
               " makes it one image of one channel";
    }
    if (rank == 3) {
        if (filters)
            return "; " + array + "[..., None] makes it one filter" +
                   (kind == ArrayKind::filters ? ", and " : " for each channel, and ") + array +
                   "[:, :, None] makes it filters of one channel";
        return "; " + array + "[None] makes it one image, and " + array +
               (format == DataFormat::nhwc ? "[..., None]" : "[:, None]") + " makes it images of one channel";
    }
    return "";
}

void check_rank4(const char* name, const Dims& dims, ArrayKind kind, DataFormat format,
                 const std::string& remedy = "") {
    if (dims.size() != 4) {
        fail(name, " must have 4 dimensions ", dimensions_of(kind, format), ", got ", dims.size(), " in shape ",
             show(dims), remedy);
    }
    for (const std::int64_t d : dims) {
        if (d < 0) {
            fail(name, " must have no negative dimension, got ", show(dims));
        }
    }
}

struct Axis {
    std::int64_t output, before, after;
};

// For error messages: the names of the arguments that decide an output's size, and of the output.
struct SpatialNames {
    const char* window = "dilations"; // the argument to name if a window is too large
    const char* padding = "padding";
    const char* output = "the output";
};

std::int64_t window_extent(const char* axis, std::int64_t kernel, std::int64_t dilation, const char* name) {
    std::int64_t extent = 0;
    if (__builtin_mul_overflow(kernel - 1, dilation, &extent) || __builtin_add_overflow(extent, 1, &extent)) {
        fail(name, ": a window of ", kernel, " taps with dilation ", dilation, " along the ", axis,
             " overflows 64 bits; use a smaller window or dilation");
    }
    return extent;
}

// Resolves the output size and padding of one spatial axis by TensorFlow's rule. If SAME needs an odd number of padded
// rows, the end gets one more than the start. `ceil_mode` is PyTorch's: the last window starts inside the input or the
// padding before it. SAME always rounds up.
Axis resolve_axis(const char* axis, std::int64_t size, std::int64_t kernel, std::int64_t stride, std::int64_t dilation,
                  Padding::Mode mode, std::int64_t before, std::int64_t after, const SpatialNames& names = {},
                  bool ceil_mode = false) {
    const std::int64_t extent = window_extent(axis, kernel, dilation, names.window);
    if (mode == Padding::Mode::same) {
        const std::int64_t output = size / stride + (size % stride != 0);
        std::int64_t total = 0;
        if (output > 0) {
            // (output-1)*stride < size, so only the sum with the extent can overflow.
            if (__builtin_add_overflow((output - 1) * stride, extent, &total)) {
                fail(names.window, ": the window, which spans ", extent, " pixels along the ", axis,
                     ", is too large; with padding 'SAME', the padded size overflows 64 bits");
            }
            total = std::max<std::int64_t>(total - size, 0);
        }
        return {output, total / 2, total - total / 2};
    }
    if (mode == Padding::Mode::valid) {
        before = after = 0;
    }
    std::int64_t padded = 0;
    if (__builtin_add_overflow(size, before, &padded) || __builtin_add_overflow(padded, after, &padded)) {
        fail(names.padding, " must be smaller: ", axis, " ", size, " plus padding (", before, ", ", after,
             ") overflows 64 bits");
    }
    // floor((padded - extent) / stride) + 1, or the same with ceil. The division rounds towards zero.
    const std::int64_t difference = padded - extent;
    std::int64_t steps = difference / stride;
    if (difference % stride != 0) {
        steps += ceil_mode ? (difference > 0 ? 1 : 0) : (difference < 0 ? -1 : 0);
    }
    if (ceil_mode) {
        const std::int64_t starts = size + before;
        steps = std::min(steps, starts / stride + (starts % stride != 0) - 1);
    }
    if (steps + 1 < 0) {
        fail(names.output, " ", axis, " is negative: input ", axis, " ", size, " plus padding (", before, ", ", after,
             ") is smaller than the window, which spans ", extent, " pixels (", kernel, " taps with dilation ",
             dilation, "); pad more or use a smaller window");
    }
    return {steps + 1, before, after};
}

void check_positive(const char* name, const Pair& pair) {
    for (const std::int64_t v : pair) {
        if (v < 1) {
            fail(name, " must be at least 1, got ", v);
        }
    }
}

Dims in_format(DataFormat format, std::int64_t n, std::int64_t h, std::int64_t w, std::int64_t c) {
    return format == DataFormat::nhwc ? Dims{n, h, w, c} : Dims{n, c, h, w};
}

// Reads n, h, w, c of `dims` into the problem; both kinds of problem have these members.
template <class Problem>
void set_input(Problem& problem, const char* name, const Dims& dims) {
    const bool nhwc = problem.format == DataFormat::nhwc;
    check_rank4(name, dims, ArrayKind::input, problem.format);
    problem.n = dims[0];
    problem.h = dims[nhwc ? 1 : 2];
    problem.w = dims[nhwc ? 2 : 3];
    problem.c = dims[nhwc ? 3 : 1];
    check_size(name, dims, problem.dtype, "use smaller dimensions");
}

template <class Problem>
void set_spatial(Problem& problem, const Pair& strides, const Pair& dilations, const Padding& pad,
                 const SpatialNames& names = {}, bool ceil_mode = false) {
    const Axis y = resolve_axis("height", problem.h, problem.r, strides[0], dilations[0], pad.mode, pad.top, pad.bottom,
                                names, ceil_mode);
    const Axis x = resolve_axis("width", problem.w, problem.s, strides[1], dilations[1], pad.mode, pad.left, pad.right,
                                names, ceil_mode);
    problem.p = y.output;
    problem.q = x.output;
    problem.pad_top = y.before;
    problem.pad_bottom = y.after;
    problem.pad_left = x.before;
    problem.pad_right = x.after;
    // With one output, the stride is never used and may be huge. With 1 in its place, stride times rows fits in 64
    // bits.
    problem.stride_h = y.output > 1 ? strides[0] : 1;
    problem.stride_w = x.output > 1 ? strides[1] : 1;
    // resolve_axis has checked that these sums do not overflow.
    const Dims padded =
        in_format(problem.format, problem.n, problem.h + y.before + y.after, problem.w + x.before + x.after, problem.c);
    check_size((std::string(names.padding) + ": the padded input").c_str(), padded, problem.dtype,
               "use less padding or a smaller window");
    check_size(names.output, problem.output_dims(), problem.dtype, "use smaller dimensions");
}

// Kernels compute the addresses of windows that start in the padding, although they read nothing there. Such an address
// lies before the image and must not become negative. On x86-64, Linux places the data of most programs above 2^46, so
// 2^46 bytes before an image are safe.
void check_padded_image(const ConvProblem& o) {
    constexpr std::int64_t most_bytes = std::int64_t{1} << 46;
    const std::int64_t rows = o.h + o.pad_top + o.pad_bottom, columns = o.w + o.pad_left + o.pad_right;
    std::int64_t bytes = size_of(o.dtype);
    bool fits = true;
    for (const std::int64_t d : {rows, columns, std::max(o.c, o.k)})
        fits = fits && !__builtin_mul_overflow(bytes, std::max<std::int64_t>(d, 1), &bytes);
    if (!fits || bytes > most_bytes) {
        fail("padding makes an image too large: ", rows, " x ", columns, " pixels of ", std::max(o.c, o.k),
             std::max(o.c, o.k) == 1 ? " channel" : " channels",
             " take more than 2^46 bytes; use less padding or a smaller window");
    }
}

/// The input must have as many channels as the filters or, in a convolution with groups, a multiple of that number.
void check_input_channels(const ConvProblem& problem, const Dims& input, const Dims& filters,
                          const ConvArguments& arguments) {
    if (arguments.depthwise ? filters[2] == problem.c : problem.c % filters[2] == 0) return;
    const std::string groups = ", or, with groups, a divisor of " + std::to_string(problem.c);
    fail(arguments.filters_name, " must have ", problem.c, " input ", problem.c == 1 ? "channel" : "channels",
         " in dimension 2", arguments.depthwise || problem.c == 1 ? "" : groups, "; got ", arguments.filters_name, " ",
         show(filters), " and ", arguments.input_name, " ", show(input), " in ", name_of(problem.format));
}

// Explicit padding as large as the window would give windows that hold only padding.
void check_pool_padding(const PoolArguments& arguments) {
    const Padding& pad = arguments.padding;
    if (pad.mode != Padding::Mode::explicit_pads) return;
    const Pair& taps = arguments.ksize;
    const std::int64_t rows = window_extent("height", taps[0], arguments.dilations[0], arguments.ksize_name);
    const std::int64_t columns = window_extent("width", taps[1], arguments.dilations[1], arguments.ksize_name);
    if (std::max(pad.top, pad.bottom) >= rows || std::max(pad.left, pad.right) >= columns) {
        fail(arguments.padding_name, " must be smaller than the window ", show({rows, columns}), ", got ((", pad.top,
             ", ", pad.bottom, "), (", pad.left, ", ", pad.right, "))");
    }
}

// Whether any window along this axis has all its taps in the padding. Only a dilated window can step over the whole
// input.
bool misses_input(std::int64_t size, std::int64_t stride, std::int64_t dilation, std::int64_t before,
                  std::int64_t outputs) {
    if (dilation <= size) return false;
    // Only windows that start in the padding can miss the input. Where their first tap after the padding lies depends
    // on the start modulo the dilation, so `period` windows show every case.
    const std::int64_t period = dilation / std::gcd(dilation, stride);
    const std::int64_t starts = std::min({outputs, before / stride + (before % stride != 0), period});
    for (std::int64_t i = 0; i < starts; ++i) {
        const std::int64_t above = (before - i * stride) % dilation;
        if (above != 0 && dilation - above >= size) return true;
    }
    return false;
}

void check_windows_meet_input(const PoolProblem& o, const PoolArguments& arguments) {
    if (o.p == 0 || o.q == 0) return;
    if (o.h == 0 || o.w == 0) {
        fail(arguments.input_name, " of shape ", show(o.input_dims()), " has no rows or columns, so all ", o.p, " x ",
             o.q, " windows would hold only padding; use no padding");
    }
    if (misses_input(o.h, o.stride_h, o.dilation_h, o.pad_top, o.p) ||
        misses_input(o.w, o.stride_w, o.dilation_w, o.pad_left, o.q)) {
        fail("dilations ", show({o.dilation_h, o.dilation_w}), " step over the whole ", arguments.input_name,
             " of shape ", show(o.input_dims()),
             ", so some windows would hold only padding; use smaller dilations or "
             "less ",
             arguments.padding_name);
    }
}

// Sets the sizes of an adaptive pooling. If the output sizes divide the input sizes, the windows are those of an
// ordinary pooling.
void set_adaptive(PoolProblem& problem, const Pair& output_size) {
    const Pair sizes{problem.h, problem.w};
    Pair outputs{}, windows{};
    for (std::size_t axis = 0; axis < 2; ++axis) {
        const std::int64_t size = sizes[axis], count = output_size[axis] == kept_size ? size : output_size[axis];
        std::int64_t product = 0;
        if (count < 0) fail("output_size must not be negative, got ", count);
        if (__builtin_mul_overflow(count, size, &product) || __builtin_add_overflow(product, count, &product)) {
            fail("output_size: ", count, " windows over ", size, " pixels overflow 64 bits; use a smaller output_size");
        }
        outputs[axis] = count;
        const bool even = count == 0 || size % count == 0;
        windows[axis] = std::max<std::int64_t>(1, even ? (count == 0 ? size : size / count) : size / count + 2);
        if (!even) problem.adaptive = true;
    }
    problem.p = outputs[0];
    problem.q = outputs[1];
    problem.r = problem.stride_h = windows[0];
    problem.s = problem.stride_w = windows[1];
    check_size("output_size: the output", problem.output_dims(), problem.dtype, "use a smaller output_size");
}

} // namespace

std::string show(const Dims& dims) {
    std::string text = "(";
    for (std::size_t i = 0; i < dims.size(); ++i) {
        text += joined(i ? ", " : "", dims[i]);
    }
    return text + (dims.size() == 1 ? ",)" : ")");
}

DataFormat parse_data_format(std::string_view text) {
    if (text == "NHWC") {
        return DataFormat::nhwc;
    }
    if (text == "NCHW") {
        return DataFormat::nchw;
    }
    fail("data_format must be 'NHWC' or 'NCHW', got '", text, "'");
}

Padding parse_padding(std::string_view text, const char* name) {
    const std::string word = upper(text);
    Padding padding;
    if (word == "SAME") {
        padding.mode = Padding::Mode::same;
    } else if (word != "VALID") {
        fail(name, " must be 'VALID', 'SAME', an int, (ph, pw), ((top, bottom), (left, right)) or four pairs, got '",
             text, "'");
    }
    return padding;
}

Padding explicit_padding(std::int64_t top, std::int64_t bottom, std::int64_t left, std::int64_t right,
                         const char* name) {
    for (const std::int64_t v : {top, bottom, left, right}) {
        if (v < 0) {
            fail(name, " must not be negative, got ", v);
        }
    }
    return {Padding::Mode::explicit_pads, top, bottom, left, right};
}

Padding explicit_padding(const Dims& eight, DataFormat format, const char* name) {
    if (eight.size() != 8) {
        fail(name, " as four pairs must have 8 numbers, got ", eight.size(),
             eight.size() == 1 ? " number" : " numbers");
    }
    const std::size_t y = format == DataFormat::nhwc ? 2 : 4;
    const std::size_t channel = format == DataFormat::nhwc ? 6 : 2;
    for (const std::size_t i : {std::size_t{0}, std::size_t{1}, channel, channel + 1}) {
        if (eight[i] != 0) {
            fail(name, " of the batch and channel dimensions must be 0 in ", name_of(format), ", got ", show(eight));
        }
    }
    return explicit_padding(eight[y], eight[y + 1], eight[y + 2], eight[y + 3], name);
}

Pair parse_pair(const char* name, const Dims& values, DataFormat format) {
    Pair pair{};
    if (values.size() == 1) {
        pair = {values[0], values[0]};
    } else if (values.size() == 2) {
        pair = {values[0], values[1]};
    } else if (values.size() == 4) {
        const bool nhwc = format == DataFormat::nhwc;
        if (values[0] != 1 || values[nhwc ? 3 : 1] != 1) {
            fail(name, " of the batch and channel dimensions must be 1 in ", name_of(format), ", got ", show(values));
        }
        pair = {values[nhwc ? 1 : 2], values[nhwc ? 2 : 3]};
    } else {
        fail(name, " must be 1, 2 or 4 integers, got ", values.size(), " integers");
    }
    check_positive(name, pair);
    return pair;
}

Pair parse_output_size(const char* name, const Dims& values) {
    constexpr std::int64_t most = std::int64_t{1} << 62; // TensorFlow's graphs store the size plus one
    if (values.size() != 1 && values.size() != 2)
        fail(name, " must be 1 or 2 integers, got ", values.size(), " integers");
    for (const std::int64_t v : values) {
        if (v < kept_size) fail(name, " must not be negative, got ", v);
        if (v > most) fail(name, " must be at most 2^62, got ", v);
    }
    return {values.front(), values.back()};
}

Dims ConvProblem::input_dims() const { return in_format(format, n, h, w, c); }
Dims ConvProblem::output_dims() const { return in_format(format, n, p, q, k); }
Dims ConvProblem::filter_dims() const { return depthwise ? Dims{r, s, c, k / c} : Dims{r, s, c / groups, k}; }
Dims PoolProblem::input_dims() const { return in_format(format, n, h, w, c); }
Dims PoolProblem::output_dims() const { return in_format(format, n, p, q, c); }

void check_dims(const char* name, const Dims& dims, const Dims& expected, const char* why) {
    if (dims == expected) return;
    const auto without_ones = [](Dims all) {
        all.erase(std::remove(all.begin(), all.end(), 1), all.end());
        return all;
    };
    const bool reshape = dims.size() != expected.size() && without_ones(dims) == without_ones(expected);
    fail(name, " must have shape ", show(expected), " (", why, "), got ", show(dims),
         reshape ? "; reshape it to " + show(expected) : "");
}

void check_array_rank(const char* name, const Dims& dims, ArrayKind kind, DataFormat format) {
    if (dims.size() != 4) check_rank4(name, dims, kind, format, added_dimensions(name, dims.size(), kind, format));
}

ConvProblem resolve_conv_problem(DataType dtype, const Dims& input, const Dims& filters,
                                 const ConvArguments& arguments) {
    ConvProblem problem;
    problem.dtype = dtype;
    problem.format = arguments.format;
    problem.depthwise = arguments.depthwise;
    check_positive("strides", arguments.strides);
    check_positive("dilations", arguments.dilations);
    set_input(problem, arguments.input_name, input);
    if (problem.c == 0) {
        fail(arguments.input_name, " must have at least 1 channel, got shape ", show(input), " in ",
             name_of(problem.format));
    }
    check_rank4(arguments.filters_name, filters,
                arguments.depthwise ? ArrayKind::depthwise_filters : ArrayKind::filters, problem.format);
    for (std::size_t i = 0; i < 3; ++i) { // without filters the output is empty, as in TensorFlow
        if (filters[i] == 0) {
            fail(arguments.filters_name, " must have no dimension of size 0 except the last, got ", show(filters));
        }
    }
    check_size(arguments.filters_name, filters, dtype, "use smaller dimensions");
    problem.r = filters[0];
    problem.s = filters[1];
    check_input_channels(problem, input, filters, arguments);
    if (arguments.depthwise) {
        problem.groups = problem.c;
        problem.k = filters[2] * filters[3]; // does not overflow, because check_size(filters) has passed
    } else {
        problem.groups = problem.c / filters[2];
        problem.k = filters[3];
        if (problem.k % problem.groups != 0) {
            fail(arguments.filters_name, " must have a multiple of ", problem.groups, " in dimension 3, because ",
                 problem.c, " input channels with ", filters[2], " per group make ", problem.groups,
                 " groups; got shape ", show(filters));
        }
    }
    problem.dilation_h = problem.r > 1 ? arguments.dilations[0] : 1; // with one tap, the dilation is never used
    problem.dilation_w = problem.s > 1 ? arguments.dilations[1] : 1;
    set_spatial(problem, arguments.strides, arguments.dilations, arguments.padding);
    check_padded_image(problem);
    return problem;
}

PoolProblem make_pool_problem(DataType dtype, const Dims& input, const PoolArguments& arguments) {
    PoolProblem problem;
    problem.dtype = dtype;
    problem.format = arguments.format;
    if (arguments.adaptive) {
        set_input(problem, arguments.input_name, input);
        set_adaptive(problem, arguments.output_size);
    } else {
        check_positive(arguments.ksize_name, arguments.ksize);
        check_positive(arguments.strides_name, arguments.strides);
        check_positive("dilations", arguments.dilations);
        check_pool_padding(arguments);
        set_input(problem, arguments.input_name, input);
        problem.r = arguments.ksize[0];
        problem.s = arguments.ksize[1];
        problem.dilation_h = problem.r > 1 ? arguments.dilations[0] : 1; // with one tap, the dilation is never used
        problem.dilation_w = problem.s > 1 ? arguments.dilations[1] : 1;
        problem.count_include_pad = arguments.count_include_pad;
        set_spatial(problem, arguments.strides, {problem.dilation_h, problem.dilation_w}, arguments.padding,
                    {arguments.ksize_name, arguments.padding_name, arguments.output_name}, arguments.ceil_mode);
    }
    check_windows_meet_input(problem, arguments);
    return problem;
}

std::int64_t pool_output_size(std::int64_t size, const PoolArguments& arguments, bool height_axis) {
    const std::size_t axis = height_axis ? 0 : 1;
    if (arguments.adaptive) return arguments.output_size[axis] == kept_size ? size : arguments.output_size[axis];
    const Padding& pad = arguments.padding;
    check_positive(arguments.ksize_name, arguments.ksize);
    check_positive(arguments.strides_name, arguments.strides);
    check_positive("dilations", arguments.dilations);
    const std::int64_t dilation = arguments.ksize[axis] > 1 ? arguments.dilations[axis] : 1;
    return resolve_axis("size", size, arguments.ksize[axis], arguments.strides[axis], dilation, pad.mode,
                        height_axis ? pad.top : pad.left, height_axis ? pad.bottom : pad.right,
                        {arguments.ksize_name, arguments.padding_name, arguments.output_name}, arguments.ceil_mode)
        .output;
}

std::int64_t conv_output_size(std::int64_t size, std::int64_t kernel, std::int64_t stride, const Padding& padding,
                              std::int64_t dilation, bool height_axis) {
    if (size < 0) {
        fail("size must not be negative, got ", size);
    }
    check_positive("kernel", {kernel, kernel});
    check_positive("stride", {stride, stride});
    check_positive("dilation", {dilation, dilation});
    return resolve_axis("size", size, kernel, stride, dilation, padding.mode, height_axis ? padding.top : padding.left,
                        height_axis ? padding.bottom : padding.right, {"dilation"})
        .output;
}

} // namespace fastconv
