// Shared by the entries of the operation table (table.cpp): functions that turn the shapes of complete and partial
// calls into problems.
#pragma once

#include "fastconv/operations.h"

namespace fastconv {

// The entries by topic, in the table's order.
std::vector<Operation> convolution_entries();
std::vector<Operation> pooling_entries();
std::vector<Operation> pooled_convolution_entries();
std::vector<Operation> elementwise_entries();
std::vector<Operation> batch_norm_entries();

constexpr const char* pooling_output_text = "the output of this pooling";

/// Which inputs give the shapes of a convolution.
struct ConvInputs {
    std::size_t input, filters;
};

/// Sets call.convolution. Error messages use the inputs' names in the table.
void resolve_convolution(Call& call, ConvInputs from);
void resolve_convolution(Call& call, ConvInputs from, const Dims& input);
/// Sets call.pooling, from an input of the call or from the convolution before it.
void resolve_pooling(Call& call, std::size_t input);
void resolve_pooling_of_convolution(Call& call);

/// Throws unless this input of the call has 4 dimensions. The message says how to add missing dimensions to an array.
/// The sizes are validated later, when a problem is made from them.
void check_rank(const Call& call, std::size_t index, ArrayKind kind);
/// Throws unless this input of the call has the expected shape.
void check_input(const Call& call, std::size_t index, const Dims& expected, const char* why);
/// Throws unless the bias and the residual, the optional inputs of an epilogue, have the right shapes. The residual is
/// the input after the bias.
void check_epilogue(const Call& call, std::size_t bias_index, std::int64_t channels, const Dims& output);
Epilogue epilogue_of(const Call& call, const Buffers& buffers, std::size_t bias_index);
/// For a transposed convolution with output_padding instead of output_shape: sets the sizes of the output.
void set_transposed_sizes(Call& call, std::size_t input_index, std::size_t sizes_index);

/// (N, P, Q, C), in every data format.
Dims taps_dims(const PoolProblem& pooling);

/// The index of the channels among four dimensions.
inline std::size_t channel_axis(DataFormat format) { return format == DataFormat::nhwc ? 3 : 1; }

// For partial calls. Known sizes are validated, with the messages of complete calls. A size of the result is unknown if
// it depends on an unknown size.

Shape partial_convolution_output(const Call& call, const Shape& input, const Shape& filters);
Shape partial_pooling_output(const Call& call, const Shape& input);
/// The shape (K) of a bias. `output` is any tensor with the channels of the convolution's output.
Shape partial_bias(const Call& call, const Shape& output);
Shape partial_taps(const Call& call, const Shape& pooled);

} // namespace fastconv
