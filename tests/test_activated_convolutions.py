"""In the graph of an inference, a convolution also computes the batch normalisation and any activation after it."""

from __future__ import annotations

from typing import Any

import fastconv.keras as fk
import fastconv.tensorflow as ft
import keras
import keras_models
import numpy as np
import pytest
import tensorflow as tf
from fastconv import _core
from fastconv.tensorflow import _geometry_code as code
from keras_models import images, near
from test_fusing import ops_run_by
from test_fusing_batch_norm import block, randomize

fresh = keras_models.fresh  # before each test
layers = keras.layers
HELD = ["relu", "relu6", "gelu", "silu", "sigmoid", "tanh"]


def network(activation: str, dtype: str = "float64", **conv: Any) -> keras.Model:
    keras.config.set_dtype_policy(dtype)
    inputs = layers.Input((8, 8, 4))
    x = block(inputs, act=layers.Activation(activation), **conv)
    return randomize(keras.Model(inputs, block(x, act=layers.Activation(activation), **conv)))


@pytest.mark.parametrize("activation", HELD)
def test_one_op_computes_three_layers(activation: str) -> None:
    model = network(activation, "float32")
    fast = fk.accelerate(model, fuse=True)
    x = images(6, 8, 8, 4)
    ran = ops_run_by(fast.predict_on_batch, x)
    assert ran["FastconvConv2D"] == 2
    assert ran["FastconvActivate"] == ran["FastconvBatchNormInference"] == 0
    near(fast.predict(x, verbose=0), model.predict(x, verbose=0), 1e-5)


def test_an_activation_with_numbers_stays_an_op() -> None:
    inputs = layers.Input((8, 8, 4))
    model = randomize(keras.Model(inputs, block(inputs, act=layers.LeakyReLU(0.1))))
    fast = fk.accelerate(model, fuse=True)
    x = images(6, 8, 8, 4)
    ran = ops_run_by(fast.predict_on_batch, x)
    assert ran["FastconvConv2D"] == ran["FastconvActivate"] == 1
    near(fast.predict(x, verbose=0), model.predict(x, verbose=0), 1e-5)


@pytest.mark.parametrize("activation", HELD)
@pytest.mark.parametrize("bias", [False, True])
def test_gradients_without_a_tape(activation: str, bias: bool) -> None:
    """``tf.gradients`` needs no tape, so it meets the convolutions of an inference."""
    model = network(activation, use_bias=bias)
    fast = fk.accelerate(model, fuse=True)
    x = tf.constant(images(2, 8, 8, 4).astype(np.float64))

    def gradients(of: Any, order: int) -> Any:
        @tf.function(autograph=False)
        def run(x: Any) -> Any:
            variables = [variable.value for variable in of.trainable_variables]
            y = tf.reduce_sum(tf.sin(of(x, training=False)))
            found = tf.gradients(y, [x, *variables])
            return found if order == 1 else tf.gradients(tf.reduce_sum(found[0] ** 2), [x])

        return run(x)

    graph = tf.function(lambda x: fast(x, training=False), autograph=False).get_concrete_function(x).graph
    held = [code.activation_of(op.inputs[3]) for op in graph.get_operations() if op.type == "FastconvConv2D"]
    assert held.count(activation) == 2
    for order in (1, 2):
        expected = gradients(model, order)
        assert all(gradient is not None for gradient in expected)
        for ours, stock in zip(gradients(fast, order), expected, strict=True):
            near(ours, stock, 1e-4 if activation == "gelu" else 1e-9)  # TensorFlow rounds GELU's constant to float32


def test_vectorized_map() -> None:
    model = network("silu")
    fast = fk.accelerate(model, fuse=True)
    x = tf.constant(images(6, 8, 8, 4).astype(np.float64))[:, None]
    ours = tf.function(lambda x: tf.vectorized_map(lambda one: fast(one, training=False), x))(x)
    near(ours[:, 0], model(x[:, 0], training=False), 1e-9)


def geometry_with(number: int) -> Any:
    numbers = _core.conv_geometry(1, "VALID", "NHWC", 1, "auto", None, False)
    return ft._geometry([*numbers[:3], number, *numbers[4:]])


