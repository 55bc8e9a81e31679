"""Activations and their derivatives in extended precision, and numbers at which they are compared."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

Activation = Any
Function = Callable[[np.ndarray], np.ndarray]

EXTENDED = np.finfo(np.longdouble).nmant > 60  # longdouble is a reference for float64
DTYPES = [np.float32, pytest.param(np.float64, marks=pytest.mark.skipif(not EXTENDED, reason="needs long double"))]
PI = np.longdouble("3.14159265358979323846264338327950288")


def erfc(x: np.ndarray) -> np.ndarray:
    """erfc in extended precision: its value at the float64 nearest to x, plus its slope times the distance from x."""
    near = x.astype(np.float64)
    slope = -2 / np.sqrt(PI) * np.exp(-x * x)
    values = np.array([math.erfc(value) for value in near.ravel()], np.longdouble)
    return values.reshape(x.shape) + (x - near) * slope


def gelu(x: np.ndarray) -> np.ndarray:
    return x * erfc(-x / np.sqrt(np.longdouble(2))) / 2


def gelu_tanh(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.exp(-2 * np.sqrt(2 / PI) * (x + np.longdouble("0.044715") * x**3)))


def hard_sigmoid(x: np.ndarray, alpha: float = 1 / 6, beta: float = 0.5) -> np.ndarray:
    return np.clip(alpha * x + beta, 0, 1)


def every_magnitude(dtype: Any, seed: int) -> np.ndarray:
    """Numbers of both signs and every exponent, and many where the activations bend."""
    rng = np.random.default_rng(seed)
    info = np.finfo(dtype)
    exponents = np.arange(info.minexp, info.maxexp)
    numbers = [np.ldexp(rng.uniform(1, 2, (60, exponents.size)), exponents).ravel()]
    numbers += [rng.uniform(0, limit, 20000) for limit in (2, 10, 30, 110)] + [rng.uniform(0, 760, 5000)]
    numbers += [np.exp2(rng.uniform(-60, 4, 40000))]
    values = np.concatenate(numbers).astype(dtype)
    return np.concatenate([values, -values])


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def slope_of_sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (np.exp(x) + 2 + np.exp(-x))


def gelu_slope(x: np.ndarray) -> np.ndarray:
    return erfc(-x / np.sqrt(np.longdouble(2))) / 2 + x * np.exp(-x * x / 2) / np.sqrt(2 * PI)


def gelu_tanh_slope(x: np.ndarray) -> np.ndarray:
    scale, cubic = 2 * np.sqrt(2 / PI), np.longdouble("0.044715")
    u = scale * (x + cubic * x**3)
    return sigmoid(u) + x * slope_of_sigmoid(u) * scale * (1 + 3 * cubic * x**2)


def hard_swish_slope(x: np.ndarray) -> np.ndarray:
    return np.where(x >= 3, 1, np.where(x <= -3, 0, x / 3 + 0.5))


#: Each activation and its derivative, as the documentation of `activate_grad` defines it where there is none.
BOTH: dict[Activation, tuple[Function, Function]] = {
    None: (lambda x: x, np.ones_like),
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1),
    "relu6": (lambda x: np.clip(x, 0, 6), lambda x: ((x > 0) & (x < 6)) * 1),
    ("leaky_relu", 0.25): (lambda x: np.where(x > 0, x, x / 4), lambda x: np.where(x > 0, 1, 0.25)),
    ("elu", 0.5): (
        lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)) / 2),
        lambda x: np.where(x > 0, 1, np.exp(np.minimum(x, 0)) / 2),
    ),
    "gelu": (gelu, gelu_slope),
    "gelu_tanh": (gelu_tanh, gelu_tanh_slope),
    "silu": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) + x * slope_of_sigmoid(x)),
    "sigmoid": (sigmoid, slope_of_sigmoid),
    ("hard_sigmoid", 0.25, 0.5): (
        lambda x: np.clip(x / 4 + 0.5, 0, 1),
        lambda x: ((x > -2) & (x < 2)) / np.longdouble(4),
    ),
    "hard_swish": (lambda x: x * np.clip(x / np.longdouble(6) + 0.5, 0, 1), hard_swish_slope),
    "tanh": (np.tanh, lambda x: 4 * slope_of_sigmoid(2 * x)),
    ("clip", -1, 2.5): (lambda x: np.clip(x, -1, 2.5), lambda x: ((x > -1) & (x < 2.5)) * 1),
}
