// The C front end. It validates the caller's structures and turns them into calls of the operations in the
// operation table (operations/table.cpp).
#include "fastconv/c_api.h"
#include "fastconv/threads.h"
#include "frontends/c/attributes.h"

#include <algorithm>
#include <cstring>
#include <new>

namespace fastconv::c {
namespace {

// ---- Tensors -----------------------------------------------------------------------------------------------------

const char* name_of_dtype(int dtype) {
    static constexpr const char* names[] = {"FASTCONV_NONE", "float32", "float64", "uint8", "int64"};
    return dtype >= FASTCONV_NONE && dtype <= FASTCONV_INT64 ? names[dtype] : "an unknown dtype";
}

std::int64_t size_of(int dtype) {
    switch (dtype) {
    case FASTCONV_UINT8:
        return 1;
    case FASTCONV_FLOAT32:
        return 4;
    default:
        return 8;
    }
}

void check_structure(const char* name, const fastconv_tensor& tensor) {
    if (tensor.dtype <= FASTCONV_NONE || tensor.dtype > FASTCONV_INT64)
        fail(name, " must be a tensor with a dtype from FASTCONV_FLOAT32 (", int{FASTCONV_FLOAT32},
             ") to FASTCONV_INT64 (", int{FASTCONV_INT64}, "), got ", int{tensor.dtype});
    if (tensor.rank < 0 || tensor.rank > FASTCONV_MAX_RANK)
        fail(name, " must have a rank from 0 to ", FASTCONV_MAX_RANK, ", got ", tensor.rank);
    std::int64_t bytes = size_of(tensor.dtype);
    for (int i = 0; i < tensor.rank; ++i) {
        if (tensor.dims[i] < 0) fail(name, " must have no negative dimension, got ", tensor.dims[i]);
        if (tensor.dims[i] != 0 && __builtin_mul_overflow(bytes, tensor.dims[i], &bytes))
            fail(name, " has a size in bytes that overflows 64 bits");
    }
}

Dims dims_of(const fastconv_tensor& tensor) { return {tensor.dims, tensor.dims + tensor.rank}; }

/// The size in bytes. 0 for a tensor that is left out.
std::int64_t size_of(const fastconv_tensor& tensor) {
    if (tensor.dtype == FASTCONV_NONE) return 0;
    std::int64_t bytes = size_of(tensor.dtype);
    for (int i = 0; i < tensor.rank; ++i) bytes *= tensor.dims[i];
    return bytes;
}

void check_memory(const char* name, const fastconv_tensor& tensor) {
    if (size_of(tensor) == 0) return;
    if (tensor.data == nullptr) fail("the data of ", name, " must not be null");
    if (reinterpret_cast<std::uintptr_t>(tensor.data) % static_cast<std::uintptr_t>(size_of(tensor.dtype)) != 0)
        fail("the data of ", name, " must be aligned to ", size_of(tensor.dtype), " bytes");
}

bool overlap(const fastconv_tensor& a, const fastconv_tensor& b) {
    const auto a_begin = reinterpret_cast<std::uintptr_t>(a.data), b_begin = reinterpret_cast<std::uintptr_t>(b.data);
    const auto a_size = static_cast<std::uintptr_t>(size_of(a)), b_size = static_cast<std::uintptr_t>(size_of(b));
    return a_size > 0 && b_size > 0 && a_begin < b_begin + b_size && b_begin < a_begin + a_size;
}

void check_dtype(const char* name, int dtype, int expected) {
    if (dtype != expected) fail(name, " must be ", name_of_dtype(expected), ", got ", name_of_dtype(dtype));
}

// ---- Calls -------------------------------------------------------------------------------------------------------

/// The arguments of a call.
struct Given {
    const char* operation;
    const fastconv_tensor* inputs;
    std::size_t input_count;
    const fastconv_attribute* attributes;
    std::size_t attribute_count;
    fastconv_tensor* outputs;
    std::size_t output_count;
};

void check_count(const Operation& operation, const char* what, const void* tensors, std::size_t count,
                 std::size_t expected) {
    if (count != expected) fail(what, "_count must be ", expected, " for ", operation.name, ", got ", count);
    if (tensors == nullptr) fail(what, "s must not be null");
}

/// The smallest input_count. The caller's array may end before optional inputs at the end of the list.
std::size_t fewest_inputs(const Operation& operation) {
    std::size_t count = operation.inputs.size();
    while (count > 0 && is_optional(operation.inputs[count - 1].kind)) --count;
    return count;
}

void read_sizes(const char* name, const fastconv_tensor& tensor, Dims& dims) {
    check_dtype(name, tensor.dtype, FASTCONV_INT64);
    if (tensor.rank != 1) fail(name, " must have 1 dimension, got ", tensor.rank, " dimensions");
    if (tensor.dims[0] > FASTCONV_MAX_RANK)
        fail(name, " must have at most ", FASTCONV_MAX_RANK, " numbers, got ", tensor.dims[0]);
    check_memory(name, tensor);
    const auto* numbers = static_cast<const std::int64_t*>(tensor.data);
    if (tensor.dims[0] > 0) dims.assign(numbers, numbers + tensor.dims[0]);
}

void read_input(Call& call, std::size_t i, const fastconv_tensor& tensor, int& dtype) {
    const char* const name = call.operation->inputs[i].name;
    const InputKind kind = call.operation->inputs[i].kind;
    Shape& shape = call.inputs[i];
    if (is_optional(kind) && tensor.dtype == FASTCONV_NONE) {
        shape.given = false;
        return;
    }
    check_structure(name, tensor);
    if (is_sizes(kind)) return read_sizes(name, tensor, shape.dims);
    shape.dims = dims_of(tensor);
    if (kind == InputKind::bytes) return check_dtype(name, tensor.dtype, FASTCONV_UINT8);
    if (tensor.dtype != FASTCONV_FLOAT32 && tensor.dtype != FASTCONV_FLOAT64)
        fail(name, " must be float32 or float64, got ", name_of_dtype(tensor.dtype));
    if (dtype != FASTCONV_NONE) check_dtype(name, tensor.dtype, dtype);
    dtype = tensor.dtype;
}

int output_dtype(const Call& call, const Output& output) {
    if (!call.wants(output)) return FASTCONV_NONE;
    if (output.kind == OutputKind::bytes) return FASTCONV_UINT8;
    if (output.kind == OutputKind::int64) return FASTCONV_INT64;
    return call.dtype == DataType::float32 ? FASTCONV_FLOAT32 : FASTCONV_FLOAT64;
}

/// Reads the arguments into `call`, which was made for this operation, and infers the outputs.
void read_call(const Given& given, Call& call) {
    const Operation& operation = *call.operation;
    const std::size_t most = operation.inputs.size();
    check_count(operation, "input", given.inputs, given.input_count,
                std::clamp(given.input_count, fewest_inputs(operation), most));
    check_count(operation, "output", given.outputs, given.output_count, operation.outputs.size());
    const NamedAttributes attributes(operation, given.attributes, given.attribute_count);
    read_attributes(operation.attributes, attributes, call.attributes);
    int dtype = FASTCONV_NONE;
    for (std::size_t i = 0; i < most; ++i) {
        if (i < given.input_count)
            read_input(call, i, given.inputs[i], dtype);
        else
            call.inputs[i].given = false;
    }
    call.dtype = dtype == FASTCONV_FLOAT64 ? DataType::float64 : DataType::float32;
    operation.infer(call);
}

void infer(const Given& given, Call& call) {
    read_call(given, call);
    for (std::size_t i = 0; i < given.output_count; ++i) {
        fastconv_tensor& output = given.outputs[i];
        const Dims& dims = call.outputs[i].dims;
        output.dtype = output_dtype(call, call.operation->outputs[i]);
        output.rank = output.dtype == FASTCONV_NONE ? 0 : static_cast<std::int32_t>(dims.size());
        std::fill_n(output.dims, FASTCONV_MAX_RANK, 0);
        std::copy_n(dims.begin(), output.rank, output.dims);
    }
}

void check_output(const Given& given, const Call& call, std::size_t i) {
    const Output& output = call.operation->outputs[i];
    const fastconv_tensor& tensor = given.outputs[i];
    const int expected = output_dtype(call, output);
    if (expected != FASTCONV_NONE) check_structure(output.name, tensor);
    check_dtype(output.name, tensor.dtype, expected);
    if (expected == FASTCONV_NONE) return;
    check_dims(output.name, dims_of(tensor), call.outputs[i].dims, "that of the result");
    check_memory(output.name, tensor);
    for (std::size_t k = 0; k < given.input_count; ++k) {
        const fastconv_tensor& input = given.inputs[k];
        const bool may = output.may_overwrite == static_cast<int>(k) && tensor.data == input.data;
        if (!may && overlap(tensor, input))
            fail(output.name, " must not overlap ", call.operation->inputs[k].name, " in memory");
    }
    for (std::size_t k = 0; k < i; ++k)
        if (overlap(tensor, given.outputs[k]))
            fail(output.name, " must not overlap ", call.operation->outputs[k].name, " in memory");
}

void run(const Given& given, Call& call) {
    read_call(given, call);
    Buffers buffers;
    for (std::size_t i = 0; i < given.input_count; ++i) {
        const Input& input = call.operation->inputs[i];
        if (!call.inputs[i].given || is_sizes(input.kind)) continue;
        check_memory(input.name, given.inputs[i]);
        buffers.inputs[i] = given.inputs[i].data;
    }
    for (std::size_t i = 0; i < given.output_count; ++i) {
        check_output(given, call, i);
        if (call.wants(call.operation->outputs[i])) buffers.outputs[i] = given.outputs[i].data;
    }
    if (call.operation->check != nullptr) call.operation->check(call, buffers);
    call.operation->run(call, buffers);
}

// ---- Entry and errors ---------------------------------------------------------------------------------------------

/// The caller's buffer for a message.
struct Message {
    char* text;
    std::size_t size;

