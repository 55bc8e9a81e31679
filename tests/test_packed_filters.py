"""Filters packed once give the same bits as filters packed in every call, in all functions and threads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fastconv
import numpy as np
import problems
import pytest
import random_problems

RANDOM = np.random.default_rng(5)


def normal(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(dtype)


GEOMETRIES = [
    # input, filters, keywords
    ((2, 12, 13, 40), (3, 3, 40, 48), {"padding": "SAME"}),
    ((2, 12, 13, 40), (3, 3, 40, 48), {"algorithm": "winograd"}),
    ((2, 12, 13, 40), (3, 3, 40, 48), {"algorithm": "direct"}),
    ((2, 9, 9, 12), (3, 3, 4, 6), {"strides": 2, "padding": "SAME"}),
    ((1, 20, 20, 1), (5, 5, 1, 3), {}),
    ((2, 14, 14, 3), (3, 3, 3, 2), {"dilations": 2}),
    ((2, 5, 5, 700), (1, 1, 700, 70), {}),
    ((1, 7, 7, 270), (3, 3, 270, 300), {"padding": "SAME", "algorithm": "winograd"}),  # transformed in every call
    ((0, 5, 5, 3), (3, 3, 3, 4), {}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("input_shape", "filter_shape", "keywords"), GEOMETRIES)
def test_packed_filters_give_the_same_bits(
    input_shape: tuple, filter_shape: tuple, keywords: dict, dtype: type
) -> None:
    x, f = normal(*input_shape, dtype=dtype), normal(*filter_shape, dtype=dtype)
    packed = fastconv.PackedFilters(f)
    assert packed.shape == f.shape and packed.dtype == f.dtype
    y = fastconv.conv2d(x, f, **keywords)
    dx = fastconv.conv2d_backprop_input(x.shape, f, y, **keywords)
    for _ in range(2):
        np.testing.assert_array_equal(fastconv.conv2d(x, packed, **keywords), y)
        np.testing.assert_array_equal(fastconv.conv2d_backprop_input(x.shape, packed, y, **keywords), dx)


def test_filters_are_packed_once_for_all_batch_and_image_sizes() -> None:
    packed = fastconv.PackedFilters(normal(3, 3, 8, 16))
    assert packed._forms() == 0
    for size in (8, 16, 32):
        for _ in range(3):
            fastconv.conv2d(normal(size, size, size, 8), packed, padding="SAME", algorithm="direct")
    assert packed._forms() == 1
    fastconv.conv2d_backprop_input((1, 8, 8, 8), packed, normal(1, 8, 8, 16), padding="SAME", algorithm="direct")
    assert packed._forms() == 2


def test_one_object_serves_all_geometries() -> None:
    f = normal(3, 3, 16, 32)
    packed = fastconv.PackedFilters(f)
    for size, strides, dilations in [(9, 1, 1), (10, 2, 1), (11, 1, 2), (33, 3, 1), (9, 1, 1)]:
        x = normal(2, size, size, 16)
        y = fastconv.conv2d(x, f, strides, "SAME", dilations=dilations)
        np.testing.assert_array_equal(fastconv.conv2d(x, packed, strides, "SAME", dilations=dilations), y)
    groups = normal(2, 9, 9, 64)
    np.testing.assert_array_equal(fastconv.conv2d(groups, packed), fastconv.conv2d(groups, f))


def test_packed_filters_in_nchw_transposed_and_depthwise_convolutions() -> None:
    x, f = normal(2, 16, 10, 9), normal(3, 3, 16, 8)
    packed = fastconv.PackedFilters(f)
    np.testing.assert_array_equal(
        fastconv.conv2d(x, packed, data_format="NCHW"), fastconv.conv2d(x, f, data_format="NCHW")
    )
    y = normal(2, 5, 5, 8)
    np.testing.assert_array_equal(
        fastconv.conv2d_transpose(y, packed, (2, 10, 10, 16), 2), fastconv.conv2d_transpose(y, f, (2, 10, 10, 16), 2)
    )
    for multiplier in (1, 3):
        x, f = normal(2, 8, 8, 5), normal(3, 3, 5, multiplier)
        np.testing.assert_array_equal(
            fastconv.depthwise_conv2d(x, fastconv.PackedFilters(f)), fastconv.depthwise_conv2d(x, f)
        )


def test_the_array_may_change_afterwards() -> None:
    x, f = normal(1, 8, 8, 4), normal(3, 3, 4, 8)
    packed = fastconv.PackedFilters(f)
    before = fastconv.conv2d(x, f)
    f[:] = 7
    np.testing.assert_array_equal(fastconv.conv2d(x, packed), before)


def test_filters_may_be_strided() -> None:
    x, f = normal(1, 8, 8, 4), normal(8, 4, 3, 3).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(fastconv.conv2d(x, fastconv.PackedFilters(f)), fastconv.conv2d(x, f))


def test_many_threads_share_packed_filters() -> None:
    x, f = normal(1, 24, 24, 32), normal(3, 3, 32, 32)
    expected = [fastconv.conv2d(x, f, strides) for strides in (1, 2, 3)]
    for _ in range(20):
        packed = fastconv.PackedFilters(f)
        with ThreadPoolExecutor(8) as pool:
            results = list(pool.map(lambda i, p=packed: fastconv.conv2d(x, p, i % 3 + 1), range(24)))
        for i, result in enumerate(results):
            np.testing.assert_array_equal(result, expected[i % 3])
        assert packed._forms() <= 3


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: fastconv.PackedFilters([[1.0]]), TypeError, "filters must be a NumPy array"),
        (lambda: fastconv.PackedFilters(np.ones((3, 3, 1, 1), int)), TypeError, "filters must be float32 or float64"),
        (lambda: fastconv.PackedFilters(np.ones((3, 3), np.float32)), ValueError, "filters must have 4 dimensions"),
        (
            lambda: fastconv.conv2d(np.ones((1, 5, 5, 1)), fastconv.PackedFilters(np.ones((3, 3, 1, 1), np.float32))),
            TypeError,
            "filters is float32 but input is float64",
        ),
        (
            lambda: fastconv.conv2d(np.ones((1, 5, 5, 3)), fastconv.PackedFilters(np.ones((3, 3, 4, 3)))),
            ValueError,
            "3",
        ),
    ],
)
def test_wrong_filters_are_refused(make: Callable[[], object], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        make()


def test_packed_filters_give_the_same_bits_in_random_problems() -> None:
    seen = 0
    for problem in random_problems.draw(200, 11, "float32", "conv"):
        call = problems.call_of(problem, "conv2d")
        arguments = dict(call.arguments)
        if "filters" not in arguments:
            continue
        plain = fastconv.conv2d(**arguments)
        arguments["filters"] = fastconv.PackedFilters(arguments["filters"])
        np.testing.assert_array_equal(fastconv.conv2d(**arguments), plain)
        seen += 1
    assert seen >= 100
