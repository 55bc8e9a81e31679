"""Wrong padding raises an error that names the argument.

Each test takes a call that works and makes one argument wrong, for every function that has such an argument.
"""

from __future__ import annotations

from typing import Any

import fastconv
import numpy as np
import pytest
from valid_calls import FUNCTIONS, POOLS, call, ones


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "value",
    ["", "FULL", "valid ", "EXPLICIT", (), (1,), (1, 1, 1), (1, 1, 1, 1), [[1, 1]], ((1, 1), (1, 1), (1, 1)),
     ((1,), (1,)), ((1, 1, 1), (1, 1, 1)), (1, (1, 1)), ((1, 1), 1), [1] * 8, ((0, 0), (1, 1), (1, 1), 0),
     np.zeros((3, 2), int), np.zeros((2, 0), int)],
    ids=repr,
)  # fmt: skip
def test_padding_of_a_wrong_form(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"^padding must be 'VALID', 'SAME', an int, \(ph, pw\), .*, got "):
        call(name, padding=value)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "value",
    [None, 1.0, 0.5, b"SAME", True, (1, 0.5), ("VALID", "SAME"), ((1, 1), (1, 0.5)), (None, None), {1, 2}, 1j,
     (((1,), 1), (1, 1)), np.zeros((2, 2))],
    ids=repr,
)  # fmt: skip
def test_padding_of_a_wrong_type(name: str, value: Any) -> None:
    with pytest.raises(TypeError, match=r"^padding\b"):
        call(name, padding=value)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    "value", [-1, (0, -1), (-1, 0), ((0, -1), (0, 0)), [[0, 0], [0, 0], [-1, 0], [0, 0]], -(2**63)]
)
def test_negative_padding(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"^padding must not be negative, got -"):
        call(name, padding=value)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize(
    ("data_format", "value"),
    [
        ("NHWC", [[1, 0], [0, 0], [0, 0], [0, 0]]),
        ("NHWC", [[0, 0], [0, 0], [0, 0], [0, 1]]),
        ("NCHW", [[0, 0], [0, 1], [0, 0], [0, 0]]),
    ],
)
def test_padding_of_batch_and_channels(name: str, data_format: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^padding of the batch and channel dimensions must be 0 in {data_format}"):
        call(name, data_format=data_format, padding=value)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("value", [2**40, 2**62, 2**63 - 1, 2**63, 10**5000, (0, 2**63 - 1), ((0, 2**62), (0, 2**62))],
                         ids=["2^40", "2^62", "2^63-1", "2^63", "10^5000", "pair", "pairs"])  # fmt: skip
def test_huge_padding(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"^padding\b"):
        call(name, padding=value)


@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("padding", [2**21, 2**22, 2**23])
def test_padding_of_an_image_beyond_any_memory(padding: int, depthwise: bool) -> None:
    """The output is small, because the strides are large."""
    function = fastconv.depthwise_conv2d if depthwise else fastconv.conv2d
    side = 2 * padding + 8
    message = rf"^padding makes an image too large: {side} x {side} pixels of 4 channels take more than 2\^46 bytes"
    with pytest.raises(ValueError, match=message):
        function(ones(1, 8, 8, 4), ones(3, 3, 4, 1), padding, padding)


def test_the_largest_padding() -> None:
    """The middle window reads the whole image, the other eight only padding."""
    padding = 2**20 - 2  # 2^20 is too much
    result = fastconv.conv2d(ones(1, 3, 3, 4), ones(3, 3, 4, 1), padding, padding)
    assert result.sum() == result[0, 1, 1, 0] == 36


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize(
    "value", [2, (2, 0), (0, 2), ((0, 2), (0, 0)), ((0, 0), (2, 0)), [[0, 0], [2, 2], [0, 0], [0, 0]]]
)
def test_pool_padding_as_large_as_the_window(name: str, value: Any) -> None:
    with pytest.raises(ValueError, match=r"^padding must be smaller than the window \(2, 2\), got"):
        call(name, padding=value)


@pytest.mark.parametrize("name", ["max_pool2d", "max_pool2d_with_argmax", "avg_pool2d"])
def test_pool_of_padding_only(name: str) -> None:
    for shape in ((2, 0, 8, 4), (2, 8, 0, 4)):
        with pytest.raises(ValueError, match=r"^input of shape .* has no rows or columns"):
            call(name, input=ones(*shape), ksize=2, padding=1)
