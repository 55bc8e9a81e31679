"""The functions of fastconv.tensorflow take the arguments of the NumPy functions, with the same meaning."""

from __future__ import annotations

from typing import Any

import fastconv
import fastconv.tensorflow as fc
import numpy as np
import pytest
import tensorflow as tf
from faces import (
    FUNCTIONS,
    ONLY_NUMPY,
    ONLY_TENSORFLOW,
    SMALL,
    biases,
    every_format,
    every_layer,
    names,
    parameters,
    random,
    relu_layer,
    to_nchw,
)
from fastconv import _core


def test_tensorflow_has_the_functions_of_numpy() -> None:
    assert set(fc.__all__) == set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_tensorflow_has_the_parameters_of_numpy(name: str) -> None:
    """The names, the order, the defaults, and whether a parameter is keyword-only are the same."""

    def described(function: Any, without: set[str]) -> list[tuple[str, Any, Any]]:
        return [(p.name, p.kind, p.default) for p in parameters(function).values() if p.name not in without]

    numpy, tensorflow = getattr(fastconv, name), getattr(fc, name)
    only_numpy = ONLY_NUMPY | ({"bias", "activation"} if name == "conv2d_transpose" else set())
    only_numpy |= {"residual"} if "conv2d" in name else set()  # it has no gradient there
    assert "out" in names(numpy) and ONLY_TENSORFLOW <= names(tensorflow)
    assert not only_numpy & names(tensorflow)
    assert described(numpy, only_numpy) == described(tensorflow, ONLY_TENSORFLOW)


