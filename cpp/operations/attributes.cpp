#include "fastconv/attributes.h"

#include "algorithms/algorithms.h"
#include "core/errors.h"

#include <algorithm>
#include <charconv>
#include <string>

namespace fastconv {
namespace {

[[noreturn]] void refuse_code() {
    throw InvalidArgument(
        "geometry must come from the functions of fastconv.tensorflow, of this version or an older one; call these "
        "functions, not the op");
}

/// Throws unless the code has `size` numbers, none of them negative. The first must be 0. Those after it must be below
/// `limits`.
void check_code(const Dims& code, std::size_t size, std::initializer_list<std::int64_t> limits) {
    bool good = code.size() == size && code[0] == 0;
    std::size_t i = 1;
    for (const std::int64_t limit : limits) {
        good = good && code[i] >= 0 && code[i] < limit;
        ++i;
    }
    for (; good && i < code.size(); ++i) good = code[i] >= 0;
    if (!good) refuse_code();
}

void check_flags(const std::int64_t* numbers, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i)
        if (numbers[i] > 1) refuse_code();
}

/// A code has no room for an activation's numbers.
ActivationFunction decode_activation(std::int64_t kind) {
    const std::string name = show_activation({static_cast<Activation>(kind)});
    if (name.back() == ')') refuse_code();
    return make_activation(name, {}, false);
}

Padding decode_padding(std::int64_t mode, const std::int64_t* pads) {
    Padding padding;
    padding.mode = static_cast<Padding::Mode>(mode);
    padding.top = pads[0];
    padding.bottom = pads[1];
    padding.left = pads[2];
    padding.right = pads[3];
    return padding;
}

} // namespace

const char* name_of(Attribute attribute) {
    static constexpr const char* names[attribute_count] = {"ksize",
                                                           "pool_size",
                                                           "pool_strides",
                                                           "pool_padding",
                                                           "strides",
                                                           "padding",
                                                           "data_format",
                                                           "dilations",
                                                           "algorithm",
                                                           "activation",
                                                           "output_padding",
                                                           "depthwise",
                                                           "include_batch_in_index",
                                                           "input_gradient",
                                                           "ceil_mode",
                                                           "count_include_pad",
                                                           "output_size",
                                                           "epsilon"};
    return names[static_cast<std::size_t>(attribute)];
}

void refuse_beside_output_size(Attribute attribute) {
    throw InvalidArgument(std::string(name_of(attribute)) +
                          " must not be given together with output_size, which determines the windows");
}

Pair parse_output_padding(const Dims& numbers) {
    if (numbers.empty() || numbers.size() > 2)
        fail("output_padding must be 1 or 2 integers (height, width), got ", numbers.size(), " integers");
    const Pair pair{numbers.front(), numbers.back()};
    if (pair[0] < 0 || pair[1] < 0) fail("output_padding must not be negative, got ", std::min(pair[0], pair[1]));
    return pair;
}

Dims encode_convolution(const Attributes& attributes) {
    const ConvArguments& a = attributes.convolution;
    return {0,
            static_cast<std::int64_t>(a.format),
            a.depthwise ? 1 : 0,
            static_cast<std::int64_t>(attributes.activation.kind),
            algorithm_index(a.algorithm),
            static_cast<std::int64_t>(a.padding.mode),
            a.strides[0],
            a.strides[1],
            a.dilations[0],
            a.dilations[1],
            a.padding.top,
            a.padding.bottom,
            a.padding.left,
            a.padding.right};
}

Dims encode_pooling(const Attributes& attributes) {
    const PoolArguments& a = attributes.pooling;
    return {0,
            static_cast<std::int64_t>(a.format),
            attributes.include_batch_in_index ? 1 : 0,
            static_cast<std::int64_t>(a.padding.mode),
            a.ksize[0],
            a.ksize[1],
            a.strides[0],
            a.strides[1],
            a.padding.top,
            a.padding.bottom,
            a.padding.left,
            a.padding.right,
            a.dilations[0],
            a.dilations[1],
            a.ceil_mode ? 1 : 0,
            a.count_include_pad ? 1 : 0,
            a.adaptive ? 1 : 0,
            a.output_size[0] - kept_size, // so that no number is negative
            a.output_size[1] - kept_size};
}

Dims encode_elementwise(const Attributes& attributes) {
    return {0, static_cast<std::int64_t>(attributes.convolution.format)};
}

void decode_convolution(const Dims& code, Attributes& attributes) {
    const std::vector<std::string>& algorithms = algorithm_names();
    check_code(
        code, convolution_code_size,
        {data_format_count, 2, activation_count, static_cast<std::int64_t>(algorithms.size()), padding_mode_count});
    ConvArguments& a = attributes.convolution;
    a.format = static_cast<DataFormat>(code[1]);
    a.depthwise = code[2] != 0;
    attributes.activation = decode_activation(code[3]);
    a.algorithm = algorithms[static_cast<std::size_t>(code[4])];
    a.strides = {code[6], code[7]};
    a.dilations = {code[8], code[9]};
    a.padding = decode_padding(code[5], &code[10]);
}

void decode_pooling(const Dims& code, Attributes& attributes) {
    const bool old = code.size() == first_pooling_code_size;
    check_code(code, old ? first_pooling_code_size : pooling_code_size, {data_format_count, 2, padding_mode_count});
    PoolArguments& a = attributes.pooling;
    a.format = static_cast<DataFormat>(code[1]);
    attributes.include_batch_in_index = code[2] != 0;
    a.ksize = {code[4], code[5]};
    a.strides = {code[6], code[7]};
    a.padding = decode_padding(code[3], &code[8]);
    if (old) return;
    check_flags(&code[14], 3);
    a.dilations = {code[12], code[13]};
    a.ceil_mode = code[14] != 0;
    a.count_include_pad = code[15] != 0;
    a.adaptive = code[16] != 0;
    a.output_size = {code[17] + kept_size, code[18] + kept_size};
}

void decode_elementwise(const Dims& code, Attributes& attributes) {
    check_code(code, elementwise_code_size, {data_format_count});
    attributes.convolution.format = static_cast<DataFormat>(code[1]);
}

double parse_real(const char* name, std::string_view text) {
    const char* const end = text.data() + text.size();
    double number = 0;
    const std::from_chars_result read = std::from_chars(text.data(), end, number);
    if (read.ec != std::errc() || read.ptr != end) fail(name, " must be a number such as '1e-3', got '", text, "'");
    return number;
}

std::string show_real(double number) {
    char text[32];
    return {text, std::to_chars(text, text + sizeof text, number).ptr};
}

} // namespace fastconv
