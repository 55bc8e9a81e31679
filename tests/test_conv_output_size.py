"""`conv_output_size` is the formula, agrees with `conv2d`, and refuses wrong numbers."""

from __future__ import annotations

from typing import Any

import fastconv
import numpy as np
import pytest
import reference
from arrays import random


def test_output_size_is_the_formula() -> None:
    checked = 0
    for size in range(8):
        for kernel in (1, 2, 3, 5):
            for stride in (1, 2, 3):
                for dilation in (1, 2):
                    extent = (kernel - 1) * dilation + 1
                    assert fastconv.conv_output_size(size, kernel, stride, "same", dilation) == -(-size // stride)
                    for pad in (0, 1, 2):
                        expected = (size + 2 * pad - extent) // stride + 1
                        if expected >= 0:
                            assert fastconv.conv_output_size(size, kernel, stride, pad, dilation) == expected
                            checked += 1
    assert checked > 300


def test_output_size_is_the_one_of_conv2d() -> None:
    for size, kernel, stride, dilation, padding in [(7, 3, 2, 1, (1, 2)), (9, 2, 3, 2, "SAME"), (5, 5, 1, 1, "VALID")]:
        pads = (padding, (0, 0)) if isinstance(padding, tuple) else padding
        y = fastconv.conv2d(random(1, size, 1, 1), random(kernel, 1, 1, 1), stride, pads, dilations=dilation)
        assert fastconv.conv_output_size(size, kernel, stride, padding, dilation) == y.shape[1]
    assert fastconv.conv_output_size(np.int64(28), np.int32(3), np.uint8(1), np.array([1, 1]), np.int8(1)) == 28


def test_random_output_sizes(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        size, kernel, stride, dilation = (int(rng.integers(low, 12)) for low in (0, 1, 1, 1))
        before, after = int(rng.integers(4)), int(rng.integers(4))
        for padding, pads in (
            ("VALID", (0, 0)),
            ("SAME", reference.same_pads(size, kernel, stride, dilation)),
            (before, (before, before)),
            ((before, after), (before, after)),
        ):
            expected = reference.output_size(size, kernel, stride, pads, dilation)
            arguments = (size, kernel, stride, padding, dilation)
            if expected < 0:
                with pytest.raises(ValueError, match="negative"):
                    fastconv.conv_output_size(*arguments)
            else:
                assert fastconv.conv_output_size(*arguments) == expected, arguments


@pytest.mark.parametrize("argument", ["size", "kernel", "stride", "dilation"])
def test_output_size_of_wrong_numbers(argument: str) -> None:
    valid: dict[str, Any] = {"size": 28, "kernel": 3, "stride": 1, "dilation": 1}
    for wrong in (1.0, "3", None, True, (3,), [3, 3]):
        with pytest.raises(TypeError, match=rf"^{argument}: expected an integer, got "):
            fastconv.conv_output_size(**{**valid, argument: wrong})
    for negative in (-1, -(2**63)):
        with pytest.raises(ValueError, match=rf"^{argument} must (not be negative|be at least 1), got -"):
            fastconv.conv_output_size(**{**valid, argument: negative})
    with pytest.raises(ValueError, match=rf"^{argument}: expected a number that fits in 64 bits"):
        fastconv.conv_output_size(**{**valid, argument: 2**64})
    if argument != "size":
        with pytest.raises(ValueError, match=rf"^{argument} must be at least 1, got 0"):
            fastconv.conv_output_size(**{**valid, argument: 0})


def test_output_size_of_wrong_padding() -> None:
    for wrong in ("FULL", (1, 2, 3), (), -1, (0, -1), 2**63 - 1, 2**63):
        with pytest.raises(ValueError, match=r"^padding\b"):
            fastconv.conv_output_size(28, 3, padding=wrong)
    for wrong_type in (None, 0.5, ((1, 1), (1, 1)), True):
        with pytest.raises(TypeError, match=r"^padding\b"):
            fastconv.conv_output_size(28, 3, padding=wrong_type)  # type: ignore[arg-type]


def test_output_size_that_is_negative() -> None:
    assert fastconv.conv_output_size(2, 3) == 0
    with pytest.raises(ValueError, match="the output size is negative"):
        fastconv.conv_output_size(1, 3)
    with pytest.raises(ValueError, match="overflow"):
        fastconv.conv_output_size(28, 2**62, dilation=2**62)
