// exp, expm1, tanh and the normal distribution for vectors. All are built from polynomials, divisions and bit
// operations, without branches. So equal inputs give the same bits in every lane.
//
// Rounding: see activations.cpp. Results below the smallest normal number may be zero. NaN gives NaN.
#pragma once

#include "kernels/simd.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

/// The constants that differ between the types.
template <class T>
struct Numbers;

template <>
struct Numbers<float> {
    static constexpr int32_t upper_half = -4096; // clears the lower 12 bits of a mantissa
    static constexpr float round = 12582912.0f;  // adding 1.5 * 2^23 rounds to an integer
    static constexpr float exp_limit = 150;      // exp(150) * 2^shift is infinity, exp(-150) is zero
    static constexpr float expm1_limit = -30;    // expm1(-30) rounds to -1
    static constexpr float shift_from = 60;      // from here on, exp is scaled by 2^shift
    static constexpr int shift = -64;
    static constexpr float normal_limit = 15, cubic_limit = 14;
    static constexpr float log2_e = 1.44269504f, ln2_high = 0.693115234375f, ln2_low = 0.0000319461849453f;
    // (expm1(r) - r) / r^2 for |r| <= ln(2)/2. The error is at most 1e-9 of expm1(r).
    static constexpr float expm1[] = {
        0.5f, 0.1666666668f, 0.0416664642f, 0.008333310845f, 0.001393373072f, 0.0001989108046f};
    // Phi(-t) * exp(t^2/2) * (1 + t) as a polynomial in (t - 4)/(t + 4), for t <= 15. The error is at most 3e-9.
    static constexpr float tail[] = {0.4720532064f,    -0.09670346798f,  0.01399963659f,   0.0286000328f,
                                     -0.03219781535f,  0.01793944948f,   -0.005002140853f, -0.0002999187613f,
                                     0.0006908448556f, -6.673718492e-5f, -7.437454417e-5f};
    // 2*sqrt(2/pi) and 0.044715 times that, each as the sum of two numbers
    static constexpr float linear = 1.5957691669464111f, linear_rest = -4.53406804211e-8f;
    static constexpr float cubic = 0.07135481387376785f, cubic_rest = 2.39883239599e-9f;
};

template <>
struct Numbers<double> {
    static constexpr int64_t upper_half = -134217728; // clears the lower 27 bits of a mantissa
    static constexpr double round = 6755399441055744.0;
    static constexpr double exp_limit = 1100;
    static constexpr double expm1_limit = -50;
    static constexpr double shift_from = 500;
    static constexpr int shift = -512;
    static constexpr double normal_limit = 40, cubic_limit = 26;
    static constexpr double log2_e = 1.4426950408889634, ln2_high = 0.69314718055920820916,
                            ln2_low = 7.3710025651677989018e-13;
    static constexpr double expm1[] = {0.5,
                                       0.16666666666666671,
                                       0.0416666666666666698,
                                       0.00833333333332608312,
                                       0.00138888888888837112,
                                       0.000198412698750022788,
                                       0.0000248015873256774619,
                                       2.75572551700008874e-6,
                                       2.75572734787185805e-7,
                                       2.51053127296221018e-8,
                                       2.09147553258932022e-9}; // error at most 1e-18
    static constexpr double tail[] = {
        0.472053206509844681,      -0.0967034773265258147,    0.0139996347244253846,
        0.0286003640535514838,     -0.0321978374280841207,    0.0179360974796536255,
        -0.00500237859108470679,   -0.000285623097691877322,  0.000694897105064763355,
        -0.0000944302561129454738, -0.0000878531873203583384, 0.0000212500598675120436,
        0.0000136268867792075717,  -3.43222926639272937e-6,   -2.61296324723691052e-6,
        4.04534960740403658e-7,    5.52119533224264393e-7,    1.42485002339593007e-9,
        -1.11160031367018874e-7,   -1.99077979094749738e-8,   1.77618318838503682e-8,
        6.26813572535948719e-9,    -1.57622649049166212e-9,   -8.02139310026269511e-10}; // t <= 40, error at most 8e-18
    static constexpr double linear = 1.5957691216057308, linear_rest = -9.9693088091109203146e-17;
    static constexpr double cubic = 0.07135481627260025, cubic_rest = -6.1751499181553154534e-19;
};

/// coefficients[0] + coefficients[1]*x + ...
template <class T, int N>
FASTCONV_INLINE Vec<T> polynomial(Vec<T> x, const T (&coefficients)[N]) {
    Vec<T> value = broadcast(coefficients[N - 1]);
    FASTCONV_UNROLL
    for (int i = N - 2; i >= 0; --i) value = value * x + coefficients[i];
    return value;
}

template <class T>
FASTCONV_INLINE Vec<T> magnitude(Vec<T> x) {
    return x < T{0} ? -x : x;
}

/// x + rest = exponent*ln(2) + r with |r| <= ln(2)/2. Returns r.
template <class T>
FASTCONV_INLINE Vec<T> reduce(Vec<T> x, Vec<T> rest, Index<T>& exponent) {
    using N = Numbers<T>;
    const Vec<T> zero = broadcast(N::round), rounded = x * N::log2_e + N::round, n = rounded - N::round;
    exponent = (Index<T>)rounded - (Index<T>)zero;
    return ((x - n * N::ln2_high) - n * N::ln2_low) + rest;
}

template <class T>
FASTCONV_INLINE Vec<T> expm1_of_reduced(Vec<T> r) {
    return r + (r * r) * polynomial<T>(r, Numbers<T>::expm1);
}

