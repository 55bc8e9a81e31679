// The epilogue of a convolution if it is not applied in registers: y = activation(x + residual), value by value.
//
// One loop over vectors for each activation. The loop has one copy of the activation, for whole and partial vectors
// alike, so that the compiler cannot round them differently. Ceiling: memory bandwidth for the simple activations, else
// the polynomials (about 40 operations a vector) and divisions.
//
// Arguments: any number of rows, pixels and channels. Nothing needs to be aligned.
//
// Rounding: the largest error in units in the last place of the exact result is 1.5 for elu, 5 for gelu, and 3 for
// gelu_tanh, silu, sigmoid and tanh, in both types and on every instruction set (measured over all exponents: 1.1, 4.1
// and 2.5). The others round once for each of their operations.
#include "kernels/elementary_functions.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

/// Stores f(y + residual) in y for each vector of the rows.
template <class T, class F>
FASTCONV_INLINE void finish_each(const FinishRows<T>& a, const F& f) {
    const bool dense = a.y_step == a.channels; // a row is one run
    const int64_t runs = dense ? 1 : a.pixels, length = dense ? a.pixels * a.channels : a.channels;
    for (int64_t row = 0; row < a.rows; ++row) {
        for (int64_t run = 0; run < runs; ++run) {
            const ptrdiff_t start = row * a.y_row + run * a.y_step;
            for (int64_t i = 0; i < length; i += width<T>) {
                const int64_t left = length - i;
                Vec<T> value = load_some(a.x + start + i, left);
                if (a.residual) value += load_some(a.residual + start + i, left);
                store_some(a.y + start + i, f(value), left);
            }
        }
    }
}

template <class T>
void linear(const FinishRows<T>& a) {
    finish_each(a, [](Vec<T> x) __attribute__((always_inline)) { return x; });
}

template <class T>
void rectified(const FinishRows<T>& a) {
    finish_each(a, [](Vec<T> x) __attribute__((always_inline)) { return at_least<T>(x, 0); });
}

template <class T>
void leaky_relu(const FinishRows<T>& a) {
    finish_each(a, [&](Vec<T> x) __attribute__((always_inline)) { return x < T{0} ? x * a.alpha : x; });
}

template <class T>
void elu(const FinishRows<T>& a) {
    finish_each(a, [&](Vec<T> x) __attribute__((always_inline)) {
        return x < T{0} ? expm1_of_negative<T>(at_most<T>(x, 0)) * a.alpha : x;
    });
}

template <class T>
void gelu(const FinishRows<T>& a) {
    finish_each(a, [](Vec<T> x) __attribute__((always_inline)) { return times_normal_distribution<T>(x); });
}

template <class T>
void gelu_tanh(const FinishRows<T>& a) {
    finish_each(a, [](Vec<T> x) __attribute__((always_inline)) {
        const Twofold<T> exponent = gelu_exponent<T>(x);
        return over_one_plus_exp<T>(x, -exponent.value, -exponent.rest);
    });
}

template <class T>
void silu(const FinishRows<T>& a) {
    finish_each(a, [](Vec<T> x) __attribute__((always_inline)) { return over_one_plus_exp<T>(x, -x, Vec<T>{}); });
}

template <class T>
void sigmoid(const FinishRows<T>& a) {
    finish_each(a, [](Vec<T> x) __attribute__((always_inline)) {
        return T{1} / (exp_shifted<T>(-x, Vec<T>{}, Index<T>{}) + T{1});
    });
}

template <class T>
void hard_sigmoid(const FinishRows<T>& a) {
    finish_each(a, [&](Vec<T> x)
                       __attribute__((always_inline)) { return at_most<T>(at_least<T>(x * a.alpha + a.beta, 0), 1); });
}

template <class T>
void hard_swish(const FinishRows<T>& a) {
    finish_each(a, [&](Vec<T> x) __attribute__((always_inline)) {
        return x * at_most<T>(at_least<T>(x * a.alpha + a.beta, 0), 1);
    });
}

template <class T>
void hyperbolic_tangent(const FinishRows<T>& a) {
    finish_each(a, [](Vec<T> x) __attribute__((always_inline)) { return tanh_of<T>(x); });
}

template <class T>
void clip(const FinishRows<T>& a) {
    finish_each(a,
                [&](Vec<T> x) __attribute__((always_inline)) { return at_most<T>(at_least<T>(x, a.alpha), a.beta); });
}

template <class T>
void add_to(KernelsOf<T>& kernels) {
    // In the order of enum class Activation (fastconv/types.h). ReLU6 is a clip.
    void (*const all[activation_kernels])(const FinishRows<T>&) = {
        linear<T>,  rectified<T>,    clip<T>,       leaky_relu<T>,         elu<T>, gelu<T>, gelu_tanh<T>, silu<T>,
        sigmoid<T>, hard_sigmoid<T>, hard_swish<T>, hyperbolic_tangent<T>, clip<T>};
    for (int i = 0; i < activation_kernels; ++i) kernels.finish_rows[i] = all[i];
}

} // namespace

void add_activations(KernelTable& table) {
    add_to(table.f32);
    add_to(table.f64);
}

} // namespace FASTCONV_ISA
} // namespace fastconv
