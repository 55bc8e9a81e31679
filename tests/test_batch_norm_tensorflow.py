"""Gradients of batch normalisation, activations and additions in TensorFlow, of the first and the second order."""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt
from pathlib import Path
from typing import Any

import fastconv.tensorflow as fc
import numpy as np
import pytest
import tensorflow as tf
from arrays import random

# The activations of plain ops. Those of tf.nn have constants that are rounded to float32.
ACTIVATIONS: dict[Any, Callable[[tf.Tensor], tf.Tensor]] = {
    None: tf.identity,
    "relu": tf.nn.relu,
    "relu6": tf.nn.relu6,
    ("leaky_relu", 0.25): lambda x: tf.where(x > 0, x, x / 4),
    ("elu", 0.5): lambda x: tf.where(x > 0, x, tf.math.expm1(tf.minimum(x, 0)) / 2),
    "gelu": lambda x: x * tf.math.erfc(-x / sqrt(2)) / 2,
    "gelu_tanh": lambda x: x * tf.sigmoid(2 * sqrt(2 / pi) * (x + 0.044715 * x**3)),
    "silu": lambda x: x * tf.sigmoid(x),
    "sigmoid": tf.sigmoid,
    "hard_sigmoid": lambda x: tf.clip_by_value(x / 6 + 0.5, 0, 1),
    "hard_swish": lambda x: x * tf.clip_by_value(x / 6 + 0.5, 0, 1),
    "tanh": tf.tanh,
    ("clip", -1, 0.5): lambda x: tf.clip_by_value(x, -1, 0.5),
}
AXES = {"NHWC": [0, 1, 2], "NCHW": [0, 2, 3]}


def to_row(x: Any, data_format: str) -> Any:
    return tf.reshape(x, [-1, 1, 1]) if data_format == "NCHW" and x is not None else x


def orders(function: Callable[..., tf.Tensor], *values: tf.Tensor) -> list[tf.Tensor]:
    """The gradients of both orders with respect to all values."""
    with tf.GradientTape() as outer:
        outer.watch(values)
        with tf.GradientTape() as inner:
            inner.watch(values)
            loss = tf.reduce_sum(tf.sin(function(*values)))
        first = inner.gradient(loss, values)
        loss = tf.add_n([tf.reduce_sum(tf.sin(gradient)) for gradient in first])
    return [*first, *outer.gradient(loss, values)]


def compare(ours: Callable[..., tf.Tensor], theirs: Callable[..., tf.Tensor], *values: tf.Tensor) -> None:
    expected = orders(theirs, *values)
    for run in (orders, tf.function(orders)):
        for got, wanted in zip(run(ours, *values), expected, strict=True):
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


def batch_norm(activation: Any, data_format: str, *values: tf.Tensor) -> tf.Tensor:
    """Of all results of the ops."""
    x, scale, offset, residual = values
    options = {"data_format": data_format, "activation": activation, "epsilon": 0.01}
    y, mean, variance = fc.batch_norm(x, scale, offset, residual=residual, **options)
    z = fc.batch_norm_inference(x, scale, variance + offset**2, offset, mean, **options)
    alone = fc.batch_norm_statistics(x, data_format)
    statistics = tf.reduce_sum(mean * alone[0] ** 2) + tf.reduce_sum(variance * alone[1])
    return fc.add(y, z, activation) + fc.activate(x, activation) * statistics


def plain_batch_norm(activation: Any, data_format: str, *values: tf.Tensor) -> tf.Tensor:
    x, scale, offset, residual = values
    act = ACTIVATIONS[activation]

    def normalized(mean: Any, variance: Any, scale: Any, offset: Any) -> tf.Tensor:
        mean, variance, scale, offset = (to_row(v, data_format) for v in (mean, variance, scale, offset))
        return (x - mean) / tf.sqrt(variance + 0.01) * scale + offset

    mean = tf.reduce_mean(x, AXES[data_format])
    variance = tf.reduce_mean((x - to_row(mean, data_format)) ** 2, AXES[data_format])
    y = act(normalized(mean, variance, scale, offset) + residual)
    z = act(normalized(scale, variance + offset**2, offset, mean))
    return act(y + z) + act(x) * (tf.reduce_sum(mean**3) + tf.reduce_sum(variance**2))


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_both_orders(activation: Any) -> None:
    data_format = "NCHW" if str(activation) < "h" else "NHWC"
    shape = (2, 3, 4, 5)
    channels = shape[1] if data_format == "NCHW" else shape[3]
    x, residual = (tf.constant(random(*shape, dtype=np.float64, seed=seed)) for seed in (1, 2))
    scale, offset = (tf.constant(random(channels, dtype=np.float64, seed=seed)) for seed in (3, 4))
    compare(
        lambda *values: batch_norm(activation, data_format, *values),
        lambda *values: plain_batch_norm(activation, data_format, *values),
        x, scale, offset, residual,
    )  # fmt: skip


