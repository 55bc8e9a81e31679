"""A function that is defined by another function gives the same results."""

from __future__ import annotations

import fastconv
import numpy as np
from arrays import random
from numpy_calls import assert_same_bits, calls, to_nchw


def test_input_gradient_can_be_left_out_and_out_may_contain_none() -> None:
    call, arrays = calls()["conv2d_max_pool2d_backprop"]
    expected = call(**arrays)
    without = call(**arrays, input_gradient=False)
    assert without[0] is None
    assert_same_bits(without[1:], expected[1:])
    out = np.full_like(expected[1], np.nan)
    some = call(**arrays, out=(None, out, None))
    assert some[1] is out
    assert_same_bits(some, expected)


def test_packed_filters_do_not_change_a_convolution_and_its_max_pool() -> None:
    call, arrays = calls()["conv2d_max_pool2d"]
    assert_same_bits(call(**{**arrays, "filters": fastconv.PackedFilters(arrays["filters"])}), call(**arrays))


def test_transpose_is_the_input_gradient() -> None:
    y, filters = random(2, 4, 5, 6), random(3, 3, 2, 6)
    expected = fastconv.conv2d_backprop_input((2, 8, 9, 2), filters, y, 2, "SAME")
    assert_same_bits(fastconv.conv2d_transpose(y, filters, (2, 8, 9, 2), 2), expected)
    assert_same_bits(fastconv.conv2d_transpose(y, filters, (8, 9), (2, 2)), expected)
    assert_same_bits(fastconv.conv2d_transpose(y, filters, np.array([8, 9]), [1, 2, 2, 1], "same"), expected)
    nchw = fastconv.conv2d_transpose(to_nchw(y), filters, (8, 9), 2, data_format="NCHW")
    np.testing.assert_allclose(nchw, to_nchw(expected), rtol=0, atol=1e-5)


def test_transpose_is_the_input_gradient_in_groups() -> None:
    y, filters = random(1, 4, 4, 6), random(3, 3, 1, 6)
    expected = fastconv.conv2d_backprop_input((1, 6, 6, 3), filters, y)
    assert_same_bits(fastconv.conv2d_transpose(y, filters, (1, 6, 6, 3), 1, "VALID"), expected)


def test_depthwise_is_a_convolution_with_one_channel_per_group() -> None:
    x, filters = random(2, 7, 8, 3), random(3, 3, 3, 2)
    grouped = filters.reshape(3, 3, 1, 6)
    y = fastconv.depthwise_conv2d(x, filters)
    np.testing.assert_allclose(y, fastconv.conv2d(x, grouped), atol=1e-5)
    np.testing.assert_allclose(
        fastconv.depthwise_conv2d_backprop_filter(x, filters.shape, y).reshape(3, 3, 1, 6),
        fastconv.conv2d_backprop_filter(x, grouped.shape, y),
        atol=1e-4,
    )
    np.testing.assert_allclose(
        fastconv.depthwise_conv2d_backprop_input(x.shape, filters, y),
        fastconv.conv2d_backprop_input(x.shape, grouped, y),
        atol=1e-4,
    )


def test_double_precision_is_computed_in_double_precision() -> None:
    x, filters = random(1, 6, 6, 8, dtype=np.float64), random(3, 3, 8, 4, dtype=np.float64)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))  # (N, P, Q, C, R, S)
    expected = np.einsum("npqcrs,rsck->npqk", windows, filters)
    np.testing.assert_allclose(fastconv.conv2d(x, filters), expected, rtol=0, atol=1e-13)
