// The core's CPU-specific code: the floating-point state, and the pause of a spinning thread. A new architecture adds
// its branch below.
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

namespace fastconv {

#if defined(__x86_64__)
using FloatingPointControl = std::uint32_t; // MXCSR
/// Round to nearest; underflow and denormals are zero; no exception traps.
constexpr FloatingPointControl kKernelControl = 0x1F80u | 0x8000u | 0x0040u;
constexpr FloatingPointControl kControlBits = 0xFFC0u; // the other bits record exceptions
inline FloatingPointControl floating_point_control() { return _mm_getcsr(); }
inline void set_floating_point_control(FloatingPointControl control) { _mm_setcsr(control); }

/// Tells the CPU that this thread is spinning.
inline void cpu_pause() { _mm_pause(); }
#elif defined(__aarch64__)
using FloatingPointControl = std::uint64_t; // FPCR
/// As above. Only FZ (flush to zero) is set. The other bits are 0, for round to nearest and no traps.
constexpr FloatingPointControl kKernelControl = 1u << 24;
constexpr FloatingPointControl kControlBits = ~FloatingPointControl{0};
inline FloatingPointControl floating_point_control() {
    FloatingPointControl control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control)::"memory");
    return control;
}
inline void set_floating_point_control(FloatingPointControl control) {
    __asm__ volatile("msr fpcr, %0" ::"r"(control) : "memory");
}

inline void cpu_pause() { __asm__ volatile("yield"); }
#else // other CPUs: denormals are treated as in the caller's thread
using FloatingPointControl = std::uint32_t;
constexpr FloatingPointControl kKernelControl = 0, kControlBits = 0;
inline FloatingPointControl floating_point_control() { return 0; }
inline void set_floating_point_control(FloatingPointControl) {}

inline void cpu_pause() {}
#endif

/// The floating-point state of all kernels: the constructor sets it, and the destructor restores the caller's state.
/// Without it, the bits of a result would depend on the thread: TensorFlow's graph threads flush denormals, but its
/// eager thread does not. If objects are nested, the inner ones find the state already set and only read it.
class FloatingPointState {
  public:
    FloatingPointState() : saved_(floating_point_control()), changed_((saved_ & kControlBits) != kKernelControl) {
        if (changed_) set_floating_point_control(kKernelControl);
    }
    ~FloatingPointState() {
        if (changed_) set_floating_point_control(saved_);
    }
    FloatingPointState(const FloatingPointState&) = delete;
    FloatingPointState& operator=(const FloatingPointState&) = delete;

  private:
    FloatingPointControl saved_;
    bool changed_;
};

} // namespace fastconv
