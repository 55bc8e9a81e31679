// The attributes of operations: what a caller passes besides tensors, such as strides, padding, formats and names.
#pragma once

#include "fastconv/convolution.h"
#include "fastconv/pooling.h"

#include <cstddef>
#include <initializer_list>
#include <optional>

namespace fastconv {

/// The order is that of the values in a call that passes them by position.
enum class Attribute : std::uint8_t {
    ksize,
    pool_size, // of the pooling after a convolution; `strides` and `padding` are then the convolution's
    pool_strides,
    pool_padding,
    strides,
    padding,
    data_format,
    dilations,
    algorithm,
    activation,
    output_padding, // not used in graphs, where the shape of the output is an input
    depthwise,
    include_batch_in_index,
    input_gradient,
    ceil_mode,
    count_include_pad,
    output_size, // of an adaptive pooling; replaces the other attributes of a window
    epsilon,     // of a batch normalisation
};
constexpr std::size_t attribute_count = 18;

FASTCONV_API const char* name_of(Attribute attribute);
/// Throws InvalidArgument, because `attribute` and `output_size` must not be given together: `output_size` determines
/// the windows of an adaptive pooling.
[[noreturn]] FASTCONV_API void refuse_beside_output_size(Attribute attribute);

class AttributeSet {
  public:
    constexpr AttributeSet(std::initializer_list<Attribute> attributes) {
        for (const Attribute attribute : attributes) bits_ |= bit(attribute);
    }
    constexpr AttributeSet operator|(const AttributeSet& other) const {
        AttributeSet both = *this;
        both.bits_ |= other.bits_;
        return both;
    }
    constexpr bool has(Attribute attribute) const { return (bits_ & bit(attribute)) != 0; }
    /// How many attributes of the set come before `attribute`.
    constexpr std::size_t position(Attribute attribute) const { return count(bits_ & (bit(attribute) - 1)); }
    constexpr std::size_t size() const { return count(bits_); }

