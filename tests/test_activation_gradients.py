"""Activations and additions as functions of their own, and their gradients, within the documented errors."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from typing import Any

import fastconv
import numpy as np
import pytest
from activation_reference import BOTH, DTYPES, every_magnitude
from workers import Plain, compute, compute_displaced

CURVES = ("elu", "sigmoid", "tanh")  # their derivatives have a relative error
IDEMPOTENT = (None, "relu", "relu6", ("clip", -1, 2.5))


def name_of(activation: Any) -> Any:
    return activation[0] if isinstance(activation, tuple) else activation


def gradient_calls(x: np.ndarray) -> list[Plain]:
    grad = np.ones_like(x)
    return [("activate_grad", {"input": x, "grad": grad, "activation": activation}) for activation in BOTH]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_errors_of_derivatives(dtype: Any, isa_worker: ProcessPoolExecutor, seed: int, count: int) -> None:
    x = every_magnitude(dtype, seed)
    x = x[np.abs(x) < 700][:: 1 if count > 100 else 8]
    info = np.finfo(dtype)
    results = isa_worker.submit(compute, gradient_calls(x)).result()
    for (activation, (_, derivative)), got in zip(BOTH.items(), results, strict=True):
        exact = np.asarray(derivative(x.astype(np.longdouble)), np.longdouble)
        name = name_of(activation)
        allowed = np.where(np.abs(exact) < 4.1 * info.smallest_normal, 4.1 * info.smallest_normal, 0)
        if name in CURVES:
            allowed = allowed + 8 * info.eps * np.abs(exact)
        elif name in ("gelu", "gelu_tanh", "silu"):
            allowed = allowed + 8 * info.eps
        elif name == "hard_swish":
            allowed = allowed + 4 * info.eps * (np.abs(x) + 1)
        wrong = ~(np.abs(got - exact) <= allowed)
        assert not wrong.any(), f"{activation} at {x[wrong][0]!r}: {got[wrong][0]!r}, not {exact[wrong][0]!r}"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_limits(dtype: Any) -> None:
    x = np.array([-np.inf, np.inf, np.nan, -0.0, 0.0], dtype)
    for activation in BOTH:
        gradient = fastconv.activate_grad(x, np.full_like(x, 2), activation)
        low, high = {None: (2, 2), ("leaky_relu", 0.25): (0.5, 2)}.get(activation, (0, 2))
        if name_of(activation) in ("relu6", "clip", "sigmoid", "hard_sigmoid", "tanh"):
            high = 0
        assert gradient[:2].tolist() == [low, high], activation
        kinked = name_of(activation) in ("relu", "relu6", "clip", "leaky_relu", "hard_sigmoid")
        assert kinked or activation is None or np.isnan(gradient[2]), activation
        assert gradient[3] == gradient[4], activation
    masked = fastconv.activate_grad(np.array([-1, 0, 1], dtype), np.array([np.nan, np.inf, np.nan], dtype), "relu")
    np.testing.assert_array_equal(masked, np.array([0, 0, np.nan], dtype))


@pytest.mark.parametrize("activation", BOTH, ids=str)
def test_finite_differences(activation: Any, seed: int) -> None:
    a, b, grad = np.random.default_rng(seed).standard_normal((3, 40)) * 2
    step = 1e-6
    numeric = (fastconv.add(a + step, b, activation) - fastconv.add(a - step, b, activation)) / (2 * step) * grad
    np.testing.assert_allclose(fastconv.add_grad(a, b, grad, activation), numeric, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_step_equals_two(dtype: Any, seed: int) -> None:
    """The number of elements is that of several tasks and of a part of a vector."""
    a, b, grad = np.random.default_rng(seed).standard_normal((3, 5, 1001)).astype(dtype) * 2
    for activation in BOTH:
        np.testing.assert_array_equal(fastconv.add(a, b, activation), fastconv.activate(a + b, activation))
        d = fastconv.activate_grad(a + b, grad, activation)
        np.testing.assert_array_equal(fastconv.add_grad(a, b, grad, activation), d)
        if activation in IDEMPOTENT:
            output = fastconv.add(a, b, activation)
            np.testing.assert_array_equal(fastconv.activate_grad(output, grad, activation), d)
        out = np.full_like(a, np.nan)
        assert fastconv.activate_grad(a + b, grad, activation, out=out) is out
        np.testing.assert_array_equal(out, d)


def test_same_bits(isa_worker: ProcessPoolExecutor, seed: int) -> None:
    """The number of threads, the alignment and the place in the array change no bit."""
    a, b, grad = np.random.default_rng(seed).standard_normal((3, 60_001), np.float32)
    calls: list[Plain] = []
    for activation in BOTH:
        calls += [("add", {"a": a, "b": b, "activation": activation})]
        calls += [("add_grad", {"a": a, "b": b, "grad": grad, "activation": activation})]
    short = [(name, {key: v[7:] if isinstance(v, np.ndarray) else v for key, v in x.items()}) for name, x in calls]
    expected = isa_worker.submit(compute, calls, 1).result()
    others = [isa_worker.submit(compute, calls, 3).result(), isa_worker.submit(compute_displaced, calls, 1).result()]
    cut = isa_worker.submit(compute, short).result()
    for other in others:
        assert all(x.tobytes() == y.tobytes() for x, y in zip(expected, other, strict=True))
    assert all(x[7:].tobytes() == y.tobytes() for x, y in zip(expected, cut, strict=True))


def test_wrong_arguments() -> None:
    x, short = np.ones((2, 3), np.float32), np.ones((2, 2), np.float32)
    with pytest.raises(ValueError, match=r"^grad must have shape \(2, 3\) \(that of input\), got \(2, 2\)"):
        fastconv.activate_grad(x, short, "relu")
    with pytest.raises(ValueError, match=r"^b must have shape \(2, 3\) \(that of a\), got \(2, 2\)"):
        fastconv.add(x, short)
    with pytest.raises(ValueError, match=r"^grad must have shape \(2, 3\) \(that of a\), got \(2, 2\)"):
        fastconv.add_grad(x, x, short)
    with pytest.raises(TypeError, match=r"^b is float64 but a is float32"):
        fastconv.add(x, x.astype(np.float64))
    with pytest.raises(TypeError, match=r"^input must be float32 or float64, got int64"):
        fastconv.activate(np.ones(3, np.int64), "relu")
    with pytest.raises(ValueError, match=r"^activation must be None, 'linear', .* got 'softmax'"):
        fastconv.activate(x, "softmax")
    with pytest.raises(TypeError, match=r"^activation: expected a number after the name, got 'a'"):
        fastconv.activate(x, ("elu", "a"))
    with pytest.raises(ValueError, match=r"^out must not overlap a in memory"):
        fastconv.add(x, x.copy(), out=x)
