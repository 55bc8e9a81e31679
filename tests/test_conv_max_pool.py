"""`conv2d_max_pool2d` gives the bits of a convolution followed by a max pooling."""

from __future__ import annotations

from typing import Any

import fastconv
import numpy as np
import pytest
import random_problems
import reference


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_convolution_and_max_pool_equal_the_two_functions(dtype: str, seed: int, count: int) -> None:
    """The bits equal those of the convolution followed by the pooling, also for NaN and infinity."""
    rng = np.random.default_rng(seed)
    for problem in random_problems.draw(count // 2, seed, dtype, "conv_max_pool"):
        assert problem.pooling is not None
        x, w = problem.array("input", problem.input_shape), problem.array("filters", problem.filter_shape)
        x[rng.random(x.shape) < 0.01] = rng.choice([np.nan, np.inf, -np.inf])
        x, arguments = problem.to_format(x), problem.window_arguments()
        size, strides, pool_padding = problem.pooling.kernel, problem.pooling.strides, problem.pooling.padding
        maps = fastconv.conv2d(x, w, **arguments)
        pooled = fastconv.max_pool2d(maps, size, strides, pool_padding, problem.data_format)
        output, taps = fastconv.conv2d_max_pool2d(
            x, w, size, pool_strides=strides, pool_padding=pool_padding, **arguments
        )
        np.testing.assert_array_equal(output, pooled, err_msg=str(problem))
        nhwc = maps if problem.data_format == "NHWC" else np.moveaxis(maps, 1, 3)
        expected = reference.max_pool2d_taps(nhwc, problem.pooling_geometry)
        np.testing.assert_array_equal(taps, expected, err_msg=str(problem))


@pytest.mark.parametrize(
    ("n", "size", "channels", "filters", "window"),
    [
        (9, 8, 33, 34, 3),  # Winograd, in a task of a few images
        (9, 8, 64, 70, 3),  # too many filters for a task of a few images
        (33, 7, 512, 200, 3),  # Winograd, transformed filters are not stored
        (40, 9, 12, 33, 5),
        (5, 30, 64, 40, 1),
    ],
)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_convolution_and_max_pool_equal_by_every_algorithm(
    n: int, size: int, channels: int, filters: int, window: int, threads: int
) -> None:
    draw = np.random.default_rng(n).standard_normal
    x, w = draw((n, size, size, channels), np.float32), draw((window, window, channels, filters), np.float32)
    more: dict[str, Any] = {"padding": "SAME", "bias": draw(filters, np.float32), "activation": "relu"}
    before = fastconv.get_num_threads()
    fastconv.set_num_threads(threads)
    try:
        expected = fastconv.max_pool2d(fastconv.conv2d(x, w, **more), 2)
        assert fastconv.conv2d_max_pool2d(x, w, 2, **more)[0].tobytes() == expected.tobytes()
    finally:
        fastconv.set_num_threads(before)