  private:
    static constexpr std::uint32_t bit(Attribute attribute) { return std::uint32_t{1} << static_cast<int>(attribute); }
    static constexpr std::size_t count(std::uint32_t bits) {
        return static_cast<std::size_t>(__builtin_popcount(bits));
    }
    std::uint32_t bits_ = 0;
};

constexpr AttributeSet convolution_attributes{Attribute::strides,   Attribute::padding,   Attribute::data_format,
                                              Attribute::dilations, Attribute::algorithm, Attribute::depthwise};
constexpr AttributeSet pooling_attributes{Attribute::ksize,       Attribute::strides,   Attribute::padding,
                                          Attribute::data_format, Attribute::dilations, Attribute::ceil_mode,
                                          Attribute::output_size};
constexpr AttributeSet pooled_convolution_attributes =
    convolution_attributes |
    AttributeSet{Attribute::pool_size, Attribute::pool_strides, Attribute::pool_padding, Attribute::activation};

/// The values of attributes. `convolution.algorithm` is a view, so its text must outlive this object. The operation
/// sets the names of arguments inside `convolution` and `pooling`.
struct Attributes {
    ConvArguments convolution;
    PoolArguments pooling;
    ActivationFunction activation;
    std::optional<Pair> output_padding;
    bool include_batch_in_index = false;
    bool input_gradient = true; // whether the gradient of the input is wanted
    double epsilon = 1e-3;
};

/// A number written as text, such as "1e-3". `name` is that of the argument.
FASTCONV_API double parse_real(const char* name, std::string_view text);
/// The shortest text from which parse_real reads the number.
FASTCONV_API std::string show_real(double number);

/// Makes a pair of one or two numbers, each at least 0.
FASTCONV_API Pair parse_output_padding(const Dims& numbers);

/// Reads the attributes of a set into `result`. If several values are wrong, the error is about the first one that the
/// function reads. With `graph`, the attributes are for a graph, and activations that graphs cannot hold are refused. A
/// convolution with pooling always refuses these activations. `source` gives the values that the front end received:
///
///     std::string_view word(Attribute)
///     Pair pair(Attribute, DataFormat)
///     Padding padding(Attribute, DataFormat)
///     Dims numbers(Attribute)
///     ActivationFunction activation(bool graph_only)
///     bool boolean(Attribute, bool otherwise)
///     Pair output_size(Attribute)
///     double real(Attribute, double otherwise)
///     bool given(Attribute)   // whether the caller gave the attribute; called only for optional attributes
template <class Source>
void read_attributes(const AttributeSet& set, const Source& source, Attributes& result, bool graph = false) {
    ConvArguments& convolution = result.convolution;
    PoolArguments& pooling = result.pooling;
    if (set.has(Attribute::algorithm)) convolution.algorithm = source.word(Attribute::algorithm);
    DataFormat format = DataFormat::nhwc;
    if (set.has(Attribute::data_format)) format = parse_data_format(source.word(Attribute::data_format));
    convolution.format = pooling.format = format;
    const auto read_boolean = [&](Attribute attribute, bool& value) {
        if (set.has(attribute)) value = source.boolean(attribute, value);
    };
    if (set.has(Attribute::dilations) && !set.has(Attribute::ksize)) {
        convolution.strides = source.pair(Attribute::strides, format);
        convolution.dilations = source.pair(Attribute::dilations, format);
        convolution.padding = source.padding(Attribute::padding, format);
    }
    const auto read_pooling = [&](Attribute size, Attribute strides, Attribute padding) {
        if (!set.has(size)) return;
        pooling.ksize = source.pair(size, format);
        pooling.strides = source.given(strides) ? source.pair(strides, format) : pooling.ksize;
        pooling.padding = source.padding(padding, format);
    };
    if (set.has(Attribute::output_size) && source.given(Attribute::output_size)) {
        for (const Attribute other : {Attribute::ksize, Attribute::strides, Attribute::padding, Attribute::dilations,
                                      Attribute::ceil_mode, Attribute::count_include_pad})
            if (set.has(other) && source.given(other)) refuse_beside_output_size(other);
        pooling.adaptive = true;
        pooling.output_size = source.output_size(Attribute::output_size);
    } else if (set.has(Attribute::output_size)) {
        read_pooling(Attribute::ksize, Attribute::strides, Attribute::padding);
        pooling.dilations = source.pair(Attribute::dilations, format);
        read_boolean(Attribute::ceil_mode, pooling.ceil_mode);
        read_boolean(Attribute::count_include_pad, pooling.count_include_pad);
    }
    read_pooling(Attribute::pool_size, Attribute::pool_strides, Attribute::pool_padding);
    if (set.has(Attribute::activation) && source.given(Attribute::activation))
        result.activation = source.activation(graph || set.has(Attribute::pool_size));
    if (set.has(Attribute::output_padding) && source.given(Attribute::output_padding))
        result.output_padding = parse_output_padding(source.numbers(Attribute::output_padding));
    read_boolean(Attribute::depthwise, convolution.depthwise);
    read_boolean(Attribute::include_batch_in_index, result.include_batch_in_index);
    read_boolean(Attribute::input_gradient, result.input_gradient);
    if (set.has(Attribute::epsilon)) result.epsilon = source.real(Attribute::epsilon, result.epsilon);
}

// ---- As numbers --------------------------------------------------------------------------------------------------
// A graph passes attributes as a code: the shape (0, ...) of a tensor without elements. In TensorFlow's C API, a shape
// function cannot read attributes, but it can read the shapes of inputs. Static shapes therefore also survive
// tf.while_loop and SavedModels. Saved graphs hold codes, so the places and meanings of the numbers must not change.

constexpr std::size_t convolution_code_size = 14, pooling_code_size = 19, elementwise_code_size = 2;
/// The size of the codes in older graphs. These codes lack dilations, ceil_mode, count_include_pad and output_size. The
/// four attributes then have their defaults.
constexpr std::size_t first_pooling_code_size = 12;

FASTCONV_API Dims encode_convolution(const Attributes& attributes);
FASTCONV_API Dims encode_pooling(const Attributes& attributes);
/// The data format alone, for operations element by element and batch normalisation. No shape depends on their other
/// attributes. In graphs, these are texts.
FASTCONV_API Dims encode_elementwise(const Attributes& attributes);
/// Anyone can call the TensorFlow ops directly, so the decoding functions check every number again.
FASTCONV_API void decode_convolution(const Dims& code, Attributes& attributes);
FASTCONV_API void decode_pooling(const Dims& code, Attributes& attributes);
FASTCONV_API void decode_elementwise(const Dims& code, Attributes& attributes);

} // namespace fastconv
