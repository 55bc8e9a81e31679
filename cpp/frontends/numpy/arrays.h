// Turns NumPy arrays into the dense buffers of the C++ API.
#pragma once

#include "arguments.h"
#include "fastconv/operations.h"

#include <pybind11/numpy.h>

#include <array>
#include <string_view>

namespace fastconv {

/// Does the one-time work that the first call would otherwise do. A fork() during that work would leave a lock locked
/// in the child.
void prepare_arrays();

Dims dims_of(const py::array& array);

/// An argument that must have dtype `type`, which belongs to `whose` in messages. A dense array is used in place. Any
/// other is copied once.
py::array typed_input(const char* name, py::handle value, DataType type, const char* whose);
py::dtype dtype_of(DataType type);
/// A new array. The memory of a large one is kept for the next when the array dies.
py::array new_array(const py::dtype& dtype, const Dims& dims);

/// The arrays of one call. All floating-point arrays must have the same dtype. An output must not overlap another
/// array.
class Arrays {
  public:
    DataType dtype() const { return dtype_; }

    /// A floating-point argument. A dense array is used in place. Any other is copied once.
    py::array input(const char* name, py::handle value);
    /// An argument of uint8.
    py::array bytes(const char* name, py::handle value);
    /// Throws unless the arguments before this one have the same type.
    void expect(const char* name, DataType type);
    /// The caller's array, or a new array if `value` is None.
    py::array output(const char* name, py::handle value, const Dims& dims, OutputKind kind);

  private:
    struct Named {
        std::string_view name;
        py::object array; // not a py::array: even an empty one allocates memory
    };
    void keep(std::string_view name, const py::array& array) { kept_[count_++] = {name, array}; }
    void check_output(const char* name, const py::array& array, const Dims& dims, const py::dtype& dtype) const;

    DataType dtype_ = DataType::float32;
    std::string_view first_; // name of the argument that set dtype_
    std::array<Named, most_inputs + most_outputs> kept_;
    std::size_t count_ = 0;
};

} // namespace fastconv
