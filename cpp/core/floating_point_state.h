// One floating-point state inside every kernel region: round to nearest, denormals flushed, exceptions masked. Without
// it bits would depend on which thread computes (TensorFlow's graph threads flush denormals, its eager thread does
// not).
#pragma once

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace fastconv {

/// Sets the state, and restores the caller's when it ends.
class FloatingPointState {
  public:
#if defined(__SSE2__)
    FloatingPointState() : saved_(_mm_getcsr()) { _mm_setcsr(kMaskedFlushToZeroDenormalsAreZero); }
    ~FloatingPointState() { _mm_setcsr(saved_); }
#else
    FloatingPointState() = default;
#endif
    FloatingPointState(const FloatingPointState&) = delete;
    FloatingPointState& operator=(const FloatingPointState&) = delete;

  private:
#if defined(__SSE2__)
    static constexpr unsigned kMaskedFlushToZeroDenormalsAreZero = 0x1F80u | 0x8000u | 0x0040u;
    unsigned saved_;
#endif
};

} // namespace fastconv
