"""Layers in float16 and bfloat16 sum in float32 and round once to the half type, also in gradients."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import fastconv.keras as fk
import keras
import numpy as np
import pytest
import tensorflow as tf

# All layers with a data_format. The others have tests of their own.
OTHERS = (fk.Activation, fk.Add, fk.BatchNormalization, fk.ReLU)
STOCK = {ours.__name__: stock for stock, ours in fk.LAYERS.items() if ours not in OTHERS}
HALF_AN_ULP = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
# Each sum has many products, whose mean is not zero. Accumulation in half precision would exceed the bound.
LAYERS: dict[str, dict[str, Any]] = {
    "Conv1D": {"filters": 8, "kernel_size": 9, "padding": "causal"},
    "Conv2D": {"filters": 8, "kernel_size": 3, "padding": "same", "activation": "relu"},
    "Conv1DTranspose": {"filters": 8, "kernel_size": 5, "strides": 2},
    "Conv2DTranspose": {"filters": 8, "kernel_size": 5, "strides": 2, "padding": "same"},
    "DepthwiseConv1D": {"kernel_size": 9},
    "DepthwiseConv2D": {"kernel_size": 7, "depth_multiplier": 2},
    "SeparableConv1D": {"filters": 8, "kernel_size": 9},
    "SeparableConv2D": {"filters": 8, "kernel_size": 5, "strides": 2},
    "MaxPooling1D": {"pool_size": 3, "strides": 1},
    "MaxPooling2D": {"pool_size": 3, "strides": 1},
    "AveragePooling1D": {"pool_size": 16, "strides": 1},
    "AveragePooling2D": {"pool_size": 7, "strides": 1, "padding": "same"},
    "GlobalAveragePooling1D": {},
    "GlobalAveragePooling2D": {},
    "GlobalMaxPooling1D": {},
    "GlobalMaxPooling2D": {},
}


@pytest.fixture(autouse=True)
def policy() -> Iterator[None]:
    yield
    keras.config.set_dtype_policy("float32")


def channels_last(images: tf.Tensor) -> tf.Tensor:
    rank = len(images.shape)
    return tf.transpose(images, [0, *range(2, rank), 1]) if rank > 2 else images


def channels_first(images: tf.Tensor) -> tf.Tensor:
    rank = len(images.shape)
    return tf.transpose(images, [0, rank - 1, *range(1, rank - 1)])


def values_and_gradients(layer: Any, x: tf.Tensor) -> list[np.ndarray]:
    """Inputs and results have channels last, even if the layer has channels first."""
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = channels_last(layer(channels_first(x))) if layer.data_format == "channels_first" else layer(x)
        rows = tf.reshape(tf.cast(tf.range(tf.size(y)) % 5, y.dtype), tf.shape(y))
        loss = tf.reduce_sum(tf.cast(y * (rows + 1), tf.float64))
    gradients = tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)])
    assert y.dtype == layer.compute_dtype
    return [np.asarray(tf.cast(t, tf.float64)) for t in (y, *gradients)]


def test_every_layer_has_a_case() -> None:
    assert LAYERS.keys() == STOCK.keys()


@pytest.mark.parametrize("half", HALF_AN_ULP)
@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("name", LAYERS)
def test_within_half_precision_of_float64(name: str, data_format: str, half: str) -> None:
    rng = np.random.default_rng(1)
    shape = (4, 150, 16) if "1D" in name else (4, 17, 16, 16)
    exact = STOCK[name](**LAYERS[name], dtype="float64")
    ours = getattr(fk, name)(**LAYERS[name], data_format=data_format, dtype=f"mixed_{half}")

    def rounded(values: np.ndarray) -> np.ndarray:
        return np.asarray(tf.cast(tf.cast(values, half), tf.float64))

    x = rounded(rng.uniform(0.2, 1, shape))
    exact.build(shape)
    ours.build((shape[0], shape[-1], *shape[1:-1]) if data_format == "channels_first" else shape)
    weights = [rounded(rng.uniform(0.1, 0.5, v.shape)) for v in exact.weights]
    exact.set_weights(weights)
    ours.set_weights(weights)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = values_and_gradients(ours, tf.cast(x, half))
    expected = values_and_gradients(exact, tf.constant(x))
    for i, (a, b) in enumerate(zip(results, expected, strict=True)):
        assert a.shape == b.shape
        # One rounding to the half type and a few in float32. The gradients of the ReLU and of the loss add none.
        assert np.abs(a - b).max() <= 1.02 * HALF_AN_ULP[half] * np.abs(b).max(), i


def test_stock_layers_miss_the_bound() -> None:
    """Otherwise the test above could pass without summation in float32."""
    x = tf.random.stateless_uniform((1, 3000, 16), [1, 2], 0.2, 1, tf.float32)
    mask = tf.ones((1, 3000), tf.bool)
    exact = tf.reduce_mean(tf.cast(tf.cast(x, tf.float16), tf.float64), 1)

    def error(layers: Any) -> float:
        y = layers.GlobalAveragePooling1D(dtype="float16")(x, mask=mask)
        return float(tf.reduce_max(tf.abs(tf.cast(y, tf.float64) - exact)))

    assert error(fk) <= HALF_AN_ULP["float16"]
    assert error(keras.layers) > HALF_AN_ULP["float16"]


@pytest.mark.parametrize("half", HALF_AN_ULP)
def test_a_model_trains_without_a_warning(half: str) -> None:
    keras.utils.set_random_seed(3)
    keras.config.set_dtype_policy(f"mixed_{half}")
    kind = np.arange(96) % 2
    rows, columns = np.indices((12, 12))
    patterns = np.stack([rows % 4 < 2, columns % 4 < 2]).astype(np.float32)
    x = (patterns[kind] + 0.3 * np.random.default_rng(0).standard_normal((96, 12, 12)))[..., None].astype(np.float32)
    model = keras.Sequential(
        [
            keras.layers.Input((12, 12, 1)),
            fk.Conv2D(4, 3, activation="relu"),
            fk.MaxPooling2D(),
            fk.SeparableConv2D(4, 3, activation="tanh"),
            fk.GlobalAveragePooling2D(),
            keras.layers.Dense(2, dtype="float32"),
        ]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.optimizer.learning_rate = 0.02
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        losses = model.fit(x, kind, epochs=20, batch_size=32, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    assert model.layers[0].compute_dtype == half
    assert model.layers[0].kernel.dtype == "float32"
