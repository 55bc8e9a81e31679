"""Ops of a training step: taps for the gradient of a max pool, bias gradients, and no unneeded gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fastconv
import fastconv.keras as fk
import fastconv.tensorflow as fc
import keras
import numpy as np
import pytest
import tensorflow as tf
from arrays import random
from graph_ops import ops_of

# ---- Taps ------------------------------------------------------------------------------------------------------------


def test_taps_are_kept_only_for_a_tape() -> None:
    x = tf.TensorSpec((None, 8, 8, 6))

    def gradient(x: tf.Tensor, ksize: Any = 2) -> tf.Tensor:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = fc.max_pool2d(x, ksize, padding="SAME")
        return tape.gradient(y, x)

    assert ops_of(lambda x: fc.max_pool2d(x, 2), x) == ["FastconvMaxPool2D"]
    assert ops_of(gradient, x) == ["FastconvMaxPool2DScatter", "FastconvMaxPool2DWithTaps"]
    assert ops_of(lambda x: gradient(x, (16, 16)), x) == ["FastconvMaxPool2D", "FastconvMaxPool2DGrad"]
    assert ops_of(lambda x: tf.gradients(fc.max_pool2d(x, 2), x), x) == ["FastconvMaxPool2D", "FastconvMaxPool2DGrad"]
    x = tf.constant(random(2, 8, 8, 6))
    y = fc.max_pool2d(x, 2)
    np.testing.assert_array_equal(gradient(x), fastconv.max_pool2d_grad(x.numpy(), y.numpy(), np.ones_like(y), 2))


def test_layers_keep_taps_only_in_training() -> None:
    model = keras.Sequential([keras.Input((8, 8, 2)), fk.MaxPooling2D(2), keras.layers.Flatten()])
    spec = tf.TensorSpec((3, 8, 8, 2))
    assert ops_of(model, spec) == ops_of(lambda x: model(x, training=False), spec) == ["FastconvMaxPool2D"]


def test_taps_that_name_no_pixel_of_the_window_count_as_zero() -> None:
    """Raw ops with arbitrary taps access no memory outside the tensors."""
    geometry = fc._geometry(fastconv._core.pool_geometry(2, None, "VALID", "NHWC", 1, False, False, None))
    for c in (1, 3, 6, 16, 40):
        taps = np.random.default_rng(c).integers(0, 256, (2, 3, 3, c)).astype(np.uint8)
        dy, values = random(2, 3, 3, c), random(2, 6, 6, c)
        gradient = fc._ops.fastconv_max_pool2d_scatter(like=values, taps=taps, grad=dy, geometry=geometry)
        gathered = fc._ops.fastconv_max_pool2d_gather(values=values, taps=taps, geometry=geometry)
        windows = values.reshape(2, 3, 2, 3, 2, c).transpose(0, 1, 3, 5, 2, 4).reshape(2, 3, 3, c, 4)
        expected = np.where(taps < 4, np.take_along_axis(windows, np.minimum(taps, 3)[..., None], 4)[..., 0], 0)
        np.testing.assert_array_equal(gathered, expected)
        np.testing.assert_allclose(
            np.sum(gradient, (1, 2)), np.where(taps < 4, dy, 0).sum((1, 2)), rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize("wrong", ["taps", "grad", "like", "window"])
def test_wrong_shapes_of_taps_are_refused(wrong: str) -> None:
    geometry = fc._geometry(
        fastconv._core.pool_geometry(16 if wrong == "window" else 2, None, "SAME", "NHWC", 1, False, False, None)
    )
    side = 1 if wrong == "window" else 3
    given = {"taps": tf.zeros((1, side, side, 2), tf.uint8), "grad": tf.ones((1, side, side, 2))}
    like = tf.zeros((1, 6, 6, 2))
    if wrong == "like":
        like = tf.zeros((1, 7, 6, 2))
    elif wrong != "window":
        given[wrong] = given[wrong][:, 1:]
    with pytest.raises(tf.errors.InvalidArgumentError):
        fc._ops.fastconv_max_pool2d_scatter(like=like, geometry=geometry, **given)
    if wrong != "grad":
        with pytest.raises(tf.errors.InvalidArgumentError):
            fc._ops.fastconv_max_pool2d_gather(values=like, taps=given["taps"], geometry=geometry)
    if wrong == "window":
        with pytest.raises(tf.errors.InvalidArgumentError, match="at most 255"):
            fc._ops.fastconv_max_pool2d_with_taps(input=like, geometry=geometry)


# ---- Bias gradients --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", [None, "relu"])
def test_bias_gradient_needs_no_extra_pass(activation: str | None) -> None:
    def gradients(x: tf.Tensor, w: tf.Tensor, b: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            tape.watch([x, w, b])
            y = fc.conv2d(x, w, bias=b, activation=activation)
        return tape.gradient(y, [x, w, b])

    specs = tf.TensorSpec((None, 8, 8, 3)), tf.TensorSpec((3, 3, 3, 5)), tf.TensorSpec((5,))
    concrete = tf.function(gradients).get_concrete_function(*specs)
    types = {op.type for op in concrete.graph.get_operations()}
    assert not types & {"BiasAddGrad", "ReluGrad"}
    assert [output.shape.as_list() for output in concrete.outputs] == [[None, 8, 8, 3], [3, 3, 3, 5], [5]]


def test_dy_is_not_overwritten_if_it_is_still_needed() -> None:
    """The gradient of ReLU may reuse the memory of its input only if nothing else needs this input."""
    x, w, b, dy = (tf.constant(random(*shape)) for shape in ((1, 6, 6, 2), (3, 3, 2, 4), (4,), (1, 4, 4, 4)))
    before = dy.numpy().copy()

    @tf.function
    def gradients(dy: tf.Tensor) -> Any:
        doubled = dy * 2
        with tf.GradientTape() as tape:
            tape.watch([w, b])
            y = fc.conv2d(x, w, bias=b, activation="relu")
        return *tape.gradient(y, [w, b], output_gradients=doubled), doubled, y

    for _ in range(3):
        d_filters, d_bias, doubled, y = gradients(dy)
        masked = np.where(y > 0, doubled, np.float32(0))
        np.testing.assert_array_equal(doubled, 2 * before)
        np.testing.assert_array_equal(dy, before)
        np.testing.assert_array_equal(d_filters, fastconv.conv2d_backprop_filter(x.numpy(), w.shape.as_list(), masked))
        np.testing.assert_allclose(d_bias, masked.sum((0, 1, 2)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wrong", ["features", "rank"])
def test_wrong_shapes_of_a_relu_gradient_are_refused(wrong: str) -> None:
    geometry = fc._geometry([0, 0, 0, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0])
    dy = tf.ones((2, 3, 4) if wrong == "rank" else (2, 3, 4, 5))
    features = tf.ones((2, 3, 4, 6)) if wrong == "features" else dy
    with pytest.raises(tf.errors.InvalidArgumentError):
        fc._ops.fastconv_relu_bias_grad(gradients=dy, features=features, geometry=geometry)


# ---- Only the gradients that are needed ------------------------------------------------------------------------------


def model_and_loss() -> tuple[Any, Callable[[tf.Tensor], Any]]:
    layers = [fk.Conv2D(4, 3, activation="relu"), fk.MaxPooling2D(2), fk.Conv2D(5, 3), keras.layers.Flatten()]
    model = keras.Sequential([keras.Input((10, 10, 1)), *layers])

    def gradients(x: tf.Tensor) -> Any:
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.square(model(x, training=True)))
        return tape.gradient(loss, model.trainable_variables)

    return model, gradients


def test_first_layer_has_no_input_gradient_in_a_graph() -> None:
    _, gradients = model_and_loss()
    assert ops_of(gradients, tf.TensorSpec((2, 10, 10, 1))) == [
        "FastconvConv2D",
        "FastconvConv2D",
        "FastconvConv2DBackpropFilterBias",
        "FastconvConv2DBackpropInput",
        "FastconvConv2DMaxPool2DBackpropFilterBias",
        "FastconvMaxPool2DWithTaps",
    ]


def test_first_layer_has_no_input_gradient_eagerly(monkeypatch: pytest.MonkeyPatch) -> None:
    _, gradients = model_and_loss()
    called = []
    compute = fc._ops.fastconv_conv2d_backprop_input
    monkeypatch.setattr(fc._ops, "fastconv_conv2d_backprop_input", lambda **given: called.append(1) or compute(**given))
    assert all(gradient is not None for gradient in gradients(tf.constant(random(2, 10, 10, 1))))
    assert len(called) == 1


@pytest.mark.parametrize("wanted", ["input", "filters", "bias"])
@pytest.mark.parametrize("activation", [None, "relu"])
def test_one_gradient_alone_has_the_same_values(wanted: str, activation: str | None) -> None:
    values = {"input": random(2, 7, 7, 3), "filters": random(3, 3, 3, 4), "bias": random(4)}
    tensors = {name: tf.constant(value) for name, value in values.items()}
    results = []
    for watched in (list(tensors), [wanted]):
        with tf.GradientTape() as tape:
            tape.watch([tensors[name] for name in watched])
            y = fc.conv2d(**tensors, activation=activation)
        results.append(tape.gradient(y, tensors[wanted]))
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-5)
