// The TensorFlow face: native ops through TensorFlow's C API alone. No arithmetic.
//
// Ops and kernels are registered in the library's constructor, during the dlopen by tf.load_op_library, which then
// makes their Python wrappers. One binary serves all TensorFlow versions. No op is stateful: TensorFlow would run
// stateful ops one after the other. The geometry of a call comes as the shape of an input (see geometry_code.h), so
// that kernels and shape functions read the same numbers. `like` inputs only lend their shape: a tensor of that shape,
// or one without elements whose shape is (0, ...the shape).
#include "fastconv/convolution.h"
#include "fastconv/elementwise.h"
#include "fastconv/pooling.h"
#include "fastconv/threads.h"
#include "geometry_code.h"
#include "tensorflow_c_api.h"

#include <cstdio>
#include <cstring>
#include <exception>
#include <new>
#include <utility>

namespace fastconv {
namespace {

using namespace tf;

// ---- Kernels
// ----------------------------------------------------------------------------------------------------------

/// The first failure of a call ends it; what() becomes the error's text.
struct Failure : std::exception {
    const char* what() const noexcept override { return "TensorFlow reported an error"; }
};

class Status {
  public:
    Status() : status_(TF_NewStatus()) {}
    ~Status() { TF_DeleteStatus(status_); }
    Status(const Status&) = delete;
    Status& operator=(const Status&) = delete;

    TF_Status* get() const { return status_; }
    void check() const {
        if (TF_GetCode(status_) != kOk) throw Failure();
    }

  private:
    TF_Status* status_;
};

class Tensor {
  public:
    explicit Tensor(TF_Tensor* tensor) : tensor_(tensor) {}
    ~Tensor() {
        if (tensor_ != nullptr) TF_DeleteTensor(tensor_);
    }
    Tensor(Tensor&& other) noexcept : tensor_(std::exchange(other.tensor_, nullptr)) {}
    Tensor(const Tensor&) = delete;
    Tensor& operator=(const Tensor&) = delete;

    void* data() const { return TF_TensorData(tensor_); }
    Dims dims() const {
        Dims dims(static_cast<std::size_t>(TF_NumDims(tensor_)));
        for (std::size_t i = 0; i < dims.size(); ++i) dims[i] = TF_Dim(tensor_, static_cast<int>(i));
        return dims;
    }
    /// As the shape that a `like` input lends.
    Dims lent_dims() const {
        Dims lent = dims();
        if (lent.size() == 5 && lent[0] == 0) lent.erase(lent.begin());
        return lent;
    }
    int type() const { return TF_TensorType(tensor_); }

  private:
    TF_Tensor* tensor_;
};

struct Call {
    TF_OpKernelContext* context;
    Status status;

