// The NumPy face: from Python objects to the numbers and pointers of the C++ API, and back. No arithmetic.
//
// What only Python can see is checked here (types, dtypes, memory layout, overlap); every rule about shapes and sizes
// is the core's. TypeError: an argument of the wrong kind. ValueError: the right kind with a wrong value.
#include "fastconv/convolution.h"
#include "fastconv/pooling.h"
#include "fastconv/threads.h"
#include "geometry_code.h"

#include <pybind11/gil_safe_call_once.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace py = pybind11;

namespace fastconv {
namespace {

template <class Error, class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
    std::ostringstream text;
    (text << ... << parts);
    throw Error(text.str());
}

std::string type_name(py::handle value) { return py::type::of(value).attr("__name__").cast<std::string>(); }

// What an error message says of a wrong value: its repr, unless that is long or fails.
std::string describe(py::handle value) {
    if (!py::isinstance<py::array>(value)) {
        try {
            std::string text = py::repr(value).cast<std::string>();
            if (text.size() <= 80) {
                return text;
            }
        } catch (const py::error_already_set&) {
            // Python refuses the repr of an int with thousands of digits.
        }
    }
    return "an object of type " + type_name(value);
}

// ---- Words and numbers ----------------------------------------------------------------------------------------------

bool is_sequence(py::handle value) {
    if (py::isinstance<py::array>(value)) {
        return py::reinterpret_borrow<py::array>(value).ndim() > 0;
    }
    return PySequence_Check(value.ptr()) && !PyUnicode_Check(value.ptr()) && !PyBytes_Check(value.ptr());
}

std::vector<py::object> items(py::handle sequence) {
    std::vector<py::object> result;
    for (const py::handle item : sequence) {
        result.push_back(py::reinterpret_borrow<py::object>(item));
    }
    return result;
}

// A bool has an index too, NumPy 1.26's with a warning, but is never meant as a number here.
bool is_bool(py::handle value) {
    const std::string_view type = Py_TYPE(value.ptr())->tp_name;
    return PyBool_Check(value.ptr()) || type == "numpy.bool" || type == "numpy.bool_";
}

std::int64_t integer(const char* name, py::handle value) {
    const auto index = py::reinterpret_steal<py::object>(is_bool(value) ? nullptr : PyNumber_Index(value.ptr()));
    if (!index) {
        if (PyErr_Occurred() != nullptr && PyErr_ExceptionMatches(PyExc_TypeError) == 0) {
            throw py::error_already_set();
        }
        PyErr_Clear();
        fail<py::type_error>(name, ": expected an integer, got ", describe(value));
    }
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
    if (overflow != 0) {
        fail<py::value_error>(name, ": expected a number that fits in 64 bits, got ", describe(value));
    }
    return number;
}

bool boolean(const char* name, py::handle value) {
    if (!is_bool(value)) {
        fail<py::type_error>(name, " must be True or False, got ", describe(value));
    }
    return value.cast<bool>();
}

// An int, or a sequence of ints.
Dims integers(const char* name, py::handle value) {
    if (!is_sequence(value)) {
        return {integer(name, value)};
    }
    Dims result;
    for (const py::object& item : items(value)) {
        result.push_back(integer(name, item));
    }
    return result;
}

// A shape given as an argument. How many numbers it must have, the core knows.
Dims shape(const char* name, py::handle value) {
    if (!is_sequence(value)) {
        fail<py::type_error>(name, " must be a sequence of integers, got ", describe(value));
    }
    return integers(name, value);
}

std::string text_of(py::handle value) {
    Py_ssize_t size = 0;
    const char* text = PyUnicode_AsUTF8AndSize(value.ptr(), &size);
    if (text == nullptr) {
        throw py::error_already_set(); // a lone surrogate: UnicodeEncodeError, which is a ValueError
    }
    return {text, static_cast<std::size_t>(size)};
}

std::string word(const char* name, const char* choices, py::handle value) {
    if (!PyUnicode_Check(value.ptr())) {
        fail<py::type_error>(name, " must be ", choices, ", got ", describe(value));
    }
    return text_of(value);
}

Activation read_activation(py::handle value) {
    if (value.is_none()) {
        return Activation::linear;
    }
    return parse_activation(word("activation", "None, 'linear' or 'relu'", value));
}

DataFormat read_format(py::handle value) { return parse_data_format(word("data_format", "'NHWC' or 'NCHW'", value)); }

constexpr const char* kPaddingForms = " must be 'VALID', 'SAME', an int, (ph, pw), ((top, bottom), (left, right)) "
                                      "or four pairs in data_format order, got ";

Padding read_padding(py::handle value, DataFormat format, const char* name = "padding") {
    if (PyUnicode_Check(value.ptr())) {
        return parse_padding(text_of(value), name);
    }
    if (value.is_none() || PyFloat_Check(value.ptr())) {
        fail<py::type_error>(name, kPaddingForms, describe(value));
    }
    if (!is_sequence(value)) {
        const std::int64_t p = integer(name, value);
        return explicit_padding(p, p, p, p, name);
    }
    const std::vector<py::object> parts = items(value);
    std::size_t pairs = 0;
    Dims numbers; // those of all parts, in order
    for (const py::object& part : parts) {
        const Dims some = integers(name, part);
        pairs += is_sequence(part) && some.size() == 2 ? 1 : 0;
        numbers.insert(numbers.end(), some.begin(), some.end());
    }
    if (parts.size() == 2 && !is_sequence(parts[0]) && !is_sequence(parts[1])) {
        return explicit_padding(numbers[0], numbers[0], numbers[1], numbers[1], name);
    }
    if (parts.size() == 2 && pairs == 2) {
        return explicit_padding(numbers[0], numbers[1], numbers[2], numbers[3], name);
    }
    if (parts.size() == 4 && pairs == 4) {
        return explicit_padding(numbers, format, name);
    }
    fail<py::value_error>(name, kPaddingForms, describe(value));
}

// ---- Arrays ---------------------------------------------------------------------------------------------------------

std::string name_of(const py::dtype& dtype) { return py::str(dtype).cast<std::string>(); }

const char* name_of(DataType dtype) { return dtype == DataType::float32 ? "float32" : "float64"; }

Dims dims_of(const py::array& array) { return {array.shape(), array.shape() + array.ndim()}; }

bool is_aligned(const py::array& array) {
    return reinterpret_cast<std::uintptr_t>(array.data()) % static_cast<std::uintptr_t>(array.itemsize()) == 0;
}

bool is_dense(const py::array& array) { return (array.flags() & py::array::c_style) != 0 && is_aligned(array); }

// The bytes from an array's lowest element to its highest.
std::pair<std::uintptr_t, std::uintptr_t> extent(const py::array& array) {
    auto low = reinterpret_cast<std::uintptr_t>(array.data());
    auto high = low + static_cast<std::uintptr_t>(array.itemsize());
    for (py::ssize_t i = 0; i < array.ndim(); ++i) {
        const py::ssize_t span = (array.shape(i) - 1) * array.strides(i);
        (span < 0 ? low : high) += static_cast<std::uintptr_t>(span);
    }
    return {low, high};
}

bool may_overlap(const py::array& a, const py::array& b) {
    const auto [a_low, a_high] = extent(a);
    const auto [b_low, b_high] = extent(b);
    return a.size() > 0 && b.size() > 0 && a_low < b_high && b_low < a_high;
}

py::array check_array(const char* name, py::handle value, const char* kind) {
    if (!py::isinstance<py::array>(value)) {
        fail<py::type_error>(name, " must be a NumPy array of ", kind, ", got ",
                             value.is_none() ? "None" : type_name(value), "; np.asarray makes one");
    }
    // Most arrays are no subclass, and numpy.ma is imported only for one that is.
    PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<py::object> ndarray;
    const py::object& plain =
        ndarray.call_once_and_store_result([] { return py::module_::import("numpy").attr("ndarray"); }).get_stored();
    if (!py::type::handle_of(value).is(plain) &&
        py::isinstance(value, py::module_::import("numpy.ma").attr("MaskedArray"))) {
        fail<py::type_error>(name, " must have no mask, got a masked array; ", name, ".filled(value) has none");
    }
    return py::reinterpret_borrow<py::array>(value);
}

// The arrays of one call: they share one dtype, and the output overlaps none of them.
class Arrays {
  public:
    DataType dtype() const { return dtype_; }

