"""Wrong strides, dilations and window sizes raise an error that names the argument.

Each test takes a call that works and makes one argument wrong, for every function that has such an argument.
"""

from __future__ import annotations

from typing import Any

import fastconv
import numpy as np
import pytest
from numpy_calls import parts
from valid_calls import (
    CONV_MAX_POOL,
    CONVOLUTIONS,
    DEPTHWISE_Y,
    FUNCTIONS,
    NUMBERS,
    POOLED,
    SHAPES,
    Y_POOLED,
    Y,
    call,
    valid_call,
)


@pytest.mark.parametrize(("name", "argument"), NUMBERS)
@pytest.mark.parametrize(
    "value", [0, -1, (1, 0), (0, 1), (-2, 1), [1, -1], (1, 0, 1, 1), (1, 1, -3, 1), np.int64(0), -(2**63)]
)
def test_number_below_one(name: str, argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{argument} must be at least 1, got (0|-\d+)"):
        call(name, **{argument: value})


NO_INTEGERS = [
    1.5, 2.0, "2", b"2", True, np.bool_(True), (1, 1.5), (1, None), [2, "2"], (True, True), {1, 2}, {1: 2},
    np.float32(2), np.array([1.0, 2.0]), np.array(2.0), np.array([[1, 2]]), 2j, object(), ((1, 1), (1, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "argument"), [*NUMBERS, *SHAPES])
@pytest.mark.parametrize("value", NO_INTEGERS, ids=lambda value: repr(value).partition(" at 0x")[0])
def test_anything_but_an_integer(name: str, argument: str, value: Any) -> None:
    with pytest.raises(TypeError, match=rf"^{argument}\b.* integer"):
        call(name, **{argument: value})


@pytest.mark.parametrize(
    ("name", "argument"),
    [pair for pair in NUMBERS if pair[1] != "pool_strides" and (pair[1] != "strides" or pair[0] in CONVOLUTIONS)],
)
def test_none_for_a_number(name: str, argument: str) -> None:
    with pytest.raises(TypeError, match=rf"^{argument}: expected an integer, got None"):
        call(name, **{argument: None})


@pytest.mark.parametrize(("name", "argument"), NUMBERS)
@pytest.mark.parametrize("value", [(), (1, 2, 3), (1, 1, 1, 1, 1), [], np.ones(3, int)], ids=repr)
def test_wrong_count_of_numbers(name: str, argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{argument} must be 1, 2 or 4 integers, got {len(value)} integers"):
        call(name, **{argument: value})


@pytest.mark.parametrize(("name", "argument"), NUMBERS)
@pytest.mark.parametrize(
    ("data_format", "value"),
    [("NHWC", (2, 1, 1, 1)), ("NHWC", (1, 1, 1, 2)), ("NCHW", (1, 2, 1, 1)), ("NCHW", (0, 1, 1, 1))],
)
def test_four_numbers_of_batch_and_channels(name: str, argument: str, data_format: str, value: Any) -> None:
    with pytest.raises(
        ValueError, match=rf"^{argument} of the batch and channel dimensions must be 1 in {data_format}"
    ):
        call(name, data_format=data_format, **{argument: value})


@pytest.mark.parametrize(("name", "argument"), [*NUMBERS, *SHAPES])
@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**200, 10**5000], ids=["2^63", "-2^63-1", "2^200", "10^5000"])
def test_number_beyond_64_bits(name: str, argument: str, number: int) -> None:
    with pytest.raises(ValueError, match=rf"^{argument}: expected a number that fits in 64 bits"):
        call(name, **{argument: (1, number, number, 1)})


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_huge_stride_is_valid(name: str) -> None:
    """The arithmetic does not overflow: the output has one row and one column."""
    huge = 2**63 - 1
    arguments = valid_call(name) | ({"pool_size": 1} if name in CONV_MAX_POOL else {})
    for argument, value in arguments.items():  # arguments that are outputs of the forward pass
        if isinstance(value, np.ndarray) and value.shape in (Y, DEPTHWISE_Y, POOLED):
            arguments[argument] = value[:, :1, :1]
        if isinstance(value, np.ndarray) and value.shape == Y_POOLED:
            arguments[argument] = value[:, :1, :1]
    result = getattr(fastconv, name)(**{**arguments, "strides": huge})
    reference = getattr(fastconv, name)(**{**arguments, "strides": 8})
    for part, expected in zip(parts(result), parts(reference), strict=True):
        np.testing.assert_array_equal(part, expected)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_huge_dilation(name: str) -> None:
    with pytest.raises(ValueError, match="window"):
        call(name, dilations=2**63 - 1)
    with pytest.raises(ValueError, match="window"):
        call(name, dilations=2**61)
    with pytest.raises(ValueError, match="window"):
        call(name, dilations=2**63 - 1, padding="SAME")
