// Gradients of activations: grad times the derivative at the activation's input, value by value.
//
// One loop over vectors for each activation, with one copy of the derivative as in activations.cpp. Ceiling: memory
// bandwidth for the simple activations, else the exponentials and divisions.
//
// Arguments: any number of values. Nothing needs to be aligned.
//
// Rounding: the derivatives of elu, sigmoid and tanh have relative errors, and those of gelu, gelu_tanh and silu, which
// change sign, absolute errors of at most 8 eps, in both types and on every instruction set. The others round once or
// twice. The product with grad rounds once more.
#include "kernels/elementary_functions.h"
#include "kernels/table.h"

namespace fastconv {
namespace FASTCONV_ISA {
namespace {

/// Calls f(x, grad) for each vector and stores the result.
template <class T, class F>
FASTCONV_INLINE void each_gradient(const ActivationGradient<T>& a, const F& f) {
    for (int64_t i = 0; i < a.count; i += width<T>) {
        const int64_t left = a.count - i;
        store_some(a.y + i, f(load_some(a.x + i, left), load_some(a.grad + i, left)), left);
    }
}

/// exp(-|x|), bounded so that products with x are finite.
template <class T>
FASTCONV_INLINE Vec<T> exp_of_minus(Vec<T> magnitude_of_x) {
    return exp_shifted<T>(-magnitude_of_x, Vec<T>{}, Index<T>{});
}

/// sigmoid'(x) = e/(1 + e)^2 for e = exp(-|x|). Unlike s*(1 - s), it loses no digits where the sigmoid s is near 1.
template <class T>
FASTCONV_INLINE Vec<T> slope_of_sigmoid(Vec<T> e) {
    const Vec<T> sum = e + T{1};
    return e / (sum * sum);
}

template <class T>
FASTCONV_INLINE Vec<T> bounded(Vec<T> x, T limit) {
    return at_least<T>(at_most<T>(x, limit), -limit);
}

template <class T>
void linear(const ActivationGradient<T>& a) {
    each_gradient(a, [](Vec<T>, Vec<T> grad) __attribute__((always_inline)) { return grad; });
}

template <class T>
void rectified(const ActivationGradient<T>& a) {
    each_gradient(a,
                  [](Vec<T> x, Vec<T> grad) __attribute__((always_inline)) { return x > Vec<T>{} ? grad : Vec<T>{}; });
}

template <class T>
void clip(const ActivationGradient<T>& a) {
    each_gradient(a, [&](Vec<T> x, Vec<T> grad)
                         __attribute__((always_inline)) { return ((x > a.alpha) & (x < a.beta)) ? grad : Vec<T>{}; });
}

template <class T>
void leaky_relu(const ActivationGradient<T>& a) {
    each_gradient(a, [&](Vec<T> x, Vec<T> grad)
                         __attribute__((always_inline)) { return x > Vec<T>{} ? grad : grad * a.alpha; });
}

template <class T>
void elu(const ActivationGradient<T>& a) {
    each_gradient(a, [&](Vec<T> x, Vec<T> grad) __attribute__((always_inline)) {
        const Vec<T> slope = exp_shifted<T>(at_most<T>(x, 0), Vec<T>{}, Index<T>{}) * a.alpha;
        return x > Vec<T>{} ? grad : grad * slope;
    });
}

/// Phi(x) + x*phi(x), with the distribution function and the density of the normal distribution.
template <class T>
void gelu(const ActivationGradient<T>& a) {
    constexpr T density = static_cast<T>(0.39894228040143267794); // 1/sqrt(2*pi)
    each_gradient(a, [](Vec<T> unbounded, Vec<T> grad) __attribute__((always_inline)) {
        const Vec<T> x = bounded<T>(unbounded, Numbers<T>::normal_limit);
        const UpperTail<T> tail = upper_tail<T>(magnitude<T>(x));
        const Vec<T> beyond = tail.factor * tail.exponential; // Phi(-|x|)
        const Vec<T> distribution = x > Vec<T>{} ? T{1} - beyond : beyond;
        return grad * (x * density * tail.exponential + distribution);
    });
}

/// With u = 2*sqrt(2/pi)*(x + 0.044715*x^3), the function is x*sigmoid(u).
template <class T>
void gelu_tanh(const ActivationGradient<T>& a) {
    each_gradient(a, [](Vec<T> unbounded, Vec<T> grad) __attribute__((always_inline)) {
        using N = Numbers<T>;
        const Vec<T> x = bounded<T>(unbounded, N::cubic_limit);
        const Twofold<T> u = gelu_exponent<T>(x);
        const Vec<T> sigmoid = over_one_plus_exp<T>(broadcast(T{1}), -u.value, -u.rest);
        const Vec<T> slope = slope_of_sigmoid<T>(exp_of_minus<T>(magnitude<T>(u.value)));
        return grad * (x * slope * (x * x * (3 * N::cubic) + N::linear) + sigmoid);
    });
}

template <class T>
void silu(const ActivationGradient<T>& a) {
    each_gradient(a, [](Vec<T> unbounded, Vec<T> grad) __attribute__((always_inline)) {
        const Vec<T> x = bounded<T>(unbounded, Numbers<T>::exp_limit);
        const Vec<T> e = exp_of_minus<T>(magnitude<T>(x));
        const Vec<T> sigmoid = (x > Vec<T>{} ? broadcast(T{1}) : e) / (e + T{1});
        return grad * (x * slope_of_sigmoid<T>(e) + sigmoid);
    });
}

template <class T>
void sigmoid(const ActivationGradient<T>& a) {
    each_gradient(a, [](Vec<T> x, Vec<T> grad) __attribute__((always_inline)) {
        return grad * slope_of_sigmoid<T>(exp_of_minus<T>(magnitude<T>(x)));
    });
}

template <class T>
void hyperbolic_tangent(const ActivationGradient<T>& a) {
    each_gradient(a, [](Vec<T> x, Vec<T> grad) __attribute__((always_inline)) {
        return grad * (slope_of_sigmoid<T>(exp_of_minus<T>(magnitude<T>(x) * T{2})) * T{4});
    });
}

template <class T>
void hard_sigmoid(const ActivationGradient<T>& a) {
    each_gradient(a, [&](Vec<T> x, Vec<T> grad) __attribute__((always_inline)) {
        const Vec<T> line = x * a.alpha + a.beta;
        return ((line > Vec<T>{}) & (line < T{1})) ? grad * a.alpha : Vec<T>{};
    });
}

template <class T>
void hard_swish(const ActivationGradient<T>& a) {
    each_gradient(a, [&](Vec<T> x, Vec<T> grad) __attribute__((always_inline)) {
        const Vec<T> line = x * a.alpha + a.beta;
        const Vec<T> bent = x * (2 * a.alpha) + a.beta;
        return line >= T{1} ? grad : line <= Vec<T>{} ? Vec<T>{} : grad * bent;
    });
}

template <class T>
void add_to(KernelsOf<T>& kernels) {
    // In the order of enum class Activation (fastconv/types.h). ReLU6 is a clip.
    void (*const all[activation_kernels])(const ActivationGradient<T>&) = {
        linear<T>,  rectified<T>,    clip<T>,       leaky_relu<T>,         elu<T>, gelu<T>, gelu_tanh<T>, silu<T>,
        sigmoid<T>, hard_sigmoid<T>, hard_swish<T>, hyperbolic_tangent<T>, clip<T>};
    for (int i = 0; i < activation_kernels; ++i) kernels.activation_gradient[i] = all[i];
}

} // namespace

void add_activation_gradients(KernelTable& table) {
    add_to(table.f32);
    add_to(table.f64);
}

} // namespace FASTCONV_ISA
} // namespace fastconv
