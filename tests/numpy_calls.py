"""Shared by the tests of the NumPy face: a call of each function, and comparisons of results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastconv
import numpy as np
from arrays import random

Arrays = dict[str, np.ndarray]


def calls(dtype: Any = np.float32) -> dict[str, tuple[Callable[..., Any], Arrays]]:
    """For each function, a call and its arrays by name. The geometries have uncovered rows and padding."""
    x, filters, y = random(2, 9, 10, 4, dtype=dtype), random(3, 2, 2, 6, dtype=dtype), random(2, 5, 5, 6, dtype=dtype)
    depthwise, depthwise_y = random(3, 2, 4, 2, dtype=dtype), random(2, 5, 5, 8, dtype=dtype)
    pooled = random(2, 3, 3, 4, dtype=dtype)
    conv: dict[str, Any] = {"strides": 2, "padding": ((1, 1), (0, 1))}
    pool: dict[str, Any] = {"ksize": (3, 2), "strides": (3, 4)}
    max_pool: dict[str, Any] = {"pool_size": 2, "pool_padding": "SAME"}
    taps = np.random.default_rng(0).integers(0, 2, (2, 3, 3, 6)).astype(np.uint8)
    taps[:, 2, 2] = 0  # this window has only one pixel
    table: dict[str, tuple[dict[str, Any], Arrays]] = {
        "conv2d": ({**conv, "activation": "relu"}, {"input": x, "filters": filters, "bias": random(6, dtype=dtype)}),
        "conv2d_backprop_input": ({**conv, "input_sizes": x.shape}, {"filters": filters, "out_backprop": y}),
        "conv2d_backprop_filter": ({**conv, "filter_sizes": filters.shape}, {"input": x, "out_backprop": y}),
        "depthwise_conv2d": (conv, {"input": x, "filters": depthwise, "bias": random(8, dtype=dtype)}),
        "depthwise_conv2d_backprop_input": (
            {**conv, "input_sizes": x.shape},
            {"filters": depthwise, "out_backprop": depthwise_y},
        ),
        "depthwise_conv2d_backprop_filter": (
            {**conv, "filter_sizes": depthwise.shape},
            {"input": x, "out_backprop": depthwise_y},
        ),
        "conv2d_transpose": ({**conv, "output_shape": x.shape}, {"input": y, "filters": filters}),
        "max_pool2d": (pool, {"input": x}),
        "max_pool2d_with_argmax": (pool, {"input": x}),
        "max_pool2d_grad": (pool, {"orig_input": x, "orig_output": pooled, "grad": pooled}),
        "avg_pool2d": (pool, {"input": x}),
        "avg_pool2d_grad": ({**pool, "orig_input_shape": x.shape}, {"grad": pooled}),
        "adaptive_max_pool2d": ({"output_size": (3, 3)}, {"input": x}),
        "adaptive_max_pool2d_grad": (
            {"output_size": (3, 3)},
            {"orig_input": x, "orig_output": pooled, "grad": pooled},
        ),
        "adaptive_avg_pool2d": ({"output_size": (3, 3)}, {"input": x}),
        "adaptive_avg_pool2d_grad": ({"output_size": (3, 3), "orig_input_shape": x.shape}, {"grad": pooled}),
        "conv2d_max_pool2d": (
            {**conv, **max_pool, "activation": "relu"},
            {"input": x, "filters": filters, "bias": random(6, dtype=dtype)},
        ),
        "conv2d_max_pool2d_backprop": (
            {**conv, **max_pool, "activation": "relu"},
            {
                "input": x,
                "filters": filters,
                "taps": taps,
                "grad": random(2, 3, 3, 6, dtype=dtype),
                "output": np.maximum(random(2, 3, 3, 6, dtype=dtype)[::-1], 0),
            },
        ),
    }

    def bind(name: str, keywords: dict[str, Any]) -> Callable[..., Any]:
        return lambda **arrays: getattr(fastconv, name)(**keywords, **arrays)

    return {name: (bind(name, keywords), arrays) for name, (keywords, arrays) in table.items()}


FUNCTIONS = sorted(calls())
ARRAYS = [(name, argument) for name in FUNCTIONS for argument in calls()[name][1]]


def parts(result: Any) -> tuple[np.ndarray, ...]:
    return result if isinstance(result, tuple) else (result,)


def assert_same_bits(actual: Any, desired: Any) -> None:
    for a, d in zip(parts(actual), parts(desired), strict=True):
        assert a.dtype == d.dtype
        np.testing.assert_array_equal(a, d, strict=True)


def to_nchw(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array.transpose(0, 3, 1, 2))
