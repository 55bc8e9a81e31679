#include "arguments.h"

#include <pybind11/numpy.h>

#include <vector>

namespace fastconv {
namespace {

bool is_sequence(py::handle value) {
    if (py::isinstance<py::array>(value)) return py::reinterpret_borrow<py::array>(value).ndim() > 0;
    return PySequence_Check(value.ptr()) && !PyUnicode_Check(value.ptr()) && !PyBytes_Check(value.ptr());
}

std::vector<py::object> items(py::handle sequence) {
    std::vector<py::object> result;
    for (const py::handle item : sequence) result.push_back(py::reinterpret_borrow<py::object>(item));
    return result;
}

const char* choices(Attribute attribute) {
    switch (attribute) {
    case Attribute::algorithm:
        return "the name of an algorithm or 'auto'";
    default:
        return "'NHWC' or 'NCHW'";
    }
}

constexpr const char* kPaddingForms = " must be 'VALID', 'SAME', an int, (ph, pw), ((top, bottom), (left, right)) "
                                      "or four pairs in data_format order, got ";

Padding read_pads(const char* name, py::handle value, DataFormat format) {
    const std::vector<py::object> parts = items(value);
    std::size_t pairs = 0;
    Dims numbers; // the numbers of all parts, in order
    for (const py::object& part : parts) {
        const Dims some = integers(name, part);
        pairs += is_sequence(part) && some.size() == 2 ? 1 : 0;
        numbers.insert(numbers.end(), some.begin(), some.end());
    }
    if (parts.size() == 2 && !is_sequence(parts[0]) && !is_sequence(parts[1]))
        return explicit_padding(numbers[0], numbers[0], numbers[1], numbers[1], name);
    if (parts.size() == 2 && pairs == 2) return explicit_padding(numbers[0], numbers[1], numbers[2], numbers[3], name);
    if (parts.size() == 4 && pairs == 4) return explicit_padding(numbers, format, name);
    fail<py::value_error>(name, kPaddingForms, describe(value));
}

} // namespace

bool is_bool(py::handle value) {
    const std::string_view type = Py_TYPE(value.ptr())->tp_name;
    return PyBool_Check(value.ptr()) || type == "numpy.bool" || type == "numpy.bool_";
}

std::string type_name(py::handle value) { return py::type::of(value).attr("__name__").cast<std::string>(); }

std::string describe(py::handle value) {
    if (!py::isinstance<py::array>(value)) {
        try {
            std::string text = py::repr(value).cast<std::string>();
            if (text.size() <= 80) return text;
        } catch (const py::error_already_set&) {
            // Python refuses the repr of an int with thousands of digits.
        }
    }
    return "an object of type " + type_name(value);
}

std::int64_t integer(const char* name, py::handle value) {
    const auto index = py::reinterpret_steal<py::object>(is_bool(value) ? nullptr : PyNumber_Index(value.ptr()));
    if (!index) {
        if (PyErr_Occurred() != nullptr && PyErr_ExceptionMatches(PyExc_TypeError) == 0) throw py::error_already_set();
        PyErr_Clear();
        fail<py::type_error>(name, ": expected an integer, got ", describe(value));
    }
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
    if (overflow != 0) fail<py::value_error>(name, ": expected a number that fits in 64 bits, got ", describe(value));
    return number;
}

bool boolean(const char* name, py::handle value) {
    if (PyBool_Check(value.ptr())) return value.ptr() == Py_True; // the usual case
    if (!is_bool(value)) fail<py::type_error>(name, " must be True or False, got ", describe(value));
    return value.cast<bool>();
}

double real(const char* name, py::handle value, const char* what) {
    const double number = is_bool(value) ? -1 : PyFloat_AsDouble(value.ptr());
    if (is_bool(value) || PyErr_Occurred() != nullptr) {
        const bool too_large = PyErr_ExceptionMatches(PyExc_OverflowError) != 0;
        PyErr_Clear();
        if (too_large) fail<py::value_error>(name, " must fit in float64, got a larger integer");
        fail<py::type_error>(name, ": expected ", what, ", got ", describe(value));
    }
    return number;
}

Dims integers(const char* name, py::handle value) {
    if (!is_sequence(value)) return {integer(name, value)};
    Dims result;
    for (const py::object& item : items(value)) result.push_back(integer(name, item));
    return result;
}

Dims shape(const char* name, py::handle value) {
    if (!is_sequence(value)) fail<py::type_error>(name, " must be a sequence of integers, got ", describe(value));
    if (py::isinstance<py::array>(value) && py::reinterpret_borrow<py::array>(value).ndim() > 1)
        fail<py::type_error>(name, " must be a sequence of integers, got an array; pass its shape");
    return integers(name, value);
}

std::string_view text_of(py::handle value) {
    Py_ssize_t size = 0;
    const char* text = PyUnicode_AsUTF8AndSize(value.ptr(), &size);
    if (text == nullptr) throw py::error_already_set(); // the text has a lone surrogate; the error is a ValueError
    return {text, static_cast<std::size_t>(size)};
}

Pair read_pair(const char* name, py::handle value, DataFormat format) {
    if (PyLong_CheckExact(value.ptr())) { // the usual case; faster than a list of one number
        int overflow = 0;
        const long long number = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
        if (overflow == 0 && number >= 1) return {number, number};
    }
    return parse_pair(name, integers(name, value), format);
}

ActivationFunction read_activation(py::handle value, bool graph_only) {
    if (PyUnicode_Check(value.ptr())) return make_activation(text_of(value), {}, graph_only);
    const std::vector<py::object> parts =
        PyTuple_Check(value.ptr()) || PyList_Check(value.ptr()) ? items(value) : std::vector<py::object>{};
    if (parts.empty() || !PyUnicode_Check(parts[0].ptr()))
        fail<py::type_error>("activation must be ", activation_choices(graph_only), ", got ", describe(value));
    std::vector<double> numbers;
    for (std::size_t i = 1; i < parts.size(); ++i)
        numbers.push_back(real("activation", parts[i], "a number after the name"));
    return make_activation(text_of(parts[0]), numbers, graph_only);
}

Padding read_padding(const char* name, py::handle value, DataFormat format) {
    if (PyUnicode_Check(value.ptr())) return parse_padding(text_of(value), name);
    if (value.is_none() || PyFloat_Check(value.ptr())) fail<py::type_error>(name, kPaddingForms, describe(value));
    if (is_sequence(value)) return read_pads(name, value, format);
    const std::int64_t p = integer(name, value);
    return explicit_padding(p, p, p, p, name);
}

Pair read_output_size(const char* name, py::handle value) {
    const auto size = [&](py::handle item) {
        if (item.is_none()) return kept_size;
        const std::int64_t number = integer(name, item);
        if (number < 0)
            fail<py::value_error>(name, " must not be negative, got ", number, "; use None to keep the input's size");
        return number;
    };
    Dims sizes;
    if (!is_sequence(value)) return parse_output_size(name, {size(value)});
    for (const py::object& item : items(value)) sizes.push_back(size(item));
    return parse_output_size(name, sizes);
}

std::string_view PositionalAttributes::word(Attribute attribute) const {
    const py::handle text = value(attribute);
    if (!PyUnicode_Check(text.ptr()))
        fail<py::type_error>(name_of(attribute), " must be ", choices(attribute), ", got ", describe(text));
    return text_of(text);
}

} // namespace fastconv