    /// A floating-point argument; in place where it is dense, else packed once.
    py::array input(const char* name, py::handle value) {
        const py::array array = check_array(name, value, "float32 or float64");
        const py::dtype dtype = array.dtype();
        const bool is_float32 = dtype.num() == py::dtype::num_of<float>();
        if (!is_float32 && dtype.num() != py::dtype::num_of<double>()) {
            fail<py::type_error>(name, " must be float32 or float64, got ", name_of(dtype), "; cast it with ", name,
                                 ".astype(np.float32)");
        }
        const DataType type = is_float32 ? DataType::float32 : DataType::float64;
        if (dtype.byteorder() != '=') {
            fail<py::type_error>(name, " must have the machine's byte order, got dtype ", name_of(dtype),
                                 "; cast it with ", name, ".astype(np.", name_of(type), ")");
        }
        expect(name, type);
        arrays_.emplace_back(name, array);
        return is_dense(array) ? array : py::array(array.attr("copy")("C"));
    }

    /// An argument of bytes.
    py::array bytes(const char* name, py::handle value) {
        const py::array array = check_array(name, value, "uint8");
        if (array.dtype().num() != py::dtype::num_of<std::uint8_t>()) {
            fail<py::type_error>(name, " must be uint8, got ", name_of(array.dtype()));
        }
        arrays_.emplace_back(name, array);
        return is_dense(array) ? array : py::array(array.attr("copy")("C"));
    }

