"""Our layers have the arguments, numbers, gradients, configs and errors of Keras's layers."""

from __future__ import annotations

import inspect
from typing import Any

import fastconv.keras as fk
import keras
import layer_pairs
import numpy as np
import pytest
import tensorflow as tf
from arrays import random
from layer_pairs import STOCK, near, pair, uses_our_op, value_and_gradients

fresh = layer_pairs.fresh  # before each test

CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "same": {"padding": "same"},
    "strides": {"strides": (2, 3), "padding": "SAME"},
    "dilation": {"dilation_rate": 2},
    "no bias": {"use_bias": False},
    "relu": {"activation": "relu"},
    "relu, no bias": {"activation": "relu", "use_bias": False},
    "linear": {"activation": "linear"},
    "tanh": {"activation": "tanh"},
    "softmax": {"activation": "softmax"},
    "relu of another slope": {"activation": keras.layers.LeakyReLU(negative_slope=0.2)},
    "relu layer": {"activation": keras.layers.ReLU()},
    "rectangle": {"kernel_size": (1, 4), "padding": "same"},
    "float64": {"dtype": "float64"},
    "regularizers": {"kernel_regularizer": "l2", "bias_regularizer": "l1", "activity_regularizer": "l2"},
}
POOLS: dict[str, dict[str, Any]] = {
    "default": {},
    "strides": {"pool_size": 3, "strides": 2},
    "same": {"pool_size": (3, 2), "strides": 2, "padding": "same"},
    "float64": {"dtype": "float64"},
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_a_convolution_is_that_of_stock_layers(case: str) -> None:
    """Values, gradients, weight paths and losses."""
    arguments = {"filters": 6, "kernel_size": 3, **CONVOLUTIONS[case]}
    x = random(2, 11, 10, 4, dtype=arguments.get("dtype", "float32"))
    ours, stock = pair("Conv2D", x, **arguments)
    assert uses_our_op(ours, x)
    assert not uses_our_op(stock, x)
    for a, b in zip(value_and_gradients(ours, x), value_and_gradients(stock, x), strict=True):
        near(a, b, 1e-4)
    assert [v.path for v in ours.weights] == [v.path.replace("conv2d_1", "conv2d") for v in stock.weights]
    near(tf.add_n(ours.losses or [0.0]), tf.add_n(stock.losses or [0.0]))


def test_grouped_convolutions_are_separate_ones() -> None:
    """TensorFlow has no gradients of grouped convolutions on the CPU, so three convolutions are the reference."""
    x = random(2, 9, 9, 6)
    ours, stock = pair("Conv2D", x, filters=9, kernel_size=3, groups=3, activation="relu")
    near(ours(x), stock(x))
    parts = keras.layers.Concatenate()
    layers = [keras.layers.Conv2D(3, 3, activation="relu") for _ in range(3)]
    with tf.GradientTape() as tape:
        split = parts([layer(part) for layer, part in zip(layers, tf.split(tf.constant(x), 3, axis=3), strict=True)])
    for i, layer in enumerate(layers):
        layer.set_weights([weights[..., 3 * i : 3 * i + 3] for weights in stock.get_weights()])
    with tf.GradientTape() as tape:
        tape.watch(given := tf.constant(x))
        split = parts([layer(part) for layer, part in zip(layers, tf.split(given, 3, axis=3), strict=True)])
        loss = tf.reduce_sum(tf.sin(split))
    expected = tape.gradient(loss, [given, *([layer.kernel.value for layer in layers])])
    _, d_input, d_kernel, _ = value_and_gradients(ours, x)
    near(d_input, expected[0], 1e-4)
    near(d_kernel, tf.concat(expected[1:], 3), 1e-4)


@pytest.mark.parametrize("name", ["MaxPooling2D", "AveragePooling2D"])
@pytest.mark.parametrize("case", POOLS)
def test_a_pool_is_that_of_stock_layers(name: str, case: str) -> None:
    x = random(2, 9, 8, 5, dtype=POOLS[case].get("dtype", "float32"))
    ours, stock = pair(name, x, **{"pool_size": 2, **POOLS[case]})
    assert uses_our_op(ours, x)
    for a, b in zip(value_and_gradients(ours, x), value_and_gradients(stock, x), strict=True):
        near(a, b)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Conv2D", {"filters": 6, "kernel_size": 3, "strides": 2, "padding": "same", "activation": "relu"}),
        ("Conv2D", {"filters": 6, "kernel_size": (3, 2), "activation": "tanh"}),
        ("MaxPooling2D", {"pool_size": 3, "strides": 2}),
        ("AveragePooling2D", {"pool_size": 3, "strides": 2, "padding": "same"}),
    ],
)
def test_channels_first(name: str, arguments: dict[str, Any]) -> None:
    """TensorFlow's CPU kernels lack this format, so the stock layer computes the transposed problem."""
    x = random(2, 4, 9, 8)
    ours = getattr(fk, name)(**arguments, data_format="channels_first")
    stock = STOCK[name](**arguments, data_format="channels_last")
    ours.build(x.shape)
    stock.build((2, 9, 8, 4))
    stock.set_weights(ours.get_weights())
    assert uses_our_op(ours, x)
    results, expected = value_and_gradients(ours, x), value_and_gradients(stock, np.moveaxis(x, 1, 3).copy())
    for i, (a, b) in enumerate(zip(results, expected, strict=True)):
        near(a, np.moveaxis(np.asarray(b), 3, 1) if i < 2 else b, 1e-4)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        (
            "Conv2D",
            {
                "filters": 6,
                "kernel_size": (3, 2),
                "strides": 2,
                "padding": "same",
                "data_format": "channels_first",
                "groups": 2,
                "activation": "relu",
                "use_bias": False,
                "kernel_initializer": "he_normal",
                "kernel_regularizer": keras.regularizers.L2(0.01),
                "kernel_constraint": "max_norm",
                "name": "first",
                "trainable": False,
            },
        ),
        ("MaxPooling2D", {"pool_size": 3, "strides": 2, "padding": "same"}),
        ("AveragePooling2D", {"pool_size": (2, 3), "data_format": "channels_first", "name": "mean"}),
    ],
)
def test_configs_are_those_of_stock_layers(name: str, arguments: dict[str, Any]) -> None:
    ours, stock = getattr(fk, name)(**arguments), STOCK[name](**arguments)
    config = ours.get_config()
    expected = stock.get_config()
    if "name" not in arguments:
        expected["name"] = config["name"]
    assert config == expected
    again = getattr(fk, name).from_config(config)
    assert again.get_config() == config
    serialized = keras.saving.serialize_keras_object(ours)
    assert serialized["registered_name"] == f"fastconv>{name}"
    assert type(keras.saving.deserialize_keras_object(serialized)) is getattr(fk, name)


