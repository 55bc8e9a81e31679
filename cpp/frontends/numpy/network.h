// Programs of frozen networks as a Python class.
#pragma once

#include "arguments.h"

namespace fastconv {

/// Adds NetworkProgram and network_operations().
void add_network(py::module_& module);

} // namespace fastconv
