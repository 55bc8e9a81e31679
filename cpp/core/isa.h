// The kernels of the instruction set in use: the best one that the CPU supports, or the one that FASTCONV_ISA names.
#pragma once

#include "kernels/table.h"

#include <string>
#include <vector>

namespace fastconv {

/// Throws InvalidArgument if FASTCONV_ISA does not name an instruction set that this CPU supports.
const KernelTable& kernel_table();

template <class T>
const KernelsOf<T>& kernels();
template <>
inline const KernelsOf<float>& kernels<float>() {
    return kernel_table().f32;
}
template <>
inline const KernelsOf<double>& kernels<double>() {
    return kernel_table().f64;
}

std::string isa_in_use();
std::vector<std::string> isa_available(); // the slowest first

} // namespace fastconv
