// Reads words and numbers from Python objects. Raises TypeError for a wrong kind of object, and ValueError for a wrong
// value.
#pragma once

#include "fastconv/attributes.h"
#include "fastconv/text.h"

#include <pybind11/pybind11.h>

#include <string>
#include <string_view>

namespace fastconv {

namespace py = pybind11;

template <class Error, class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
    throw Error(joined(parts...));
}

std::string type_name(py::handle value);
/// A wrong value for an error message: its repr, or its type if the repr is long or fails.
std::string describe(py::handle value);

/// Whether the value is a bool of Python or NumPy. Bools have __index__ (with a warning in NumPy 1.26), but are not
/// accepted as numbers.
bool is_bool(py::handle value);
std::int64_t integer(const char* name, py::handle value);
bool boolean(const char* name, py::handle value);
double real(const char* name, py::handle value, const char* what = "a number");
/// An int, or a sequence of ints.
Dims integers(const char* name, py::handle value);
/// A shape given as an argument. The core checks how many numbers it has.
Dims shape(const char* name, py::handle value);
/// The text of a str. A view of the object's own memory.
std::string_view text_of(py::handle value);
Pair read_pair(const char* name, py::handle value, DataFormat format);
ActivationFunction read_activation(py::handle value, bool graph_only);
Padding read_padding(const char* name, py::handle value, DataFormat format);
/// An int, None, or a pair of these. None keeps the input's size.
Pair read_output_size(const char* name, py::handle value);

/// The positional attributes of a call, in the order of `enum class Attribute`. A source for read_attributes.
class PositionalAttributes {
  public:
    PositionalAttributes(const AttributeSet& set, PyObject* const* values) : set_(set), values_(values) {}

    bool given(Attribute attribute) const { return !value(attribute).is_none(); }
    std::string_view word(Attribute attribute) const;
    Pair pair(Attribute attribute, DataFormat format) const {
        return read_pair(name_of(attribute), value(attribute), format);
    }
    Padding padding(Attribute attribute, DataFormat format) const {
        return read_padding(name_of(attribute), value(attribute), format);
    }
    Dims numbers(Attribute attribute) const { return integers(name_of(attribute), value(attribute)); }
    ActivationFunction activation(bool graph_only) const {
        return read_activation(value(Attribute::activation), graph_only);
    }
    bool boolean(Attribute attribute, bool) const { return fastconv::boolean(name_of(attribute), value(attribute)); }
    Pair output_size(Attribute attribute) const { return read_output_size(name_of(attribute), value(attribute)); }
    double real(Attribute attribute, double) const { return fastconv::real(name_of(attribute), value(attribute)); }

  private:
    py::handle value(Attribute attribute) const { return values_[set_.position(attribute)]; }

    AttributeSet set_;
    PyObject* const* values_;
};

} // namespace fastconv
