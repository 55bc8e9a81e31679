"""The NumPy functions take the arguments in the operation table, with the same names and meaning."""

from __future__ import annotations

import inspect
from typing import Any

import fastconv
import numpy as np
import pytest
from faces import (
    ADAPTIVE,
    DEPTHWISE,
    FUNCTIONS,
    PRIVATE,
    PUBLIC,
    SMALL,
    TABLE,
    biases,
    every_format,
    every_layer,
    names,
    parameters,
    random,
    relu_layer,
    to_nchw,
)

# ---- Names ----------------------------------------------------------------------------------------------------------


def test_every_operation_has_a_function_in_numpy() -> None:
    assert set(TABLE) >= PRIVATE
    functions = {name for name in fastconv.__all__ if "data_format" in names(getattr(fastconv, name))}
    assert functions - {"explain"} | {"activate", "activate_grad", "add", "add_grad"} == set(FUNCTIONS)


@pytest.mark.parametrize("name", PUBLIC)
def test_numpy_has_the_names_of_the_table(name: str) -> None:
    entry = TABLE[name]
    inputs = {item["name"] for item in entry["inputs"]}
    if name in ADAPTIVE:
        assert "output_size" in entry["attributes"]
        assert names(getattr(fastconv, ADAPTIVE[name])) == inputs | {"output_size", "data_format", "out"}
    expected = inputs | set(entry["attributes"]) - {"depthwise", "output_size"}
    for function in (name, DEPTHWISE.get(name, name)):
        assert names(getattr(fastconv, function)) == expected | {"out"}


def test_strides_of_a_pooling_are_not_those_of_the_convolution() -> None:
    """Options are keyword-only, so that strides of the pooling are not passed as strides of the convolution."""
    for name, first in (("conv2d_max_pool2d", 3), ("conv2d_max_pool2d_backprop", 5)):
        kinds = [p.kind for p in parameters(getattr(fastconv, name)).values()]
        assert list(parameters(getattr(fastconv, name)))[first - 1] == "pool_size"
        assert all(kind is inspect.Parameter.KEYWORD_ONLY for kind in kinds[first:])


# ---- The gradients of a convolution, a ReLU and a max-pooling -------------------------------------------------------


@every_layer
@every_format
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_after_a_relu(sizes: Any, data_format: str, dtype: Any) -> None:
    """They equal the gradients of the separate operations. A window whose maximum is not positive has no gradient."""
    given, options = relu_layer(sizes, data_format, dtype)
    kept = {name: np.copy(value) for name, value in given.items()}
    results = fastconv.conv2d_max_pool2d_backprop(**given, **options)
    for name, value in kept.items():
        np.testing.assert_array_equal(given[name], value)
    x, w, window = given["input"], given["filters"], {"padding": "SAME", "data_format": data_format}
    bias = biases(w)
    convolution: dict[str, Any] = {"padding": 1, "data_format": data_format}
    maps = fastconv.conv2d(x, w, bias=bias, activation="relu", **convolution)
    dy = fastconv.max_pool2d_grad(maps, given["output"], given["grad"], 2, **window) * (maps > 0)
    expected = (
        fastconv.conv2d_backprop_input(x.shape, w, dy, algorithm="direct", **convolution),
        fastconv.conv2d_backprop_filter(x, w.shape, dy, algorithm="direct", **convolution),
        fastconv.bias_gradient(dy, data_format),
    )
    for ours, theirs in zip(results, expected, strict=True):
        assert ours is not None
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=5e-6 * abs(theirs).max())


def test_output_is_needed_after_a_relu() -> None:
    given, options = relu_layer(SMALL, "NHWC", np.float32)
    output = given.pop("output")
    with pytest.raises(ValueError, match=r"^output must be given if activation is 'relu'; pass the pooled output of "):
        fastconv.conv2d_max_pool2d_backprop(**given, **options)
    for wrong in (output[:, :2], output[..., None], output[:1]):
        with pytest.raises(ValueError, match=r"^output must have shape \(3, 5, 4, 4\)"):
            fastconv.conv2d_max_pool2d_backprop(**given, **options, output=wrong)
    for wrong in (output.astype(np.float64), output.tolist(), output.astype(np.int64), 0):
        with pytest.raises(TypeError, match=r"^output (is float64 but input|must be)"):
            fastconv.conv2d_max_pool2d_backprop(**given, **options, output=wrong)
    with pytest.raises(ValueError, match=r"^taps must have shape"):  # the other arguments are checked first
        fastconv.conv2d_max_pool2d_backprop(**{**given, "taps": given["taps"][:1]}, **options, output=[0])


