"""Subclasses of our layers, LoRA, and settings under which the layers call stock ops or refuse to work."""

from __future__ import annotations

from typing import Any

import fastconv.keras as fk
import keras
import layer_pairs
import numpy as np
import pytest
import tensorflow as tf
from arrays import random
from layer_pairs import compiled, digits, near, network, pair, uses_our_op, value_and_gradients
from processes import run_python

fresh = layer_pairs.fresh  # before each test


def test_jit_compile_warns_and_trains() -> None:
    x, y = digits()
    model = network(fk)
    with pytest.warns(UserWarning, match="jit_compile"):
        compiled(model, jit_compile=True)
    before = model.get_weights()
    model.fit(x, y, epochs=1, verbose=0)
    assert any(np.any(a != b) for a, b in zip(model.get_weights(), before, strict=True))


def test_jit_compile_auto_stays_off() -> None:
    assert not compiled(network(fk)).jit_compile


def test_integers_run_on_the_stock_op() -> None:
    x = np.arange(2 * 8 * 8 * 3, dtype=np.int32).reshape(2, 8, 8, 3) % 17
    ours, stock = pair("MaxPooling2D", x)
    with pytest.warns(UserWarning, match="floating-point numbers, not int32") as caught:
        assert np.array_equal(ours(x), stock(x))
        ours(x)
    assert len(caught) == 1


def test_a_replaced_convolution_op_of_an_instance_is_called() -> None:
    layer = fk.Conv2D(3, 3)
    x = np.ones((1, 5, 5, 2), np.float32)
    layer.build(x.shape)
    layer.convolution_op = lambda inputs, kernel: tf.nn.conv2d(inputs, 2 * kernel, 1, "VALID")
    np.testing.assert_allclose(layer(x), 2 * tf.nn.conv2d(x, layer.kernel, 1, "VALID"), rtol=1e-5)


def test_an_overridden_convolution_op_is_called() -> None:
    """A subclass for weight standardisation, as in Keras's documentation."""

    def standardized(base: Any) -> Any:
        class Standardized(base):
            def convolution_op(self, inputs: Any, kernel: Any) -> Any:
                mean, variance = tf.nn.moments(tf.convert_to_tensor(kernel), axes=[0, 1, 2], keepdims=True)
                return super().convolution_op(inputs, (kernel - mean) / tf.sqrt(variance + 1e-10))

        return Standardized

    x = random(2, 8, 8, 3)
    ours = standardized(fk.Conv2D)(4, 3, activation="relu")
    stock = standardized(keras.layers.Conv2D)(4, 3, activation="relu")
    ours.build(x.shape)
    stock.build(x.shape)
    weights = [random(*v.shape, seed=2) for v in stock.weights]
    ours.set_weights(weights)
    stock.set_weights(weights)
    assert uses_our_op(ours, x)
    for a, b in zip(value_and_gradients(ours, x), value_and_gradients(stock, x), strict=True):
        near(a, b, 1e-4)
    plain, _ = pair("Conv2D", x, filters=4, kernel_size=3, activation="relu")
    plain.set_weights(weights)
    assert np.abs(np.asarray(plain(x)) - np.asarray(ours(x))).max() > 0.1  # the override has an effect


def test_a_subclass_may_override_call() -> None:
    class Doubled(fk.Conv2D):
        def call(self, inputs: Any) -> Any:
            return 2 * super().call(inputs)

    x = random(2, 8, 8, 3)
    ours, plain = Doubled(4, 3), fk.Conv2D(4, 3)
    plain.build(x.shape)
    ours.build(x.shape)
    ours.set_weights(plain.get_weights())
    near(ours(x), 2 * np.asarray(plain(x)))


def test_lora_is_that_of_stock_layers() -> None:
    x = random(2, 8, 8, 3)
    ours, stock = pair("Conv2D", x, filters=4, kernel_size=3, activation="relu")
    for layer in (ours, stock):
        layer.enable_lora(2)
        assert len(layer.trainable_variables) == 3
        layer.lora_kernel_a.assign(random(*layer.lora_kernel_a.shape, seed=3))
        layer.lora_kernel_b.assign(random(*layer.lora_kernel_b.shape, seed=4))
    assert uses_our_op(ours, x)
    for a, b in zip(value_and_gradients(ours, x), value_and_gradients(stock, x), strict=True):
        near(a, b, 1e-4)


def test_other_backends_are_refused() -> None:
    """Keras's other backends need further packages, so the loaded Keras only pretends to run on another backend."""
    run_python(
        """
        import keras
        keras.src.backend.config._BACKEND = "jax"
        try:
            import fastconv.keras
        except ImportError as error:
            assert "KERAS_BACKEND=tensorflow" in str(error) and "Keras runs on jax" in str(error), error
        else:
            raise AssertionError("imported")
        """
    )


def test_import_of_fastconv_leaves_keras_alone() -> None:
    run_python(
        """
        import sys
        import fastconv
        assert "keras" not in sys.modules
        fastconv.keras.Conv2D
        assert "keras" in sys.modules
        """
    )
