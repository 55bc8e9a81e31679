"""Empty batches, images and outputs give empty results, and gradients of zero."""

from __future__ import annotations

import fastconv
import numpy as np
from arrays import random


def test_an_empty_batch_gives_empty_results() -> None:
    x, filters = random(0, 6, 6, 4), random(3, 3, 4, 2)
    y = fastconv.conv2d(x, filters, bias=random(2))
    assert y.shape == (0, 4, 4, 2)
    assert fastconv.conv2d_backprop_input(x.shape, filters, y).shape == x.shape
    out = np.full(filters.shape, np.nan, np.float32)
    assert not fastconv.conv2d_backprop_filter(x, filters.shape, y, out=out).any()
    depthwise_y = fastconv.depthwise_conv2d(x, filters)
    assert depthwise_y.shape == (0, 4, 4, 8)
    assert not fastconv.depthwise_conv2d_backprop_filter(x, filters.shape, depthwise_y, out=out).any()
    assert fastconv.max_pool2d(x, 2).shape == fastconv.avg_pool2d(x, 2).shape == (0, 3, 3, 4)
    assert fastconv.max_pool2d_with_argmax(x, 2)[1].shape == (0, 3, 3, 4)
    assert fastconv.avg_pool2d_grad(x.shape, fastconv.avg_pool2d(x, 2), 2).shape == x.shape


def test_any_number_of_images_without_rows() -> None:
    """NumPy allows such arrays. fastconv does no work for each image."""
    x, filters = np.empty((2**50, 0, 5, 4), np.float32), random(1, 1, 4, 6)
    output, taps = fastconv.conv2d_max_pool2d(x, filters, 2)
    assert output.shape == taps.shape == (2**50, 0, 2, 6)
    _, to_filters, to_bias = fastconv.conv2d_max_pool2d_backprop(x, filters, taps, output, 2)
    assert not to_filters.any() and not to_bias.any()
    assert fastconv.max_pool2d_grad(x, x[:, :, :2], x[:, :, :2], 2).shape == x.shape


def test_window_just_too_large_gives_an_empty_output() -> None:
    x, filters = random(2, 2, 6, 4), random(3, 3, 4, 2)
    y = fastconv.conv2d(x, filters)
    assert y.shape == (2, 0, 4, 2)
    out = np.full(x.shape, np.nan, np.float32)
    assert not fastconv.conv2d_backprop_input(x.shape, filters, y, out=out).any()
    filter_out = np.full(filters.shape, np.nan, np.float32)
    assert not fastconv.conv2d_backprop_filter(x, filters.shape, y, out=filter_out).any()
    pooled = fastconv.max_pool2d(x, 3, 1)
    assert pooled.shape == (2, 0, 4, 4)
    out[...] = np.nan
    assert not fastconv.max_pool2d_grad(x, pooled, pooled, 3, 1, out=out).any()
    out[...] = np.nan
    assert not fastconv.avg_pool2d_grad(x.shape, pooled, 3, 1, out=out).any()


def test_an_input_without_rows_gives_the_bias() -> None:
    """With padding, the output of an empty convolution is zeros plus bias."""
    x, filters, bias = random(1, 0, 4, 2), random(2, 2, 2, 3), random(3)
    assert fastconv.conv2d(x, filters, padding="SAME").shape == (1, 0, 4, 3)
    y = fastconv.conv2d(x, filters, padding=1, bias=bias)
    np.testing.assert_array_equal(y, np.broadcast_to(bias, (1, 1, 5, 3)))
    assert not fastconv.conv2d_backprop_filter(x, filters.shape, y, padding=1).any()
    assert fastconv.conv2d_backprop_input(x.shape, filters, y, padding=1).shape == x.shape