    Tensor input(int i) const {
        TF_Tensor* tensor = nullptr;
        TF_GetInput(context, i, &tensor, status.get());
        status.check();
        return Tensor(tensor);
    }
    Tensor output(int i, int type, const Dims& dims) const {
        std::size_t bytes = type == kUInt8 ? 1 : type == kFloat ? 4 : 8;
        for (const std::int64_t d : dims) bytes *= static_cast<std::size_t>(d);
        TF_Tensor* tensor =
            TF_AllocateOutput(context, i, type, dims.data(), static_cast<int>(dims.size()), bytes, status.get());
        status.check();
        return Tensor(tensor);
    }
    /// Output i in the memory of an input of the same type and shape that nobody else needs, or in memory of its own.
    Tensor output_in_place(int i, int from, const Dims& dims) const {
        int taken = -1;
        TF_Tensor* tensor = TF_ForwardInputOrAllocateOutput(context, &from, 1, i, dims.data(),
                                                            static_cast<int>(dims.size()), &taken, status.get());
        status.check();
        return Tensor(tensor);
    }
};

DataType fastconv_type(int type) { return type == kFloat ? DataType::float32 : DataType::float64; }

constexpr const char* kConvOutput = "the output of this convolution";
constexpr const char* kPoolOutput = "the output of this pooling";

void compute_conv2d(Call& call) {
    const Tensor input = call.input(0), filters = call.input(1), bias = call.input(2);
    const ConvCode code = decode_conv(call.input(3).dims());
    const ConvProblem problem =
        make_conv_problem(fastconv_type(input.type()), input.dims(), filters.dims(), code.arguments);
    const bool has_bias = bias.dims() != Dims{0, 0};
    if (has_bias) check_dims("bias", bias.dims(), {problem.k}, "one number for each output channel");
    const Tensor output = call.output(0, input.type(), problem.output_dims());
    conv2d(problem, input.data(), filters.data(), has_bias ? bias.data() : nullptr, code.activation, output.data());
}

void compute_conv2d_backprop_input(Call& call) {
    const Tensor like = call.input(0), filters = call.input(1), dy = call.input(2);
    ConvArguments arguments = decode_conv(call.input(3).dims()).arguments;
    arguments.input_name = "input_sizes";
    const ConvProblem problem =
        make_conv_problem(fastconv_type(dy.type()), like.lent_dims(), filters.dims(), arguments);
    check_dims("out_backprop", dy.dims(), problem.output_dims(), kConvOutput);
    const Tensor output = call.output(0, dy.type(), problem.input_dims());
    conv2d_backprop_input(problem, filters.data(), dy.data(), output.data());
}

void compute_conv2d_backprop_filter(Call& call) {
    const Tensor input = call.input(0), like = call.input(1), dy = call.input(2);
    ConvArguments arguments = decode_conv(call.input(3).dims()).arguments;
    arguments.filters_name = "filter_sizes";
    const ConvProblem problem = make_conv_problem(fastconv_type(dy.type()), input.dims(), like.lent_dims(), arguments);
    check_dims("out_backprop", dy.dims(), problem.output_dims(), kConvOutput);
    const Tensor output = call.output(0, dy.type(), problem.filter_dims());
    conv2d_backprop_filter(problem, input.data(), dy.data(), output.data());
}

void compute_conv2d_backprop_filter_bias(Call& call) {
    const Tensor input = call.input(0), like = call.input(1), dy = call.input(2);
    ConvArguments arguments = decode_conv(call.input(3).dims()).arguments;
    arguments.filters_name = "filter_sizes";
    const ConvProblem problem = make_conv_problem(fastconv_type(dy.type()), input.dims(), like.lent_dims(), arguments);
    check_dims("out_backprop", dy.dims(), problem.output_dims(), kConvOutput);
    const Tensor filters = call.output(0, dy.type(), problem.filter_dims());
    const Tensor bias = call.output(1, dy.type(), {problem.k});
    conv2d_backprop_filter(problem, input.data(), dy.data(), filters.data());
    bias_gradient(problem.dtype, problem.format, problem.output_dims(), dy.data(), nullptr, nullptr, bias.data());
}

void compute_relu_bias_grad(Call& call) {
    const DataFormat format = decode_conv(call.input(2).dims()).arguments.format;
    Dims dims;
    {
        const Tensor gradients = call.input(0); // to be let go, or its memory could not be taken
        dims = gradients.dims();
    }
    const Tensor features = call.input(1);
    check_dims("features", features.dims(), dims, "as gradients");
    if (dims.size() != 4) throw InvalidArgument("gradients must have 4 dimensions");
    const Tensor masked = call.output_in_place(0, 0, dims);
    const Tensor bias = call.output(1, features.type(), {dims[format == DataFormat::nhwc ? 3 : 1]});
    const Tensor gradients = call.input(0);
    bias_gradient(fastconv_type(features.type()), format, dims, gradients.data(), features.data(), masked.data(),
                  bias.data());
}

void compute_max_pool2d(Call& call) {
    const Tensor input = call.input(0);
    const PoolCode code = decode_pool(call.input(1).dims());
    const PoolProblem problem = make_pool_problem(fastconv_type(input.type()), input.dims(), code.arguments);
    const Tensor output = call.output(0, input.type(), problem.output_dims());
    max_pool2d(problem, input.data(), output.data(), nullptr, false);
}

void compute_max_pool2d_with_taps(Call& call) {
    const Tensor input = call.input(0);
    const PoolCode code = decode_pool(call.input(1).dims());
    const PoolProblem problem = make_pool_problem(fastconv_type(input.type()), input.dims(), code.arguments);
    const Tensor output = call.output(0, input.type(), problem.output_dims());
    const Tensor taps = call.output(1, kUInt8, problem.output_dims());
    max_pool2d_with_taps(problem, input.data(), output.data(), static_cast<std::uint8_t*>(taps.data()));
}

void compute_max_pool2d_scatter(Call& call) {
    const Tensor like = call.input(0), taps = call.input(1), grad = call.input(2);
    const PoolArguments arguments = decode_pool(call.input(3).dims()).arguments;
    const PoolProblem problem = make_pool_problem(fastconv_type(grad.type()), like.lent_dims(), arguments);
    check_dims("taps", taps.dims(), problem.output_dims(), kPoolOutput);
    check_dims("grad", grad.dims(), problem.output_dims(), kPoolOutput);
    const Tensor result = call.output(0, grad.type(), problem.input_dims());
    max_pool2d_scatter(problem, static_cast<const std::uint8_t*>(taps.data()), grad.data(), result.data());
}

/// The gradients of a convolution that a max-pooling followed, from what reached the pooling.
template <bool WithInput>
void compute_conv2d_max_pool2d_backprop(Call& call) {
    const Tensor input = call.input(0), filters = call.input(1), taps = call.input(2), grad = call.input(3);
    const ConvArguments arguments = decode_conv(call.input(4).dims()).arguments;
    const PoolArguments windows = decode_pool(call.input(5).dims()).arguments;
    const ConvProblem problem = make_conv_problem(fastconv_type(grad.type()), input.dims(), filters.dims(), arguments);
    const PoolProblem pool = make_pool_problem(problem.dtype, problem.output_dims(), windows);
    check_dims("taps", taps.dims(), pool.output_dims(), kPoolOutput);
    check_dims("grad", grad.dims(), pool.output_dims(), kPoolOutput);
    const Tensor d_filters = call.output(0, grad.type(), problem.filter_dims());
    const Tensor d_bias = call.output(1, grad.type(), {problem.k});
    const Tensor d_input = WithInput ? call.output(2, grad.type(), problem.input_dims()) : Tensor(nullptr);
    max_pool_backprop(problem, pool, input.data(), filters.data(), static_cast<const std::uint8_t*>(taps.data()),
                      grad.data(), WithInput ? d_input.data() : nullptr, d_filters.data(), d_bias.data());
}

void compute_max_pool2d_gather(Call& call) {
    const Tensor values = call.input(0), taps = call.input(1);
    const PoolArguments arguments = decode_pool(call.input(2).dims()).arguments;
    const PoolProblem problem = make_pool_problem(fastconv_type(values.type()), values.dims(), arguments);
    check_dims("taps", taps.dims(), problem.output_dims(), kPoolOutput);
    const Tensor result = call.output(0, values.type(), problem.output_dims());
    max_pool2d_gather(problem, static_cast<const std::uint8_t*>(taps.data()), values.data(), result.data());
}

void compute_max_pool2d_with_argmax(Call& call) {
    const Tensor input = call.input(0);
    const PoolCode code = decode_pool(call.input(1).dims());
    const PoolProblem problem = make_pool_problem(fastconv_type(input.type()), input.dims(), code.arguments);
    const Tensor output = call.output(0, input.type(), problem.output_dims());
    const Tensor argmax = call.output(1, kInt64, problem.output_dims());
    max_pool2d(problem, input.data(), output.data(), static_cast<std::int64_t*>(argmax.data()), code.include_batch);
}

void compute_max_pool2d_grad(Call& call) {
    const Tensor input = call.input(0), output = call.input(1), grad = call.input(2);
    PoolArguments arguments = decode_pool(call.input(3).dims()).arguments;
    arguments.input_name = "orig_input";
    const PoolProblem problem = make_pool_problem(fastconv_type(input.type()), input.dims(), arguments);
    check_dims("orig_output", output.dims(), problem.output_dims(), kPoolOutput);
    check_dims("grad", grad.dims(), problem.output_dims(), kPoolOutput);
    const Tensor result = call.output(0, input.type(), problem.input_dims());
    max_pool2d_grad(problem, input.data(), grad.data(), result.data());
}

void compute_avg_pool2d(Call& call) {
    const Tensor input = call.input(0);
    const PoolCode code = decode_pool(call.input(1).dims());
    const PoolProblem problem = make_pool_problem(fastconv_type(input.type()), input.dims(), code.arguments);
    const Tensor output = call.output(0, input.type(), problem.output_dims());
    avg_pool2d(problem, input.data(), output.data());
}

void compute_avg_pool2d_grad(Call& call) {
    const Tensor like = call.input(0), grad = call.input(1);
    PoolArguments arguments = decode_pool(call.input(2).dims()).arguments;
    arguments.input_name = "orig_input_shape";
    const PoolProblem problem = make_pool_problem(fastconv_type(grad.type()), like.lent_dims(), arguments);
    check_dims("grad", grad.dims(), problem.output_dims(), kPoolOutput);
    const Tensor result = call.output(0, grad.type(), problem.input_dims());
    avg_pool2d_grad(problem, grad.data(), result.data());
}

template <void Compute(Call&)>
void compute(void*, TF_OpKernelContext* context) {
    // TensorFlow calls ops from many threads: one pool for the process, where OpenMP would start one for each of them.
    const PreferBackend pool(ThreadingBackend::pool);
    Call call{context, {}};
    try {
        Compute(call);
        return;
    } catch (const Failure&) {
        // the status holds it
    } catch (const InvalidArgument& error) {
        TF_SetStatus(call.status.get(), kInvalidArgument, error.what());
    } catch (const std::bad_alloc&) {
        TF_SetStatus(call.status.get(), kResourceExhausted, "fastconv: out of memory");
    } catch (const std::exception& error) {
        TF_SetStatus(call.status.get(), kInternal, error.what());
    } catch (...) { // nothing may fly into TensorFlow, which is built by another compiler
        TF_SetStatus(call.status.get(), kInternal, "fastconv: unknown error");
    }
    TF_OpKernelContext_Failure(context, call.status.get());
}

// ---- Shape functions
// --------------------------------------------------------------------------------------------------

constexpr std::int64_t kUnknown = -1;

struct Shape {
    bool known = false; // the rank
    Dims dims;          // kUnknown where a dimension is

