"""Two ways to write the same call give the same bits, and both data formats the same numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastconv
import numpy as np
import pytest
from arrays import random
from numpy_calls import FUNCTIONS, assert_same_bits, calls, parts, to_nchw

# ---- Forms of arguments ---------------------------------------------------------------------------------------------


def pooling(**keywords: Any) -> Any:
    return fastconv.max_pool2d(random(2, 7, 9, 3), **{"ksize": 3, "strides": 1, **keywords})


def convolution(**keywords: Any) -> Any:
    return fastconv.conv2d(random(2, 7, 9, 3), random(3, 3, 3, 4), **keywords)


BOTH = pytest.mark.parametrize("call", [convolution, pooling])


@BOTH
@pytest.mark.parametrize(
    ("one", "same"),
    [
        (1, [(1, 1), [1, 1], ((1, 1), (1, 1)), [[1, 1], [1, 1]], np.int8(1), np.array(1), np.array([1, 1])]),
        ((2, 1), [[2, 1], ((2, 2), (1, 1)), [[0, 0], [2, 2], [1, 1], [0, 0]], np.array([2, 1], np.uint8)]),
        (((0, 1), (2, 0)), [[(0, 1), [2, 0]], [[0, 0], [0, 1], [2, 0], [0, 0]], np.array([[0, 1], [2, 0]])]),
        ("VALID", ["valid", "Valid", 0, (0, 0), ((0, 0), (0, 0)), [[0, 0]] * 4]),
        ("SAME", ["same", "Same", 1, ((1, 1), (1, 1))]),
    ],
    ids=["int", "pair", "pairs", "VALID", "SAME"],
)  # fmt: skip
def test_forms_of_padding_are_equivalent(call: Callable[..., Any], one: Any, same: list[Any]) -> None:
    expected = call(padding=one)
    for other in same:
        assert_same_bits(call(padding=other), expected)


@BOTH
def test_order_of_padding_and_strides(call: Callable[..., Any]) -> None:
    """Height comes before width. Along each axis, the padding before the image comes before the padding after it."""
    assert call(padding=(2, 1)).shape[1:3] == (9, 9)
    assert call(padding=((0, 1), (2, 2))).shape[1:3] == (6, 11)
    assert call(strides=(3, 2)).shape[1:3] == (2, 4)
    assert_same_bits(call(padding=((2, 0), (0, 0)))[:, 2:], call())
    assert_same_bits(call(padding=((0, 0), (0, 2)))[:, :, :-2], call())


@BOTH
def test_forms_of_numbers_are_equivalent(call: Callable[..., Any]) -> None:
    names = ["strides", "dilations"] if call is convolution else ["strides", "ksize"]
    for name in names:
        expected = call(**{name: (2, 1)})
        for other in (
            [2, 1],
            (1, 2, 1, 1),
            [1, 2, 1, 1],
            np.array([2, 1]),
            (np.int64(2), np.uint8(1)),
            range(2, 0, -1),
        ):
            assert_same_bits(call(**{name: other}), expected)
        expected = call(**{name: 2})
        for other in ((2, 2), np.int32(2), np.array(2), [1, 2, 2, 1]):
            assert_same_bits(call(**{name: other}), expected)


@pytest.mark.parametrize("name", ["conv2d_backprop_input", "conv2d_backprop_filter", "avg_pool2d_grad"])
def test_forms_of_shapes_are_equivalent(name: str) -> None:
    _, arrays = calls()[name]
    keywords: dict[str, Any] = {"strides": 2, "padding": ((1, 1), (0, 1))}
    argument, sizes = {
        "conv2d_backprop_input": ("input_sizes", (2, 9, 10, 4)),
        "conv2d_backprop_filter": ("filter_sizes", (3, 2, 2, 6)),
        "avg_pool2d_grad": ("orig_input_shape", (2, 9, 10, 4)),
    }[name]
    if name == "avg_pool2d_grad":
        keywords = {"ksize": (3, 2), "strides": (3, 4)}
    function = getattr(fastconv, name)
    expected = function(**arrays, **keywords, **{argument: sizes})
    for other in (list(sizes), np.array(sizes), np.array(sizes, np.int32), tuple(np.int64(size) for size in sizes)):
        assert_same_bits(function(**arrays, **keywords, **{argument: other}), expected)


def test_pool_strides_default_to_the_window() -> None:
    x = random(1, 9, 9, 2)
    for function in (fastconv.max_pool2d, fastconv.avg_pool2d):
        assert_same_bits(function(x, (2, 3)), function(x, (2, 3), strides=(2, 3)))


def test_no_activation_is_linear() -> None:
    assert_same_bits(convolution(activation="linear"), convolution())
    assert (convolution() < 0).any()
    assert_same_bits(convolution(activation="relu"), np.maximum(convolution(), 0))


# ---- Data formats ---------------------------------------------------------------------------------------------------


IMAGES = {"input", "out_backprop", "orig_input", "orig_output", "grad", "output"}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nchw_is_nhwc_transposed(name: str, dtype: Any) -> None:
    call, arrays = calls(dtype)[name]
    expected = call(**arrays)
    keywords: dict[str, Any] = {"data_format": "NCHW"}
    if "conv2d" in name:
        keywords |= {"strides": (1, 1, 2, 2), "padding": [[0, 0], [0, 0], [1, 1], [0, 1]]}
    elif name.startswith("adaptive_"):
        keywords["output_size"] = 3
    else:
        keywords |= {"ksize": (1, 1, 3, 2), "strides": (1, 1, 3, 4)}
    if "max_pool2d" in name and "conv2d" in name:
        keywords |= {"pool_size": 2, "pool_padding": "SAME"}
    if name in ("conv2d", "conv2d_max_pool2d", "conv2d_max_pool2d_backprop"):
        keywords["activation"] = "relu"
    shape = {
        "conv2d_backprop_input": {"input_sizes": (2, 4, 9, 10)},
        "depthwise_conv2d_backprop_input": {"input_sizes": (2, 4, 9, 10)},
        "conv2d_backprop_filter": {"filter_sizes": (3, 2, 2, 6)},
        "depthwise_conv2d_backprop_filter": {"filter_sizes": (3, 2, 4, 2)},
        "conv2d_transpose": {"output_shape": (2, 4, 9, 10)},
        "avg_pool2d_grad": {"orig_input_shape": (2, 4, 9, 10)},
        "adaptive_avg_pool2d_grad": {"orig_input_shape": (2, 4, 9, 10)},
    }.get(name, {})
    images = {argument: to_nchw(array) if argument in IMAGES else array for argument, array in arrays.items()}
    result = getattr(fastconv, name)(**images, **keywords, **shape)
    for i, (actual, desired) in enumerate(zip(parts(result), parts(expected), strict=True)):
        in_format = not name.endswith("backprop_filter") and (i == 0 or name == "max_pool2d_with_argmax")
        desired = to_nchw(desired) if in_format else desired
        np.testing.assert_allclose(actual, desired, rtol=0, atol=64 * np.finfo(dtype).eps)
