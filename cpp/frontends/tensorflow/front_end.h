// Shared by the parts of the TensorFlow front end.
//
// In an op, an input of kind `sizes` is called `like`, and only its shape counts. `like` is either a tensor of the
// wanted shape or an empty tensor of shape (0, *wanted shape).
#pragma once

#include "c_api.h"
#include "fastconv/operations.h"

#include <array>
#include <cstddef>
#include <exception>
#include <new>

namespace fastconv::tf {

/// TensorFlow does not tell a callback which operation is meant. Each operation in the operation table therefore
/// has its own callbacks, which are instances of templates. This is the number of instances.
constexpr std::size_t most_operations = 64;

/// An attribute of operations with an input of kind `filters`: whether the filters are a constant of the graph.
/// Constant filters are packed once for all calls of the kernel. If a graph lacks the attribute, its value is False.
constexpr const char* kConstantFilters = "constant_filters";

/// An attribute of operations with a `check`: whether calls run the check. Gradients set it to False if the taps come
/// from an op, because such taps are valid.
constexpr const char* kCheckInputs = "check_inputs";

/// Attributes of operations whose geometry is `elementwise`: texts.
constexpr const char* kActivation = "activation";
constexpr const char* kEpsilon = "epsilon";

/// The input of kind `filters`, or the number of inputs if there is none.
std::size_t filters_index(const Operation& operation);

ShapeFunction shape_function(std::size_t operation); // shapes.cpp
CreateFunction create_kernel(std::size_t operation); // kernels.cpp
void compute(void* kernel, TF_OpKernelContext* context);
void destroy_kernel(void* kernel);

/// Ends a call after a failure. TensorFlow's status holds the error.
struct Failure : std::exception {
    const char* what() const noexcept override { return "TensorFlow reported an error"; }
};

inline void check(const TF_Status* status) {
    if (TF_GetCode(status) != kOk) throw Failure();
}

class Status {
  public:
    Status() : status_(TF_NewStatus()) {}
    ~Status() { TF_DeleteStatus(status_); }
    Status(const Status&) = delete;
    Status& operator=(const Status&) = delete;

    TF_Status* get() const { return status_; }
    void check() const { tf::check(status_); }

  private:
    TF_Status* status_;
};

/// Calls body() and stores an exception in `status`. No exception may reach TensorFlow, which is built by another
/// compiler. Returns whether body() succeeded.
template <class Body>
bool guarded(TF_Status* status, Body&& body) {
    try {
        body();
        return true;
    } catch (const Failure&) {
        // the status holds the error already
    } catch (const InvalidArgument& error) {
        TF_SetStatus(status, kInvalidArgument, error.what());
    } catch (const std::bad_alloc&) {
        TF_SetStatus(status, kResourceExhausted, "fastconv: out of memory");
    } catch (const std::exception& error) {
        TF_SetStatus(status, kInternal, error.what());
    } catch (...) {
        TF_SetStatus(status, kInternal, "fastconv: unknown error");
    }
    return false;
}

/// Removes the leading 0 from the shape of an empty `like` tensor: (0, *sizes) becomes the sizes. Other shapes stay.
inline void take_lent(Dims& dims) {
    if ((dims.size() == 5 || dims.size() == 3) && dims[0] == 0) dims.erase(dims.begin());
}

/// Marks as left out the inputs that the operation has but its op lacks.
inline void leave_out_others(Call& call) {
    for (std::size_t i = call.operation->graph_inputs(); i < call.operation->inputs.size(); ++i)
        call.inputs[i].given = false;
}

/// Whether a tensor of this shape stands for an optional input that is left out. No real input has this rank.
inline bool is_left_out(const Dims& dims) { return dims.size() == 2 && dims[0] == 0 && dims[1] == 0; }

/// Taps are (N, P, Q, C) in memory. In NCHW ops, the tensors of taps nevertheless have shape (N, C, P, Q), because
/// saved graphs hold these shapes.
inline void to_op_taps(const Call& call, Dims& dims) {
    if (call.attributes.pooling.format == DataFormat::nchw && dims.size() == 4)
        dims = {dims[0], dims[3], dims[1], dims[2]};
}
inline void from_op_taps(Call& call) {
    for (std::size_t i = 0; i < call.operation->inputs.size(); ++i) {
        Dims& dims = call.inputs[i].dims;
        if (call.operation->inputs[i].kind == InputKind::bytes && dims.size() == 4 &&
            call.attributes.pooling.format == DataFormat::nchw)
            dims = {dims[0], dims[2], dims[3], dims[1]};
    }
}

/// How many numbers the code of a geometry has: in the oldest graphs, and in new ones.
using CodeSizes = std::array<std::size_t, 2>;

/// Calls read(index of the input, sizes that the code may have, decoder of the code) for each geometry of an op.
/// Geometries come after the operation's own inputs.
template <class Read>
void for_each_geometry(const Operation& operation, Read&& read) {
    std::size_t index = operation.graph_inputs();
    const Geometry geometry = operation.geometry;
    if (geometry == Geometry::elementwise)
        read(index, CodeSizes{elementwise_code_size, elementwise_code_size}, decode_elementwise);
    if (geometry == Geometry::convolution || geometry == Geometry::both)
        read(index++, CodeSizes{convolution_code_size, convolution_code_size}, decode_convolution);
    if (geometry == Geometry::pooling || geometry == Geometry::both)
        read(index, CodeSizes{first_pooling_code_size, pooling_code_size}, decode_pooling);
}

} // namespace fastconv::tf
