"""`accelerate(fuse=True)` runs a small convolution and the max-pooling after it as one op in a graph."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import fastconv.keras as fk
import keras
import keras_models
import numpy as np
import pytest
import tensorflow as tf
from fastconv.lenet.model import build, compile_model
from fastconv.lenet.train import fused
from keras_models import images, near, types
from test_fusing import fused_layers, ops_run_by

fresh = keras_models.fresh  # before each test
layers = keras.layers


def small(*between: Any, activation: Any = None, **options: Any) -> Any:
    """A model in which a max-pooling comes after a small convolution and the layers `between`."""
    conv, pool = layers.Conv2D(4, 3, activation=activation, **options), layers.MaxPooling2D(**options)
    model = keras.Sequential([layers.Input((3, 16, 16) if options else (16, 16, 3)), conv, *between, pool])
    model.add(layers.Flatten())
    model.add(layers.Dense(2))
    model.compile("sgd", "mse")
    return model


def fusible_models() -> Iterator[tuple[Any, bool]]:
    """Models, and whether fusing keeps every bit. It does if the ReLU belongs to the convolution, or there is none."""
    yield small(), True
    yield small(activation="relu"), True
    yield small(layers.ReLU()), False
    yield small(data_format="channels_first"), True


def batch(model: Any) -> np.ndarray:
    return images(8, *model.input_shape[1:]).astype(model.dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_op_computes_both_layers(dtype: str) -> None:
    keras.config.set_dtype_policy(dtype)
    for model, same_bits in fusible_models():
        x, y = batch(model), np.ones((8, 2), dtype)
        plain, fast = fk.accelerate(model), fk.accelerate(model, fuse=True)
        for call in (lambda fast=fast, x=x: fast.predict_on_batch(x), lambda f=fast, x=x, y=y: f.train_on_batch(x, y)):
            ran = ops_run_by(call)
            assert ran["FastconvConv2DMaxPool2D"] == 1
            assert not [op for op in ran if op in ("FastconvConv2D", "Relu") or op.startswith("FastconvMaxPool2D")]
        plain.train_on_batch(x, y)
        found, expected = ([m.predict_on_batch(x), *m.get_weights()] for m in (fast, plain))
        for ours, theirs in zip(found, expected, strict=True):
            if same_bits:
                np.testing.assert_array_equal(ours, theirs)
            near(ours, theirs)


def not_fusible_models() -> Iterator[Any]:
    conv, pool, inputs = layers.Conv2D, layers.MaxPooling2D, layers.Input((16, 16, 3))
    yield keras.Sequential([layers.Input((32, 32, 16)), conv(32, 3), pool()])  # too large
    yield keras.Sequential([inputs, conv(4, 3), layers.AveragePooling2D(2)])
    yield keras.Sequential([inputs, conv(4, 3, activation="tanh"), pool()])
    yield keras.Sequential([inputs, conv(4, 3, activity_regularizer="l2"), pool()])
    yield keras.Sequential([inputs, conv(4, 3, dtype="mixed_bfloat16"), pool(dtype="mixed_bfloat16")])
    x = conv(4, 3)(inputs)
    yield keras.Model(inputs, [pool()(x), x])  # the convolution's output is also the model's


def test_other_layers_are_not_fused() -> None:
    for model in not_fusible_models():
        fast = fk.accelerate(model, fuse=True)
        assert fused_layers(fast) == []
        assert ops_run_by(fast.predict_on_batch, batch(model))["FastconvConv2DMaxPool2D"] == 0


def test_the_op_decides_if_the_sizes_are_known_only_later() -> None:
    for filters, count in ((4, 1), (64, 0)):
        fast = fk.accelerate(keras.Sequential([layers.Conv2D(filters, 3), layers.MaxPooling2D()]), fuse=True)
        assert len(fused_layers(fast)) == 1
        assert ops_run_by(fast.predict_on_batch, images(2, 32, 32, 3))["FastconvConv2DMaxPool2D"] == count


def test_the_table_shows_the_pooling(capsys: pytest.CaptureFixture[str]) -> None:
    fk.accelerate(small(), verbose=True, fuse=True)
    assert "fused into conv2d" in capsys.readouterr().out


def test_a_window_that_is_too_large_is_refused() -> None:
    model = fk.accelerate(keras.Sequential([layers.Conv2D(4, 3), layers.MaxPooling2D(8)]), fuse=True)
    conv, pool = model.layers
    with pytest.raises(ValueError, match="The layer's output would be empty"):
        tf.function(lambda x: pool(conv(x)))(images(2, 8, 8, 3))


def test_lenet_trains_with_fusion_and_is_a_plain_model_afterwards() -> None:
    x, y = images(96, 28, 28, 1), np.eye(10, dtype=np.float32)[np.arange(96) % 10]
    weights = []
    for context in (fused, None):
        model = build("fastconv")
        compile_model(model, 0.001)
        plain, config = types(model), model.get_config()
        if context is None:
            model.fit(x, y, 32, epochs=2, verbose=0, shuffle=False)
        else:
            with context(model):
                ran = ops_run_by(model.train_on_batch, x[:32], y[:32])
                assert [ran["FastconvConv2DMaxPool2D"], ran["FastconvConv2D"]] == [2, 0]
                model.optimizer.learning_rate = 0.001
            assert types(model) == plain and model.get_config() == config
            model = build("fastconv")
            compile_model(model, 0.001)
            with context(model):
                model.fit(x, y, 32, epochs=2, verbose=0, shuffle=False)
        weights.append([*model.get_weights(), *(v.numpy() for v in model.optimizer.variables)])
        near(model.predict(x, verbose=0), model(x))
    for ours, theirs in zip(*weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_lenet_on_keras_own_layers_is_not_fused() -> None:
    model = build("keras")
    before = types(model)
    with fused(model):
        assert types(model) == before


@pytest.mark.parametrize(("size", "padding"), [(16, "valid"), ((1, 300), "same")])
def test_a_window_whose_taps_need_more_than_a_byte_is_not_fused(size: Any, padding: str) -> None:
    stack = [layers.Input((36, 36, 1)), layers.Conv2D(6, 2), layers.MaxPooling2D(size, padding=padding)]
    model = keras.Sequential([*stack, layers.Flatten(), layers.Dense(1)])
    fast = fk.accelerate(model, fuse=True)
    x, y = images(4, 36, 36, 1), np.ones((4, 1))
    near(fast.predict(x, verbose=0), model.predict(x, verbose=0))
    for one in (model, fast):
        one.compile("sgd", "mse")
        one.train_on_batch(x, y)
    near(fast.get_weights(), model.get_weights())
