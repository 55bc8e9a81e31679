"""Wrong shapes, and shapes that do not fit the other arguments, raise an error that names the argument.

Each test takes a call that works and makes one argument wrong, for every function that has such an argument.
"""

from __future__ import annotations

from typing import Any

import fastconv
import pytest
from valid_calls import ARRAYS, FORWARD, GRADIENTS, POOLS, SHAPES, TWO_OR_FOUR, call, ones, valid_call


@pytest.mark.parametrize(("name", "argument"), SHAPES)
@pytest.mark.parametrize("value", [(), (3,), (3, 3, 4), (1, 8, 8, 4, 1), [1] * 8], ids=repr)
def test_shape_of_the_wrong_length(name: str, argument: str, value: Any) -> None:
    wanted = "4 numbers, or 2 for height and width" if argument in TWO_OR_FOUR else "4 dimensions .*"
    with pytest.raises(ValueError, match=rf"^{argument} must have {wanted}, got {len(value)}"):
        call(name, **{argument: value})


@pytest.mark.parametrize(("name", "argument"), SHAPES)
def test_shape_that_is_one_number(name: str, argument: str) -> None:
    with pytest.raises(TypeError, match=rf"^{argument} must be a sequence of integers, got 8"):
        call(name, **{argument: 8})


@pytest.mark.parametrize(("name", "argument"), SHAPES)
@pytest.mark.parametrize("value", [(-1, 8, 8, 4), (2, -8, 8, 4), (2, 8, 8, -4), (-(2**62),) * 4], ids=repr)
def test_negative_shape(name: str, argument: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{argument} must have no negative dimension, got \("):
        call(name, **{argument: value})


@pytest.mark.parametrize(("name", "argument"), SHAPES)
@pytest.mark.parametrize(
    "value", [(2**31, 2**31, 1, 4), (2**62, 1, 1, 4), (1, 2**40, 2**40, 4), (0, 2**40, 2**40, 4)], ids=repr
)
def test_shape_whose_product_overflows(name: str, argument: str, value: Any) -> None:
    if argument == "filter_sizes" and value[0] == 0:
        value = (2**40, 2**40, 4, 1)
    with pytest.raises(ValueError, match=rf"^{argument} \(.*\) has a size in bytes that overflows 64 bits"):
        call(name, **{argument: value})


@pytest.mark.parametrize("name", ["conv2d", "depthwise_conv2d"])
def test_output_whose_size_overflows_for_an_empty_batch(name: str) -> None:
    with pytest.raises(ValueError, match="overflow"):
        call(name, input=ones(0, 8, 8, 4), padding=2**40)


@pytest.mark.parametrize("name", FORWARD)
def test_negative_output_size(name: str) -> None:
    """A window of 3 does not fit on 1 pixel. A window of 2 gives an empty output, which is not an error."""
    arguments = valid_call(name)
    arguments["input"] = ones(2, 1, 8, 4)
    if "ksize" in arguments:
        arguments["ksize"] = 3
    with pytest.raises(ValueError, match=r"the output height is negative: input height 1 .* window"):
        getattr(fastconv, name)(**arguments, strides=1)
    arguments["input"] = ones(2, 8, 1, 4)
    with pytest.raises(ValueError, match=r"the output width is negative: input width 1 .* window"):
        getattr(fastconv, name)(**arguments, strides=1)


@pytest.mark.parametrize("name", GRADIENTS)
def test_negative_output_size_of_a_gradient(name: str) -> None:
    sizes = {argument: (2, 1, 8, 4) for function, argument in SHAPES if function == name and argument != "filter_sizes"}
    if not sizes:
        argument = "orig_input" if name == "max_pool2d_grad" else "input"
        sizes = {argument: ones(2, 1, 8, 4)}
    if name in POOLS:
        sizes["ksize"] = 3
    with pytest.raises(ValueError, match="the output height is negative"):
        call(name, strides=1, **sizes)


def gradient_arguments() -> list[tuple[str, str]]:
    names = {"out_backprop", "grad", "orig_output"}
    return [
        (name, argument)
        for name, argument in ARRAYS
        if argument in names or (name == "conv2d_transpose" and argument == "input")
    ]


@pytest.mark.parametrize(("name", "argument"), gradient_arguments())
@pytest.mark.parametrize("axis", [0, 1, 2, 3])
@pytest.mark.parametrize("change", [-1, 1])
def test_gradient_whose_shape_does_not_fit(name: str, argument: str, axis: int, change: int) -> None:
    shape = list(valid_call(name)[argument].shape)
    shape[axis] += change
    with pytest.raises(ValueError, match=rf"^{argument} must have shape \(.*\) \(.*\), got \({shape[0]}, {shape[1]}"):
        call(name, **{argument: ones(*shape)})


def test_two_number_output_shape_names_the_array_of_wrong_rank() -> None:
    with pytest.raises(ValueError, match=r"^input must have 4 dimensions \(N, P, Q, K\), got 3"):
        call("conv2d_transpose", output_shape=(8, 8), input=ones(6, 6, 6))
    with pytest.raises(ValueError, match=r"^filters must have 4 dimensions \(R, S, C/groups, K\), got 2"):
        call("conv2d_transpose", output_shape=(8, 8), filters=ones(3, 3))