    bool complete() const {
        for (const std::int64_t d : dims)
            if (d == kUnknown) return false;
        return known;
    }
};

struct Inference {
    TF_ShapeInferenceContext* context;
    TF_Status* status;

    void check() const {
        if (TF_GetCode(status) != kOk) throw Failure();
    }

    Shape input(int i) const {
        TF_ShapeHandle* handle = TF_NewShapeHandle();
        TF_ShapeInferenceContextGetInput(context, i, handle, status);
        Shape shape;
        if (TF_GetCode(status) == kOk && TF_ShapeInferenceContextRankKnown(context, handle)) {
            shape.known = true;
            TF_DimensionHandle* dim = TF_NewDimensionHandle();
            for (std::int64_t d = 0; d < TF_ShapeInferenceContextRank(context, handle); ++d) {
                TF_ShapeInferenceContextDim(context, handle, d, dim);
                shape.dims.push_back(TF_DimensionHandleValueKnown(dim) ? TF_DimensionHandleValue(dim) : kUnknown);
            }
            TF_DeleteDimensionHandle(dim);
        }
        TF_DeleteShapeHandle(handle);
        check();
        return shape;
    }

    /// The numbers of the geometry input, or nothing where TensorFlow does not know them yet.
    bool geometry(int i, std::size_t size, Dims& numbers) const {
        Shape shape = input(i);
        numbers = shape.dims;
        return shape.complete() && numbers.size() == size;
    }

