"""First and second derivatives of the ops equal those of TensorFlow and finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import fastconv.tensorflow as fc
import numpy as np
import pytest
import tensorflow as tf
from arrays import random
from tensorflow_calls import same_bits

Function = Callable[..., tf.Tensor]


def f64(*shape: int, seed: int = 0) -> tf.Tensor:
    return tf.constant(random(*shape, dtype=np.float64, seed=seed))


def to_nchw(x: tf.Tensor) -> tf.Tensor:
    return tf.transpose(x, [0, 3, 1, 2])


def to_nhwc(x: tf.Tensor) -> tf.Tensor:
    return tf.transpose(x, [0, 2, 3, 1])


_DEPTHWISE = dict(strides=[1, 2, 2, 1], padding="SAME")
_POOL = dict(ksize=3, strides=2, padding="SAME")
_pads = [[0, 0], [1, 0], [2, 1], [0, 0]]
x644, w3245 = f64(2, 6, 5, 4), f64(3, 2, 4, 5)
DIFFERENTIABLE: dict[str, tuple[Function, Function | None, list[tf.Tensor]]] = {
    # name: our function; TensorFlow's, if its CPU kernels have the gradients; the values
    "conv2d": (fc.conv2d, lambda x, w: tf.nn.conv2d(x, w, 1, "VALID"), [x644, w3245]),
    "conv2d, strided": (
        lambda x, w: fc.conv2d(x, w, (2, 1), "SAME"),
        lambda x, w: tf.nn.conv2d(x, w, (2, 1), "SAME"),
        [x644, w3245],
    ),
    "conv2d, explicit padding": (
        lambda x, w: fc.conv2d(x, w, 2, ((1, 0), (2, 1))),
        lambda x, w: tf.nn.conv2d(x, w, 2, _pads),
        [x644, w3245],
    ),
    "conv2d, dilated": (lambda x, w: fc.conv2d(x, w, dilations=(2, 3)), None, [x644, w3245]),
    "conv2d, grouped": (
        lambda x, w: fc.conv2d(x, w, padding="SAME"),
        lambda x, w: tf.concat(
            [tf.nn.conv2d(x[..., 2 * g : 2 * g + 2], w[..., 3 * g : 3 * g + 3], 1, "SAME") for g in range(2)], 3
        ),
        [x644, f64(3, 2, 2, 6)],
    ),
    "conv2d, NCHW": (
        lambda x, w: fc.conv2d(x, w, 2, "SAME", "NCHW"),
        lambda x, w: to_nchw(tf.nn.conv2d(to_nhwc(x), w, 2, "SAME")),
        [f64(2, 4, 6, 5), w3245],
    ),
    "conv2d, bias": (
        lambda x, w, b: fc.conv2d(x, w, bias=b),
        lambda x, w, b: tf.nn.conv2d(x, w, 1, "VALID") + b,
        [x644, w3245, f64(5)],
    ),
    "conv2d, bias and ReLU": (
        lambda x, w, b: fc.conv2d(x, w, bias=b, activation="relu"),
        lambda x, w, b: tf.nn.relu(tf.nn.conv2d(x, w, 1, "VALID") + b),
        [x644, w3245, f64(5)],
    ),
    "conv2d, NCHW, bias and ReLU": (
        lambda x, w, b: fc.conv2d(x, w, data_format="NCHW", bias=b, activation="relu"),
        lambda x, w, b: to_nchw(tf.nn.relu(tf.nn.conv2d(to_nhwc(x), w, 1, "VALID") + b)),
        [f64(2, 4, 6, 5), w3245, f64(5)],
    ),
    "conv2d_backprop_input": (
        lambda w, y: fc.conv2d_backprop_input([2, 6, 5, 4], w, y, (2, 1), "SAME"),
        lambda w, y: tf.raw_ops.Conv2DBackpropInput(
            input_sizes=[2, 6, 5, 4], filter=w, out_backprop=y, strides=[1, 2, 1, 1], padding="SAME"
        ),
        [w3245, f64(2, 3, 5, 5)],
    ),
    "conv2d_backprop_filter": (
        lambda x, y: fc.conv2d_backprop_filter(x, [3, 2, 4, 5], y, (2, 1), "SAME"),
        lambda x, y: tf.raw_ops.Conv2DBackpropFilter(
            input=x, filter_sizes=[3, 2, 4, 5], out_backprop=y, strides=[1, 2, 1, 1], padding="SAME"
        ),
        [x644, f64(2, 3, 5, 5)],
    ),
    "conv2d_transpose": (
        lambda x, w: fc.conv2d_transpose(x, w, [2, 5, 9, 4], 2),
        lambda x, w: tf.nn.conv2d_transpose(x, w, [2, 5, 9, 4], 2),
        [f64(2, 3, 5, 5), w3245],
    ),
    "depthwise_conv2d": (
        lambda x, w: fc.depthwise_conv2d(x, w, 2, "SAME"),
        lambda x, w: tf.nn.depthwise_conv2d(x, w, **_DEPTHWISE),
        [x644, f64(3, 2, 4, 2)],
    ),
    "depthwise_conv2d, dilated, bias": (
        lambda x, w, b: fc.depthwise_conv2d(x, w, dilations=2, bias=b),
        None,
        [x644, f64(3, 2, 4, 2), f64(8)],
    ),
    "depthwise_conv2d_backprop_input": (
        lambda w, y: fc.depthwise_conv2d_backprop_input([2, 6, 5, 4], w, y, 2, "SAME"),
        lambda w, y: tf.nn.depthwise_conv2d_backprop_input([2, 6, 5, 4], w, y, **_DEPTHWISE),
        [f64(3, 2, 4, 2), f64(2, 3, 3, 8)],
    ),
    "depthwise_conv2d_backprop_filter": (
        lambda x, y: fc.depthwise_conv2d_backprop_filter(x, [3, 2, 4, 2], y, 2, "SAME"),
        lambda x, y: tf.nn.depthwise_conv2d_backprop_filter(x, [3, 2, 4, 2], y, **_DEPTHWISE),
        [x644, f64(2, 3, 3, 8)],
    ),
    "max_pool2d": (
        lambda x: fc.max_pool2d(x, **_POOL),
        lambda x: tf.nn.max_pool2d(x, **_POOL),
        [x644],
    ),
    "max_pool2d, NCHW": (
        lambda x: fc.max_pool2d(x, **_POOL, data_format="NCHW"),
        lambda x: to_nchw(tf.nn.max_pool2d(to_nhwc(x), **_POOL)),
        [f64(2, 4, 6, 5)],
    ),
    "max_pool2d_with_argmax": (
        lambda x: fc.max_pool2d_with_argmax(x, **_POOL, include_batch_in_index=True)[0],
        lambda x: tf.nn.max_pool2d(x, **_POOL),
        [x644],
    ),
    "max_pool2d_grad": (
        lambda y: fc.max_pool2d_grad(x644, tf.nn.max_pool2d(x644, **_POOL), y, **_POOL),
        lambda y: tf.raw_ops.MaxPoolGrad(
            orig_input=x644,
            orig_output=tf.nn.max_pool2d(x644, **_POOL),
            grad=y,
            ksize=[1, 3, 3, 1],
            strides=[1, 2, 2, 1],
            padding="SAME",
        ),
        [f64(2, 3, 3, 4)],
    ),
    "max_pool2d_grad, NCHW": (
        lambda y: fc.max_pool2d_grad(
            to_nchw(x644), to_nchw(tf.nn.max_pool2d(x644, **_POOL)), y, **_POOL, data_format="NCHW"
        ),
        None,
        [f64(2, 4, 3, 3)],
    ),
    "avg_pool2d": (
        lambda x: fc.avg_pool2d(x, **_POOL),
        lambda x: tf.nn.avg_pool2d(x, **_POOL),
        [x644],
    ),
    "avg_pool2d, NCHW": (
        lambda x: fc.avg_pool2d(x, **_POOL, data_format="NCHW"),
        lambda x: to_nchw(tf.nn.avg_pool2d(to_nhwc(x), **_POOL)),
        [f64(2, 4, 6, 5)],
    ),
    "avg_pool2d_grad": (
        lambda y: fc.avg_pool2d_grad([2, 6, 5, 4], y, **_POOL),
        lambda y: tf.raw_ops.AvgPoolGrad(
            orig_input_shape=[2, 6, 5, 4], grad=y, ksize=[1, 3, 3, 1], strides=[1, 2, 2, 1], padding="SAME"
        ),
        [f64(2, 3, 3, 4)],
    ),
    "max_pool2d, options": (lambda x: fc.max_pool2d(x, 2, 2, dilations=(2, 1), ceil_mode=True), None, [x644]),
    "max_pool2d_with_argmax, options": (
        lambda x: fc.max_pool2d_with_argmax(x, 2, 2, dilations=(2, 1), ceil_mode=True)[0],
        None,
        [x644],
    ),
    "avg_pool2d, options": (
        lambda x: fc.avg_pool2d(x, (2, 3), 2, 1, dilations=(2, 1), ceil_mode=True, count_include_pad=True),
        None,
        [x644],
    ),
    "adaptive_max_pool2d": (lambda x: fc.adaptive_max_pool2d(x, (4, 3)), None, [x644]),
    "adaptive_avg_pool2d": (lambda x: fc.adaptive_avg_pool2d(x, (4, None)), None, [x644]),
    "adaptive_avg_pool2d, NCHW": (lambda x: fc.adaptive_avg_pool2d(x, (4, 3), "NCHW"), None, [f64(2, 4, 6, 5)]),
}
every_gradient = pytest.mark.parametrize("name", DIFFERENTIABLE)


def derivatives(function: Function, values: Sequence[tf.Tensor]) -> tuple[list[tf.Tensor], list[tf.Tensor]]:
    """First and second derivatives of a non-linear function of the result."""
    with tf.GradientTape() as outer:
        outer.watch(values)
        with tf.GradientTape() as inner:
            inner.watch(values)
            y = function(*values)
            number = tf.reduce_sum(tf.sin(y) * tf.reshape(tf.range(tf.size(y, tf.int64)), y.shape).numpy())
        first = inner.gradient(number, values)
        again = tf.add_n([tf.reduce_sum(tf.cos(g)) for g in first])
    return first, outer.gradient(again, values)


def near(ours: Sequence[tf.Tensor], theirs: Sequence[tf.Tensor]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert np.abs(b).max() > 1e-3  # there is something to compare
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-12 * np.abs(b).max() * np.sqrt(b.size))


@pytest.mark.parametrize("name", [name for name, (_, theirs, _) in DIFFERENTIABLE.items() if theirs])
def test_gradients_equal_those_of_tensorflow(name: str) -> None:
    ours, theirs, values = DIFFERENTIABLE[name]
    assert theirs is not None
    np.testing.assert_allclose(ours(*values), theirs(*values), rtol=0, atol=1e-12)
    for a, b in zip(derivatives(ours, values), derivatives(theirs, values), strict=True):
        near(a, b)


@every_gradient
def test_gradients_in_a_graph_equal_eager_ones(name: str) -> None:
    ours, _, values = DIFFERENTIABLE[name]

    def first_and_second(*values: tf.Tensor) -> Any:
        with tf.GradientTape() as outer:
            outer.watch(values)
            with tf.GradientTape() as inner:
                inner.watch(values)
                number = tf.reduce_sum(tf.sin(ours(*values)))
            first = inner.gradient(number, values)
            again = tf.add_n([tf.reduce_sum(tf.cos(g)) for g in first])
        return *first, *outer.gradient(again, values)

    graph = tf.function(first_and_second)
    in_graph, eager = graph(*values), first_and_second(*values)
    for a, b, value in zip(in_graph, eager, [*values, *values], strict=True):
        assert a.shape == value.shape
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    for output, value in zip(graph.get_concrete_function(*values).outputs, [*values, *values], strict=True):
        assert output.shape == value.shape


@every_gradient
def test_gradients_agree_with_finite_differences(name: str) -> None:
    """The gradient of the function, and the gradient of a function of that gradient for the second order."""
    ours, _, values = DIFFERENTIABLE[name]
    weights = f64(*ours(*values).shape, seed=1)

    def number(*values: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(tf.square(ours(*values)) * weights)

    def gradient_length(*values: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(values)
            result = number(*values)
        return tf.add_n([tf.reduce_sum(tf.square(g)) for g in tape.gradient(result, values)])

    for function in (number, gradient_length):
        analytic, numeric = tf.test.compute_gradient(tf.function(function), values, delta=1e-6)
        for a, b in zip(analytic, numeric, strict=True):
            assert np.abs(b).max() > 1e-3
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-6 * np.abs(b).max())


def test_the_gradient_of_one_argument_has_the_same_bits() -> None:
    """The gradient of the filters has the same bits if it is requested alone."""
    x, w = tf.constant(random(1, 6, 6, 2)), tf.constant(random(3, 3, 2, 4))
    both, one = [], []
    for watched, result in (([x, w], both), ([w], one)):
        with tf.GradientTape() as tape:
            tape.watch(watched)
            y = fc.conv2d(x, w)
        result += tape.gradient(y, watched)
    same_bits(one, both[1:])


def test_the_jacobian_of_a_convolution() -> None:
    """Column i is the convolution of an image that is 1 at element i and 0 elsewhere."""
    x, w = f64(1, 4, 4, 2), f64(3, 3, 2, 1)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = fc.conv2d(x, w)
    jacobian = tf.reshape(tape.jacobian(y, x), (4, 32))
    columns = [fc.conv2d(tf.reshape(row, x.shape), w) for row in tf.eye(32, dtype=tf.float64)]
    np.testing.assert_allclose(jacobian, tf.transpose(tf.reshape(tf.stack(columns), (32, 4))), rtol=1e-13)


def test_gradients_of_an_empty_batch_are_zero_or_empty() -> None:
    values = [tf.zeros((0, 6, 6, 2)), tf.constant(random(3, 3, 2, 4)), tf.constant(random(4))]
    with tf.GradientTape() as tape:
        tape.watch(values)
        y = fc.max_pool2d(fc.conv2d(values[0], values[1], bias=values[2], activation="relu"), 2)
    assert y.shape == (0, 2, 2, 4)
    for gradient, value in zip(tape.gradient(y, values), values, strict=True):
        assert gradient.shape == value.shape
        assert not np.any(gradient)
