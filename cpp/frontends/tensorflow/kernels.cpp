// The ops' kernels. They pass the shapes and the memory of TensorFlow's tensors to the operations, which compute.
#include "fastconv/threads.h"
#include "front_end.h"

#include <algorithm>
#include <array>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <utility>

namespace fastconv::tf {
namespace {

/// What TensorFlow keeps for one node of a graph.
class Kernel {
  public:
    Kernel(const Operation& which, bool constant_filters, bool check)
        : operation(which), checks_inputs(check && which.check != nullptr), constant_filters_(constant_filters) {}

    /// The packed filters if the filters are a constant of the graph, else null.
    const PackedFilters* packed(DataType dtype, const Dims& dims, const void* filters) const {
        if (!constant_filters_) return nullptr;
        const std::lock_guard<std::mutex> lock(mutex_);
        if (packed_ == nullptr) packed_ = std::make_unique<PackedFilters>(dtype, dims, filters);
        check_dims("filters", dims, packed_->dims(), "that of the first call, since constant_filters is True");
        return packed_.get();
    }

    /// Sets the attributes that are given as text. If one is wrong, its error is thrown when the kernel runs.
    void set_attributes(const std::string& activation, const std::string& epsilon) {
        try {
            attributes_.activation = parse_activation(activation, false);
            attributes_.epsilon = parse_real(kEpsilon, epsilon);
        } catch (const InvalidArgument& error) {
            wrong_attributes_ = error.what();
        }
    }
    const Attributes& attributes() const {
        if (!wrong_attributes_.empty()) throw InvalidArgument(wrong_attributes_);
        return attributes_;
    }

    const Operation& operation;
    const bool checks_inputs;
    const PlanHolder holder;

  private:
    const bool constant_filters_;
    Attributes attributes_; // those that are texts; the others have their defaults
    std::string wrong_attributes_;
    mutable std::mutex mutex_;
    mutable std::unique_ptr<const PackedFilters> packed_;
};

class Tensor {
  public:
    Tensor() = default;
    explicit Tensor(TF_Tensor* tensor) : tensor_(tensor) {}
    ~Tensor() {
        if (tensor_ != nullptr) TF_DeleteTensor(tensor_);
    }
    Tensor(Tensor&& other) noexcept : tensor_(std::exchange(other.tensor_, nullptr)) {}
    Tensor& operator=(Tensor&& other) noexcept {
        std::swap(tensor_, other.tensor_);
        return *this;
    }

    void* data() const { return TF_TensorData(tensor_); }
    int type() const { return TF_TensorType(tensor_); }
    Dims dims() const {
        Dims dims(static_cast<std::size_t>(TF_NumDims(tensor_)));
        for (std::size_t i = 0; i < dims.size(); ++i) dims[i] = TF_Dim(tensor_, static_cast<int>(i));
        return dims;
    }

  private:
    TF_Tensor* tensor_ = nullptr;
};

struct Context {
    TF_OpKernelContext* context;
    Status status;

