// The NumPy front end. It turns Python objects into the numbers and pointers of the C++ API, and back.
//
// It checks what only Python can see: types, dtypes, memory layout and overlap. The core checks all rules about shapes
// and sizes. TypeError means an argument of the wrong kind, and ValueError a wrong value of the right kind.
#include "arrays.h"
#include "fastconv/threads.h"
#include "network.h"
#include "operations.h"

#include <pybind11/stl.h>

#include <memory>

namespace fastconv {
namespace {

constexpr const char* kPackedFilters = R"(Constant filters, which are packed once instead of in every call.

Pass this object instead of an array of filters. The first call of each geometry packs the filters, or transforms them
for Winograd's algorithm, and later calls reuse the result. The object holds a copy of the array: if the array changes,
make a new object. Several threads may use it at the same time.

Parameters
----------
filters : ndarray of shape (R, S, C/groups, K), float32 or float64

Attributes
----------
shape : tuple of four ints
dtype : numpy.dtype

Raises
------
TypeError, ValueError
    As `conv2d` does for its filters.

Examples
--------
>>> import numpy as np
>>> import fastconv
>>> filters = fastconv.PackedFilters(np.ones((3, 3, 64, 64), np.float32))
>>> images = np.ones((1, 28, 28, 64), np.float32)
>>> fastconv.conv2d(images, filters, padding="SAME").shape
(1, 28, 28, 64)
)";

std::unique_ptr<PackedFilters> pack_filters(py::handle filters) {
    Arrays arrays;
    const py::array array = arrays.input("filters", filters);
    check_array_rank("filters", dims_of(array), ArrayKind::filters, DataFormat::nhwc);
    return std::make_unique<PackedFilters>(arrays.dtype(), dims_of(array), array.data());
}

/// Calls `report` for a convolution that is described by sizes and attributes, without arrays.
template <class Result, Result (*report)(const ConvProblem&, Direction)>
Result report_on_call(py::handle input_sizes, py::handle filter_sizes, py::handle strides, py::handle padding,
                      py::handle format, py::handle dilations, py::handle algorithm, bool double_precision,
                      py::handle direction, py::handle depthwise) {
    if (!PyUnicode_Check(direction.ptr()))
        fail<py::type_error>("direction must be 'forward', 'input gradient' or 'filter gradient', got ",
                             describe(direction));
    const Direction way = parse_direction(text_of(direction));
    PyObject* const values[] = {strides.ptr(),   padding.ptr(),   format.ptr(),
                                dilations.ptr(), algorithm.ptr(), depthwise.ptr()};
    Attributes attributes;
    read_attributes(convolution_attributes, PositionalAttributes(convolution_attributes, values), attributes);
    attributes.convolution.input_name = "input_sizes";
    attributes.convolution.filters_name = "filter_sizes";
    Dims input = shape("input_sizes", input_sizes);
    const Dims filters = shape("filter_sizes", filter_sizes);
    if (input.size() == 2 && filters.size() == 4) // height and width: one image, with the channels of the filters
        input = attributes.convolution.format == DataFormat::nhwc ? Dims{1, input[0], input[1], filters[2]}
                                                                  : Dims{1, filters[2], input[0], input[1]};
    return report(make_conv_problem(double_precision ? DataType::float64 : DataType::float32, input, filters,
                                    attributes.convolution),
                  way);
}

py::dict explanation(const ConvProblem& problem, Direction direction) {
    const Explanation found = explain(problem, direction);
    py::dict result;
    result["algorithm"] = found.algorithm;
    result["kernel"] = found.kernel;
    result["isa"] = config().isa;
    result["tile"] = py::make_tuple(found.tile_pixels, found.tile_filters);
    result["tasks"] = found.tasks;
    result["threads"] = found.threads;
    result["scratch_bytes"] = found.scratch_bytes;
    result["multiplications"] = found.multiplications;
    return result;
}

/// The phases: (name, whether it is a loop, whether threads share it, (multiplications, moved values) of each task).
py::list phases(const ConvProblem& problem, Direction direction) {
    py::list result;
    for (const Phase& phase : count_tasks(problem, direction)) {
        py::list costs;
        for (const TaskCost& cost : phase.costs) costs.append(py::make_tuple(cost.multiplications, cost.moved_values));
        result.append(py::make_tuple(phase.name, phase.loop, phase.parallel(), costs));
    }
    return result;
}

/// `padding` is that of one axis: "VALID", "SAME", p on both sides, or (before, after).
std::int64_t output_size(py::handle size, py::handle kernel, py::handle stride, py::handle padding,
                         py::handle dilation) {
    Padding pad;
    if (PyUnicode_Check(padding.ptr())) {
        pad = parse_padding(text_of(padding));
    } else {
        const Dims numbers = integers("padding", padding);
        if (numbers.empty() || numbers.size() > 2)
            fail<py::value_error>("padding must be 'VALID', 'SAME', an int or (before, after), got ",
                                  describe(padding));
        pad = explicit_padding(numbers.front(), numbers.back(), 0, 0);
    }
    return conv_output_size(integer("size", size), integer("kernel", kernel), integer("stride", stride), pad,
                            integer("dilation", dilation));
}

bool serves_max_pool_backprop(const Dims& geometry, const Dims& input, const Dims& filters, bool double_precision) {
    Attributes attributes;
    decode_convolution(geometry, attributes);
    return conv2d_max_pool2d_backprop_serves(make_conv_problem(double_precision ? DataType::float64 : DataType::float32,
                                                               input, filters, attributes.convolution));
}

py::dict show_config() {
    const Config values = config();
    py::dict result;
    result["version"] = values.version;
    result["compiler"] = values.compiler;
    result["isa"] = values.isa;
    result["isa_available"] = values.isa_available;
    result["threads"] = values.threads;
    result["threading"] = values.threading;
    result["threading_available"] = values.threading_available;
    return result;
}

} // namespace

PYBIND11_MODULE(_core, module, py::mod_gil_not_used()) {
    prepare_arrays();
    module.doc() = "The compiled core of fastconv. Call the functions of the package instead; they are documented.";
    py::class_<PackedFilters> packed(module, "PackedFilters", kPackedFilters);
    packed.attr("__module__") = "fastconv";
    packed.def(py::init(&pack_filters), py::arg("filters"))
        .def_property_readonly("shape", [](const PackedFilters& self) { return py::tuple(py::cast(self.dims())); })
        .def_property_readonly("dtype", [](const PackedFilters& self) { return dtype_of(self.dtype()); })
        .def("_forms", &PackedFilters::forms);
    add_operations(module);
    add_geometries(module);
    add_network(module);
    module.def("explain", report_on_call<py::dict, explanation>);
    module.def("count_tasks", report_on_call<py::list, phases>);
    module.def("tasks_run_by", [](const py::function& function) { return tasks_run_by([&] { function(); }); });
    module.def("conv_output_size", output_size);
    module.def("conv2d_max_pool2d_backprop_serves", serves_max_pool_backprop);
    module.def("set_num_threads", [](py::handle n) { set_num_threads(integer("n", n)); });
    module.def("plans_made", [] { return config().plans_made; });
    module.def("get_num_threads", get_num_threads);
    module.def("limit_host_threads", [](py::handle n) { limit_host_threads(integer("n", n)); });
    module.def("config", show_config);
}

} // namespace fastconv
