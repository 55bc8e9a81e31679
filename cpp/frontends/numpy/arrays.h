// NumPy's arrays as the dense buffers of the C++ API.
#pragma once

#include "arguments.h"
#include "fastconv/operations.h"

#include <pybind11/numpy.h>

#include <array>
#include <string_view>

namespace fastconv {

/// Does what the first call would do once. A fork() during that call would leave its lock locked in the child.
void prepare_arrays();

Dims dims_of(const py::array& array);

/// The arrays of one call: they share one dtype, and the outputs overlap nothing.
class Arrays {
  public:
    DataType dtype() const { return dtype_; }

    /// A floating-point argument; in place where it is dense, else packed once.
    py::array input(const char* name, py::handle value);
    /// An argument of uint8.
    py::array bytes(const char* name, py::handle value);
    /// An argument of this type has come: does it agree with those before?
    void expect(const char* name, DataType type);
    /// The caller's array if there is one, else a new one.
    py::array output(const char* name, py::handle value, const Dims& dims, OutputKind kind);

  private:
    struct Named {
        std::string_view name;
        py::object array; // an empty py::array would be an allocation
    };
    void keep(std::string_view name, const py::array& array) { kept_[count_++] = {name, array}; }
    void check_output(const char* name, const py::array& array, const Dims& dims, const py::dtype& dtype) const;

    DataType dtype_ = DataType::float32;
    std::string_view first_; // name of the argument that set it
    std::array<Named, most_inputs + most_outputs> kept_;
    std::size_t count_ = 0;
};

} // namespace fastconv
