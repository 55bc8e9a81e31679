#include "operations.h"
#include "arrays.h"
#include "calls.h"

#include <pybind11/stl.h>

#include <deque>

namespace fastconv {
namespace {

// ---- One call ----------------------------------------------------------------------------------------------------

using Objects = std::array<py::object, most_inputs>;

constexpr const char* kOut[] = {"out[0]", "out[1]", "out[2]", "out[3]"};

/// The members of `out`, which is a tuple if the operation has several outputs. None asks for a new array.
std::array<py::handle, most_outputs> read_out(const Operation& operation, py::handle out) {
    const std::size_t count = operation.outputs.size();
    if (count == 1) return {out};
    if (out.is_none()) return {out, out, out, out};
    if (!py::isinstance<py::tuple>(out) || py::len(out) != count) {
        std::string names;
        for (const Output& output : operation.outputs) names += (names.empty() ? "" : ", ") + std::string(output.name);
        fail<py::type_error>("out must be None or the tuple (", names, "), got ", describe(out));
    }
    std::array<py::handle, most_outputs> members;
    for (std::size_t i = 0; i < count; ++i) members[i] = PyTuple_GET_ITEM(out.ptr(), static_cast<Py_ssize_t>(i));
    return members;
}

/// Reads one input: an array or packed filters.
void read_array(Call& call, std::size_t index, py::handle value, Arrays& arrays, Buffers& buffers, Objects& alive) {
    const Input& input = call.operation->inputs[index];
    Shape& shape = call.inputs[index];
    if (input.kind == InputKind::filters && !py::isinstance<py::array>(value) && py::isinstance<PackedFilters>(value)) {
        buffers.packed = &value.cast<const PackedFilters&>();
        arrays.expect(input.name, buffers.packed->dtype());
        shape.dims = buffers.packed->dims();
        return;
    }
    py::array array =
        input.kind == InputKind::bytes ? arrays.bytes(input.name, value) : arrays.input(input.name, value);
    shape.dims = dims_of(array);
    buffers.inputs[index] = array.data();
    alive[index] = std::move(array);
}

/// Reads the inputs: first required arrays, then sizes, then optional arrays. The order decides which of several errors
/// is reported. An error in an optional array is reported only if the inputs before it fit together.
void read_inputs(Call& call, PyObject* const* values, Arrays& arrays, Buffers& buffers, Objects& alive) {
    const std::vector<Input>& inputs = call.operation->inputs;
    for (std::size_t i = 0; i < inputs.size(); ++i)
        if (!is_sizes(inputs[i].kind) && !is_optional(inputs[i].kind))
            read_array(call, i, values[i], arrays, buffers, alive);
    call.dtype = arrays.dtype();
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        // An optional tensor counts as left out until it has been read.
        call.inputs[i].given = !is_optional(inputs[i].kind) ||
                               (inputs[i].kind == InputKind::optional_sizes && !py::handle(values[i]).is_none());
        if (is_sizes(inputs[i].kind) && call.inputs[i].given) call.inputs[i].dims = shape(inputs[i].name, values[i]);
    }
    for (std::size_t i = 0; i < inputs.size(); ++i) {
        if (inputs[i].kind != InputKind::optional_tensor || py::handle(values[i]).is_none()) continue;
        try {
            read_array(call, i, values[i], arrays, buffers, alive);
            call.inputs[i].given = true;
        } catch (...) {
            call.inputs[i].refused = true;
            call.operation->infer(call);
            throw;
        }
    }
}

void make_outputs(const Call& call, py::handle out, Arrays& arrays, Buffers& buffers,
                  std::array<py::object, most_outputs>& results) {
    const std::vector<Output>& outputs = call.operation->outputs;
    const std::array<py::handle, most_outputs> given = read_out(*call.operation, out);
    for (std::size_t i = 0; i < outputs.size(); ++i) {
        const char* name = outputs.size() == 1 ? "out" : kOut[i];
        if (!call.wants(outputs[i])) {
            const int input = outputs[i].only_with_input;
            const std::string why =
                input < 0 ? std::string("input_gradient is False")
                          : std::string(call.operation->inputs[static_cast<std::size_t>(input)].name) + " is None";
            if (!given[i].is_none())
                fail<py::value_error>(name, " must be None if ", why, ", got ", describe(given[i]));
            results[i] = py::none();
            continue;
        }
        py::array array = arrays.output(name, given[i], call.outputs[i].dims, outputs[i].kind);
        buffers.outputs[i] = array.mutable_data();
        results[i] = std::move(array);
    }
}

py::object run_operation(const Operation& operation, PyObject* const* values) {
    PyObject* const* attributes = values + operation.inputs.size();
    const py::handle out = attributes[operation.attributes.size()];
    Call call(operation);
    read_attributes(operation.attributes, PositionalAttributes(operation.attributes, attributes), call.attributes);
    read_out(operation, out); // so that a wrong `out` is reported before wrong arrays
    Arrays arrays;
    Buffers buffers;
    Objects alive;
    read_inputs(call, values, arrays, buffers, alive);
    operation.infer(call);
    if (operation.check != nullptr) {
        const ReleasedLock released;
        operation.check(call, buffers);
    }
    std::array<py::object, most_outputs> results;
    make_outputs(call, out, arrays, buffers, results);
    {
        const ReleasedLock released;
        operation.run(call, buffers);
    }
    switch (operation.outputs.size()) {
    case 1:
        return std::move(results[0]);
    case 2:
        return py::make_tuple(results[0], results[1]);
    case 3:
        return py::make_tuple(results[0], results[1], results[2]);
    default:
        return py::make_tuple(results[0], results[1], results[2], results[3]);
    }
}

// ---- Python functions ----------------------------------------------------------------------------------------------
// Python calls these functions through its vectorcall protocol. pybind11's dispatch would take a third of the time of a
// small call.

void check_count(const char* name, Py_ssize_t count, std::size_t expected) {
    if (count != static_cast<Py_ssize_t>(expected))
        fail<py::type_error>(name, " takes ", expected, " positional arguments, got ", count);
}

/// The operation that a function calls, from the function's capsule.
const Operation& operation_of(PyObject* self) {
    return *static_cast<const Operation*>(PyCapsule_GetPointer(self, nullptr));
}

PyObject* call_operation(PyObject* self, PyObject* const* values, Py_ssize_t count) {
    return guarded([&] {
        const Operation& operation = operation_of(self);
        check_count(operation.name, count, operation.inputs.size() + operation.attributes.size() + 1);
        return run_operation(operation, values);
    });
}

template <Dims Encode(const Attributes&)>
PyObject* geometry(PyObject* self, PyObject* const* values, Py_ssize_t count) {
    return guarded([&]() -> py::object {
        const AttributeSet& set = operation_of(self).attributes;
        check_count("a geometry function", count, set.size());
        Attributes attributes;
        read_attributes(set, PositionalAttributes(set, values), attributes, true);
        return py::cast(Encode(attributes));
    });
}

/// The code and the attributes of an op of a graph: (code, activation, epsilon). Such ops may have every activation.
PyObject* elementwise_attributes(PyObject* self, PyObject* const* values, Py_ssize_t count) {
    return guarded([&]() -> py::object {
        const AttributeSet& set = operation_of(self).attributes;
        check_count("a geometry", count, set.size());
        Attributes attributes;
        read_attributes(set, PositionalAttributes(set, values), attributes);
        return py::make_tuple(encode_elementwise(attributes), show_activation(attributes.activation),
                              show_real(attributes.epsilon));
    });
}

using Function = PyObject* (*)(PyObject*, PyObject* const*, Py_ssize_t);

void add_function(py::module_& module, const char* name, Function function, const Operation& operation) {
    static std::deque<PyMethodDef> definitions; // functions point to its elements
    definitions.push_back(
        {name, reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function)), METH_FASTCALL, nullptr});
    const py::capsule self(&operation);
    const py::object module_name = module.attr("__name__");
    module.add_object(
        name, py::reinterpret_steal<py::object>(PyCFunction_NewEx(&definitions.back(), self.ptr(), module_name.ptr())));
}