    void set_output(int i, const Shape& shape) const {
        if (!shape.known) {
            TF_ShapeInferenceContextSetUnknownShape(context, status);
            return check();
        }
        TF_ShapeHandle* all = nullptr;
        for (const std::int64_t d : shape.dims) { // -1 is an unknown dimension
            TF_ShapeHandle* one = TF_ShapeInferenceContextVectorFromSize(context, static_cast<std::size_t>(d));
            if (all == nullptr) {
                all = one;
                continue;
            }
            TF_ShapeHandle* joined = TF_NewShapeHandle();
            TF_ShapeInferenceContextConcatenateShapes(context, all, one, joined, status);
            TF_DeleteShapeHandle(all);
            TF_DeleteShapeHandle(one);
            all = joined;
        }
        if (all == nullptr) return;
        TF_ShapeInferenceContextSetOutput(context, i, all, status);
        TF_DeleteShapeHandle(all);
        check();
    }
};

Shape lent(Shape shape) {
    if (shape.known && shape.dims.size() == 5 && shape.dims[0] == 0) shape.dims.erase(shape.dims.begin());
    return shape;
}

/// 1 for each of some unknown dimensions: what the core checks of the others then holds, but for the window's fit.
Dims with_ones(const Shape& shape) {
    Dims dims = shape.known ? shape.dims : Dims(4, 1);
    for (std::int64_t& d : dims)
        if (d == kUnknown) d = 1;
    return dims;
}

/// What is known is validated, with the words of the core; what depends on an unknown is kUnknown in the result.
Shape conv_output(const Shape& input, const Shape& filters, const Dims& numbers) {
    const ConvCode code = decode_conv(numbers);
    const bool nhwc = code.arguments.format == DataFormat::nhwc;
    Shape output{true, {kUnknown, kUnknown, kUnknown, kUnknown}};
    const auto check = [&](const ConvArguments& arguments) {
        make_conv_problem(DataType::float32, with_ones(input), with_ones(filters), arguments);
    };
    if ((input.known && input.dims.size() != 4) || (filters.known && filters.dims.size() != 4)) check(code.arguments);
    const std::size_t axis_h = nhwc ? 1 : 2, axis_c = nhwc ? 3 : 1;
    if (input.known && filters.known && input.dims[axis_c] != kUnknown && filters.dims[2] != kUnknown &&
        filters.dims[3] != kUnknown) {
        ConvArguments arguments = code.arguments;
        bool fits = filters.complete();
        for (const std::size_t axis : {axis_h, axis_h + 1}) fits = fits && input.dims[axis] != kUnknown;
        if (!fits) arguments.padding.mode = Padding::Mode::same; // any window fits
        check(arguments);
    }
    if (input.known) output.dims[0] = input.dims[0];
    if (filters.complete()) {
        std::int64_t k = filters.dims[3];
        if (code.arguments.depthwise && __builtin_mul_overflow(k, filters.dims[2], &k)) k = kUnknown;
        output.dims[axis_c] = k;
    }
    if (input.known && filters.known) {
        for (std::size_t axis = 0; axis < 2; ++axis) {
            const std::int64_t size = input.dims[axis_h + axis], window = filters.dims[axis];
            if (size == kUnknown || window == kUnknown) continue;
            output.dims[axis_h + axis] =
                conv_output_size(size, window, code.arguments.strides[axis], code.arguments.padding,
                                 window > 1 ? code.arguments.dilations[axis] : 1, axis == 0);
        }
    }
    return output;
}

Shape pool_output(const Shape& input, const Dims& numbers) {
    const PoolCode code = decode_pool(numbers);
    const bool nhwc = code.arguments.format == DataFormat::nhwc;
    if (!input.known) return {true, {kUnknown, kUnknown, kUnknown, kUnknown}};
    if (input.dims.size() != 4) make_pool_problem(DataType::float32, with_ones(input), code.arguments); // refuses
    Shape output = input;
    const std::size_t axis_h = nhwc ? 1 : 2;
    for (std::size_t axis = 0; axis < 2; ++axis) {
        const std::int64_t size = input.dims[axis_h + axis];
        if (size == kUnknown) continue;
        output.dims[axis_h + axis] = conv_output_size(size, code.arguments.ksize[axis], code.arguments.strides[axis],
                                                      code.arguments.padding, 1, axis == 0);
    }
    Shape one = input;
    if (one.dims[0] == kUnknown) one.dims[0] = 1;
    if (one.complete()) make_pool_problem(DataType::float32, one.dims, code.arguments);
    return output;
}

void conv2d_shape(const Inference& inference) {
    Dims numbers;
    if (!inference.geometry(3, kConvCodeSize, numbers)) return inference.set_output(0, {});
    inference.set_output(0, conv_output(inference.input(0), inference.input(1), numbers));
}

/// The gradients have the shape of input 0 (`like` or not) or 1.
template <int From>
void lent_shape(const Inference& inference) {
    inference.set_output(0, lent(inference.input(From)));
}

void filter_bias_shape(const Inference& inference) {
    const Shape filters = lent(inference.input(1)), dy = inference.input(2);
    inference.set_output(0, filters);
    Dims numbers;
    Shape bias{true, {kUnknown}};
    if (inference.geometry(3, kConvCodeSize, numbers) && dy.known && dy.dims.size() == 4)
        bias.dims[0] = dy.dims[decode_conv(numbers).arguments.format == DataFormat::nhwc ? 3 : 1];
    inference.set_output(1, bias);
}

template <bool WithInput>
void max_pool2d_backprop_shape(const Inference& inference) {
    const Shape filters = inference.input(1);
    inference.set_output(0, filters);
    Dims numbers;
    Shape bias{true, {kUnknown}};
    if (inference.geometry(4, kConvCodeSize, numbers) && filters.complete())
        bias.dims[0] =
            conv_output({}, filters, numbers).dims[decode_conv(numbers).arguments.format == DataFormat::nhwc ? 3 : 1];
    inference.set_output(1, bias);
    if (WithInput) inference.set_output(2, inference.input(0));
}

void relu_bias_shape(const Inference& inference) {
    const Shape features = inference.input(1);
    inference.set_output(0, features);
    Dims numbers;
    Shape bias{true, {kUnknown}};
    if (inference.geometry(2, kConvCodeSize, numbers) && features.known && features.dims.size() == 4)
        bias.dims[0] = features.dims[decode_conv(numbers).arguments.format == DataFormat::nhwc ? 3 : 1];
    inference.set_output(1, bias);
}

template <int Outputs, int Geometry = 1>
void pool_shape(const Inference& inference) {
    Dims numbers;
    const bool known = inference.geometry(Geometry, kPoolCodeSize, numbers);
    for (int i = 0; i < Outputs; ++i)
        inference.set_output(i, known ? pool_output(inference.input(0), numbers) : Shape{});
}

template <void Infer(const Inference&)>
void infer(TF_ShapeInferenceContext* context, TF_Status* status) {
    try {
        Infer({context, status});
    } catch (const Failure&) {
        // the status holds it
    } catch (const InvalidArgument& error) {
        TF_SetStatus(status, kInvalidArgument, error.what());
    } catch (const std::exception& error) {
        TF_SetStatus(status, kInternal, error.what());
    } catch (...) {
        TF_SetStatus(status, kInternal, "fastconv: unknown error");
    }
}

// ---- Registration
// -------------------------------------------------------------------------------------------------------

struct Op {
    const char* name;
    const char* inputs[7];  // up to a null
    const char* outputs[4]; // up to a null
    bool lends;             // has a `like` input of type U
    ShapeFunction shape;
    ComputeFunction compute;
};

const Op kOps[] = {
    {"FastconvConv2D",
     {"input: T", "filters: T", "bias: T", "geometry: uint8"},
     {"output: T"},
     false,
     infer<conv2d_shape>,
     compute<compute_conv2d>},
    {"FastconvConv2DBackpropInput",
     {"like: U", "filters: T", "out_backprop: T", "geometry: uint8"},
     {"output: T"},
     true,
     infer<lent_shape<0>>,
     compute<compute_conv2d_backprop_input>},
    {"FastconvConv2DBackpropFilter",
     {"input: T", "like: U", "out_backprop: T", "geometry: uint8"},
     {"output: T"},
     true,
     infer<lent_shape<1>>,
     compute<compute_conv2d_backprop_filter>},
    {"FastconvConv2DBackpropFilterBias",
     {"input: T", "like: U", "out_backprop: T", "geometry: uint8"},
     {"output: T", "bias: T"},
     true,
     infer<filter_bias_shape>,
     compute<compute_conv2d_backprop_filter_bias>},
    {"FastconvReluBiasGrad",
     {"gradients: T", "features: T", "geometry: uint8"},
     {"output: T", "bias: T"},
     false,
     infer<relu_bias_shape>,
     compute<compute_relu_bias_grad>},
    {"FastconvMaxPool2D",
     {"input: T", "geometry: uint8"},
     {"output: T"},
     false,
     infer<pool_shape<1>>,
     compute<compute_max_pool2d>},
    {"FastconvMaxPool2DWithTaps",
     {"input: T", "geometry: uint8"},
     {"output: T", "taps: uint8"},
     false,
     infer<pool_shape<2>>,
     compute<compute_max_pool2d_with_taps>},
    {"FastconvMaxPool2DScatter",
     {"like: U", "taps: uint8", "grad: T", "geometry: uint8"},
     {"output: T"},
     true,
     infer<lent_shape<0>>,
     compute<compute_max_pool2d_scatter>},
    {"FastconvConv2DMaxPool2DBackprop",
     {"input: T", "filters: T", "taps: uint8", "grad: T", "geometry: uint8", "pool_geometry: uint8"},
     {"filter_backprop: T", "bias_backprop: T", "input_backprop: T"},
     false,
     infer<max_pool2d_backprop_shape<true>>,
     compute<compute_conv2d_max_pool2d_backprop<true>>},
    {"FastconvConv2DMaxPool2DBackpropFilterBias",
     {"input: T", "filters: T", "taps: uint8", "grad: T", "geometry: uint8", "pool_geometry: uint8"},
     {"filter_backprop: T", "bias_backprop: T"},
     false,
     infer<max_pool2d_backprop_shape<false>>,
     compute<compute_conv2d_max_pool2d_backprop<false>>},
    {"FastconvMaxPool2DGather",
     {"values: T", "taps: uint8", "geometry: uint8"},
     {"output: T"},
     false,
     infer<pool_shape<1, 2>>,
     compute<compute_max_pool2d_gather>},
    {"FastconvMaxPool2DWithArgmax",
     {"input: T", "geometry: uint8"},
     {"output: T", "argmax: int64"},
     false,
     infer<pool_shape<2>>,
     compute<compute_max_pool2d_with_argmax>},
    {"FastconvMaxPool2DGrad",
     {"orig_input: T", "orig_output: T", "grad: T", "geometry: uint8"},
     {"output: T"},
     false,
     infer<lent_shape<0>>,
     compute<compute_max_pool2d_grad>},
    {"FastconvAvgPool2D",
     {"input: T", "geometry: uint8"},
     {"output: T"},
     false,
     infer<pool_shape<1>>,
     compute<compute_avg_pool2d>},
    {"FastconvAvgPool2DGrad",
     {"like: U", "grad: T", "geometry: uint8"},
     {"output: T"},
     true,
     infer<lent_shape<0>>,
     compute<compute_avg_pool2d_grad>},
};

void* create(TF_OpKernelConstruction*) {
    static char nothing; // kernels keep no state, but a null would mean failure
    return &nothing;
}
void destroy(void*) {}

/// Runs in the dlopen of this library. Errors go to stderr: tf.load_op_library then finds no op, and says so.
__attribute__((constructor)) void register_all() {
    if (const char* missing = find_functions()) {
        std::fprintf(stderr, "fastconv: %s was not found; import tensorflow (2.16 or later) first\n", missing);
        return;
    }
    const Status status;
    for (const Op& op : kOps) {
        TF_OpDefinitionBuilder* builder = TF_NewOpDefinitionBuilder(op.name);
        TF_OpDefinitionBuilderAddAttr(builder, "T: {float, double}");
        if (op.lends) TF_OpDefinitionBuilderAddAttr(builder, "U: {uint8, float, double}");
        for (const char* const* input = op.inputs; *input != nullptr; ++input)
            TF_OpDefinitionBuilderAddInput(builder, *input);
        for (const char* const* output = op.outputs; *output != nullptr; ++output)
            TF_OpDefinitionBuilderAddOutput(builder, *output);
        TF_OpDefinitionBuilderSetShapeInferenceFunction(builder, op.shape);
        TF_RegisterOpDefinition(builder, status.get()); // takes the builder
        for (const int type : {kFloat, kDouble}) {
            if (TF_GetCode(status.get()) != kOk) break;
            TF_KernelBuilder* kernel = TF_NewKernelBuilder(op.name, "CPU", create, op.compute, destroy);
            TF_KernelBuilder_TypeConstraint(kernel, "T", type, status.get());
            if (TF_GetCode(status.get()) == kOk) TF_RegisterKernelBuilder(op.name, kernel, status.get());
        }
        if (TF_GetCode(status.get()) != kOk) {
            std::fprintf(stderr, "fastconv: registering %s failed: %s\n", op.name, TF_Message(status.get()));
            return;
        }
    }
}

} // namespace
} // namespace fastconv
