"""Wrong formats, activations, residuals, algorithms and flags raise an error that names the argument.

Each test takes a call that works and makes one argument wrong, for every function that has such an argument.
"""

from __future__ import annotations

import re
from typing import Any

import fastconv
import numpy as np
import pytest
from valid_calls import CONVOLUTIONS, FUNCTIONS, call, ones


@pytest.mark.parametrize("name", FUNCTIONS)
def test_unknown_data_format(name: str) -> None:
    for wrong in ("nhwc", "HWC", "", "NHWC\0", "channels_last"):
        with pytest.raises(ValueError, match=r"^data_format must be 'NHWC' or 'NCHW', got '"):
            call(name, data_format=wrong)
    for wrong_type in (None, 1, b"NHWC", ["NHWC"]):
        with pytest.raises(TypeError, match=r"^data_format must be 'NHWC' or 'NCHW', got "):
            call(name, data_format=wrong_type)


@pytest.mark.parametrize("name", ["conv2d", "depthwise_conv2d", "conv2d_transpose", "conv2d_max_pool2d"])
def test_unknown_activation(name: str) -> None:
    pooled = name == "conv2d_max_pool2d"
    choices = "None, 'linear' or 'relu'" if pooled else "None, 'linear', 'relu', .*, 'clip' or a name with its numbers"
    for wrong in ("RELU", "softmax", "", "relu(1)", "tanh" if pooled else "hard_silu", ("softmax", 1)):
        with pytest.raises(ValueError, match=rf"^activation must be {choices}.*, got '"):
            call(name, activation=wrong)
    for wrong_type in (np.tanh, 1, b"relu", False, (), (0.2,), ["leaky_relu", "0.2"], {"leaky_relu": 1}, ("elu", True)):
        with pytest.raises(TypeError, match=rf"^activation(: expected a number| must be {choices}).*, got "):
            call(name, activation=wrong_type)


WRONG_PARAMETERS = {
    ("relu", 1): "'relu' takes no numbers, got 1 number",
    ("leaky_relu", 1, 2): "'leaky_relu' takes at most 1 number, got 2 numbers",
    ("hard_sigmoid", 1, 2, 3): "'hard_sigmoid' takes at most 2 numbers, got 3 numbers",
    ("elu", np.nan): "'elu' takes finite numbers, got nan",
    ("leaky_relu", -np.inf): "'leaky_relu' takes finite numbers, got -inf",
    "clip": "'clip' takes 2 numbers, (low, high), got 0 numbers",
    ("clip", 1): "'clip' takes 2 numbers, (low, high), got 1 number",
    ("clip", 2, 1): "'clip' takes a lower bound that is not above the upper one, got 2 and 1",
    ("clip", np.nan, 1): "'clip' takes numbers other than NaN, got nan",
}


@pytest.mark.parametrize("wrong", WRONG_PARAMETERS, ids=str)
def test_wrong_parameters_of_activations(wrong: Any) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(f"activation {WRONG_PARAMETERS[wrong]}") + "$"):
        call("conv2d", activation=wrong)


@pytest.mark.parametrize("name", ["conv2d", "depthwise_conv2d", "conv2d_transpose"])
def test_wrong_residual(name: str) -> None:
    right = call(name)
    for wrong in (ones(6), ones(*right.shape[:-1], 1), ones(*right.shape)[None]):
        shapes = re.escape(f"{right.shape} (that of the output), got {wrong.shape}")
        with pytest.raises(ValueError, match=f"^residual must have shape {shapes}"):
            call(name, residual=wrong)
    with pytest.raises(TypeError, match=r"^residual is float64 but input is float32; cast"):
        call(name, residual=right.astype(np.float64))
    with pytest.raises(TypeError, match=r"^residual must be a NumPy array of float32 or float64, got list"):
        call(name, residual=[1.0])
    with pytest.raises(ValueError, match=r"^out must not overlap residual in memory"):
        call(name, residual=right, out=right)


def test_wrong_output_padding() -> None:
    def transpose(output_shape: Any = None, padding: Any = 1, strides: Any = 2, **options: Any) -> Any:
        x, w = ones(1, 5, 5, 2), ones(*options.pop("kernel", (3, 3)), 4, 2)
        return fastconv.conv2d_transpose(x, w, output_shape, strides, padding, **options)

    for message, arguments in {
        "output_padding must be None if output_shape is given, got (1, 1)": {
            "output_shape": (10, 10), "output_padding": 1,
        },
        "output_shape must be given, got None; or pass output_padding=0 to derive the size from the input": {},
        "output_padding must not be negative, got -1": {"output_padding": (0, -1)},
        "output_padding must be 1 or 2 integers (height, width), got 3 integers": {"output_padding": (0, 0, 0)},
        "output_padding along the width must be smaller than the stride 2 or the dilation 1, got 2": {
            "output_padding": (1, 2),
        },
        "output_padding: the output height is negative: -9 for input height 5 with padding (10, 10); pad less or use a "
        "larger input": {"output_padding": 0, "padding": 10},
        "output_padding along the height must be from 1 to 2 with padding 'SAME' and a window of 2, got 0": {
            "output_padding": 0, "padding": "SAME", "kernel": (2, 2),
        },
    }.items():  # fmt: skip
        with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
            transpose(**arguments)
    with pytest.raises(TypeError, match=r"^output_padding: expected an integer, got 'SAME'"):
        transpose(output_padding="SAME")
    with pytest.raises(ValueError, match=r"overflows 64 bits"):
        transpose(output_padding=0, strides=2**62)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_unknown_algorithm(name: str) -> None:
    with pytest.raises(ValueError, match=r"^algorithm must be 'auto', .*, got 'fft'"):
        call(name, algorithm="fft")
    with pytest.raises(ValueError, match=r"^algorithm 'winograd' supports only 3x3 and 5x5 filters with strides 1"):
        call(name, algorithm="winograd", dilations=2)
    with pytest.raises(ValueError, match=r"^algorithm 'depthwise' supports only one filter for each input channel"):
        call(name, algorithm="depthwise")
    with pytest.raises(TypeError, match=r"^algorithm must be .*, got None"):
        call(name, algorithm=None)


def test_a_lone_surrogate_is_refused() -> None:
    for argument in ("padding", "data_format", "activation", "algorithm"):
        with pytest.raises(ValueError):
            call("conv2d", **{argument: "\ud800"})


def test_include_batch_in_index_is_a_bool() -> None:
    for wrong in ("yes", np.zeros(3), [], None, 1):
        with pytest.raises(TypeError, match=r"^include_batch_in_index must be True or False"):
            call("max_pool2d_with_argmax", include_batch_in_index=wrong)
