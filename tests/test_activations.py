"""The epilogue of a convolution: activation(sum + bias + residual), by every algorithm, with the documented errors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import fastconv
import numpy as np
import pytest
from activation_reference import DTYPES, every_magnitude, gelu, gelu_tanh, hard_sigmoid
from fastconv import PackedFilters
from workers import Plain, compute

Activation = Any


# ---- Values ---------------------------------------------------------------------------------------------------------


# The exact function, and the error that the documentation states, in ulp of the exact result.
CURVES: dict[Activation, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "elu": (lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x), 1.5),
    ("elu", 2.0): (lambda x: np.where(x < 0, 2 * np.expm1(np.minimum(x, 0)), x), 1.5),
    "gelu": (gelu, 5),
    "gelu_tanh": (gelu_tanh, 3),
    "silu": (lambda x: x / (1 + np.exp(-x)), 3),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), 3),
    "tanh": (np.tanh, 3),
}
# Activations that round once or twice: the exact function, a scale, and a number n. The error is at most n ulp of the
# scale.
LINES: dict[Activation, tuple[Callable[[np.ndarray], np.ndarray], Callable[[np.ndarray], np.ndarray], float]] = {
    "linear": (lambda x: x, np.zeros_like, 0),
    "relu": (lambda x: np.maximum(x, 0), np.zeros_like, 0),
    "relu6": (lambda x: np.clip(x, 0, 6), np.zeros_like, 0),
    ("clip", -1, 2.5): (lambda x: np.clip(x, -1, 2.5), np.zeros_like, 0),
    "leaky_relu": (lambda x: np.where(x < 0, x * 0.2, x), abs, 1),
    ("leaky_relu", 0.25): (lambda x: np.where(x < 0, x * 0.25, x), np.zeros_like, 0),
    "hard_sigmoid": (hard_sigmoid, lambda x: abs(x) / 6 + 0.5, 1),
    ("hard_sigmoid", 0.25, 0.5): (lambda x: hard_sigmoid(x, 0.25, 0.5), lambda x: abs(x) / 4 + 0.5, 0.5),
    "hard_swish": (lambda x: x * hard_sigmoid(x), lambda x: abs(x) * (abs(x) / 6 + 0.5), 2),
}


def call_of(x: np.ndarray, activation: Activation, residual: np.ndarray | None = None) -> Plain:
    """A call that applies the activation to each value: a convolution with a filter of 1."""
    row = (1, 1, -1, 1)
    arguments = {"input": x.reshape(row), "filters": np.ones((1, 1, 1, 1), x.dtype), "activation": activation}
    return "conv2d", arguments | {"residual": None if residual is None else residual.reshape(row)}


def apply(x: np.ndarray, activation: Activation, residual: np.ndarray | None = None) -> np.ndarray:
    return compute([call_of(x, activation, residual)])[0].reshape(x.shape)


def apply_all(pool: ProcessPoolExecutor, activations: Iterable[Activation], x: np.ndarray) -> list[np.ndarray]:
    results = pool.submit(compute, [call_of(x, activation) for activation in activations]).result()
    return [result.reshape(x.shape) for result in results]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_smooth_activations_are_within_the_documented_error(
    dtype: Any, isa_worker: ProcessPoolExecutor, seed: int
) -> None:
    x = every_magnitude(dtype, seed)
    smallest = np.finfo(dtype).smallest_normal
    results = apply_all(isa_worker, CURVES, x)
    for (name, (function, bound)), got in zip(CURVES.items(), results, strict=True):
        exact = function(x.astype(np.longdouble))
        ulp = np.spacing(np.abs(exact).astype(dtype)).astype(np.longdouble)
        # A result below the smallest normal number may be 0.
        allowed = np.where(np.abs(exact) < 1.01 * smallest, 1.02 * smallest, bound * ulp)
        wrong = ~(np.abs(got - exact) <= allowed)
        assert not wrong.any(), f"{name}({x[wrong][0]!r}) = {got[wrong][0]!r}, not {exact[wrong][0]!r}"


@pytest.mark.parametrize("dtype", DTYPES)
def test_piecewise_activations_round_once_or_twice(dtype: Any, isa_worker: ProcessPoolExecutor, seed: int) -> None:
    x = every_magnitude(dtype, seed)
    x = x[np.abs(x) < np.sqrt(np.finfo(dtype).max)]  # so that hard_swish does not overflow
    results = apply_all(isa_worker, LINES, x)
    for (name, (function, scale, bound)), got in zip(LINES.items(), results, strict=True):
        exact = function(x.astype(np.longdouble))
        ulp = np.spacing(scale(x.astype(np.longdouble)).astype(dtype))
        smallest = np.finfo(dtype).smallest_normal  # smaller results may be 0
        wrong = ~(np.abs(got - exact) <= np.where(np.abs(exact) < smallest, smallest, bound * ulp))
        assert not wrong.any(), f"{name}({x[wrong][0]!r}) = {got[wrong][0]!r}, not {exact[wrong][0]!r}"


# The values at minus infinity and at infinity, as in TensorFlow. NaN gives NaN.
LIMITS: dict[Activation, tuple[float, float]] = {
    "linear": (-np.inf, np.inf),
    "relu": (0, np.inf),
    "relu6": (0, 6),
    "leaky_relu": (-np.inf, np.inf),
    ("elu", 1.5): (-1.5, np.inf),
    "gelu": (np.nan, np.inf),
    "gelu_tanh": (np.nan, np.inf),
    "silu": (np.nan, np.inf),
    "sigmoid": (0, 1),
    "hard_sigmoid": (0, 1),
    "hard_swish": (np.nan, np.inf),
    "tanh": (-1, 1),
    ("clip", -np.inf, 3): (-np.inf, 3),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_activations_of_nan_and_infinity_are_tensorflows(dtype: Any, isa_worker: ProcessPoolExecutor) -> None:
    x = np.tile(np.array([-np.inf, np.inf, np.nan, 0.5], dtype), 9)  # whole vectors and a remainder
    for (name, (low, high)), got in zip(LIMITS.items(), apply_all(isa_worker, LIMITS, x), strict=True):
        middle = apply(np.array([0.5], dtype), name)[0]
        np.testing.assert_allclose(got, np.tile([low, high, np.nan, middle], 9), rtol=1e-6, err_msg=str(name))


# ---- Algorithms -----------------------------------------------------------------------------------------------------

# (algorithm, input, filters, options)
LAYERS: dict[str, tuple[str, tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "direct": ("direct", (2, 13, 11, 17), (3, 3, 17, 37), {"padding": "SAME"}),
    "direct, many channels": ("direct", (1, 6, 7, 1100), (1, 1, 1100, 40), {}),
    "direct_grouped": ("direct", (2, 9, 8, 28), (3, 3, 4, 28), {"padding": "SAME"}),
    "direct, tap by tap": ("direct", (2, 4, 5, 130), (3, 3, 130, 70), {"padding": "SAME"}),
    "direct, groups": ("direct", (2, 9, 8, 12), (3, 2, 4, 30), {"strides": 2, "padding": 1}),
    "direct, two passes": ("direct", (1, 80, 71, 1), (70, 61, 1, 7), {}),
    "direct, streamed": ("direct", (1, 3, 3, 40), (1, 1, 40, 700), {}),
    "winograd": ("winograd", (2, 14, 13, 33), (3, 3, 33, 35), {"padding": "SAME"}),
    "winograd 5x5": ("winograd", (1, 9, 10, 8), (5, 5, 8, 21), {}),
    "winograd, streamed": ("winograd", (1, 7, 7, 500), (3, 3, 500, 300), {"padding": "SAME"}),
    "depthwise": ("depthwise", (2, 12, 10, 45), (3, 3, 1, 45), {"padding": "SAME", "strides": (2, 1)}),
    "small_k_spread": ("direct", (3, 20, 21, 1), (5, 5, 1, 6), {}),
    "small_k_reduce": ("direct", (2, 8, 9, 64), (3, 3, 64, 2), {"padding": "SAME"}),
}
EPILOGUES: list[tuple[Activation, bool]] = [
    ("relu", False),
    ("relu", True),
    (None, True),
    (("clip", 0.25, 1.5), False),
    (("clip", 0.25, 1.5), True),
    ("gelu", False),
    (("leaky_relu", 0.3), True),
]


def random(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def layer(name: str, dtype: Any, data_format: str = "NHWC") -> tuple[dict[str, Any], dict[str, Any]]:
    """The arguments of a layer, and a residual as a further argument."""
    algorithm, input_shape, filter_shape, options = LAYERS[name]
    x = random(*input_shape, dtype=dtype)
    x = np.ascontiguousarray(np.moveaxis(x, 3, 1)) if data_format == "NCHW" else x
    filters, bias = random(*filter_shape, dtype=dtype), random(filter_shape[3], dtype=dtype)
    arguments = {"input": x, "filters": filters, "bias": bias, "data_format": data_format, "algorithm": algorithm}
    return arguments | options, {"residual": random(*fastconv.conv2d(**arguments, **options).shape, dtype=dtype)}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("name", LAYERS)
def test_the_epilogue_of_every_algorithm(
    name: str, data_format: str, dtype: Any, isa_worker: ProcessPoolExecutor
) -> None:
    """A fused epilogue gives the same bits as a call of its own after the convolution, on one thread and on two."""
    arguments, optional = layer(name, dtype, data_format)
    (sums,) = isa_worker.submit(compute, [("conv2d", arguments)]).result()
    calls, separate = [], []
    for activation, adds in EPILOGUES:
        calls.append(("conv2d", arguments | {"activation": activation} | (optional if adds else {})))
        separate.append(call_of(sums, activation, optional["residual"] if adds else None))
    expected = isa_worker.submit(compute, separate).result()
    for threads in (1, 2):
        for got, value in zip(isa_worker.submit(compute, calls, threads).result(), expected, strict=True):
            np.testing.assert_array_equal(got, value.reshape(got.shape))


@pytest.mark.parametrize("name", LAYERS)
def test_the_epilogue_with_packed_filters(name: str) -> None:
    arguments, optional = layer(name, np.float32)
    packed = arguments | optional | {"filters": PackedFilters(arguments["filters"]), "activation": "silu"}
    sums = fastconv.conv2d(**arguments | {"filters": packed["filters"]})
    np.testing.assert_array_equal(fastconv.conv2d(**packed), apply(sums, "silu", optional["residual"]))


@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("activation", ["hard_swish", ("clip", 0.25, 1.5)])
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_the_epilogue_of_a_depthwise_convolution(
    data_format: str, activation: Activation, multiplier: int, isa_worker: ProcessPoolExecutor
) -> None:
    shape = (2, 7, 9, 10) if data_format == "NHWC" else (2, 10, 7, 9)
    options: dict[str, Any] = {"padding": "SAME", "data_format": data_format, "bias": random(10 * multiplier)}
    arguments = {"input": random(*shape), "filters": random(3, 3, 10, multiplier)} | options
    (sums,) = isa_worker.submit(compute, [("depthwise_conv2d", arguments)]).result()
    residual = random(*sums.shape)
    for added in ({}, {"residual": residual}):
        call = ("depthwise_conv2d", arguments | {"activation": activation} | added)
        (got,) = isa_worker.submit(compute, [call]).result()
        (expected,) = isa_worker.submit(compute, [call_of(sums, activation, added.get("residual"))]).result()
        np.testing.assert_array_equal(got, expected.reshape(got.shape))


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("strides", [2, 3])
@pytest.mark.parametrize("channels", [4, 40])
def test_bounds_hold_where_no_tap_of_a_transposed_convolution_reaches(
    channels: int, strides: int, data_format: str
) -> None:
    """The sums there are 0, which the bounds below raise to 0.25."""
    filters = random(1, 1, channels, channels)
    arguments = {"input": random(1, channels, 5, 6), "strides": strides, "data_format": "NCHW"}
    arguments |= {"output_shape": None, "output_padding": 1}
    if data_format == "NHWC":
        arguments |= {"input": random(1, 5, 6, channels), "data_format": "NHWC"}
    sums = fastconv.conv2d_transpose(filters=filters, **arguments)
    assert (sums == 0).mean() > 0.5
    residual = random(*sums.shape)
    got = fastconv.conv2d_transpose(filters=filters, activation=("clip", 0.25, 1.5), **arguments)
    np.testing.assert_array_equal(got, np.clip(sums, np.float32(0.25), np.float32(1.5)))
    got = fastconv.conv2d_transpose(filters=filters, activation=("clip", 0.25, 1.5), residual=residual, **arguments)
    np.testing.assert_array_equal(got, np.clip(sums + residual, np.float32(0.25), np.float32(1.5)))


def test_winograd_finds_infinity_before_the_activation() -> None:
    """A tile with an infinite input is computed again, also if the activation would hide the infinity."""
    arguments, optional = layer("winograd", np.float32)
    arguments["input"][0, 5, 5, 3] = np.inf
    direct = fastconv.conv2d(**arguments | optional | {"activation": "relu6", "algorithm": "direct"})
    got = fastconv.conv2d(**arguments, **optional, activation="relu6")
    np.testing.assert_allclose(got, direct, rtol=1e-3, atol=1e-3)


def test_the_residual_is_not_changed() -> None:
    arguments, optional = layer("direct", np.float32)
    kept = optional["residual"].copy()
    out = np.empty_like(kept)
    assert fastconv.conv2d(**arguments, **optional, activation="tanh", out=out) is out
    np.testing.assert_array_equal(optional["residual"], kept)


# ---- Transposed convolutions ----------------------------------------------------------------------------------------

TRANSPOSED: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "stride 2": ((2, 5, 6, 16), (3, 3, 7, 16), {"strides": 2, "padding": 1}),
    "stride above the window": ((2, 4, 3, 5), (2, 2, 6, 5), {"strides": 3, "padding": 0}),  # some pixels get no product
    "winograd": ((1, 12, 12, 36), (3, 3, 40, 36), {"strides": 1, "padding": 1}),
    "one channel": ((1, 9, 9, 20), (4, 4, 1, 20), {"strides": 2, "padding": 1}),
    "no channels": ((1, 4, 4, 0), (3, 3, 5, 0), {"strides": 2, "padding": 1}),
}


@pytest.mark.parametrize("activation", [None, "relu", "silu"])
@pytest.mark.parametrize("adds", [False, True])
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize("name", TRANSPOSED)
def test_the_epilogue_of_a_transposed_convolution(
    name: str, data_format: str, adds: bool, activation: Activation
) -> None:
    input_shape, filter_shape, options = TRANSPOSED[name]
    x, filters, bias = random(*input_shape), random(*filter_shape), random(filter_shape[2])
    x = np.ascontiguousarray(np.moveaxis(x, 3, 1)) if data_format == "NCHW" else x
    options = options | {"output_shape": None, "output_padding": 0, "data_format": data_format}
    sums = fastconv.conv2d_transpose(x, filters, **options)
    residual = random(*sums.shape) if adds else None
    got = fastconv.conv2d_transpose(x, filters, bias=bias, activation=activation, residual=residual, **options)
    with_bias = sums.astype(np.float64) + (bias if data_format == "NHWC" else bias[:, None, None])
    exact = with_bias if residual is None else with_bias + residual
    if activation == "relu":
        exact = np.maximum(exact, 0)
    elif activation == "silu":
        exact = exact / (1 + np.exp(-exact))
    np.testing.assert_allclose(got, exact, rtol=2e-6, atol=2e-6)


def scattered(x: np.ndarray, w: np.ndarray, stride: int, dilation: int, pad: int, extra: int) -> np.ndarray:
    """A transposed convolution as PyTorch defines it: each input pixel adds multiples of the filters to the output."""
    rows, columns = (
        (size - 1) * stride + (kernel - 1) * dilation + 1 + extra
        for size, kernel in zip(x.shape[1:3], w.shape[:2], strict=True)
    )
    y = np.zeros((x.shape[0], rows, columns, w.shape[2]))
    for r in range(w.shape[0]):
        for s in range(w.shape[1]):
            bottom, right = r * dilation + x.shape[1] * stride, s * dilation + x.shape[2] * stride
            target = y[:, r * dilation : bottom : stride, s * dilation : right : stride]
            target += (x @ w[r, s].T)[:, : target.shape[1], : target.shape[2]]
    return y[:, pad : rows - pad, pad : columns - pad]


@pytest.mark.parametrize("stride, dilation, extra", [(1, 1, 0), (2, 1, 0), (2, 1, 1), (3, 2, 2), (1, 3, 2), (2, 5, 4)])
@pytest.mark.parametrize("size", [(5, 4), (1, 1)])
@pytest.mark.parametrize("pad", [0, 1])
def test_output_padding_agrees_with_pytorchs_definition(
    size: tuple[int, int], pad: int, stride: int, dilation: int, extra: int
) -> None:
    x, w = random(2, *size, 3, dtype=np.float64), random(3, 2, 4, 3, dtype=np.float64)
    exact = scattered(x, w, stride, dilation, pad, extra)
    got = fastconv.conv2d_transpose(
        x, w, None, stride, pad, dilations=dilation, output_padding=extra, bias=np.ones(4), activation="linear"
    )
    np.testing.assert_allclose(got, exact + 1, rtol=1e-12, atol=1e-12)


def test_output_padding_with_same() -> None:
    """The sizes are Keras's: SAME pads half the window on both sides."""
    x, w = random(1, 5, 6, 2), random(3, 4, 3, 2)
    got = fastconv.conv2d_transpose(x, w, None, 2, "SAME", output_padding=(1, 1))
    assert got.shape == (1, 10, 11, 3)
    np.testing.assert_array_equal(got, fastconv.conv2d_transpose(x, w, (10, 11), 2, "SAME"))