// ---- The table, for tests and tools ------------------------------------------------------------------------------

template <class Item>
py::list describe_items(const std::vector<Item>& items) {
    py::list result;
    for (const Item& item : items) {
        py::dict entry;
        entry["name"] = item.name;
        entry["kind"] = name_of(item.kind);
        result.append(entry);
    }
    return result;
}

py::list describe_table() {
    py::list result;
    for (const Operation& operation : operations()) {
        py::list attributes, geometries;
        for (std::size_t i = 0; i < attribute_count; ++i)
            if (operation.attributes.has(static_cast<Attribute>(i)))
                attributes.append(name_of(static_cast<Attribute>(i)));
        const Geometry geometry = operation.geometry;
        if (geometry == Geometry::elementwise) geometries.append("elementwise");
        if (geometry == Geometry::convolution || geometry == Geometry::both) geometries.append("convolution");
        if (geometry == Geometry::pooling || geometry == Geometry::both) geometries.append("pooling");
        py::dict entry;
        entry["name"] = operation.name;
        entry["inputs"] = describe_items(operation.inputs);
        entry["graph_inputs"] = operation.graph_inputs();
        entry["attributes"] = attributes;
        entry["geometries"] = geometries;
        entry["outputs"] = describe_items(operation.outputs);
        result.append(entry);
    }
    return result;
}

} // namespace

void add_operations(py::module_& module) {
    for (const Operation& operation : operations()) add_function(module, operation.name, call_operation, operation);
    module.def("operations", describe_table);
}

void add_geometries(py::module_& module) {
    add_function(module, "conv_geometry", geometry<encode_convolution>, *find_operation("conv2d"));
    add_function(module, "pool_geometry", geometry<encode_pooling>, *find_operation("max_pool2d_with_argmax"));
    add_function(module, "avg_pool_geometry", geometry<encode_pooling>, *find_operation("avg_pool2d"));
    add_function(module, "batch_norm_attributes", elementwise_attributes, *find_operation("batch_norm"));
    add_function(module, "activation_attributes", elementwise_attributes, *find_operation("activate"));
}

} // namespace fastconv
