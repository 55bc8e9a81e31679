// Shape functions. They infer the shapes of outputs while TensorFlow builds a graph. Sizes of inputs may be unknown
// then.
#include "front_end.h"

#include <utility>

namespace fastconv::tf {
namespace {

struct Context {
    TF_ShapeInferenceContext* context;
    TF_Status* status;

    Shape input(std::size_t i) const {
        TF_ShapeHandle* handle = TF_NewShapeHandle();
        TF_ShapeInferenceContextGetInput(context, static_cast<int>(i), handle, status);
        Shape shape;
        shape.known = TF_GetCode(status) == kOk && TF_ShapeInferenceContextRankKnown(context, handle);
        if (shape.known) {
            TF_DimensionHandle* dim = TF_NewDimensionHandle();
            for (std::int64_t d = 0; d < TF_ShapeInferenceContextRank(context, handle); ++d) {
                TF_ShapeInferenceContextDim(context, handle, d, dim);
                shape.dims.push_back(TF_DimensionHandleValueKnown(dim) ? TF_DimensionHandleValue(dim) : unknown_size);
            }
            TF_DeleteDimensionHandle(dim);
        }
        TF_DeleteShapeHandle(handle);
        check(status);
        return shape;
    }

    void set_output(std::size_t i, const Dims& dims) const {
        TF_ShapeHandle* all = nullptr;
        for (const std::int64_t d : dims) { // -1 is an unknown dimension
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
        if (all == nullptr) all = TF_ShapeInferenceContextScalar(context);
        TF_ShapeInferenceContextSetOutput(context, static_cast<int>(i), all, status);
        TF_DeleteShapeHandle(all);
        check(status);
    }
};

void read_inputs(const Context& context, Call& call) {
    const std::vector<Input>& inputs = call.operation->inputs;
    leave_out_others(call);
    for (std::size_t i = 0; i < call.operation->graph_inputs(); ++i) {
        Shape& shape = call.inputs[i] = context.input(i);
        if (is_sizes(inputs[i].kind)) take_lent(shape.dims);
        if (inputs[i].kind == InputKind::optional_tensor) shape.given = !is_left_out(shape.dims);
    }
    for_each_geometry(*call.operation, [&](std::size_t i, const CodeSizes& sizes, auto decode) {
        const Shape code = context.input(i);
        const std::size_t size = code.dims.size();
        if (code.complete() && (size == sizes[0] || size == sizes[1]))
            decode(code.dims, call.attributes);
        else
            call.attributes_known = false;
    });
    from_op_taps(call);
}

void infer(const Operation& operation, const Context& context) {
    Call call(operation);
    call.partial = true;
    read_inputs(context, call);
    operation.infer(call);
    TF_ShapeInferenceContextSetUnknownShape(context.context, context.status); // of all outputs
    check(context.status);
    for (std::size_t i = 0; i < operation.outputs.size(); ++i) {
        Shape& output = call.outputs[i];
        if (operation.outputs[i].kind == OutputKind::bytes) to_op_taps(call, output.dims);
        if (output.known) context.set_output(i, output.dims);
    }
}

template <std::size_t I>
void infer_at(TF_ShapeInferenceContext* context, TF_Status* status) {
    guarded(status, [&] { infer(operations()[I], {context, status}); });
}

template <std::size_t... I>
ShapeFunction function_at(std::size_t operation, std::index_sequence<I...>) {
    static constexpr ShapeFunction all[] = {infer_at<I>...};
    return all[operation];
}

} // namespace

ShapeFunction shape_function(std::size_t operation) {
    return function_at(operation, std::make_index_sequence<most_operations>());
}

} // namespace fastconv::tf
