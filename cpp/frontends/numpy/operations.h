// The operations in the operation table (operations/table.cpp) as Python functions, and functions that encode
// attributes for the TensorFlow ops.
#pragma once

#include "arguments.h"

namespace fastconv {

/// Adds a function for each operation: (*inputs, *attributes, out). Also adds operations(), which describes the table.
void add_operations(py::module_& module);

/// Adds conv_geometry(*attributes of conv2d), pool_geometry(*attributes of max_pool2d_with_argmax) and
/// avg_pool_geometry(*attributes of avg_pool2d).
void add_geometries(py::module_& module);

} // namespace fastconv
