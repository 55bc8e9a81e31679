"""Calls of all functions of `fastconv.tensorflow`, and the results of the NumPy face for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fastconv
import fastconv.tensorflow as fc
import numpy as np
import pytest
import tensorflow as tf
from arrays import random

Arrays = dict[str, np.ndarray]
Case = tuple[str, dict[str, Any], Arrays]  # function, its other arguments, its arrays


def nchw(shape: Sequence[int]) -> tuple[int, ...]:
    return (shape[0], shape[3], shape[1], shape[2])


def conv_cases(
    kind: str, x: Sequence[int], w: Sequence[int], dtype: str = "float32", **keywords: Any
) -> dict[str, Case]:
    """The forward call of a geometry and the calls of its gradients."""
    name = "depthwise_conv2d" if "depthwise" in kind else "conv2d"
    input, filters = random(*x, dtype=dtype), random(*w, dtype=dtype)
    fused = {key: keywords.pop(key) for key in ("activation",) if key in keywords}
    bias = {"bias": random(w[3], dtype=dtype)} if fused else {}
    dy = random(*getattr(fastconv, name)(input, filters, **keywords).shape, dtype=dtype)
    cases: dict[str, Case] = {
        kind: (name, {**keywords, **fused}, {"input": input, "filters": filters, **bias}),
        f"{kind}, input gradient": (
            f"{name}_backprop_input",
            {**keywords, "input_sizes": tuple(x)},
            {"filters": filters, "out_backprop": dy},
        ),
        f"{kind}, filter gradient": (
            f"{name}_backprop_filter",
            {**keywords, "filter_sizes": tuple(w)},
            {"input": input, "out_backprop": dy},
        ),
    }
    if name == "conv2d":
        transposed = {"strides": 1, "padding": "VALID", **keywords, "output_shape": tuple(x)}
        cases[f"{kind}, transpose"] = ("conv2d_transpose", transposed, {"input": dy, "filters": filters})
    return cases


def adaptive_cases(kind: str, x: np.ndarray, ksize: Any, **keywords: Any) -> dict[str, Case]:
    keywords |= {"output_size": (3, 4)}
    y = fastconv.adaptive_max_pool2d(x, **keywords)
    dy = random(*y.shape, dtype=x.dtype)
    return {
        f"adaptive max-{kind}": ("adaptive_max_pool2d", keywords, {"input": x}),
        f"adaptive max-{kind}, gradient": (
            "adaptive_max_pool2d_grad",
            keywords,
            {"orig_input": x, "orig_output": y, "grad": dy},
        ),
        f"adaptive average-{kind}": ("adaptive_avg_pool2d", keywords, {"input": x}),
        f"adaptive average-{kind}, gradient": (
            "adaptive_avg_pool2d_grad",
            {**keywords, "orig_input_shape": x.shape},
            {"grad": dy},
        ),
    }


def pool_cases(kind: str, shape: Sequence[int], dtype: str = "float32", **keywords: Any) -> dict[str, Case]:
    x = random(*shape, dtype=dtype)
    y = fastconv.max_pool2d(x, **keywords)
    dy = random(*y.shape, dtype=dtype)
    return {
        f"max-{kind}": ("max_pool2d", keywords, {"input": x}),
        f"max-{kind}, arg max": ("max_pool2d_with_argmax", keywords, {"input": x}),
        f"max-{kind}, arg max with batch": (
            "max_pool2d_with_argmax",
            {**keywords, "include_batch_in_index": True},
            {"input": x},
        ),
        f"max-{kind}, gradient": ("max_pool2d_grad", keywords, {"orig_input": x, "orig_output": y, "grad": dy}),
        f"average-{kind}": ("avg_pool2d", keywords, {"input": x}),
        f"average-{kind}, gradient": ("avg_pool2d_grad", {**keywords, "orig_input_shape": tuple(shape)}, {"grad": dy}),
        **(adaptive_cases(kind, x, **keywords) if set(keywords) <= {"ksize", "data_format"} else {}),
    }


def elementwise_cases(kind: str, shape: Sequence[int], activation: Any, dtype: str = "float32") -> dict[str, Case]:
    a, b, grad = random(*shape, dtype=dtype), random(*shape, dtype=dtype), random(*shape, dtype=dtype)
    keywords = {"activation": activation}
    return {
        f"activation, {kind}": ("activate", keywords, {"input": a}),
        f"activation, {kind}, gradient": ("activate_grad", keywords, {"input": a, "grad": grad}),
        f"addition, {kind}": ("add", keywords, {"a": a, "b": b}),
        f"addition, {kind}, gradient": ("add_grad", keywords, {"a": a, "b": b, "grad": grad}),
    }


def batch_norm_cases(
    kind: str, shape: Sequence[int], optional: Sequence[str] = (), dtype: str = "float32", **keywords: Any
) -> dict[str, Case]:
    """`optional` names the optional inputs that are given."""
    channels = shape[1 if keywords.get("data_format") == "NCHW" else len(shape) - 1]
    x, residual, grad = random(*shape, dtype=dtype), random(*shape, dtype=dtype) + 1, random(*shape, dtype=dtype) - 1
    mean, variance = random(channels, dtype=dtype), np.abs(random(channels, dtype=dtype)) + 1
    given = {"scale": variance - 3, "offset": mean + 1, "residual": residual}
    arrays = {name: given[name] for name in optional}
    statistics = {"mean": mean, "variance": variance}
    of_statistics = {"grad_mean": mean - 2, "grad_variance": variance - 2} if arrays else {}
    of_format = {name: keywords[name] for name in ("data_format",) if name in keywords}
    return {
        f"batch norm, {kind}": ("batch_norm", keywords, {"input": x, **arrays}),
        f"batch norm, {kind}, gradient": (
            "batch_norm_grad",
            keywords,
            {"input": x, **statistics, "grad": grad, **arrays, **of_statistics},
        ),
        f"batch norm, {kind}, statistics": ("batch_norm_statistics", of_format, {"input": x}),
        f"batch norm, {kind}, inference": ("batch_norm_inference", keywords, {"input": x, **statistics, **arrays}),
        f"batch norm, {kind}, inference gradient": (
            "batch_norm_inference_grad",
            keywords,
            {"input": x, **statistics, "grad": grad, **arrays},
        ),
    }


CASES: dict[str, Case] = {
    **conv_cases("plain", (2, 9, 8, 3), (3, 3, 3, 5)),
    **conv_cases("float64, same", (2, 9, 8, 3), (3, 2, 3, 5), "float64", padding="SAME"),
    **conv_cases("strided, explicit padding", (2, 9, 8, 3), (3, 2, 3, 5), strides=(2, 3), padding=((1, 0), (2, 1))),
    **conv_cases("dilated", (1, 11, 9, 2), (3, 2, 2, 4), dilations=(2, 3)),
    **conv_cases("grouped", (2, 7, 6, 6), (3, 3, 2, 9), padding="same"),
    **conv_cases("NCHW", nchw((2, 7, 6, 4)), (3, 3, 4, 5), data_format="NCHW", strides=2),
    **conv_cases("bias and ReLU", (2, 9, 8, 3), (3, 3, 3, 5), activation="relu"),
    **conv_cases("Winograd", (2, 12, 13, 16), (3, 3, 16, 20), algorithm="winograd", padding="SAME"),
    **conv_cases("many channels", (1, 14, 14, 64), (3, 3, 64, 64), padding="SAME"),
    **conv_cases("batch 0", (0, 9, 8, 3), (3, 3, 3, 5)),
    **conv_cases("empty output", (2, 2, 8, 3), (3, 3, 3, 5)),
    **conv_cases("depthwise", (2, 9, 8, 3), (3, 3, 3, 2), strides=(2, 1), padding="SAME"),
    **conv_cases("depthwise by name", (2, 9, 8, 3), (3, 3, 3, 1), algorithm="depthwise"),
    **conv_cases("depthwise computed directly", (2, 9, 8, 3), (3, 3, 3, 1), algorithm="direct"),
    **conv_cases("no filters", (2, 9, 8, 3), (3, 3, 3, 0), strides=2),
    **conv_cases("depthwise NCHW", nchw((2, 9, 8, 3)), (3, 2, 3, 1), data_format="NCHW", dilations=2),
    "gradient of a bias": ("bias_gradient", {}, {"out_backprop": random(2, 7, 6, 5)}),
    "gradient of a bias, NCHW": ("bias_gradient", {"data_format": "NCHW"}, {"out_backprop": random(2, 5, 7, 6)}),
    **pool_cases("pool", (2, 8, 9, 5), ksize=2),
    **pool_cases("pool of no channels", (2, 8, 9, 0), ksize=2),
    **pool_cases("pool, overlapping", (2, 8, 9, 5), "float64", ksize=3, strides=2, padding="SAME"),
    **pool_cases("pool, NCHW", nchw((2, 8, 9, 5)), ksize=(3, 2), strides=1, padding=1, data_format="NCHW"),
    **pool_cases("pool, dilated and rounded up", (2, 8, 9, 5), ksize=2, strides=3, dilations=(2, 1), ceil_mode=True),
    **pool_cases("pool, batch 0", (0, 8, 9, 5), ksize=2),
    **elementwise_cases("linear", (2, 3, 5), None),
    **elementwise_cases("of a scalar", (), "sigmoid"),
    **elementwise_cases("with a number", (3, 7), ("leaky_relu", 0.3), "float64"),
    **elementwise_cases("with two numbers", (2, 3, 4, 5), ("clip", -0.5, np.inf)),
    **batch_norm_cases("plain", (3, 5, 4, 6)),
    **batch_norm_cases("scale and ReLU", (3, 5, 4, 6), ["scale"], activation="relu", epsilon=1e-5),
    **batch_norm_cases("everything", (2, 3, 4, 6), ["scale", "offset", "residual"], "float64", activation="silu"),
    **batch_norm_cases("NCHW", (2, 3, 4, 6), ["scale", "offset"], data_format="NCHW", activation="relu6"),
    **batch_norm_cases("two dimensions", (7, 5), ["offset"]),
    **batch_norm_cases("batch 0", (0, 3, 4, 5), ["scale", "offset"]),
}


def results(value: Any) -> list[np.ndarray]:
    """All results but those that are left out."""
    parts = value if isinstance(value, (tuple, list)) else [value]
    return [np.asarray(part) for part in parts if part is not None]


def same_bits(ours: Any, expected: Any) -> None:
    ours, expected = results(ours), results(expected)
    assert len(ours) == len(expected)
    for a, b in zip(ours, expected, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert a.tobytes() == b.tobytes()


def call(case: Case, **arrays: Any) -> Any:
    name, keywords, given = case
    return getattr(fc, name)(**keywords, **(arrays or {key: tf.constant(value) for key, value in given.items()}))


def expected(case: Case) -> Any:
    name, keywords, arrays = case
    return getattr(fastconv, name)(**keywords, **arrays)


every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