    Tensor input(std::size_t i) const {
        TF_Tensor* tensor = nullptr;
        TF_GetInput(context, static_cast<int>(i), &tensor, status.get());
        status.check();
        return Tensor(tensor);
    }
    Tensor output(std::size_t i, int type, const Dims& dims) const {
        std::size_t bytes = type == kUInt8 ? 1 : type == kFloat ? 4 : 8;
        for (const std::int64_t d : dims) bytes *= static_cast<std::size_t>(d);
        TF_Tensor* tensor = TF_AllocateOutput(context, static_cast<int>(i), type, dims.data(),
                                              static_cast<int>(dims.size()), bytes, status.get());
        status.check();
        return Tensor(tensor);
    }
    /// An output of the type and shape of input `from`. It takes over this input's memory if no other op needs the
    /// input. Otherwise, it gets new memory.
    Tensor output_in_place(std::size_t i, int from, const Dims& dims) const {
        int taken = -1;
        TF_Tensor* tensor = TF_ForwardInputOrAllocateOutput(context, &from, 1, static_cast<int>(i), dims.data(),
                                                            static_cast<int>(dims.size()), &taken, status.get());
        status.check();
        return Tensor(tensor);
    }
};

using Tensors = std::array<Tensor, most_inputs>;

void read_inputs(const Context& context, Call& call, Tensors& tensors) {
    const std::vector<Input>& inputs = call.operation->inputs;
    leave_out_others(call);
    for (std::size_t i = 0; i < call.operation->graph_inputs(); ++i) {
        tensors[i] = context.input(i);
        Shape& shape = call.inputs[i];
        shape.dims = tensors[i].dims();
        if (is_sizes(inputs[i].kind))
            take_lent(shape.dims);
        else if (inputs[i].kind == InputKind::optional_tensor)
            shape.given = !is_left_out(shape.dims);
        else if (inputs[i].kind != InputKind::bytes)
            call.dtype = tensors[i].type() == kFloat ? DataType::float32 : DataType::float64;
    }
    for_each_geometry(*call.operation, [&](std::size_t i, const CodeSizes&, auto decode) {
        decode(context.input(i).dims(), call.attributes);
    });
    from_op_taps(call);
}

Tensor make_output(const Context& context, const Call& call, std::size_t i, Tensors& inputs) {
    const Output& output = call.operation->outputs[i];
    Dims dims = call.outputs[i].dims;
    if (output.kind == OutputKind::bytes) to_op_taps(call, dims);
    if (output.may_overwrite >= 0) {
        const auto from = static_cast<std::size_t>(output.may_overwrite);
        inputs[from] = Tensor(); // releases the input, so that the output can take its memory
        Tensor made = context.output_in_place(i, output.may_overwrite, dims);
        inputs[from] = context.input(from);
        return made;
    }
    const int real = call.dtype == DataType::float32 ? kFloat : kDouble;
    return context.output(i,
                          output.kind == OutputKind::bytes   ? kUInt8
                          : output.kind == OutputKind::int64 ? kInt64
                                                             : real,
                          dims);
}

void run(const Context& context, const Kernel& kernel) {
    const Operation& operation = kernel.operation;
    Call call(operation);
    call.attributes = kernel.attributes();
    Tensors inputs;
    read_inputs(context, call, inputs);
    operation.infer(call);
    std::array<Tensor, most_outputs> outputs;
    Buffers buffers;
    for (std::size_t i = 0; i < operation.outputs.size(); ++i) {
        outputs[i] = make_output(context, call, i, inputs);
        buffers.outputs[i] = outputs[i].data();
    }
    for (std::size_t i = 0; i < operation.inputs.size(); ++i)
        if (!is_sizes(operation.inputs[i].kind) && call.inputs[i].given) buffers.inputs[i] = inputs[i].data();
    const std::size_t filters = filters_index(operation);
    if (filters < operation.inputs.size())
        buffers.packed = kernel.packed(call.dtype, call.inputs[filters].dims, buffers.inputs[filters]);
    buffers.holder = &kernel.holder;
    if (kernel.checks_inputs) operation.check(call, buffers);
    operation.run(call, buffers);
}

bool read_flag(TF_OpKernelConstruction* construction, const char* name, bool otherwise) {
    const Status status;
    unsigned char value = 0;
    TF_OpKernelConstruction_GetAttrBool(construction, name, &value, status.get());
    return TF_GetCode(status.get()) == kOk ? value != 0 : otherwise;
}

std::string read_text(TF_OpKernelConstruction* construction, const char* name) {
    const Status status;
    std::int32_t list = 0, size = 0;
    TF_OpKernelConstruction_GetAttrSize(construction, name, &list, &size, status.get());
    std::string text(static_cast<std::size_t>(std::max(size, 0)), '\0');
    TF_OpKernelConstruction_GetAttrString(construction, name, text.data(), text.size(), status.get());
    return text;
}

template <std::size_t I>
void* create(TF_OpKernelConstruction* construction) {
    void* kernel = nullptr;
    const Status status;
    const auto make = [&] {
        const Operation& operation = operations()[I];
        const bool has_filters = filters_index(operation) < operation.inputs.size();
        auto made = std::make_unique<Kernel>(operation, has_filters && read_flag(construction, kConstantFilters, false),
                                             operation.check != nullptr && read_flag(construction, kCheckInputs, true));
        if (operation.geometry == Geometry::elementwise)
            made->set_attributes(read_text(construction, kActivation), read_text(construction, kEpsilon));
        kernel = made.release();
    };
    if (!guarded(status.get(), make)) TF_OpKernelConstruction_Failure(construction, status.get());
    return kernel;
}

template <std::size_t... I>
CreateFunction create_at(std::size_t operation, std::index_sequence<I...>) {
    static constexpr CreateFunction all[] = {create<I>...};
    return all[operation];
}

} // namespace

std::size_t filters_index(const Operation& operation) {
    std::size_t i = 0;
    while (i < operation.inputs.size() && operation.inputs[i].kind != InputKind::filters) ++i;
    return i;
}

CreateFunction create_kernel(std::size_t operation) {
    return create_at(operation, std::make_index_sequence<most_operations>());
}

void destroy_kernel(void* kernel) { delete static_cast<Kernel*>(kernel); }

void compute(void* kernel, TF_OpKernelContext* tensorflow) {
    // TensorFlow calls ops from many threads. The calls share one pool. OpenMP would start threads for each caller.
    const PreferBackend pool(ThreadingBackend::pool);
    const Context context{tensorflow, {}};
    if (!guarded(context.status.get(), [&] { run(context, *static_cast<const Kernel*>(kernel)); }))
        TF_OpKernelContext_Failure(tensorflow, context.status.get());
}

} // namespace fastconv::tf
