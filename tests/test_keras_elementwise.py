"""Our `Activation`, `ReLU` and `Add` compute what Keras's do. `accelerate` replaces those that are faster."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fastconv.keras as fk
import keras
import layer_pairs
import numpy as np
import pytest
import tensorflow as tf
from arrays import random
from layer_pairs import uses_our_op, value_and_gradients

fresh = layer_pairs.fresh  # before each test
layers = keras.layers
BOUNDS = {"float32": 2e-6, "float64": 1e-7}  # tf.nn.gelu rounds a constant to float32
NAMES = ("relu", "relu6", "leaky_relu", "gelu", "silu", "swish", "sigmoid", "tanh")
RELUS: list[dict[str, Any]] = [{}, {"max_value": 6}, {"negative_slope": 0.1}]


def compare(ours: Any, stock: Any, dtype: str) -> None:
    for shape in ((7,), (5, 9), (2, 9, 7, 5), (0, 3)):
        x = 3 * random(*shape, dtype=dtype)
        assert uses_our_op(ours, x) and not uses_our_op(stock, x)
        for a, b in zip(value_and_gradients(ours, x), value_and_gradients(stock, x), strict=True):
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_allclose(a, b, rtol=BOUNDS[dtype], atol=BOUNDS[dtype])
    unknown = tf.function(ours, input_signature=[tf.TensorSpec(None, dtype)])
    np.testing.assert_allclose(unknown(x), stock(x))


@pytest.mark.parametrize("dtype", BOUNDS)
def test_activations_have_the_values_and_gradients_of_keras(dtype: str) -> None:
    for name in NAMES:
        compare(fk.Activation(name, dtype=dtype), layers.Activation(name, dtype=dtype), dtype)
    for arguments in RELUS:
        compare(fk.ReLU(**arguments, dtype=dtype), layers.ReLU(**arguments, dtype=dtype), dtype)


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self, x: Any) -> Any:
        return 2 * x


OTHERS = ["softplus", "linear", "softmax", "hard_silu", lambda x: x + 1, Unhashable()]


@pytest.mark.parametrize("function", OTHERS, ids=range(len(OTHERS)))
def test_keras_computes_all_other_activations(function: Any) -> None:
    x = random(3, 5)
    ours, stock = fk.Activation(function), layers.Activation(function)
    assert not uses_our_op(ours, x)
    np.testing.assert_array_equal(ours(x), stock(x))


def test_keras_computes_unusual_relus() -> None:
    x = 3 * random(3, 5)
    for arguments in ({"threshold": 0.5}, {"max_value": 2}, {"max_value": 6, "negative_slope": 0.1}):
        ours, stock = fk.ReLU(**arguments), layers.ReLU(**arguments)
        assert not uses_our_op(ours, x)
        np.testing.assert_array_equal(ours(x), stock(x))


@pytest.mark.parametrize("half", ["float16", "bfloat16"])
def test_keras_computes_half_types(half: str) -> None:
    x = tf.cast(random(3, 5), half)
    for name, given in (("Activation", ["silu"]), ("ReLU", []), ("Add", [])):
        ours, stock = (getattr(of, name)(*given, dtype=f"mixed_{half}") for of in (fk, layers))
        inputs = [x, x] if name == "Add" else x
        graph = tf.function(lambda inputs, ours=ours: ours(inputs)).get_concrete_function(inputs).graph
        assert not any(op.type.startswith("Fastconv") for op in graph.get_operations())
        assert bool(tf.reduce_all(ours(inputs) == stock(inputs)))


@pytest.mark.parametrize("dtype", BOUNDS)
def test_sums_have_the_values_and_gradients_of_keras(dtype: str) -> None:
    a, b, row = (tf.constant(random(*shape, dtype=dtype)) for shape in ((2, 3, 4), (2, 3, 4), (2, 3, 1)))
    cases = [([a, b], True), ((a, a), True), ([a, row], False), ([a, b, a], False), ([row, row], True)]
    for inputs, on_kernels in cases:
        found = []
        for layer in (fk.Add(dtype=dtype), layers.Add(dtype=dtype)):
            with tf.GradientTape() as tape:
                tape.watch(list(inputs))
                y = layer(inputs)
            found.append([y, *tape.gradient(tf.sin(y), list(inputs))])
            graph = tf.function(layer).get_concrete_function(inputs).graph
            ops = {op.type for op in graph.get_operations()}
            assert ("FastconvAdd" in ops) is (on_kernels and type(layer) is fk.Add), inputs
        for ours, stock in zip(*found, strict=True):
            np.testing.assert_array_equal(ours, stock)


def test_sums_of_batches_that_broadcast() -> None:
    """Where a size is not known in the graph, Keras's op computes the sum."""
    graph = tf.function(lambda a, b: fk.Add()([a, b]), input_signature=[tf.TensorSpec((None, 3))] * 2)
    a, b = random(4, 3), random(1, 3)
    np.testing.assert_array_equal(graph(a, b), a + b)


def test_only_layers_that_are_faster_are_replaced(tmp_path: Path) -> None:
    names = ["gelu", "relu", "silu", "tanh"]
    inputs = layers.Input((8, 8, 3))
    x = layers.Conv2D(4, 3)(inputs)
    for name in names:
        x = layers.Activation(name, name=name)(x)
    x = layers.Activation("silu", dtype="mixed_float16", name="half")(layers.Add(name="add")([x, layers.ReLU()(x)]))
    model = keras.Model(inputs, x)
    fast = fk.accelerate(model)
    ours = [layer.name for layer in fast.layers[2:] if type(layer).__module__.startswith("fastconv")]
    assert ours == ["gelu", "silu"]
    x = random(2, 8, 8, 3)
    fast.save(tmp_path / "fast.keras")
    loaded = keras.models.load_model(tmp_path / "fast.keras")
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in fast.layers]
    stock = fk.restore(loaded)
    assert [type(layer) for layer in stock.layers] == [type(layer) for layer in model.layers]
    for other in (fast, loaded, stock):
        assert [layer.get_config() for layer in other.layers] == [layer.get_config() for layer in model.layers]
        np.testing.assert_allclose(other(x), model(x), rtol=2e-3, atol=1e-3)  # the last layer rounds to float16


def test_our_own_layers_are_restored_and_fused() -> None:
    inputs = layers.Input((8, 8, 3))
    x = fk.BatchNormalization()(fk.Conv2D(3, 3, padding="same")(inputs))
    model = keras.Model(inputs, fk.Activation("relu")(fk.Add()([x, fk.ReLU()(inputs)])))
    fast = fk.accelerate(model, fuse=True)
    fused = {type(layer).__name__ for layer in fast.layers if type(layer).__module__ == "fastconv.keras._fused"}
    assert fused == {"Activation", "Add"}
    stock = fk.restore(fast)
    assert not any(type(layer).__module__.startswith("fastconv") for layer in stock.layers)
    x = random(2, 8, 8, 3)
    np.testing.assert_allclose(fast.predict(x, verbose=0), stock(x), rtol=1e-5, atol=1e-5)
