// The types that the whole C++ API shares, and functions that parse them from words and lists.
//
// A front end turns its framework's arguments into these plain types and makes a problem from them. Making a problem
// validates everything, so all front ends refuse the same arguments with the same messages. The front end then calls
// the function that computes. Buffers are dense, in the problem's data format and data type, and never overlap.
#pragma once

#include <array>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#define FASTCONV_API __attribute__((visibility("default")))

namespace fastconv {

/// A wrong argument. The message names the argument, the value that it had, and the values that are valid.
class FASTCONV_API InvalidArgument : public std::invalid_argument {
  public:
    using std::invalid_argument::invalid_argument;
};

enum class DataType : std::uint8_t { float32, float64 };
enum class DataFormat : std::uint8_t { nhwc, nchw };
/// Saved graphs hold the first two values, so new activations come last.
enum class Activation : std::uint8_t {
    linear,
    relu,
    relu6,
    leaky_relu,
    elu,
    gelu,
    gelu_tanh,
    silu,
    sigmoid,
    hard_sigmoid,
    hard_swish,
    tanh,
    clip,
};
// The numbers of enumerators. Saved graphs hold enumerators as integers, which are checked when a graph is read. In
// graphs, callers may give a convolution only the activations below graph_activation_count: with the others, its
// gradient has to repeat the convolution. The graph of an inference may hold every activation without numbers.
constexpr std::int64_t data_format_count = 2, activation_count = 13, graph_activation_count = 2, padding_mode_count = 3;

/// An activation with its parameters, as make_activation sets them. ReLU6 is a clip at 0 and 6.
struct ActivationFunction {
    Activation kind = Activation::linear;
    double alpha = 0, beta = 0;
};

using Dims = std::vector<std::int64_t>;
using Pair = std::array<std::int64_t, 2>; // (height, width)

/// Padding as the caller gave it. `top`, `bottom`, `left` and `right` are used only with `explicit_pads`.
struct Padding {
    enum class Mode : std::uint8_t { valid, same, explicit_pads };
    Mode mode = Mode::valid;
    std::int64_t top = 0, bottom = 0, left = 0, right = 0;
};

// Parsing. `name` is the caller's name of the argument, for error messages.
FASTCONV_API DataFormat parse_data_format(std::string_view text); // "NHWC" | "NCHW"
/// An activation by its name. Parameters that are left out have their defaults: leaky_relu(0.2), elu(1),
/// hard_sigmoid(1/6, 0.5). `clip` has no defaults. With `graph_only`, only activations that graphs may hold are
/// accepted.
FASTCONV_API ActivationFunction make_activation(std::string_view name, const std::vector<double>& parameters,
                                                bool graph_only);
/// An activation from a name, or from a name with parameters such as "leaky_relu(0.2)" or "clip(0, 1)".
FASTCONV_API ActivationFunction parse_activation(std::string_view text, bool graph_only);
/// The text from which parse_activation makes this activation.
FASTCONV_API std::string show_activation(const ActivationFunction& activation);
/// What `activation` may be, as a phrase for error messages.
FASTCONV_API std::string activation_choices(bool graph_only);
/// "VALID" | "SAME", any case
FASTCONV_API Padding parse_padding(std::string_view text, const char* name = "padding");
/// (before, after) for each of the four dimensions, in `format` order, like TensorFlow's `explicit_paddings`.
FASTCONV_API Padding explicit_padding(const Dims& eight, DataFormat format, const char* name = "padding");
/// (top, bottom, left, right); each at least 0.
FASTCONV_API Padding explicit_padding(std::int64_t top, std::int64_t bottom, std::int64_t left, std::int64_t right,
                                      const char* name = "padding");
/// 1, 2 or 4 numbers, each at least 1. Four are in `format` order, and those of batch and channels must be 1.
FASTCONV_API Pair parse_pair(const char* name, const Dims& values, DataFormat format);
/// 1 or 2 numbers. Each is at least 0, or is kept_size (pooling.h).
FASTCONV_API Pair parse_output_size(const char* name, const Dims& values);

/// Throws unless `dims` equals `expected`. `why` explains the expected shape.
FASTCONV_API void check_dims(const char* name, const Dims& dims, const Dims& expected, const char* why);

/// What an array holds. This decides the meaning of its four dimensions.
enum class ArrayKind : std::uint8_t { input, output, filters, depthwise_filters };
/// Throws unless an array has 4 dimensions. The message says how to add missing dimensions.
FASTCONV_API void check_array_rank(const char* name, const Dims& dims, ArrayKind kind, DataFormat format);

} // namespace fastconv