@pytest.mark.parametrize("number", [3, 4, 9, 12, 13])
def test_codes_of_activations_with_numbers_are_refused(number: int) -> None:
    """A code has no room for the numbers: leaky ReLU, ELU, hard sigmoid, clip. The last one does not exist."""
    x, w = images(1, 4, 4, 2), np.ones((3, 3, 2, 3), np.float32)
    with pytest.raises(tf.errors.InvalidArgumentError, match="geometry must come from"):
        ft._ops.fastconv_conv2d(input=x, filters=w, bias=tf.zeros((0, 0)), geometry=geometry_with(number))


def test_a_pooled_convolution_holds_relu_alone() -> None:
    x, w = images(1, 4, 4, 2), np.ones((3, 3, 2, 3), np.float32)
    pool = ft._geometry(_core.pool_geometry(2, 2, "VALID", "NHWC", 1, False, False, None))
    with pytest.raises(tf.errors.InvalidArgumentError, match="'linear' or 'relu', got 'relu6'"):
        ft._ops.fastconv_conv2d_max_pool2d(
            input=x, filters=w, bias=tf.zeros((0, 0)), geometry=geometry_with(2), pool_geometry=pool
        )


def test_the_numbers_of_activations_are_those_of_the_library() -> None:
    x = images(1, 4, 4, 2) - 0.5
    w = np.random.default_rng(0).standard_normal((3, 3, 2, 3)).astype(np.float32)
    plain = ft.conv2d(x, w)
    for name in code._ACTIVATIONS:
        geometry = code.with_activation(geometry_with(0), name)
        y = ft._ops.fastconv_conv2d(input=x, filters=w, bias=tf.zeros((0, 0)), geometry=geometry)
        np.testing.assert_array_equal(y, ft.activate(plain, name))


# ---- Padding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize("depthwise", [False, True])
@pytest.mark.parametrize("pads", [1, ((0, 1), (0, 1)), ((2, 0), (1, 3))])
def test_the_convolution_pads_its_input(pads: Any, depthwise: bool, data_format: str) -> None:
    keras.config.set_dtype_policy("float64")
    inputs = layers.Input((14, 15, 4) if data_format == "channels_last" else (4, 14, 15))
    kind = {"data_format": data_format, "strides": 2}
    convolution = layers.DepthwiseConv2D(3, **kind) if depthwise else layers.Conv2D(5, 3, **kind)
    axis = -1 if data_format == "channels_last" else 1
    x = convolution(layers.ZeroPadding2D(pads, data_format=data_format)(inputs))
    model = randomize(keras.Model(inputs, layers.ReLU(6.0)(layers.BatchNormalization(axis=axis)(x))))
    fast = fk.accelerate(model, fuse=True)
    x = tf.constant(images(3, *inputs.shape[1:]).astype(np.float64))
    ran = ops_run_by(fast.predict_on_batch, x)
    assert ran["FastconvConv2D"] == 1
    assert ran["Pad"] == ran["FastconvActivate"] == 0
    if data_format == "channels_last":  # TensorFlow's own convolutions of NCHW do not run on every CPU
        near(fast(x), model(x), 1e-9)
    near(tf.function(fast)(x), fk.accelerate(model)(x), 1e-9)


def test_padding_that_does_more_stays_an_op() -> None:
    """Zeros around a convolution that is padded by SAME would change the size from which SAME takes its padding."""
    inputs = layers.Input((8, 8, 4))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(layers.ZeroPadding2D(2)(inputs))
    y = layers.Lambda(lambda x: tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 2]]), output_shape=(10, 10, 6))(inputs)
    y = layers.Conv2D(4, 3, strides=2, padding="same")(y)
    terms = [layers.ReLU()(layers.BatchNormalization()(x)), layers.ReLU()(layers.BatchNormalization()(y))]
    model = randomize(keras.Model(inputs, [layers.Flatten()(term) for term in terms]))
    fast = fk.accelerate(model, fuse=True)
    x = images(3, 8, 8, 4)
    assert ops_run_by(fast.predict_on_batch, x)["Pad"] == 2
    near(fast.predict(x, verbose=0), model.predict(x, verbose=0), 1e-5)