/// exp(x + rest) * 2^shift. `rest` is so small that it does not change the exponent.
template <class T>
FASTCONV_INLINE Vec<T> exp_shifted(Vec<T> x, Vec<T> rest, Index<T> shift) {
    Index<T> exponent;
    const Vec<T> bounded = at_least(at_most(x, Numbers<T>::exp_limit), -Numbers<T>::exp_limit);
    const Vec<T> r = reduce<T>(bounded, rest, exponent);
    return times_power_of_two<T>(expm1_of_reduced<T>(r) + T{1}, exponent + shift);
}

/// For x <= 0. The relative error is small near zero, too.
template <class T>
FASTCONV_INLINE Vec<T> expm1_of_negative(Vec<T> x) {
    Index<T> exponent;
    const Vec<T> r = reduce<T>(at_least(x, Numbers<T>::expm1_limit), Vec<T>{}, exponent);
    const Vec<T> scale = power_of_two<T>(exponent);
    return scale * expm1_of_reduced<T>(r) + (scale - T{1});
}

/// x / (1 + exp(y + rest)). For large y, numerator and denominator are scaled, since exp(y) may overflow when the
/// quotient does not.
template <class T>
FASTCONV_INLINE Vec<T> over_one_plus_exp(Vec<T> x, Vec<T> y, Vec<T> rest) {
    using N = Numbers<T>;
    const Index<T> large = y > N::shift_from;
    const Index<T> shift = large & N::shift;
    const Vec<T> scale = power_of_two<T>(shift);
    return (x * scale) / (scale + exp_shifted<T>(y, rest, shift));
}

template <class T>
FASTCONV_INLINE Vec<T> tanh_of(Vec<T> x) {
    const Vec<T> t = expm1_of_negative<T>(magnitude<T>(x) * T{-2});
    const Vec<T> value = t / (t + T{2}); // tanh(-|x|)
    return x > T{0} ? -value : value;
}

/// The number with the upper half of x's mantissa. Products of two such numbers are exact.
template <class T>
FASTCONV_INLINE Vec<T> upper_half(Vec<T> x) {
    return (Vec<T>)((Index<T>)x & Numbers<T>::upper_half);
}

/// The sum of two numbers, for results that need more than one number's precision.
template <class T>
struct Twofold {
    Vec<T> value, rest;
};

/// Dekker's exact product.
template <class T>
FASTCONV_INLINE Twofold<T> product(Vec<T> a, Vec<T> b) {
    const Vec<T> a_high = upper_half<T>(a), a_low = a - a_high, b_high = upper_half<T>(b), b_low = b - b_high;
    Vec<T> value = a * b;
    keep_in_register(value); // so that no use of it becomes an FMA, which would not round a * b
    return {value, ((a_high * b_high - value) + (a_high * b_low + a_low * b_high)) + a_low * b_low};
}

/// Phi(-t) = factor*exponential for t >= 0, where Phi is the distribution function of the normal distribution. The
/// exponential is exp(-t^2/2). A polynomial approximates the factor well.
template <class T>
struct UpperTail {
    Vec<T> factor, exponential;
};

/// For t <= normal_limit.
template <class T>
FASTCONV_INLINE UpperTail<T> upper_tail(Vec<T> t) {
    const Vec<T> high = upper_half<T>(t);
    const Vec<T> exponential =
        exp_shifted<T>(high * high * T{-0.5}, (t - high) * (t + high) * T{-0.5}, Index<T>{}); // of -t^2/2
    return {polynomial<T>((t - T{4}) / (t + T{4}), Numbers<T>::tail) / (t + T{1}), exponential};
}

/// x*Phi(x): GELU.
template <class T>
FASTCONV_INLINE Vec<T> times_normal_distribution(Vec<T> x) {
    const Vec<T> t = at_most<T>(magnitude<T>(x), Numbers<T>::normal_limit);
    const UpperTail<T> tail = upper_tail<T>(t);
    const Vec<T> value = at_least<T>(x, 0) - (t * tail.factor) * tail.exponential;
    const Vec<T> minus_infinity = broadcast(static_cast<T>(-__builtin_inf()));
    return x == minus_infinity ? x - x : value; // NaN, as -inf * 0
}

/// 2*sqrt(2/pi) * (x + 0.044715*x^3). GELU's approximation with tanh is x / (1 + exp(-this)). An error of 1 ulp here
/// would become an error of many ulp in the exponential.
template <class T>
FASTCONV_INLINE Twofold<T> gelu_exponent(Vec<T> unbounded) {
    using N = Numbers<T>;
    const Vec<T> x = at_least<T>(at_most<T>(unbounded, N::cubic_limit), -N::cubic_limit);
    const Vec<T> linear = broadcast(N::linear), cubic = broadcast(N::cubic);
    const Twofold<T> square = product<T>(x, x), scaled = product<T>(square.value, cubic);
    const Vec<T> scaled_rest = scaled.rest + (square.rest * N::cubic + square.value * N::cubic_rest);
    const Vec<T> sum = linear + scaled.value, second = sum - linear;
    const Vec<T> sum_rest = ((linear - (sum - second)) + (scaled.value - second)) + (scaled_rest + N::linear_rest);
    const Twofold<T> result = product<T>(x, sum);
    return {result.value, result.rest + x * sum_rest};
}

} // namespace
} // namespace FASTCONV_ISA
} // namespace fastconv
