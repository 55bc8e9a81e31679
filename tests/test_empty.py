"""Convolutions without filters and pools without channels give empty results, as in TensorFlow. Empty sums are zero."""

from __future__ import annotations

from typing import Any

import fastconv
import numpy as np
import pytest
import test_c_entry

X = (2, 9, 8, 3)
ALGORITHMS = [
    ((3, 3, 3), {}),
    ((1, 1, 3), {"algorithm": "direct"}),
    ((3, 3, 3), {"algorithm": "winograd"}),
    ((3, 2, 1), {"strides": (2, 1), "dilations": (1, 2)}),
]


def ones(*shape: int, nchw: bool = False) -> np.ndarray:
    return np.ones([shape[i] for i in (0, 3, 1, 2)] if nchw else shape, np.float32)


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
@pytest.mark.parametrize(("window", "options"), ALGORITHMS)
def test_no_filters_give_empty_outputs_and_zero_gradients(
    window: tuple[int, ...], options: dict[str, Any], data_format: str
) -> None:
    nchw = data_format == "NCHW"
    x, w = ones(*X, nchw=nchw), ones(*window, 0)
    options = {**options, "data_format": data_format}
    some = fastconv.conv2d(x, ones(*window, 3), **options)
    y = fastconv.conv2d(x, w, bias=ones(0), activation="relu", **options)
    assert y.shape == ((2, 0, *some.shape[2:]) if nchw else (*some.shape[:3], 0))
    assert fastconv.conv2d(x, fastconv.PackedFilters(w), **options).shape == y.shape
    dx = np.full_like(x, 7)
    assert fastconv.conv2d_backprop_input(x.shape, w, y, **options, out=dx) is dx
    assert not dx.any()
    assert fastconv.conv2d_backprop_filter(x, w.shape, y, **options).shape == w.shape
    assert fastconv.conv2d_transpose(y, w, x.shape, **{"strides": 1, "padding": "VALID", **options}).shape == x.shape
    assert "nothing to compute" in str(fastconv.explain(x.shape, w.shape, **options))


@pytest.mark.parametrize("algorithm", ["auto", "direct", "depthwise"])
def test_depthwise_filters_of_multiplier_zero_give_empty_outputs(algorithm: str) -> None:
    x, w = ones(*X), ones(3, 3, 3, 0)
    y = fastconv.depthwise_conv2d(x, w, algorithm=algorithm)
    assert y.shape == (2, 7, 6, 0)
    assert not fastconv.depthwise_conv2d_backprop_input(x.shape, w, y, algorithm=algorithm).any()
    assert fastconv.depthwise_conv2d_backprop_filter(x, w.shape, y, algorithm=algorithm).shape == w.shape


def test_arguments_are_checked_without_filters_too() -> None:
    with pytest.raises(ValueError, match="algorithm 'winograd' supports only 3x3"):
        fastconv.conv2d(ones(*X), ones(3, 3, 3, 0), 2, algorithm="winograd")
    with pytest.raises(ValueError, match=r"out_backprop must have shape \(2, 7, 6, 0\)"):
        fastconv.conv2d_backprop_input(X, ones(3, 3, 3, 0), ones(2, 7, 7, 0))


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_pools_of_no_channels_are_empty(data_format: str) -> None:
    nchw = data_format == "NCHW"
    x, pooled = ones(*X[:3], 0, nchw=nchw), ones(2, 4, 4, 0, nchw=nchw)
    options: dict[str, Any] = {"ksize": 2, "data_format": data_format}
    assert fastconv.max_pool2d(x, **options).shape == pooled.shape
    output, argmax = fastconv.max_pool2d_with_argmax(x, **options)
    assert output.shape == argmax.shape == pooled.shape and argmax.dtype == np.int64
    assert fastconv.avg_pool2d(x, **options).shape == pooled.shape
    assert fastconv.max_pool2d_grad(x, pooled, pooled, **options).shape == x.shape
    assert fastconv.avg_pool2d_grad(x.shape, pooled, **options).shape == x.shape


def test_the_c_entrys_other_operations_accept_empty_tensors() -> None:
    """Some of these operations are not NumPy functions."""
    x, w, y = ones(*X), ones(3, 3, 3, 0), ones(2, 7, 6, 0)
    none, no_bias = ones(2, 9, 8, 0), (0,)
    dw, db = test_c_entry.run("conv2d_backprop_filter_bias", [x, w.shape, y], 2)
    assert dw.shape == w.shape and db.shape == no_bias
    (db,) = test_c_entry.run("bias_gradient", [y])
    assert db.shape == no_bias
    masked, db = test_c_entry.run("relu_bias_grad", [y, y], 2)
    assert masked.shape == y.shape and db.shape == no_bias
    pooled, taps = test_c_entry.run("max_pool2d_with_taps", [none], 2, ksize=2)
    assert pooled.shape == taps.shape == (2, 4, 4, 0)
    (dx,) = test_c_entry.run("max_pool2d_scatter", [none.shape, taps, pooled], ksize=2)
    assert dx.shape == none.shape
    (gathered,) = test_c_entry.run("max_pool2d_gather", [none, taps], ksize=2)
    assert gathered.shape == pooled.shape


def test_a_convolution_without_filters_and_its_max_pool() -> None:
    x, w = ones(*X), ones(3, 3, 3, 0)
    pooled, taps = test_c_entry.run("conv2d_max_pool2d", [x, w, None], 2, pool_size=2)
    assert pooled.shape == taps.shape == (2, 3, 3, 0)
    dx, dw, db = test_c_entry.run("conv2d_max_pool2d_backprop", [x, w, taps, pooled, None], 3, pool_size=2)
    assert dx.shape == x.shape and not dx.any() and dw.shape == w.shape and db.shape == (0,)