    int write(fastconv_code code, const char* what) const noexcept {
        if (text != nullptr && size > 0) {
            const std::size_t length = std::min(std::strlen(what), size - 1);
            std::memcpy(text, what, length);
            text[length] = '\0';
        }
        return code;
    }
};

/// Returns the result of body(). If body() throws, writes the message and returns the code of the exception.
template <class Body>
int guarded(const Message& message, Body&& body) noexcept {
    try {
        return body();
    } catch (const InvalidArgument& error) {
        return message.write(FASTCONV_INVALID_ARGUMENT, error.what());
    } catch (const std::bad_alloc&) {
        return message.write(FASTCONV_OUT_OF_MEMORY, "fastconv: out of memory");
    } catch (const std::exception& error) {
        return message.write(FASTCONV_INTERNAL, error.what());
    } catch (...) {
        return message.write(FASTCONV_INTERNAL, "fastconv: unknown error");
    }
}

int with_call(const Given& given, const Message& message, void (*body)(const Given&, Call&)) noexcept {
    return guarded(message, [&] {
        if (given.operation == nullptr) fail("operation must not be null");
        const Operation* operation = find_operation(given.operation);
        if (operation == nullptr)
            return message.write(FASTCONV_UNKNOWN_OPERATION, "fastconv has no operation of this name");
        Call call(*operation);
        body(given, call);
        return message.write(FASTCONV_OK, "");
    });
}

} // namespace
} // namespace fastconv::c

