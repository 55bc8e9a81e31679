// What every CPU of the architecture has: SSE2 on x86-64. On other architectures, the compiler implements vectors of 16
// bytes.
#pragma once

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr int vector_bytes = 16;
constexpr int registers = 16;
constexpr bool has_permute = false; // whether a permutation by a vector of lanes is one or two instructions
constexpr bool has_masks = false;   // whether partial loads and stores are as fast as whole ones

} // namespace
} // namespace FASTCONV_ISA
} // namespace fastconv

#include "kernels/simd/vectors.h"
