"""Windows, padding and dilations far larger than the input: right results, or an error if no memory could hold them."""

from __future__ import annotations

from typing import Any

import fastconv
import numpy as np
import pytest


@pytest.mark.parametrize("threads", [1, 2])
def test_windows_far_larger_than_the_input(threads: int) -> None:
    """Cost depends on what a window covers, not on its size: there is no memory for 2**40 taps."""
    before = fastconv.get_num_threads()
    fastconv.set_num_threads(threads)
    try:
        x = np.random.default_rng(3).standard_normal((1, 64, 64, 4), np.float32)
        largest = fastconv.max_pool2d(x, 1 << 20, 1, "SAME")
        np.testing.assert_array_equal(largest, np.broadcast_to(x.max((1, 2), keepdims=True), x.shape))
        huge = 2_000_000_000
        gradient = fastconv.avg_pool2d_grad((1, 64, 64, 4), np.zeros((1, 0, 0, 4), np.float32), huge, huge)
        np.testing.assert_array_equal(gradient, np.zeros((1, 64, 64, 4), np.float32))
        far = 1 << 40  # 2^40 rows without columns
        rows = fastconv.max_pool2d(x, (far, 99), (1, 99), ((far - 1, far - 1), (0, 0)))
        assert rows.shape == (1, far + 63, 0, 4)
        assert not fastconv.avg_pool2d_grad(x.shape, rows, (far, 99), (1, 99), ((far - 1, far - 1), (0, 0))).any()
        # The products of these sizes do not fit in 64 bits.
        for rows, window in ((16, (1 << 28, 1 << 28)), (1, (1, 1 << 60))):
            x, ones = x[:, :rows, :16, :1].copy(), np.ones((1, rows, 16, 1), np.float32)
            gradient = fastconv.avg_pool2d_grad(ones.shape, ones, window, 1, "SAME")
            np.testing.assert_allclose(gradient, ones, rtol=1e-6)
            gradient = fastconv.max_pool2d_grad(x, ones, ones, window, 1, "SAME")
            np.testing.assert_array_equal(gradient[gradient != 0], rows * 16)
    finally:
        fastconv.set_num_threads(before)


@pytest.mark.parametrize("far", [1 << 31, 1 << 38])
def test_padding_and_dilation_that_reach_far(far: int) -> None:
    """Only the middle of the window lies inside the image."""
    rng = np.random.default_rng(4)
    x, w = rng.standard_normal((1, 1, 3, 2), np.float32), rng.standard_normal((3, 1, 2, 3), np.float32)
    options: dict[str, Any] = {"padding": ((far, far), (0, 0)), "dilations": (far, 1)}
    y = fastconv.conv2d(x, w, **options)
    np.testing.assert_array_equal(y, fastconv.conv2d(x, w[1:2]))
    dx = fastconv.conv2d_backprop_input(x.shape, w, y, **options)
    np.testing.assert_array_equal(dx, fastconv.conv2d_backprop_input(x.shape, w[1:2], y))
    dw = fastconv.conv2d_backprop_filter(x, w.shape, y, **options)
    np.testing.assert_array_equal(dw[1:2], fastconv.conv2d_backprop_filter(x, (1, 1, 2, 3), y))
    assert not dw[::2].any()


def test_padding_beyond_the_address_space_is_refused() -> None:
    x, w = np.ones((1, 1, 3, 2), np.float32), np.ones((3, 1, 2, 3), np.float32)
    with pytest.raises(ValueError, match=r"^padding makes an image too large: .* 3 channels take more than 2\^46"):
        fastconv.conv2d(x, w, padding=((1 << 50, 1 << 50), (0, 0)), dilations=(1 << 50, 1))
