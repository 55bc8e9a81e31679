// The core's CPU-specific code: the floating-point state, and the pause of a spinning thread. A new architecture adds
// its branch below.
#pragma once

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace fastconv {

#if defined(__x86_64__)
using FloatingPointControl = unsigned; // MXCSR
/// Round to nearest; underflow and denormals are zero; no exception traps.
constexpr FloatingPointControl kKernelControl = 0x1F80u | 0x8000u | 0x0040u;
inline FloatingPointControl floating_point_control() { return _mm_getcsr(); }
inline void set_floating_point_control(FloatingPointControl control) { _mm_setcsr(control); }

/// Tells the CPU that this thread spins.
inline void cpu_pause() { _mm_pause(); }
#else // nothing known: denormals are computed as the caller's thread does
struct FloatingPointControl {};
constexpr FloatingPointControl kKernelControl{};
inline FloatingPointControl floating_point_control() { return {}; }
inline void set_floating_point_control(FloatingPointControl) {}

inline void cpu_pause() {}
#endif

/// One floating-point state inside every kernel region: the constructor sets it, the destructor restores the caller's.
/// Without it the bits would depend on the thread that computes: TensorFlow's graph threads flush denormals, its eager
/// thread does not.
class FloatingPointState {
  public:
    FloatingPointState() : saved_(floating_point_control()) { set_floating_point_control(kKernelControl); }
    ~FloatingPointState() { set_floating_point_control(saved_); }
    FloatingPointState(const FloatingPointState&) = delete;
    FloatingPointState& operator=(const FloatingPointState&) = delete;

  private:
    FloatingPointControl saved_;
};

} // namespace fastconv
