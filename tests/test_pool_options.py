"""Options of pools: dilations, ceil_mode and count_include_pad, and the adaptive pools."""

from __future__ import annotations

from typing import Any

import fastconv
import numpy as np
import pytest

X = np.arange(2 * 6 * 7 * 3, dtype=np.float32).reshape(2, 6, 7, 3)
ADAPTIVE = [fastconv.adaptive_max_pool2d, fastconv.adaptive_avg_pool2d]
every_pool = pytest.mark.parametrize("pool", [fastconv.max_pool2d, fastconv.avg_pool2d])
every_adaptive = pytest.mark.parametrize("pool", ADAPTIVE)


def plane(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32)[None, :, :, None]


def test_small_examples_computed_by_hand() -> None:
    x = plane([1, 2, 3], [4, 5, 6], [7, 8, 9])
    up = {"ceil_mode": True}
    np.testing.assert_array_equal(fastconv.max_pool2d(x, 2, **up), plane([5, 6], [8, 9]))
    np.testing.assert_array_equal(fastconv.avg_pool2d(x, 2, **up), plane([3, 4.5], [7.5, 9]))
    np.testing.assert_array_equal(fastconv.max_pool2d(x, 2, 1, dilations=2), plane([9]))
    # The last window would start in the padding, so it is left out.
    np.testing.assert_array_equal(fastconv.max_pool2d(x, 2, 2, 1, **up), plane([1, 3], [7, 9]))
    # The mean counts the padding at the top and left, but nothing beyond the last row and column of the image.
    both = {"padding": ((1, 0), (1, 0)), "strides": 3, "ceil_mode": True, "count_include_pad": True}
    np.testing.assert_array_equal(fastconv.avg_pool2d(x, 2, **both), plane([0.25, 1.5], [3.5, 9]))
    np.testing.assert_array_equal(fastconv.adaptive_avg_pool2d(x, 2), plane([3, 4], [6, 7]))


@every_pool
def test_ceil_mode_has_no_effect_with_same(pool: Any) -> None:
    for strides in (1, 2, 3, 5):
        expected = pool(X, 3, strides, "SAME")
        np.testing.assert_array_equal(pool(X, 3, strides, "SAME", ceil_mode=True), expected)


@every_pool
def test_the_defaults_are_no_dilation_and_no_ceil_mode(pool: Any) -> None:
    np.testing.assert_array_equal(pool(X, 3, 2, 1, dilations=1, ceil_mode=False), pool(X, 3, 2, 1))


def test_a_nan_reaches_all_its_dilated_windows() -> None:
    x = X.copy()
    x[0, 2, 3, 1] = np.nan
    output, argmax = fastconv.max_pool2d_with_argmax(x, 2, 1, dilations=2)
    found = np.argwhere(np.isnan(output)).tolist()
    assert found == [[0, 0, 1, 1], [0, 0, 3, 1], [0, 2, 1, 1], [0, 2, 3, 1]]
    assert (argmax[np.isnan(output)] == (2 * 7 + 3) * 3 + 1).all()
    gradient = fastconv.max_pool2d_grad(x, output, np.ones_like(output), 2, 1, dilations=2)
    assert gradient[0, 2, 3, 1] == 4


@every_pool
def test_wrong_options_are_refused(pool: Any) -> None:
    for wrong in (0, (1, -1)):
        with pytest.raises(ValueError, match=r"^dilations must be at least 1"):
            pool(X, 2, dilations=wrong)
    for kind in (None, 1.5, "2"):
        with pytest.raises(TypeError, match=r"^dilations: expected an integer"):
            pool(X, 2, dilations=kind)
    for flag in (1, None, "yes"):
        with pytest.raises(TypeError, match=r"^ceil_mode must be True or False"):
            pool(X, 2, ceil_mode=flag)
    with pytest.raises(TypeError, match=r"^count_include_pad must be True or False"):
        fastconv.avg_pool2d(X, 2, count_include_pad=1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"^padding must be smaller than the window \(3, 3\), got \(\(3, 3\)"):
        pool(X, 2, padding=3, dilations=2)
    with pytest.raises(ValueError, match=r"^ksize: a window of 3 taps with dilation .* overflows"):
        pool(X, 3, dilations=2**62)
    with pytest.raises(ValueError, match=r"^the output height is negative: .*dilation 9"):
        pool(X, 2, 1, dilations=9)
    with pytest.raises(ValueError, match=r"^dilations \(2, 2\) step over the whole input of shape .*use smaller"):
        pool(X[:, :1, :1], 2, 1, 1, dilations=2)