using namespace fastconv;

const char* fastconv_operation_name(size_t index) {
    return index < operations().size() ? operations()[index].name : nullptr;
}

int fastconv_infer(const char* operation, const fastconv_tensor* inputs, size_t input_count,
                   const fastconv_attribute* attributes, size_t attribute_count, fastconv_tensor* outputs,
                   size_t output_count, char* message, size_t message_size) {
    return c::with_call({operation, inputs, input_count, attributes, attribute_count, outputs, output_count},
                        {message, message_size}, c::infer);
}

int fastconv_run(const char* operation, const fastconv_tensor* inputs, size_t input_count,
                 const fastconv_attribute* attributes, size_t attribute_count, fastconv_tensor* outputs,
                 size_t output_count, char* message, size_t message_size) {
    return c::with_call({operation, inputs, input_count, attributes, attribute_count, outputs, output_count},
                        {message, message_size}, c::run);
}

int fastconv_set_num_threads(int64_t count, char* message, size_t message_size) {
    const c::Message text{message, message_size};
    return c::guarded(text, [&] {
        set_num_threads(count);
        return text.write(FASTCONV_OK, "");
    });
}

int fastconv_get_num_threads(int64_t* count, char* message, size_t message_size) {
    const c::Message text{message, message_size};
    return c::guarded(text, [&] {
        if (count == nullptr) c::fail("count must not be null");
        *count = get_num_threads();
        return text.write(FASTCONV_OK, "");
    });
}
