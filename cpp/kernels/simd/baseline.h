// What every CPU of the architecture has: x86-64's SSE2, or what the compiler makes of vectors of 16 bytes.
#pragma once

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

constexpr int vector_bytes = 16;
constexpr int registers = 16;
constexpr bool has_permute = false; // permutations by a vector of lanes are one or two instructions
constexpr bool has_masks = false;   // partial loads and stores take no longer than whole ones

} // namespace
} // namespace FASTCONV_ISA
} // namespace fastconv

#include "kernels/simd/vectors.h"
