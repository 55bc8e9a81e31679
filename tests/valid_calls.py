"""A valid call of each NumPy function. The tests make one of its arguments wrong."""

from __future__ import annotations

import inspect
from typing import Any

import fastconv
import numpy as np

X = (2, 8, 8, 4)
Y = (2, 6, 6, 6)
FILTERS = (3, 3, 4, 6)
DEPTHWISE_FILTERS = (3, 3, 4, 2)
DEPTHWISE_Y = (2, 6, 6, 8)
POOLED = (2, 4, 4, 4)
Y_POOLED = (2, 3, 3, 6)


def ones(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return np.ones(shape, dtype)


def valid_call(name: str) -> dict[str, Any]:
    """Valid arguments of the function. Every array is float32, except the uint8 taps."""
    calls: dict[str, dict[str, Any]] = {
        "conv2d": {"input": ones(*X), "filters": ones(*FILTERS), "bias": ones(6)},
        "conv2d_backprop_input": {"input_sizes": X, "filters": ones(*FILTERS), "out_backprop": ones(*Y)},
        "conv2d_backprop_filter": {"input": ones(*X), "filter_sizes": FILTERS, "out_backprop": ones(*Y)},
        "depthwise_conv2d": {"input": ones(*X), "filters": ones(*DEPTHWISE_FILTERS), "bias": ones(8)},
        "depthwise_conv2d_backprop_input": {
            "input_sizes": X,
            "filters": ones(*DEPTHWISE_FILTERS),
            "out_backprop": ones(*DEPTHWISE_Y),
        },
        "depthwise_conv2d_backprop_filter": {
            "input": ones(*X),
            "filter_sizes": DEPTHWISE_FILTERS,
            "out_backprop": ones(*DEPTHWISE_Y),
        },
        "conv2d_transpose": {
            "input": ones(*Y),
            "filters": ones(*FILTERS),
            "output_shape": X,
            "strides": 1,
            "padding": "VALID",
        },
        "max_pool2d": {"input": ones(*X), "ksize": 2},
        "max_pool2d_with_argmax": {"input": ones(*X), "ksize": 2},
        "max_pool2d_grad": {
            "orig_input": ones(*X),
            "orig_output": ones(*POOLED),
            "grad": ones(*POOLED),
            "ksize": 2,
        },
        "avg_pool2d": {"input": ones(*X), "ksize": 2},
        "avg_pool2d_grad": {"orig_input_shape": X, "grad": ones(*POOLED), "ksize": 2},
        "conv2d_max_pool2d": {"input": ones(*X), "filters": ones(*FILTERS), "pool_size": 2, "bias": ones(6)},
        "conv2d_max_pool2d_backprop": {
            "input": ones(*X),
            "filters": ones(*FILTERS),
            "taps": np.zeros(Y_POOLED, np.uint8),
            "grad": ones(*Y_POOLED),
            "pool_size": 2,
        },
    }
    return calls[name]


FUNCTIONS = [
    name
    for name in fastconv.__all__
    if inspect.isfunction(getattr(fastconv, name))
    and name != "explain"  # takes no arrays
    and name != "bias_gradient"  # has no window; see test_same_faces.py
    and not name.startswith("adaptive_")  # see test_pool_options.py
    and not name.startswith("batch_norm")  # see test_batch_norm.py
    and "data_format" in inspect.signature(getattr(fastconv, name)).parameters
]
CONVOLUTIONS = [name for name in FUNCTIONS if "conv2d" in name]
POOLS = [name for name in FUNCTIONS if "pool2d" in name and "conv2d" not in name]
GRADIENTS = [name for name in FUNCTIONS if "backprop" in name or "grad" in name or "transpose" in name]
FORWARD = [name for name in FUNCTIONS if name not in GRADIENTS]
CONV_MAX_POOL = ["conv2d_max_pool2d", "conv2d_max_pool2d_backprop"]
TWO_OR_FOUR = ["input_sizes", "output_shape"]
SIZES = ["input_sizes", "filter_sizes", "output_shape", "orig_input_shape"]


def call(name: str, **changes: Any) -> Any:
    return getattr(fastconv, name)(**{**valid_call(name), **changes})


def with_argument(names: list[str], *, of: Any) -> list[tuple[str, str]]:
    """All (function, argument) pairs whose argument has one of these names, or a valid value of type `of`."""
    pairs = []
    for function in FUNCTIONS:
        arguments = valid_call(function)
        for argument in inspect.signature(getattr(fastconv, function)).parameters:
            if argument == "taps":  # has tests of its own
                continue
            if argument in names or (of is not None and isinstance(arguments.get(argument), of)):
                pairs.append((function, argument))
    return pairs


ARRAYS = with_argument([], of=np.ndarray)
NUMBERS = with_argument(["strides", "dilations", "ksize", "pool_size", "pool_strides"], of=None)
SHAPES = with_argument(SIZES, of=None)
OUT_TUPLES = {
    "max_pool2d_with_argmax": "output, argmax",
    "conv2d_max_pool2d": "output, taps",
    "conv2d_max_pool2d_backprop": "input_backprop, filter_backprop, bias_backprop",
}