@every_layer
@every_format
@pytest.mark.parametrize("graph", [False, True], ids=["eager", "graph"])
def test_gradients_after_a_relu_in_tensorflow(sizes: Any, data_format: str, graph: bool) -> None:
    """The bits equal those of the NumPy functions, also if shapes are unknown while tracing."""
    given, options = relu_layer(sizes, data_format, np.float32)

    def both(**arrays: Any) -> Any:
        bias = biases(given["filters"])
        pooled = fc.conv2d_max_pool2d(arrays["input"], arrays["filters"], 2, bias=bias, **options)
        all_gradients = fc.conv2d_max_pool2d_backprop(**arrays, pool_size=2, **options)
        some = fc.conv2d_max_pool2d_backprop(**arrays, pool_size=2, **options, input_gradient=False)
        assert some[0] is None
        return *pooled, *all_gradients, *some[1:]

    arrays = {name: tf.constant(value) for name, value in given.items() if isinstance(value, np.ndarray)}
    signature = {name: tf.TensorSpec([None] * 4, value.dtype) for name, value in arrays.items()}
    results = tf.function(both).get_concrete_function(**signature)(**arrays) if graph else both(**arrays)
    gradients = fastconv.conv2d_max_pool2d_backprop(**given, **options)
    for ours, theirs in zip(results, (given["output"], given["taps"], *gradients, *gradients[1:]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


@every_layer
@every_format
@pytest.mark.parametrize("activation", [None, "relu"])
def test_a_tape_differentiates_a_convolution_and_its_max_pool_twice(
    sizes: Any, data_format: str, activation: str | None
) -> None:
    """Gradients of the first and the second order, against TensorFlow's own functions."""
    x, w = (tf.constant(random(*shape, dtype=np.float64)) for shape in sizes)
    b = tf.constant(biases(w.numpy()))

    def ours(x: Any, w: Any, b: Any) -> Any:
        x = tf.transpose(x, [0, 3, 1, 2]) if data_format == "NCHW" else x
        pooled, _ = fc.conv2d_max_pool2d(x, w, 2, bias=b, activation=activation, data_format=data_format)
        return tf.transpose(pooled, [0, 2, 3, 1]) if data_format == "NCHW" else pooled

    def theirs(x: Any, w: Any, b: Any) -> Any:
        maps = tf.nn.bias_add(tf.nn.conv2d(x, w, 1, "VALID"), b)
        return tf.nn.max_pool2d(maps if activation is None else tf.nn.relu(maps), 2, 2, "VALID")

    def orders(function: Any) -> Any:
        with tf.GradientTape() as outer:
            outer.watch([x, w, b])
            with tf.GradientTape() as inner:
                inner.watch([x, w, b])
                loss = tf.reduce_sum(function(x, w, b) ** 3)
            first = inner.gradient(loss, [x, w, b])
            loss = tf.add_n([tf.reduce_sum(tf.sin(gradient)) for gradient in first])
        return *first, *outer.gradient(loss, [x, w, b])

    for mine, expected in zip(tf.function(orders)(ours), orders(theirs), strict=True):
        np.testing.assert_allclose(mine, expected, rtol=0, atol=1e-9 * abs(np.asarray(expected)).max())


@pytest.mark.parametrize("flag", [False, np.False_, True, np.True_, 1, 0, None, "yes"], ids=repr)
def test_input_gradient_is_a_bool_in_tensorflow(flag: Any) -> None:
    given, options = relu_layer(SMALL, "NHWC", np.float32)
    if isinstance(flag, (bool, np.bool_)):
        gradients = fc.conv2d_max_pool2d_backprop(**given, **options, input_gradient=flag)
        assert (gradients[0] is not None) == flag
    else:
        with pytest.raises(TypeError, match=rf"^input_gradient must be True or False, got {flag!r}$"):
            fc.conv2d_max_pool2d_backprop(**given, **options, input_gradient=flag)


@every_format
def test_taps_that_name_no_pixel_are_refused_in_tensorflow(data_format: str) -> None:
    given, options = relu_layer(SMALL, data_format, np.float32)
    for wanted in (True, False):
        for wrong in (np.full_like(given["taps"], 4), np.full_like(given["taps"], 255)):
            with pytest.raises(tf.errors.InvalidArgumentError, match="taps must be pixel numbers"):
                fc.conv2d_max_pool2d_backprop(**{**given, "taps": wrong}, **options, input_gradient=wanted)
    with pytest.raises(TypeError, match=r"^taps must be uint8, got int64"):
        fc.conv2d_max_pool2d_backprop(**{**given, "taps": given["taps"].astype(np.int64)}, **options)
    with pytest.raises(tf.errors.InvalidArgumentError, match="output must be given if activation is 'relu'"):
        fc.conv2d_max_pool2d_backprop(**{**given, "output": None}, **options)


@every_format
@pytest.mark.parametrize("name", ["conv2d_backprop_input", "conv2d_transpose"])
def test_sizes_may_be_height_and_width_alone_in_tensorflow(name: str, data_format: str) -> None:
    w, dy = random(3, 3, 4, 8), random(2, 5, 4, 8)
    dy = to_nchw(dy) if data_format == "NCHW" else dy
    options: dict[str, Any] = {"strides": 2, "padding": "VALID", "data_format": data_format}

    def compute(sizes: Any, dy: Any) -> Any:
        arguments = (dy, w, sizes) if name == "conv2d_transpose" else (sizes, w, dy)
        return getattr(fc, name)(*arguments, **options)

    expected = fastconv.conv2d_backprop_input((11, 10), w, dy, **options)
    for sizes in ((11, 10), np.array([11, 10]), tf.constant([11, 10])):
        np.testing.assert_array_equal(compute(sizes, dy), expected)
    images = tf.TensorSpec([None, *dy.shape[1:]], tf.float32)
    fixed = tf.function(lambda dy: compute((11, 10), dy)).get_concrete_function(images)
    assert fixed.outputs[0].shape.as_list() == [None, *expected.shape[1:]]
    sizes = tf.TensorSpec([None], tf.int64)
    np.testing.assert_array_equal(
        tf.function(compute).get_concrete_function(sizes, images)(tf.constant([11, 10], tf.int64), tf.constant(dy)),
        expected,
    )
    argument = "output_shape" if name == "conv2d_transpose" else "input_sizes"
    with pytest.raises(ValueError, match=rf"^{argument} must be 2 or 4 integers, got a tensor of shape \(3,\)"):
        compute((1, 11, 10), dy)
    with pytest.raises(ValueError, match=rf"^{argument} must be 2 or 4 integers, got an empty sequence"):
        compute([], dy)
    for negative in ([-1, 10], np.array([-1, 10]), [tf.constant(-1), 10], tf.constant([-1, 10])):
        with pytest.raises(ValueError, match=rf"^{argument} must not be negative, got \[-1, 10\]"):
            compute(negative, dy)


@every_format
def test_bias_gradient_in_tensorflow(data_format: str) -> None:
    dy = tf.constant(random(3, 5, 7, 6))
    expected = fastconv.bias_gradient(dy.numpy(), data_format)
    np.testing.assert_array_equal(fc.bias_gradient(dy, data_format), expected)
    with tf.GradientTape() as tape:
        tape.watch(dy)
        loss = tf.reduce_sum(fc.bias_gradient(dy, data_format) ** 2)
    channel = 2 * expected[:, None, None] if data_format == "NCHW" else 2 * expected
    np.testing.assert_allclose(tape.gradient(loss, dy), np.broadcast_to(channel, dy.shape), rtol=1e-6)


def test_constant_filters_are_packed_once_in_tensorflow() -> None:
    """An op with `constant_filters` keeps the filters of its first call. The test changes them to show this."""
    x, first, second = tf.constant(random(1, 12, 12, 32)), random(3, 3, 32, 32), random(3, 3, 32, 32)[::-1]
    geometry = fc._geometry(_core.conv_geometry(1, "SAME", "NHWC", 1, "auto", None, False))

    def conv2d(filters: Any, constant: bool) -> Any:
        bias = tf.zeros((0, 0))
        return fc._ops.fastconv_conv2d(
            input=x, filters=filters, bias=bias, geometry=geometry, constant_filters=constant
        )

    spec = tf.TensorSpec([3, 3, None, 32])
    expected = [fastconv.conv2d(x.numpy(), np.ascontiguousarray(w), padding="SAME") for w in (first, second)]
    for constant, results in ((False, expected), (True, [expected[0]] * 2)):
        function = tf.function(lambda w, constant=constant: conv2d(w, constant)).get_concrete_function(spec)
        for w, result in zip((first, second), results, strict=True):
            np.testing.assert_array_equal(function(tf.constant(w)), result)
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"filters must have shape \(3, 3, 32, 32\)"):
        function(tf.constant(first[:, :, :16]))


def test_only_constant_filters_are_marked_constant() -> None:
    x, w = random(1, 6, 6, 4), random(3, 3, 4, 4)
    variable = tf.Variable(w)

    def flags(filters: Any) -> list[bool]:
        def compute(x: Any) -> Any:
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = tf.nn.relu(fc.conv2d(x, filters() if callable(filters) else filters))
            pooled, _ = fc.conv2d_max_pool2d(x, filters() if callable(filters) else filters, 2)
            return tape.gradient(y, x), pooled

        graph = tf.function(compute).get_concrete_function(tf.TensorSpec(x.shape)).graph
        kinds = ("FastconvConv2D", "FastconvConv2DBackpropInput", "FastconvConv2DMaxPool2D")
        found = [op for op in graph.get_operations() if op.type in kinds]
        assert {op.type for op in found} == set(kinds)
        return [op.get_attr("constant_filters") for op in found]

    assert all(flags(w)) and all(flags(lambda: tf.constant(w)))
    assert not any(flags(variable)) and not any(flags(lambda: tf.constant(w) * 2))
    for filters in (w, tf.constant(w), variable):
        np.testing.assert_array_equal(fc.conv2d(x, filters), fastconv.conv2d(x, w))  # eagerly
    with pytest.raises(TypeError, match=r"^filters must be a tensor of float32 or float64, got PackedFilters"):
        fc.conv2d(x, fastconv.PackedFilters(w))
