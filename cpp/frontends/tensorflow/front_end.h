// What the parts of the TensorFlow front end share.
//
// An input of kind `sizes` is called `like`. It only lends its shape: a tensor of that shape, or one without elements
// whose shape is (0, ...the shape).
#pragma once

#include "c_api.h"
#include "fastconv/operations.h"

#include <cstddef>
#include <exception>
#include <new>

namespace fastconv::tf {

/// TensorFlow's callbacks name no operation, so that each operation of the table has callbacks of its own: instances of
/// templates, of which there must be enough.
constexpr std::size_t most_operations = 64;

/// Attribute of operations with an input of kind `filters`: whether that is a constant of the graph, so that it is
/// packed once for all calls of the kernel. False in graphs that do not have it.
constexpr const char* kConstantFilters = "constant_filters";

/// Attribute of operations with a `check`: whether a call runs it. Gradients switch it off for taps that an op made.
constexpr const char* kCheckInputs = "check_inputs";

/// The input of kind `filters`, or the number of inputs if there is none.
std::size_t filters_index(const Operation& operation);

ShapeFunction shape_function(std::size_t operation); // shapes.cpp
CreateFunction create_kernel(std::size_t operation); // kernels.cpp
void compute(void* kernel, TF_OpKernelContext* context);
void destroy_kernel(void* kernel);

/// The first failure of a call ends it. TensorFlow's status holds what it was.
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

/// Calls body() and puts what it throws into `status`: nothing may fly into TensorFlow, which is built by another
/// compiler. Returns whether it threw nothing.
template <class Body>
bool guarded(TF_Status* status, Body&& body) {
    try {
        body();
        return true;
    } catch (const Failure&) {
        // the status holds it
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

/// The shape that a `like` input lends.
inline void take_lent(Dims& dims) {
    if ((dims.size() == 5 || dims.size() == 3) && dims[0] == 0) dims.erase(dims.begin());
}

/// An optional input is left out by a tensor of this shape. It has another rank than any tensor that counts.
inline bool is_left_out(const Dims& dims) { return dims.size() == 2 && dims[0] == 0 && dims[1] == 0; }

/// Taps are (N, P, Q, C) in memory. For ops in NCHW they are tensors of shape (N, C, P, Q) all the same: saved graphs
/// hold these shapes.
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

/// Calls read(index of the input) for the geometries of an operation, which follow its own inputs, with what decodes
/// them.
template <class Read>
void for_each_geometry(const Operation& operation, Read&& read) {
    std::size_t index = operation.inputs.size();
    if (operation.geometry != Geometry::pooling) read(index++, convolution_code_size, decode_convolution);
    if (operation.geometry != Geometry::convolution) read(index, pooling_code_size, decode_pooling);
}

} // namespace fastconv::tf