@every_adaptive
def test_wrong_output_sizes_are_refused(pool: Any) -> None:
    for wrong in (-1, (2, -3), -(2**70)):
        with pytest.raises(ValueError, match=r"^output_size"):
            pool(X, wrong)
    with pytest.raises(ValueError, match=r"^output_size must be 1 or 2 integers, got 3 integers"):
        pool(X, (1, 2, 3))
    for kind in (None, 1.5, "2", (2, "3"), True):
        with pytest.raises(TypeError, match=r"^output_size"):
            pool(X, kind)
    with pytest.raises(ValueError, match=r"^output_size: .*use a smaller output_size"):
        pool(X, 2**61)
    with pytest.raises(ValueError, match=r"^output_size: the output .*use a smaller output_size"):
        pool(X, (2**57, 2**57))
    with pytest.raises(ValueError, match=r"^input of shape \(2, 0, 7, 3\) has no rows or columns"):
        pool(X[:, :0], 2)
    with pytest.raises(ValueError, match=r"^input must have 4 dimensions"):
        pool(X[0], 2)


def test_wrong_shapes_of_adaptive_gradients_are_refused() -> None:
    y = fastconv.adaptive_max_pool2d(X, (2, 3))
    for wrong in (y[:, :1], y[..., :2]):
        with pytest.raises(ValueError, match=r"^grad must have shape \(2, 2, 3, 3\)"):
            fastconv.adaptive_max_pool2d_grad(X, y, wrong, (2, 3))
        with pytest.raises(ValueError, match=r"^orig_output must have shape \(2, 2, 3, 3\)"):
            fastconv.adaptive_max_pool2d_grad(X, wrong, y, (2, 3))
        with pytest.raises(ValueError, match=r"^grad must have shape \(2, 2, 3, 3\)"):
            fastconv.adaptive_avg_pool2d_grad(X.shape, wrong, (2, 3))


@every_adaptive
def test_adaptive_pools_may_be_empty(pool: Any) -> None:
    assert pool(X, 0).shape == (2, 0, 0, 3)
    assert pool(X, (0, None)).shape == (2, 0, 7, 3)
    assert pool(X[:0], 2).shape == (0, 2, 2, 3)
    assert pool(X[..., :0], 2).shape == (2, 2, 2, 0)
    assert pool(X[:, :0], (None, 4)).shape == (2, 0, 4, 3)
    empty = np.zeros((2, 0, 4, 3), np.float32)
    assert not fastconv.adaptive_avg_pool2d_grad(X.shape, empty, (0, 4)).any()
    assert not fastconv.adaptive_max_pool2d_grad(X, empty, empty, (0, 4)).any()


@every_adaptive
@pytest.mark.parametrize("size", [1, (2, 7), (3, 1), None])
def test_adaptive_windows_of_one_size_are_those_of_a_plain_pool(pool: Any, size: Any) -> None:
    plain = fastconv.max_pool2d if pool is fastconv.adaptive_max_pool2d else fastconv.avg_pool2d
    given = (None, None) if size is None else size
    p, q = (6, 7) if size is None else (size, size) if isinstance(size, int) else size
    np.testing.assert_array_equal(pool(X, given), plain(X, (6 // p, 7 // q)))