    /// An argument of this type has come: the same as those before?
    void expect(const char* name, DataType type) {
        if (!first_.empty() && type != dtype_) {
            fail<py::type_error>(name, " is ", name_of(type), " but ", first_, " is ", name_of(dtype_),
                                 "; cast one of them, for example with ", name, ".astype(np.", name_of(dtype_), ")");
        }
        if (first_.empty()) {
            first_ = name;
        }
        dtype_ = type;
    }

    /// The caller's `out` if there is one, else a new array.
    py::array output(const char* name, py::handle value, const Dims& dims) {
        return output(name, value, dims,
                      dtype_ == DataType::float32 ? py::dtype::of<float>() : py::dtype::of<double>());
    }

    py::array output(const char* name, py::handle value, const Dims& dims, const py::dtype& dtype) {
        if (value.is_none()) {
            return py::array(dtype, dims);
        }
        const py::array array = check_array(name, value, "the result's shape and dtype");
        if (!array.dtype().is(dtype) && !array.dtype().equal(dtype)) {
            fail<py::type_error>(name, " must have dtype ", name_of(dtype), ", got ", name_of(array.dtype()));
        }
        check_dims(name, dims_of(array), dims, "that of the result");
        if (!array.writeable()) {
            fail<py::value_error>(name, " must be writable, got a read-only array");
        }
        if (!is_dense(array)) {
            fail<py::value_error>(name, " must be C-contiguous and aligned; np.empty makes such an array");
        }
        for (const auto& [other, input] : arrays_) {
            if (may_overlap(array, input)) {
                fail<py::value_error>(name, " must not overlap ", other, " in memory");
            }
        }
        arrays_.emplace_back(name, array); // a second output must not overlap the first
        return array;
    }

  private:
    DataType dtype_ = DataType::float32;
    std::string_view first_; // name of the argument that set it
    std::vector<std::pair<const char*, py::array>> arrays_;
};

// The members of `out`, a tuple of so many; None for each without one.
std::vector<py::object> outputs(py::handle out, std::size_t count, const char* names) {
    if (out.is_none()) {
        return std::vector<py::object>(count, py::none());
    }
    if (!py::isinstance<py::tuple>(out) || py::len(out) != count) {
        fail<py::type_error>("out must be None or the tuple (", names, "), got ", describe(out));
    }
    return items(out);
}

// ---- Convolution ----------------------------------------------------------------------------------------------------

// The keywords that all convolutions share. `algorithm` is a view: the string must outlive the result.
struct ConvKeywords {
    ConvKeywords(py::handle strides, py::handle padding, py::handle format, py::handle dilations, py::handle algorithm,
                 bool depthwise)
        : algorithm_(word("algorithm", "the name of an algorithm or 'auto'", algorithm)) {
        arguments.format = read_format(format);
        arguments.strides = parse_pair("strides", integers("strides", strides), arguments.format);
        arguments.dilations = parse_pair("dilations", integers("dilations", dilations), arguments.format);
        arguments.padding = read_padding(padding, arguments.format);
        arguments.depthwise = depthwise;
        arguments.algorithm = algorithm_;
    }
    ConvKeywords(const ConvKeywords&) = delete; // arguments points into algorithm_
    ConvKeywords& operator=(const ConvKeywords&) = delete;