def test_both_orders_without_optional_inputs() -> None:
    x = tf.constant(random(6, 5, dtype=np.float64))

    def plain(x: tf.Tensor) -> tf.Tensor:
        mean = tf.reduce_mean(x, 0)
        return (x - mean) / tf.sqrt(tf.reduce_mean((x - mean) ** 2, 0) + 1e-3)

    compare(lambda x: fc.batch_norm(x)[0], plain, x)


def test_inside_a_loop() -> None:
    """Shapes and attributes are known in the gradient of a while loop, too."""
    x = tf.constant(random(4, 3, dtype=np.float64))

    @tf.function
    def ours(x: tf.Tensor) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = x
            for _ in tf.range(3):
                y = fc.batch_norm(fc.add(y, x, ("leaky_relu", 0.3)), activation="silu", epsilon=0.1)[0]
                y.set_shape([4, 3])
            loss = tf.reduce_sum(y**3)
        return tape.gradient(loss, x)

    def step(y: tf.Tensor) -> tf.Tensor:
        y = y + x
        y = tf.where(y > 0, y, y * 0.3)
        mean = tf.reduce_mean(y, 0)
        return ACTIVATIONS["silu"]((y - mean) / tf.sqrt(tf.reduce_mean((y - mean) ** 2, 0) + 0.1))

    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.reduce_sum(step(step(step(x))) ** 3)
    np.testing.assert_allclose(ours(x), tape.gradient(loss, x), rtol=1e-11, atol=1e-12)


def test_a_saved_graph_keeps_the_attributes(tmp_path: Path) -> None:
    class Module(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float64)])
        def __call__(self, x: tf.Tensor) -> tf.Tensor:
            return fc.batch_norm(x, epsilon=1 / 3, activation=("leaky_relu", 1 / 7))[0]

    module, x = Module(), random(5, 3, dtype=np.float64)
    tf.saved_model.save(module, str(tmp_path))
    np.testing.assert_array_equal(tf.saved_model.load(str(tmp_path))(x), module(x))
    np.testing.assert_array_equal(module(x), fc.batch_norm(x, epsilon=1 / 3, activation=("leaky_relu", 1 / 7))[0])


def test_wrong_shapes_are_refused_while_a_graph_is_traced() -> None:
    def traced(function: Callable[..., Any], *shapes: Any) -> Any:
        return tf.function(function).get_concrete_function(*(tf.TensorSpec(shape, tf.float32) for shape in shapes))

    with pytest.raises(ValueError, match=r"scale must have shape \(4,\) \(one number for each channel\), got \(3,\)"):
        traced(lambda x, scale: fc.batch_norm(x, scale), (None, None, 4), (3,))
    with pytest.raises(ValueError, match="input must have at least 2 dimensions"):
        traced(fc.batch_norm, (4,))
    with pytest.raises(ValueError, match=r"b must have shape \(2, 3\)"):
        traced(fc.add, (2, 3), (3, 2))


def test_wrong_attributes_are_refused() -> None:
    """Those of the functions are right, but anyone can call an op."""
    x, row = np.ones((2, 3)), np.ones(3)
    given = {"input": x, "scale": row, "offset": row, "residual": x, "geometry": fc._geometry([0, 0])}
    for wrong, message in (
        ({"epsilon": "-1"}, "epsilon must be a finite number and at least 0, got -1"),
        ({"epsilon": "small"}, "epsilon must be a number such as '1e-3', got 'small'"),
        ({"activation": "softmax"}, "activation must be None, 'linear'.* got 'softmax'"),
        ({"geometry": fc._geometry([0, 2])}, "geometry must come from the functions of fastconv.tensorflow"),
    ):
        with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match=message):
            fc._ops.fastconv_batch_norm(**{**given, **wrong})


@pytest.mark.parametrize("name", ["scale", "offset", "residual"])
def test_the_shape_of_left_out_arguments_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=rf"^{name} must not have shape \(0, 0\)"):
        fc.batch_norm(np.ones((2, 3), np.float32), **{name: np.zeros((0, 0), np.float32)})
