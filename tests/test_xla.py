"""If XLA should compile a function that calls fastconv, the error names the remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastconv.keras as fk
import fastconv.tensorflow as fc
import keras
import numpy as np
import pytest
import tensorflow as tf

IMAGES = np.ones((1, 6, 6, 2), np.float32)
CHANNELS = np.ones(2, np.float32)
FILTERS = np.ones((3, 3, 2, 2), np.float32)
OUTPUTS = np.ones((1, 4, 4, 2), np.float32)
POOLED = np.ones((1, 3, 3, 2), np.float32)
CALLS: dict[str, Callable[[], Any]] = {
    "activate": lambda: fc.activate(IMAGES, "relu"),
    "activate_grad": lambda: fc.activate_grad(IMAGES, IMAGES, "relu"),
    "adaptive_avg_pool2d": lambda: fc.adaptive_avg_pool2d(IMAGES, 4),
    "adaptive_avg_pool2d_grad": lambda: fc.adaptive_avg_pool2d_grad(IMAGES.shape, OUTPUTS, 4),
    "adaptive_max_pool2d": lambda: fc.adaptive_max_pool2d(IMAGES, 4),
    "adaptive_max_pool2d_grad": lambda: fc.adaptive_max_pool2d_grad(IMAGES, OUTPUTS, OUTPUTS, 4),
    "add": lambda: fc.add(IMAGES, IMAGES),
    "add_grad": lambda: fc.add_grad(IMAGES, IMAGES, IMAGES),
    "avg_pool2d": lambda: fc.avg_pool2d(IMAGES, 2),
    "avg_pool2d_grad": lambda: fc.avg_pool2d_grad(IMAGES.shape, POOLED, 2),
    "batch_norm": lambda: fc.batch_norm(IMAGES),
    "batch_norm_grad": lambda: fc.batch_norm_grad(IMAGES, CHANNELS, CHANNELS, IMAGES),
    "batch_norm_inference": lambda: fc.batch_norm_inference(IMAGES, CHANNELS, CHANNELS),
    "batch_norm_inference_grad": lambda: fc.batch_norm_inference_grad(IMAGES, CHANNELS, CHANNELS, IMAGES),
    "batch_norm_statistics": lambda: fc.batch_norm_statistics(IMAGES),
    "conv2d": lambda: fc.conv2d(IMAGES, FILTERS),
    "conv2d_backprop_filter": lambda: fc.conv2d_backprop_filter(IMAGES, FILTERS.shape, OUTPUTS),
    "conv2d_backprop_input": lambda: fc.conv2d_backprop_input(IMAGES.shape, FILTERS, OUTPUTS),
    "conv2d_transpose": lambda: fc.conv2d_transpose(OUTPUTS, FILTERS, IMAGES.shape, 1, "VALID"),
    "bias_gradient": lambda: fc.bias_gradient(OUTPUTS),
    "conv2d_max_pool2d": lambda: fc.conv2d_max_pool2d(IMAGES, FILTERS, 2),
    "conv2d_max_pool2d_backprop": lambda: fc.conv2d_max_pool2d_backprop(
        IMAGES, FILTERS, np.zeros((1, 2, 2, 2), np.uint8), np.ones((1, 2, 2, 2), np.float32), 2
    ),
    "depthwise_conv2d": lambda: fc.depthwise_conv2d(IMAGES, FILTERS),
    "depthwise_conv2d_backprop_filter": lambda: fc.depthwise_conv2d_backprop_filter(
        IMAGES, FILTERS.shape, np.ones((1, 4, 4, 4), np.float32)
    ),
    "depthwise_conv2d_backprop_input": lambda: fc.depthwise_conv2d_backprop_input(
        IMAGES.shape, FILTERS, np.ones((1, 4, 4, 4), np.float32)
    ),
    "max_pool2d": lambda: fc.max_pool2d(IMAGES, 2),
    "max_pool2d_grad": lambda: fc.max_pool2d_grad(IMAGES, POOLED, POOLED, 2),
    "max_pool2d_with_argmax": lambda: fc.max_pool2d_with_argmax(IMAGES, 2),
}
REMEDY = "XLA cannot compile fastconv's ops.*without jit_compile=True"


def test_xla_compiles_here() -> None:
    """Otherwise the tests below would prove nothing."""
    compiled = tf.function(lambda x: tf.nn.conv2d(x, FILTERS, 1, "VALID"), jit_compile=True)
    np.testing.assert_allclose(compiled(IMAGES), fc.conv2d(IMAGES, FILTERS))
    assert "HloModule" in compiled.experimental_get_compiler_ir(tf.constant(IMAGES))(stage="hlo")


def test_every_function_has_a_case() -> None:
    assert CALLS.keys() == set(fc.__all__)


@pytest.mark.parametrize("name", CALLS)
def test_the_error_names_the_remedy(name: str) -> None:
    tf.function(CALLS[name])()
    with pytest.raises(NotImplementedError, match=REMEDY):
        tf.function(CALLS[name], jit_compile=True)()


def in_a_function() -> tf.Tensor:
    return 2 * tf.function(CALLS["conv2d"])()


def in_a_loop() -> tf.Tensor:
    def body(i: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return i + 1, total + CALLS["conv2d"]()

    return tf.while_loop(lambda i, total: i < 3, body, (0, tf.zeros(OUTPUTS.shape)))[1]


def in_a_condition() -> tf.Tensor:
    return tf.cond(tf.random.uniform(()) < 2, CALLS["conv2d"], lambda: tf.zeros(OUTPUTS.shape))


@pytest.mark.parametrize("function", [in_a_function, in_a_loop, in_a_condition])
def test_the_error_names_the_remedy_inside_other_functions(function: Callable[[], tf.Tensor]) -> None:
    tf.function(function)()
    with pytest.raises(NotImplementedError, match=REMEDY):
        tf.function(function, jit_compile=True)()


@pytest.mark.parametrize("layer", [fk.Conv2D(2, 3), fk.DepthwiseConv2D(3), fk.MaxPooling2D()])
def test_layers_raise_the_same_error(layer: keras.Layer) -> None:
    expected = layer(IMAGES)
    with pytest.raises(NotImplementedError, match=REMEDY):
        tf.function(lambda x: layer(x), jit_compile=True)(tf.constant(IMAGES))
    assert np.array_equal(tf.function(lambda x: layer(x))(tf.constant(IMAGES)), expected)


def test_global_pooling_is_compiled() -> None:
    for layer in (fk.GlobalMaxPooling2D(), fk.GlobalAveragePooling2D()):
        assert layer.supports_jit
        np.testing.assert_allclose(tf.function(lambda x: layer(x), jit_compile=True)(IMAGES), [[1, 1]])  # noqa: B023


def test_without_tensorflows_hook_the_error_names_the_op(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the hook, TensorFlow raises its own error, which names the op."""
    monkeypatch.setattr("fastconv.tensorflow._arguments.is_for_xla", lambda graph: False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="FastconvConv2D"):
        tf.function(lambda x: fc.conv2d(x, FILTERS), jit_compile=True)(IMAGES)
