"""What a training step adds to the ops: taps kept between a max pool and its gradient, bias gradients, no idle work."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import fastconv
import fastconv.keras as fk
import fastconv.tensorflow as fc
import keras
import numpy as np
import pytest
import tensorflow as tf
from workers import ISAS


def random(*shape: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def ops_of(function: Callable[..., Any], *arguments: Any) -> list[str]:
    """Types of our ops in a graph that its results need: TensorFlow prunes the others."""
    concrete = tf.function(function).get_concrete_function(*arguments)
    needed, waiting = set(), [tensor.op for tensor in concrete.graph.outputs]
    while waiting:
        op = waiting.pop()
        if op not in needed:
            needed.add(op)
            waiting += [tensor.op for tensor in op.inputs] + list(op.control_inputs)
    return sorted(op.type for op in needed if op.type.startswith("Fastconv"))


# ---- On every instruction set ----------------------------------------------------------------------------------------
# In a Python of its own each: awkward numbers of channels, windows at the border, gaps, both types and formats.
EVERY_ISA = """
import itertools
import numpy as np
import tensorflow as tf
import fastconv
import fastconv.tensorflow as fc

def random(*shape, dtype=np.float32):
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)

def same_bits(a, b):
    a, b = np.asarray(a), np.asarray(b)
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert a.tobytes() == b.tobytes()

def max_pools():
    geometries = [dict(ksize=2), dict(ksize=2, padding="SAME"), dict(ksize=3, strides=2, padding="SAME"),
                  dict(ksize=(1, 4), strides=(1, 2)), dict(ksize=2, strides=3, padding=((1, 0), (0, 1))),
                  dict(ksize=2, strides=(2, 1)), dict(ksize=(15, 17), padding="SAME")]
    for dtype, c in itertools.product((np.float32, np.float64), (1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 15, 16, 17, 33)):
        for keywords, nan in itertools.product(geometries, (False, True)):
            x = random(2, 9, 11, c, dtype=dtype)
            x = np.round(x * 2) / 2  # equal maxima
            if nan:
                x[random(*x.shape) > 1.5] = np.nan
            given, more = x, {}
            if c in (3, 8):
                given, more = np.ascontiguousarray(x.transpose(0, 3, 1, 2)), dict(data_format="NCHW")
            y = fastconv.max_pool2d(given, **keywords, **more)
            dy = random(*y.shape, dtype=dtype)
            variable = tf.constant(given)
            with tf.GradientTape() as outer:
                dy_tensor = tf.constant(dy)
                outer.watch(dy_tensor)
                with tf.GradientTape() as tape:
                    tape.watch(variable)
                    ours = fc.max_pool2d(variable, **keywords, **more)
                gradient = tape.gradient(ours, variable, output_gradients=dy_tensor)
            same_bits(ours, y)
            same_bits(gradient, fastconv.max_pool2d_grad(given, y, dy, **keywords, **more))
            # The gradient's gradient gathers what the maximum took.
            values = random(*given.shape, dtype=dtype)
            gathered = outer.gradient(gradient, dy_tensor, output_gradients=tf.constant(values))
            nhwc = values.transpose(0, 2, 3, 1) if more else values
            _, argmax = fastconv.max_pool2d_with_argmax(given, **keywords, **more, include_batch_in_index=True)
            same_bits(gathered, np.ascontiguousarray(nhwc).reshape(-1)[argmax])

def bias_gradients():
    shapes = [(1, 1, 1, 1), (3, 5, 7, 2), (2, 13, 13, 3), (5, 26, 26, 6), (2, 9, 31, 16), (2, 10, 10, 17),
              (1, 20, 21, 63), (2, 7, 9, 64), (1, 3, 3, 300), (0, 4, 4, 5), (2, 64, 64, 24), (2, 128, 128, 6)]
    for dtype, shape, nchw, relu in itertools.product((np.float32, np.float64), shapes, (False, True), (False, True)):
        dy = random(*shape, dtype=dtype)
        y = random(*shape[::-1], dtype=dtype).reshape(shape)
        format = 1 if nchw else 0
        if nchw:
            dy, y = (np.ascontiguousarray(a.transpose(0, 3, 1, 2)) for a in (dy, y))
        axes = (0, 2, 3) if nchw else (0, 1, 2)
        if relu:
            geometry = fc._geometry([0, format, 0, 1, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0])
            call = lambda: fc._ops.fastconv_relu_bias_grad(gradients=dy, features=y, geometry=geometry)
            masked = np.where(y > 0, dy, dtype(0))
        else:
            # One input channel of ones, and 1 x 1 filters.
            geometry = fc._geometry([0, format, 0, 0, 0, 0, 1, 1, 1, 1, 0, 0, 0, 0])
            x = np.ones((shape[0], 1, *shape[1:3]) if nchw else (*shape[:3], 1), dtype)
            like = tf.zeros((1, 1, 1, shape[3]), dtype)
            call = lambda: fc._ops.fastconv_conv2d_backprop_filter_bias(
                input=x, like=like, out_backprop=dy, geometry=geometry)
            masked = dy
        results = []
        for threads in (1, 2, 3):
            fastconv.set_num_threads(threads)
            results.append([np.asarray(part) for part in call()])
        for first, bias in results:
            same_bits(bias, results[0][1])
            if relu:
                same_bits(first, masked)
        exact = masked.astype(np.longdouble)
        bound = 16 * np.finfo(dtype).eps * abs(exact).sum(axes)
        assert (abs(results[0][1] - exact.sum(axes)) <= bound).all()

max_pools()
bias_gradients()
"""


@pytest.mark.parametrize("isa", ISAS)
def test_taps_and_bias_gradients(isa: str) -> None:
    environment = {**os.environ, "FASTCONV_ISA": isa}
    command = [sys.executable, "-c", EVERY_ISA]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-4000:]


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


def test_taps_that_no_window_has() -> None:
    """Whoever calls the raw ops with bytes of their own reads and writes nothing but the tensors."""
    geometry = fc._geometry(fastconv._core.pool_geometry(2, None, "VALID", "NHWC", False))
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
def test_wrong_shapes_of_taps(wrong: str) -> None:
    geometry = fc._geometry(fastconv._core.pool_geometry(16 if wrong == "window" else 2, None, "SAME", "NHWC", False))
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
def test_bias_gradient_has_no_pass_of_its_own(activation: str | None) -> None:
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


def test_dy_is_not_overwritten_where_others_need_it() -> None:
    """The ReLU's gradient may take the memory of what it is given, but not from its owner."""
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
def test_wrong_shapes_of_a_relu(wrong: str) -> None:
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
        "FastconvConv2DBackpropFilter",
        "FastconvConv2DBackpropFilterBias",
        "FastconvConv2DBackpropInput",
        "FastconvMaxPool2DScatter",
        "FastconvMaxPool2DWithTaps",
        "FastconvReluBiasGrad",
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
def test_one_gradient_alone(wanted: str, activation: str | None) -> None:
    values = {"input": random(2, 7, 7, 3), "filters": random(3, 3, 3, 4), "bias": random(4)}
    tensors = {name: tf.constant(value) for name, value in values.items()}
    results = []
    for watched in (list(tensors), [wanted]):
        with tf.GradientTape() as tape:
            tape.watch([tensors[name] for name in watched])
            y = fc.conv2d(**tensors, activation=activation)
        results.append(tape.gradient(y, tensors[wanted]))
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-5)
