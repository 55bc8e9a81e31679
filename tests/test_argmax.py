"""The argmax of a max pooling points at the maximum, the first of equal ones, or the first NaN."""

from __future__ import annotations

import fastconv
import numpy as np
from arrays import random
from numpy_calls import assert_same_bits, to_nchw


def test_argmax_points_at_the_maximum() -> None:
    x = random(3, 8, 9, 5)
    for padding in ("VALID", "SAME", 1):
        output, argmax = fastconv.max_pool2d_with_argmax(x, 3, 2, padding)
        assert argmax.dtype == np.int64
        assert_same_bits(output, fastconv.max_pool2d(x, 3, 2, padding))
        images = x.reshape(3, -1)
        np.testing.assert_array_equal(np.take_along_axis(images, argmax.reshape(3, -1), 1), output.reshape(3, -1))
        _, with_batch = fastconv.max_pool2d_with_argmax(x, 3, 2, padding, include_batch_in_index=True)
        np.testing.assert_array_equal(x.ravel()[with_batch], output)
        first_of_image = images.shape[1] * np.arange(3).reshape(3, 1, 1, 1)
        np.testing.assert_array_equal(with_batch, argmax + first_of_image)


def test_argmax_of_nchw_counts_as_in_nhwc() -> None:
    x = random(2, 6, 7, 3)
    _, expected = fastconv.max_pool2d_with_argmax(x, 2)
    _, argmax = fastconv.max_pool2d_with_argmax(to_nchw(x), 2, data_format="NCHW")
    assert_same_bits(argmax, to_nchw(expected))


def test_first_of_equal_maxima_and_first_nan() -> None:
    for channels in (1, 3, 16, 17):
        x = np.zeros((1, 2, 4, channels), np.float32)
        x[:, 1, 2:] = np.nan
        x[:, 0, 2] = np.inf
        output, argmax = fastconv.max_pool2d_with_argmax(x, 2)
        channel = np.arange(channels)
        np.testing.assert_array_equal(output[0, 0, 0], np.zeros(channels))
        np.testing.assert_array_equal(argmax[0, 0, 0], channel)
        assert np.isnan(output[0, 0, 1]).all()
        np.testing.assert_array_equal(argmax[0, 0, 1], (1 * 4 + 2) * channels + channel)
        gradient = fastconv.max_pool2d_grad(x, output, np.full_like(output, 5), 2)
        assert gradient[0, 0, 0].tolist() == gradient[0, 1, 2].tolist() == [5] * channels
        assert gradient.sum() == 10 * channels


def test_argmax_of_a_window_of_minus_infinity() -> None:
    x = np.full((1, 2, 2, 3), -np.inf, np.float64)
    output, argmax = fastconv.max_pool2d_with_argmax(x, 2, padding=1, strides=2)
    assert np.isneginf(output).all()
    np.testing.assert_array_equal(argmax.reshape(4, 3), np.arange(12).reshape(4, 3))
