"""Shared by the tests of the two faces, which are the NumPy and the TensorFlow functions.

It has the names of the functions, and a layer with a ReLU.
"""

from __future__ import annotations

import inspect
from typing import Any

import fastconv
import numpy as np
import pytest
from fastconv import _core

# Parameters that only one of the faces has.
ONLY_NUMPY = {"out", "output_padding"}  # tensors are immutable; the other has no gradient
ONLY_TENSORFLOW = {"name"}  # of an op in a graph; NumPy has no graphs
# Operations without a public function: the gradients in fastconv.tensorflow use them.
PRIVATE = {
    "conv2d_backprop_filter_bias",
    "conv2d_max_pool2d_backprop_filter_bias",
    "max_pool2d_gather",
    "max_pool2d_scatter",
    "max_pool2d_with_taps",
    "relu_bias_grad",
}
# The depthwise functions are these operations with depthwise=True.
DEPTHWISE = {
    "conv2d": "depthwise_conv2d",
    "conv2d_backprop_input": "depthwise_conv2d_backprop_input",
    "conv2d_backprop_filter": "depthwise_conv2d_backprop_filter",
}
TABLE: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in _core.operations()}
PUBLIC = sorted(TABLE.keys() - PRIVATE)
# The adaptive functions are these operations with an output_size in place of a window.
ADAPTIVE = {name: f"adaptive_{name}" for name in ("max_pool2d", "max_pool2d_grad", "avg_pool2d", "avg_pool2d_grad")}
FUNCTIONS = sorted({*PUBLIC, *DEPTHWISE.values(), *ADAPTIVE.values()})


def random(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


def to_nchw(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(array, 3, 1))


def parameters(function: Any) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


def names(function: Any) -> set[str]:
    return set(parameters(function)) if inspect.isfunction(function) else set()


SMALL, LARGE = ((3, 9, 8, 3), (3, 3, 3, 4)), ((2, 20, 20, 32), (3, 3, 32, 40))  # LARGE has no fused kernel


def biases(filters: np.ndarray) -> np.ndarray:
    """Biases so low that many pooling windows have no positive element."""
    sums = np.sqrt(filters[..., 0].size)  # the standard deviation of the convolution's output
    return random(filters.shape[3], dtype=filters.dtype) - sums.astype(filters.dtype)


def relu_layer(sizes: Any, data_format: str, dtype: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays and options for conv2d_max_pool2d_backprop after a ReLU."""
    x, w = (random(*shape, dtype=dtype) for shape in sizes)
    x = to_nchw(x) if data_format == "NCHW" else x
    options = {"pool_padding": "SAME", "padding": 1, "data_format": data_format, "activation": "relu"}
    bias = biases(w)
    output, taps = fastconv.conv2d_max_pool2d(x, w, 2, bias=bias, **options)
    assert 0.2 < (output > 0).mean() < 0.9
    grad = random(*output.shape, dtype=dtype)
    return {"input": x, "filters": w, "taps": taps, "grad": grad, "output": output, "pool_size": 2}, options


every_layer = pytest.mark.parametrize("sizes", [SMALL, LARGE], ids=["small", "large"])
every_format = pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