def test_output_is_ignored_without_a_relu() -> None:
    given, options = relu_layer(SMALL, "NHWC", np.float32)
    linear = {**options, "activation": None}
    with_output = fastconv.conv2d_max_pool2d_backprop(**given, **linear)
    output = given.pop("output")
    for ours, theirs in zip(with_output, fastconv.conv2d_max_pool2d_backprop(**given, **linear), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match=r"^output must have shape"):
        fastconv.conv2d_max_pool2d_backprop(**given, **linear, output=output[:1])


# ---- Height and width alone -----------------------------------------------------------------------------------------


@every_format
@pytest.mark.parametrize("depthwise", [False, True])
def test_input_sizes_may_be_height_and_width_alone(data_format: str, depthwise: bool) -> None:
    name = "depthwise_conv2d_backprop_input" if depthwise else "conv2d_backprop_input"
    w = random(3, 3, 4, 2) if depthwise else random(3, 3, 4, 8)
    whole, dy = (2, 11, 10, 4), random(2, 5, 4, 8)
    options: dict[str, Any] = {"strides": 2, "data_format": data_format}
    if data_format == "NCHW":
        whole, dy = (2, 4, 11, 10), to_nchw(dy)
    expected = getattr(fastconv, name)(whole, w, dy, **options)
    for two in ((11, 10), [11, 10], np.array([11, 10])):
        np.testing.assert_array_equal(getattr(fastconv, name)(two, w, dy, **options), expected)
    for wrong, message in (((-1, 10), "negative"), ((11,), "4 numbers, or 2"), ((4, 10), r"^out_backprop must have")):
        with pytest.raises(ValueError, match=message):
            getattr(fastconv, name)(wrong, w, dy, **options)
    found = fastconv.explain((11, 10), w.shape, depthwise=depthwise, direction="input gradient", **options)
    one_image = (1, *whole[1:])
    assert found == fastconv.explain(one_image, w.shape, depthwise=depthwise, direction="input gradient", **options)


# ---- Gradients of biases --------------------------------------------------------------------------------------------


@every_format
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_bias_gradient_sums_over_images_and_pixels(data_format: str, dtype: Any) -> None:
    dy = random(3, 5, 7, 6, dtype=dtype)
    exact = dy.astype(np.float64).sum((0, 1, 2))
    dy = to_nchw(dy) if data_format == "NCHW" else dy
    out = np.empty(6, dtype)
    assert fastconv.bias_gradient(dy, data_format, out=out) is out
    np.testing.assert_allclose(out, exact, rtol=0, atol=16 * np.finfo(dtype).eps * abs(dy).sum() / 6)
    strided = np.repeat(dy, 2, axis=0)[::2]
    np.testing.assert_array_equal(fastconv.bias_gradient(strided, data_format), out)


def test_bias_gradient_refuses_wrong_arguments() -> None:
    dy = random(3, 5, 7, 6)
    with pytest.raises(ValueError, match=r"^out_backprop must have 4 dimensions.*got 3"):
        fastconv.bias_gradient(dy[0])
    for wrong in (dy.tolist(), None, dy.astype(np.int32)):
        with pytest.raises(TypeError, match=r"^out_backprop must be "):
            fastconv.bias_gradient(wrong)
    with pytest.raises(ValueError, match=r"^data_format must be"):
        fastconv.bias_gradient(dy, "NHCW")
    with pytest.raises(ValueError, match=r"^out must have shape \(6,\)"):
        fastconv.bias_gradient(dy, out=np.empty(7, np.float32))