@pytest.mark.parametrize("name", STOCK)
def test_signatures_and_names_are_those_of_stock_layers(name: str) -> None:
    ours, stock = getattr(fk, name), STOCK[name]
    # Not the classes' signatures: before Python 3.11.3, inspect uses __new__ if a class has no __init__ of its own.
    assert inspect.signature(ours.__init__) == inspect.signature(stock.__init__)
    assert issubclass(ours, stock)
    assert ours.__name__ == name
    assert ours.__doc__ != stock.__doc__
    assert ours.__module__.startswith("fastconv.keras.")


def test_a_subclass_has_its_own_signature() -> None:
    class Two(fk.Conv2D):
        def __init__(self, scale: float) -> None:
            super().__init__(2, 3)

    assert list(inspect.signature(Two).parameters) == ["scale"]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Conv2D", {"filters": 4, "kernel_size": 5}),
        ("Conv2D", {"filters": 4, "kernel_size": 5, "activation": "relu", "data_format": "channels_first"}),
        ("MaxPooling2D", {"pool_size": 5}),
        ("AveragePooling2D", {"pool_size": 5}),
    ],
)
def test_an_input_smaller_than_the_window_is_refused(name: str, arguments: dict[str, Any]) -> None:
    shape = (3, 4, 4) if arguments.get("data_format") else (4, 4, 3)
    for layers in (keras.layers, fk):
        with pytest.raises(ValueError):
            getattr(layers, name)(**arguments)(keras.layers.Input(shape))
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        getattr(fk, name)(**arguments)(random(2, *shape))


@pytest.mark.parametrize(
    "arguments",
    [
        {"filters": 0, "kernel_size": 3},
        {"filters": 4, "kernel_size": 0},
        {"filters": 4, "kernel_size": 3, "strides": 0},
        {"filters": 4, "kernel_size": 3, "strides": 2, "dilation_rate": 2},
        {"filters": 4, "kernel_size": 3, "groups": 3},
        {"filters": 4, "kernel_size": 3, "padding": "full"},
        {"filters": 4, "kernel_size": 3, "activation": "no such"},
        {"filters": 4, "kernel_size": 3, "data_format": "NHWC"},
    ],
)
def test_bad_arguments_get_keras_errors(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as stock:
        keras.layers.Conv2D(**arguments)
    with pytest.raises(ValueError) as ours:
        fk.Conv2D(**arguments)
    assert str(ours.value) == str(stock.value)


def test_other_channels_than_before_are_refused() -> None:
    layer = fk.Conv2D(4, 3)
    layer(random(1, 8, 8, 3))
    with pytest.raises(ValueError, match=r"value 3.*shape.*\(1, 8, 8, 5\)"):
        layer(random(1, 8, 8, 5))