    ConvArguments arguments;

  private:
    std::string algorithm_;
};

constexpr const char* kConvOutput = "the output of this convolution";

// Filters as an array, or packed.
struct Filters {
    Filters(Arrays& arrays, py::handle value) {
        if (py::isinstance<PackedFilters>(value)) {
            packed = &value.cast<const PackedFilters&>();
            arrays.expect("filters", packed->dtype());
            dims = packed->dims();
        } else {
            array = arrays.input("filters", value);
            dims = dims_of(array);
        }
    }

    const PackedFilters* packed = nullptr;
    py::array array;
    Dims dims;
};

py::array py_conv2d(py::handle input, py::handle filters, py::handle strides, py::handle padding, py::handle format,
                    py::handle dilations, py::handle algorithm, py::handle bias, py::handle activation, py::handle out,
                    bool depthwise) {
    const ConvKeywords keywords(strides, padding, format, dilations, algorithm, depthwise);
    const Activation function = read_activation(activation);
    Arrays arrays;
    const py::array x = arrays.input("input", input);
    const Filters f(arrays, filters);
    const ConvProblem problem = make_conv_problem(arrays.dtype(), dims_of(x), f.dims, keywords.arguments);
    py::array b;
    if (!bias.is_none()) {
        b = arrays.input("bias", bias);
        check_dims("bias", dims_of(b), {problem.k}, "one number for each output channel");
    }
    py::array y = arrays.output("out", out, problem.output_dims());
    const void* bias_data = bias.is_none() ? nullptr : b.data();
    void* y_data = y.mutable_data();
    {
        const py::gil_scoped_release release;
        if (f.packed != nullptr) {
            conv2d(problem, x.data(), *f.packed, bias_data, function, y_data);
        } else {
            conv2d(problem, x.data(), f.array.data(), bias_data, function, y_data);
        }
    }
    return y;
}

// As conv2d_backprop_input, and with other names for the arguments conv2d_transpose: there `input_sizes` is called
// output_shape, may hold the two spatial numbers only, and `out_backprop` is called input.
py::array py_conv2d_backprop_input(py::handle input_sizes, py::handle filters, py::handle out_backprop,
                                   py::handle strides, py::handle padding, py::handle format, py::handle dilations,
                                   py::handle algorithm, py::handle out, bool depthwise, bool transpose) {
    ConvKeywords keywords(strides, padding, format, dilations, algorithm, depthwise);
    const char* sizes_name = transpose ? "output_shape" : "input_sizes";
    const char* gradient_name = transpose ? "input" : "out_backprop";
    keywords.arguments.input_name = sizes_name;
    Arrays arrays;
    py::array dy;
    if (transpose) { // in the order of the caller's arguments, which decides what an error message says
        dy = arrays.input(gradient_name, out_backprop);
    }
    const Filters f(arrays, filters);
    if (!transpose) {
        dy = arrays.input(gradient_name, out_backprop);
    }
    Dims sizes = shape(sizes_name, input_sizes);
    if (transpose && sizes.size() == 2) {
        for (const auto& [name, dims] : {std::pair{gradient_name, dims_of(dy)}, std::pair{"filters", f.dims}}) {
            if (dims.size() != 4) {
                fail<py::value_error>(name, " must have 4 dimensions, got ", dims.size());
            }
        }
        const bool nhwc = keywords.arguments.format == DataFormat::nhwc;
        sizes =
            nhwc ? Dims{dy.shape(0), sizes[0], sizes[1], f.dims[2]} : Dims{dy.shape(0), f.dims[2], sizes[0], sizes[1]};
    }
    const ConvProblem problem = make_conv_problem(arrays.dtype(), sizes, f.dims, keywords.arguments);
    check_dims(gradient_name, dims_of(dy), problem.output_dims(),
               transpose ? "what a convolution of output_shape with these filters gives" : kConvOutput);
    py::array dx = arrays.output("out", out, problem.input_dims());
    void* dx_data = dx.mutable_data();
    {
        const py::gil_scoped_release release;
        if (f.packed != nullptr) {
            conv2d_backprop_input(problem, *f.packed, dy.data(), dx_data);
        } else {
            conv2d_backprop_input(problem, f.array.data(), dy.data(), dx_data);
        }
    }
    return dx;
}

py::array py_conv2d_backprop_filter(py::handle input, py::handle filter_sizes, py::handle out_backprop,
                                    py::handle strides, py::handle padding, py::handle format, py::handle dilations,
                                    py::handle algorithm, py::handle out, bool depthwise) {
    ConvKeywords keywords(strides, padding, format, dilations, algorithm, depthwise);
    keywords.arguments.filters_name = "filter_sizes";
    Arrays arrays;
    const py::array x = arrays.input("input", input);
    const py::array dy = arrays.input("out_backprop", out_backprop);
    const ConvProblem problem =
        make_conv_problem(arrays.dtype(), dims_of(x), shape("filter_sizes", filter_sizes), keywords.arguments);
    check_dims("out_backprop", dims_of(dy), problem.output_dims(), kConvOutput);
    py::array df = arrays.output("out", out, problem.filter_dims());
    void* df_data = df.mutable_data();
    {
        const py::gil_scoped_release release;
        conv2d_backprop_filter(problem, x.data(), dy.data(), df_data);
    }
    return df;
}

constexpr const char* kPackedFilters = R"(Filters that stay, packed once instead of in every call.

Give it to `conv2d`, `conv2d_backprop_input`, `conv2d_transpose` or `depthwise_conv2d` in place of the filters: the
first call of each geometry packs (for Winograd's algorithm: transforms) them, later ones reuse that. It holds a copy,
so that changing the array afterwards changes nothing here: make a new one then. Any number of threads may use it.

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

std::unique_ptr<PackedFilters> py_packed_filters(py::handle filters) {
    Arrays arrays;
    const py::array array = arrays.input("filters", filters);
    if (array.ndim() != 4) {
        fail<py::value_error>("filters must have 4 dimensions, got ", array.ndim());
    }
    return std::make_unique<PackedFilters>(arrays.dtype(), dims_of(array), array.data());
}

py::dict py_explain(py::handle input_sizes, py::handle filter_sizes, py::handle strides, py::handle padding,
                    py::handle format, py::handle dilations, py::handle algorithm, bool double_precision,
                    const std::string& direction, bool depthwise) {
    ConvKeywords keywords(strides, padding, format, dilations, algorithm, depthwise);
    keywords.arguments.input_name = "input_sizes";
    keywords.arguments.filters_name = "filter_sizes";
    const ConvProblem problem =
        make_conv_problem(double_precision ? DataType::float64 : DataType::float32, shape("input_sizes", input_sizes),
                          shape("filter_sizes", filter_sizes), keywords.arguments);
    const Direction way = direction == "forward"          ? Direction::forward
                          : direction == "input gradient" ? Direction::input_gradient
                                                          : Direction::filter_gradient;
    const Explanation found = explain(problem, way);
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

// ---- Pooling --------------------------------------------------------------------------------------------------------

/// `arguments` holds their names.
PoolArguments pool_arguments(PoolArguments arguments, py::handle ksize, py::handle strides, py::handle padding,
                             DataFormat format) {
    arguments.format = format;
    arguments.ksize = parse_pair("ksize", integers("ksize", ksize), format);
    arguments.strides = strides.is_none()
                            ? arguments.ksize
                            : parse_pair(arguments.strides_name, integers(arguments.strides_name, strides), format);
    arguments.padding = read_padding(padding, format, arguments.padding_name);
    return arguments;
}

PoolArguments pool_keywords(py::handle ksize, py::handle strides, py::handle padding, py::handle format) {
    return pool_arguments({}, ksize, strides, padding, read_format(format));
}

constexpr const char* kPoolOutput = "the output of this pooling";

py::array py_max_pool2d(py::handle input, py::handle ksize, py::handle strides, py::handle padding, py::handle format,
                        py::handle out) {
    const PoolArguments arguments = pool_keywords(ksize, strides, padding, format);
    Arrays arrays;
    const py::array x = arrays.input("input", input);
    const PoolProblem problem = make_pool_problem(arrays.dtype(), dims_of(x), arguments);
    py::array y = arrays.output("out", out, problem.output_dims());
    void* y_data = y.mutable_data();
    {
        const py::gil_scoped_release release;
        max_pool2d(problem, x.data(), y_data, nullptr, false);
    }
    return y;
}

py::tuple py_max_pool2d_with_argmax(py::handle input, py::handle ksize, py::handle strides, py::handle padding,
                                    py::handle format, py::handle include_batch_in_index, py::handle out) {
    const PoolArguments arguments = pool_keywords(ksize, strides, padding, format);
    const bool include_batch = boolean("include_batch_in_index", include_batch_in_index);
    const std::vector<py::object> outs = outputs(out, 2, "output, argmax");
    Arrays arrays;
    const py::array x = arrays.input("input", input);
    const PoolProblem problem = make_pool_problem(arrays.dtype(), dims_of(x), arguments);
    py::array y = arrays.output("out[0]", outs[0], problem.output_dims());
    py::array argmax = arrays.output("out[1]", outs[1], problem.output_dims(), py::dtype::of<std::int64_t>());
    void* y_data = y.mutable_data();
    auto* argmax_data = static_cast<std::int64_t*>(argmax.mutable_data());
    {
        const py::gil_scoped_release release;
        max_pool2d(problem, x.data(), y_data, argmax_data, include_batch);
    }
    return py::make_tuple(y, argmax);
}

py::array py_max_pool2d_grad(py::handle orig_input, py::handle orig_output, py::handle grad, py::handle ksize,
                             py::handle strides, py::handle padding, py::handle format, py::handle out) {
    PoolArguments arguments = pool_keywords(ksize, strides, padding, format);
    arguments.input_name = "orig_input";
    Arrays arrays;
    const py::array x = arrays.input("orig_input", orig_input);
    const py::array y = arrays.input("orig_output", orig_output);
    const py::array dy = arrays.input("grad", grad);
    const PoolProblem problem = make_pool_problem(arrays.dtype(), dims_of(x), arguments);
    check_dims("orig_output", dims_of(y), problem.output_dims(), kPoolOutput);
    check_dims("grad", dims_of(dy), problem.output_dims(), kPoolOutput);
    py::array dx = arrays.output("out", out, problem.input_dims());
    void* dx_data = dx.mutable_data();
    {
        const py::gil_scoped_release release;
        max_pool2d_grad(problem, x.data(), dy.data(), dx_data);
    }
    return dx;
}

py::array py_avg_pool2d(py::handle input, py::handle ksize, py::handle strides, py::handle padding, py::handle format,
                        py::handle out) {
    const PoolArguments arguments = pool_keywords(ksize, strides, padding, format);
    Arrays arrays;
    const py::array x = arrays.input("input", input);
    const PoolProblem problem = make_pool_problem(arrays.dtype(), dims_of(x), arguments);
    py::array y = arrays.output("out", out, problem.output_dims());
    void* y_data = y.mutable_data();
    {
        const py::gil_scoped_release release;
        avg_pool2d(problem, x.data(), y_data);
    }
    return y;
}

py::array py_avg_pool2d_grad(py::handle orig_input_shape, py::handle grad, py::handle ksize, py::handle strides,
                             py::handle padding, py::handle format, py::handle out) {
    PoolArguments arguments = pool_keywords(ksize, strides, padding, format);
    arguments.input_name = "orig_input_shape";
    Arrays arrays;
    const py::array dy = arrays.input("grad", grad);
    const PoolProblem problem =
        make_pool_problem(arrays.dtype(), shape("orig_input_shape", orig_input_shape), arguments);
    check_dims("grad", dims_of(dy), problem.output_dims(), kPoolOutput);
    py::array dx = arrays.output("out", out, problem.input_dims());
    void* dx_data = dx.mutable_data();
    {
        const py::gil_scoped_release release;
        avg_pool2d_grad(problem, dy.data(), dx_data);
    }
    return dx;
}

// ---- A convolution and the max-pooling behind it --------------------------------------------------------------------

/// In every data format.
Dims taps_dims(const PoolProblem& pool) { return {pool.n, pool.p, pool.q, pool.c}; }

// The pooling's own arguments of a call that is a convolution's, too.
PoolArguments pool_behind(py::handle ksize, py::handle strides, py::handle padding, DataFormat format) {
    PoolArguments names;
    names.input_name = "the output of the convolution";
    names.strides_name = "pool_strides";
    names.padding_name = "pool_padding";
    names.output_name = "the max-pooling's output";
    return pool_arguments(names, ksize, strides, padding, format);
}

py::tuple py_conv2d_max_pool2d(py::handle input, py::handle filters, py::handle ksize, py::handle strides,
                               py::handle padding, py::handle format, py::handle dilations, py::handle pool_strides,
                               py::handle pool_padding, py::handle algorithm, py::handle bias, py::handle activation,
                               py::handle out) {
    const ConvKeywords keywords(strides, padding, format, dilations, algorithm, false);
    const PoolArguments windows = pool_behind(ksize, pool_strides, pool_padding, keywords.arguments.format);
    const Activation function = read_activation(activation);
    const std::vector<py::object> outs = outputs(out, 2, "output, taps");
    Arrays arrays;
    const py::array x = arrays.input("input", input);
    const Filters f(arrays, filters);
    const ConvProblem problem = make_conv_problem(arrays.dtype(), dims_of(x), f.dims, keywords.arguments);
    const PoolProblem pool = make_pool_problem(problem.dtype, problem.output_dims(), windows);
    py::array b;
    if (!bias.is_none()) {
        b = arrays.input("bias", bias);
        check_dims("bias", dims_of(b), {problem.k}, "one number for each output channel");
    }
    py::array y = arrays.output("out[0]", outs[0], pool.output_dims());
    py::array taps = arrays.output("out[1]", outs[1], taps_dims(pool), py::dtype::of<std::uint8_t>());
    const void* bias_data = bias.is_none() ? nullptr : b.data();
    void* y_data = y.mutable_data();
    auto* taps_data = static_cast<std::uint8_t*>(taps.mutable_data());
    {
        const py::gil_scoped_release release;
        if (f.packed != nullptr) {
            conv2d_max_pool2d(problem, pool, x.data(), *f.packed, bias_data, function, y_data, taps_data);
        } else {
            const PackedFilters once(problem.dtype, f.dims, f.array.data());
            conv2d_max_pool2d(problem, pool, x.data(), once, bias_data, function, y_data, taps_data);
        }
    }
    return py::make_tuple(y, taps);
}

py::tuple py_conv2d_max_pool2d_backprop(py::handle input, py::handle filters, py::handle taps, py::handle grad,
                                        py::handle ksize, py::handle strides, py::handle padding, py::handle format,
                                        py::handle dilations, py::handle pool_strides, py::handle pool_padding,
                                        py::handle algorithm, py::handle input_gradient, py::handle out) {
    const ConvKeywords keywords(strides, padding, format, dilations, algorithm, false);
    const PoolArguments windows = pool_behind(ksize, pool_strides, pool_padding, keywords.arguments.format);
    const bool wants_input = boolean("input_gradient", input_gradient);
    const std::vector<py::object> outs = outputs(out, 3, "input_backprop, filter_backprop, bias_backprop");
    Arrays arrays;
    const py::array x = arrays.input("input", input);
    const py::array w = arrays.input("filters", filters);
    const py::array t = arrays.bytes("taps", taps);
    const py::array dy = arrays.input("grad", grad);
    const ConvProblem problem = make_conv_problem(arrays.dtype(), dims_of(x), dims_of(w), keywords.arguments);
    const PoolProblem pool = make_pool_problem(problem.dtype, problem.output_dims(), windows);
    check_dims("taps", dims_of(t), taps_dims(pool), "(N, P, Q, K) of the pooling's output, whatever the data_format");
    check_dims("grad", dims_of(dy), pool.output_dims(), kPoolOutput);
    const auto* taps_data = static_cast<const std::uint8_t*>(t.data());
    check_tap_numbers("taps", pool, taps_data);
    if (!wants_input && !outs[0].is_none()) {
        fail<py::value_error>("out[0] must be None where input_gradient is False, got ", describe(outs[0]));
    }
    py::object dx = py::none();
    void* dx_data = nullptr;
    if (wants_input) {
        py::array array = arrays.output("out[0]", outs[0], problem.input_dims());
        dx_data = array.mutable_data();
        dx = array;
    }
    py::array dw = arrays.output("out[1]", outs[1], problem.filter_dims());
    py::array db = arrays.output("out[2]", outs[2], {problem.k});
    void* dw_data = dw.mutable_data();
    void* db_data = db.mutable_data();
    {
        const py::gil_scoped_release release;
        max_pool_backprop(problem, pool, x.data(), w.data(), taps_data, dy.data(), dx_data, dw_data, db_data);
    }
    return py::make_tuple(dx, dw, db);
}

// ---- The rest -------------------------------------------------------------------------------------------------------

// Padding of the one axis: "VALID", "SAME", p on both sides, or (before, after).
std::int64_t py_conv_output_size(py::handle size, py::handle kernel, py::handle stride, py::handle padding,
                                 py::handle dilation) {
    Padding pad;
    if (PyUnicode_Check(padding.ptr())) {
        pad = parse_padding(text_of(padding));
    } else {
        const Dims numbers = integers("padding", padding);
        if (numbers.empty() || numbers.size() > 2) {
            fail<py::value_error>("padding must be 'VALID', 'SAME', an int or (before, after), got ",
                                  describe(padding));
        }
        pad = explicit_padding(numbers.front(), numbers.back(), 0, 0);
    }
    return conv_output_size(integer("size", size), integer("kernel", kernel), integer("stride", stride), pad,
                            integer("dilation", dilation));
}

// What the ops of fastconv.tensorflow take (see geometry_code.h).
Dims py_conv_geometry(py::handle strides, py::handle padding, py::handle format, py::handle dilations,
                      py::handle algorithm, py::handle activation, bool depthwise) {
    const ConvKeywords keywords(strides, padding, format, dilations, algorithm, depthwise);
    ConvCode code{keywords.arguments, read_activation(activation)};
    return encode(code);
}

Dims py_pool_geometry(py::handle ksize, py::handle strides, py::handle padding, py::handle format,
                      py::handle include_batch_in_index) {
    return encode(PoolCode{pool_keywords(ksize, strides, padding, format),
                           boolean("include_batch_in_index", include_batch_in_index)});
}

bool py_max_pool_backprop_serves(const Dims& geometry, const Dims& input, const Dims& filters, bool double_precision) {
    return max_pool_backprop_serves(make_conv_problem(double_precision ? DataType::float64 : DataType::float32, input,
                                                      filters, decode_conv(geometry).arguments));
}

py::dict py_config() {
    const Config values = config();
    py::dict result;
    result["version"] = values.version;
    result["compiler"] = values.compiler;
    result["isa"] = values.isa;
    result["isa_available"] = values.isa_available;
    result["threads"] = values.threads;
    result["threading"] = values.threading;
    return result;
}

} // namespace

PYBIND11_MODULE(_core, module) {
    module.doc() = "The compiled core of fastconv. Use the functions of the package: they say what they take.";
    py::class_<PackedFilters> packed(module, "PackedFilters", kPackedFilters);
    packed.attr("__module__") = "fastconv";
    packed.def(py::init(&py_packed_filters), py::arg("filters"))
        .def_property_readonly("shape", [](const PackedFilters& self) { return py::tuple(py::cast(self.dims())); })
        .def_property_readonly("dtype",
                               [](const PackedFilters& self) {
                                   return self.dtype() == DataType::float32 ? py::dtype::of<float>()
                                                                            : py::dtype::of<double>();
                               })
        .def("_forms", &PackedFilters::forms);
    module.def("explain", py_explain);
    module.def("conv2d", py_conv2d);
    module.def("conv2d_backprop_input", py_conv2d_backprop_input);
    module.def("conv2d_backprop_filter", py_conv2d_backprop_filter);
    module.def("max_pool2d", py_max_pool2d);
    module.def("max_pool2d_with_argmax", py_max_pool2d_with_argmax);
    module.def("max_pool2d_grad", py_max_pool2d_grad);
    module.def("avg_pool2d", py_avg_pool2d);
    module.def("avg_pool2d_grad", py_avg_pool2d_grad);
    module.def("conv2d_max_pool2d", py_conv2d_max_pool2d);
    module.def("conv2d_max_pool2d_backprop", py_conv2d_max_pool2d_backprop);
    module.def("conv_output_size", py_conv_output_size);
    module.def("conv_geometry", py_conv_geometry);
    module.def("pool_geometry", py_pool_geometry);
    module.def("max_pool_backprop_serves", py_max_pool_backprop_serves);
    module.def("set_num_threads", [](py::handle n) { set_num_threads(integer("n", n)); });
    module.def("get_num_threads", get_num_threads);
    module.def("limit_host_threads", [](py::handle n) { limit_host_threads(integer("n", n)); });
    module.def("config", py_config);
}

} // namespace fastconv
