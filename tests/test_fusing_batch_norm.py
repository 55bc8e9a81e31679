"""`accelerate(fuse=True)` runs a batch normalisation and the layers around it as one op in a graph."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastconv.keras as fk
import fastconv.tensorflow as ft
import keras
import keras_models
import numpy as np
import pytest
import tensorflow as tf
from keras_models import configs_of, images, near, types
from test_fusing import gradients_by, ops_run_by

fresh = keras_models.fresh  # before each test
layers = keras.layers
Normal = layers.BatchNormalization


def block(x: Any, shortcut: Any = None, act: Any = None, filters: int = 4, **conv: Any) -> Any:
    """A convolution, a normalisation, an addition if there is a shortcut, and an activation."""
    x = Normal()(layers.Conv2D(filters, 3, padding="same", **conv)(x))
    x = x if shortcut is None else layers.Add()([x, shortcut])
    return (act or layers.ReLU())(x)


def models(dtype: str = "float64") -> Iterator[tuple[str, Any, int, tuple[int, ...]]]:
    """Models, how many of their layers are fused into the layer before, and how many ops of these types train them.

    The types are statistics, normalisations, their gradients, and gradients of activations.
    """
    keras.config.set_dtype_policy(dtype)
    inputs = layers.Input((8, 8, 4))

    def model(outputs: Any) -> Any:
        return keras.Model(inputs, outputs)

    yield "relu", model(block(block(inputs))), 2, (2, 2, 2, 0)
    stack = [layers.Conv2D(4, 3), Normal(), layers.ReLU(), layers.DepthwiseConv2D(3), Normal(scale=False)]
    stack += [layers.ReLU(6.0), layers.SeparableConv2D(4, 3), Normal(center=False), layers.LeakyReLU(0.1)]
    yield "sequential", keras.Sequential([layers.Input((8, 8, 4)), *stack]), 3, (3, 3, 3, 0)
    # SiLU's gradient is computed from the normalisation's input.
    x = block(inputs, act=layers.Activation("silu"), use_bias=False)
    yield "silu", model(block(x, act=layers.Activation("tanh"))), 2, (2, 2, 2, 0)
    yield "residual", model(block(block(inputs), inputs)), 3, (2, 2, 2, 1)
    first = Normal()(layers.Conv2D(4, 1)(inputs))
    yield "two terms", model(block(inputs, first)), 2, (2, 2, 2, 1)
    yield "no activation", model(layers.Add()([Normal()(layers.Conv2D(4, 1)(inputs)), inputs])), 1, (1, 1, 1, 0)
    # The gradient of SiLU needs the sum itself.
    yield "silu of a sum", model(block(inputs, inputs, layers.Activation("silu"))), 2, (1, 2, 1, 1)
    yield "pre-activation", model(layers.Conv2D(2, 3)(layers.ReLU()(Normal()(inputs)))), 1, (1, 1, 1, 0)
    shared = Normal()
    x = layers.Add()([layers.ReLU()(shared(inputs)), layers.ReLU()(shared(layers.Rescaling(0.5)(inputs)))])
    yield "shared", model(x), 2, (2, 2, 2, 0)
    nchw = {"data_format": "channels_first"}
    x = layers.ReLU()(Normal(axis=1)(layers.Conv2D(8, 3, padding="same", **nchw)(inputs)))
    y = Normal(axis=1)(layers.Conv2D(8, 3, padding="same", **nchw)(x))
    yield "channels first", model(layers.Add()([y, x])), 2, (2, 2, 2, 0)
    keras.config.set_dtype_policy("float32")


def apart() -> Iterator[tuple[str, Any, int]]:
    """Models, some layers of which others see, and how many of their layers are fused into the layer before."""
    inputs = layers.Input((8, 8, 4))
    conv = layers.Conv2D(4, 3, padding="same")(inputs)
    normal = Normal()(conv)
    yield "an output", keras.Model(inputs, [layers.ReLU()(normal), normal]), 0
    yield "used twice", keras.Model(inputs, layers.Multiply()([layers.ReLU()(normal), normal])), 0
    yield "added twice", keras.Model(inputs, layers.Add()([normal, normal])), 0
    yield "the convolution is used twice", keras.Model(inputs, layers.Multiply()([layers.ReLU()(normal), conv])), 1
    yield "three terms", keras.Model(inputs, layers.Add()([normal, inputs, inputs])), 1
    yield "broadcast", keras.Model(inputs, layers.Add()([normal, layers.GlobalMaxPooling2D(keepdims=True)(inputs)])), 1
    yield "regularized", keras.Model(inputs, layers.ReLU()(Normal(activity_regularizer="l2")(conv))), 0
    yield "renorm", keras.Model(inputs, layers.ReLU()(Normal(axis=2)(conv))), 0
    yield "threshold", keras.Model(inputs, layers.ReLU(threshold=0.5)(normal)), 0
    yield "hard SiLU", keras.Model(inputs, layers.ReLU()(layers.Activation("hard_silu")(normal))), 0
    x = layers.Add(activity_regularizer="l2")([normal, inputs])
    yield "a regularized sum", keras.Model(inputs, layers.ReLU()(x)), 1
    yield "softplus", keras.Model(inputs, layers.Activation("softplus")(normal)), 0
    yield "an operation", keras.Model(inputs, layers.ReLU()(2 * normal + layers.Multiply()([conv, conv]))), 0
    yield "dropped", keras.Model(inputs, layers.ReLU()(layers.Dropout(0.0)(normal))), 0


def randomize(model: Any) -> Any:
    draw = np.random.default_rng(3).standard_normal
    model.set_weights([w + 0.2 * np.abs(draw(w.shape)).astype(w.dtype) for w in model.get_weights()])
    model.compile(keras.optimizers.SGD(0.01), "mse")
    return model


def count_of_fused(capsys: pytest.CaptureFixture[str], model: Any, **options: Any) -> tuple[Any, int]:
    fast = fk.accelerate(model, fuse=True, verbose=True, **options)
    return fast, int(capsys.readouterr().out.splitlines()[-1].split(": ")[1].split(" of ")[0])


def test_outputs_gradients_and_statistics_are_those_of_keras(capsys: pytest.CaptureFixture[str]) -> None:
    """In float64, in inference and over several steps of training; the tape is nowhere, inside or around the graph."""
    x = images(6, 8, 8, 4).astype(np.float64)
    for name, model, count, _ in models():
        randomize(model)
        fast, fused = count_of_fused(capsys, model)
        assert fused == count, name
        if name == "channels first":  # not on CPUs in TensorFlow
            model = fk.accelerate(model)
        near(fast.predict(x, verbose=0), model.predict(x, verbose=0), 1e-12)
        weights = model.get_weights()
        results = []
        for of in (model, fast):
            call = tf.function(lambda x, of=of: of(x, training=True), autograph=False)
            for run in (lambda x, of=of: of(x, training=True), call):
                of.set_weights(weights)
                results.append(gradients_by(run, of, tf.constant(x)))
            inside = tf.function(lambda x, of=of: gradients_by(lambda x: of(x, training=True), of, x), autograph=False)
            of.set_weights(weights)
            results.append(inside(tf.constant(x)))
        for found in results[1:]:
            largest = max(float(np.abs(wanted).max()) for wanted in results[0])
            for a, b in zip(found, results[0], strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10 * largest, err_msg=name)
        for of in (model, fast):
            of.set_weights(weights)
        target = np.ones((6, *model.output_shape[1:]))
        for _ in range(3):
            near(fast.train_on_batch(x, target), model.train_on_batch(x, target), 1e-6)  # Keras's loss is in float32
        near(fast.get_weights(), model.get_weights(), 1e-9)


def test_one_op_computes_the_layers() -> None:
    x = images(6, 8, 8, 4)
    for name, model, _, expected in models("float32"):
        randomize(model)
        ran = ops_run_by(fk.accelerate(model, fuse=True).train_on_batch, x, np.ones((6, *model.output_shape[1:])))
        kinds = ("BatchNormStatistics", "BatchNormInference", "BatchNormGrad", "ActivateGrad")
        assert tuple(ran[f"Fastconv{kind}"] for kind in kinds) == expected, (name, ran)
        assert not any(ran[kind] for kind in ("Relu", "ReluGrad", "Relu6", "FastconvBatchNorm")), (name, ran)
        ran = ops_run_by(fk.accelerate(model, fuse=True).predict_on_batch, x)
        # The last has too many filters for its pixels.
        alone = name in ("pre-activation", "shared", "channels first")
        assert bool(ran["FastconvBatchNormInference"]) is alone, (name, ran)
        assert not any(ran[kind] for kind in ("Relu", "Relu6", "LeakyRelu", "Sigmoid")), (name, ran)


def test_what_others_see_stays_apart(capsys: pytest.CaptureFixture[str]) -> None:
    x = images(6, 8, 8, 4)
    for name, model, count in apart():
        randomize(model)
        fast, fused = count_of_fused(capsys, model)
        assert fused == count, name
        near(fast.predict(x, verbose=0), model.predict(x, verbose=0), 1e-5)
        target = [np.ones((6, *y.shape[1:]), np.float32) for y in model.outputs]
        target = target if len(target) > 1 else target[0]
        near(fast.train_on_batch(x, target), model.train_on_batch(x, target), 1e-5)
        near(fast.get_weights(), model.get_weights(), 1e-4)


@pytest.mark.parametrize("inplace", [False, True])
def test_each_layer_keeps_its_own_output(inplace: bool) -> None:
    x = images(6, 8, 8, 4)
    inputs = layers.Input((8, 8, 4))
    model = randomize(keras.Model(inputs, block(block(inputs), inputs)))
    between = [layer.output for layer in model.layers[1:]]
    expected = keras.Model(inputs, between).predict(x, verbose=0)
    fast = fk.accelerate(model, fuse=True, inplace=inplace)
    for layer, values in zip(fast.layers[1:], expected, strict=True):
        alone = keras.Model(fast.inputs[0], layer.output)
        near(alone.predict(x, verbose=0), values, 1e-5)
        near(alone(x), values, 1e-5)
    all_at_once = keras.Model(fast.inputs[0], [layer.output for layer in fast.layers[1:]])
    near(all_at_once.predict(x, verbose=0), expected, 1e-5)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_half_types_are_computed_as_without_fusing(policy: str) -> None:
    keras.config.set_dtype_policy(policy)
    inputs = layers.Input((8, 8, 4))
    model = randomize(keras.Model(inputs, block(block(inputs), layers.Activation("linear")(inputs))))
    x, y = images(6, 8, 8, 4), np.ones((6, 8, 8, 4))
    one, two = fk.accelerate(model, fuse=True), fk.accelerate(model)
    near(one.predict(x, verbose=0), two.predict(x, verbose=0), 0)
    one.train_on_batch(x, y)
    two.train_on_batch(x, y)
    near(one.get_weights(), two.get_weights(), 0)


def test_a_frozen_normalization_is_computed_by_the_convolution() -> None:
    """Layers that do not train use their moving averages, also in `fit`. With a tape, the convolution runs once."""
    inputs = layers.Input((8, 8, 4))
    model = randomize(keras.Model(inputs, block(inputs)))
    model.layers[2].trainable = False
    model.compile(keras.optimizers.SGD(0.01), "mse")
    fast = fk.accelerate(model, fuse=True)
    x, y = images(6, 8, 8, 4), np.ones((6, 8, 8, 4))
    ran = ops_run_by(fast.train_on_batch, x, y)
    assert ran["FastconvConv2D"] == ran["FastconvBatchNormInference"] == ran["FastconvBatchNormInferenceGrad"] == 1
    model.train_on_batch(x, y)
    near(fast.get_weights(), model.get_weights(), 1e-5)
    near(fast.predict(x, verbose=0), model.predict(x, verbose=0), 1e-5)


def test_the_second_order_gradient() -> None:
    inputs = layers.Input((5, 5, 3), dtype="float64")
    keras.config.set_dtype_policy("float64")
    model = randomize(keras.Model(inputs, block(block(inputs, filters=3), inputs, layers.Activation("silu"), 3)))
    # Keras's own is wrong: tf.nn.moments stops a gradient that is zero, but whose derivative is not.
    fast, model = fk.accelerate(model, fuse=True), fk.accelerate(model)
    weights = model.get_weights()

    def penalty(of: Any) -> Any:
        of.set_weights(weights)
        x = tf.constant(images(2, 5, 5, 3).astype(np.float64))
        variables = [v.value for v in of.trainable_variables]

        @tf.function(autograph=False)
        def run(x: Any) -> Any:
            with tf.GradientTape() as outer:
                with tf.GradientTape() as tape:
                    tape.watch(x)
                    loss = tf.reduce_sum(of(x, training=True) ** 3)
                norm = tf.reduce_sum(tape.gradient(loss, x) ** 2)
            return outer.gradient(norm, variables)

        return run(x)

    expected = penalty(model)
    largest = max(float(np.abs(wanted).max()) for wanted in expected)
    for a, b in zip(penalty(fast), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9 * largest)


def test_a_second_activation_is_not_taken_for_the_first() -> None:
    """With tf.gradients, the gradient function of a normalisation sees the op with its activation."""
    x, mean, variance = (tf.constant(values) for values in (images(2, 5, 5, 3), np.ones(3, "f"), np.full(3, 2, "f")))

    def gradient(x: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = ft.activate(ft.batch_norm_inference(x, mean, variance, activation="silu"), "silu")
        return tape.gradient(y, x)

    near(tf.function(gradient)(x), gradient(x), 1e-6)
    keras.config.set_dtype_policy("float64")
    inputs = layers.Input((8, 8, 4))
    y = layers.Activation("silu")(layers.Activation("relu6")(Normal()(inputs)))
    model = randomize(keras.Model(inputs, y))
    fast = fk.accelerate(model, fuse=True)
    x = tf.constant(images(6, 8, 8, 4).astype(np.float64))
    found = [tf.function(lambda x, of=of: tf.gradients(of(x, training=True), x))(x) for of in (fast, model)]
    near(*found, 1e-9)


def test_forward_mode() -> None:
    keras.config.set_dtype_policy("float64")
    inputs = layers.Input((8, 8, 4))
    model = randomize(keras.Model(inputs, block(block(inputs), inputs, layers.Activation("silu"))))
    fast = fk.accelerate(model, fuse=True)
    x = tf.constant(images(2, 8, 8, 4).astype(np.float64))
    tangent = tf.cos(x)

    def derivative(of: Any) -> Any:
        @tf.function(autograph=False)
        def run(x: Any) -> Any:
            with tf.autodiff.ForwardAccumulator(x, tangent) as accumulator:
                y = of(x, training=True)
            return accumulator.jvp(y)

        return run(x)

    expected = derivative(model)
    near(derivative(fk.accelerate(model)), expected, 1e-9)
    near(derivative(fast), expected, 1e-9)


def test_no_convolution_runs_twice() -> None:
    """In inference, a dropout passes its input on. A normalisation after it is not computed by the convolution."""
    inputs = layers.Input((8, 8, 4))
    x = layers.Dropout(0.1)(layers.Conv2D(4, 3, padding="same")(inputs))
    y = layers.Conv2D(4, 3, padding="same")(layers.ReLU()(Normal()(x)))
    model = randomize(keras.Model(inputs, layers.Add()([x, y])))
    fast = fk.accelerate(model, fuse=True)
    x = images(6, 8, 8, 4)
    assert ops_run_by(fast.predict_on_batch, x)["FastconvConv2D"] == 2
    near(fast.predict(x, verbose=0), model.predict(x, verbose=0), 1e-5)


def test_batches_that_broadcast_are_refused_clearly() -> None:
    a, b = layers.Input((8, 8, 4)), layers.Input((8, 8, 4))
    fast = fk.accelerate(keras.Model([a, b], layers.Add()([Normal()(a), b])), fuse=True)
    graph = tf.function(lambda a, b: fast([a, b]), input_signature=[tf.TensorSpec((None, 8, 8, 4))] * 2)
    near(graph(images(3, 8, 8, 4), images(3, 8, 8, 4)), fast([images(3, 8, 8, 4)] * 2), 1e-5)
    with pytest.raises(tf.errors.InvalidArgumentError, match="residual"):
        graph(images(3, 8, 8, 4), images(1, 8, 8, 4))


def test_fused_models_in_files(tmp_path: Path) -> None:
    x = images(6, 8, 8, 4)
    inputs = layers.Input((8, 8, 4))
    model = randomize(keras.Model(inputs, block(block(inputs, act=layers.LeakyReLU()), inputs)))
    stock, configs = types(model), configs_of(model)
    fast = fk.accelerate(model, fuse=True)
    expected = model.predict(x, verbose=0)
    assert configs_of(fast) == configs
    fast.save(tmp_path / "fast.keras")
    loaded = keras.models.load_model(tmp_path / "fast.keras")
    assert types(loaded) == types(fast) != stock
    near(loaded.predict(x, verbose=0), expected, 1e-5)
    plain = fk.restore(loaded)
    assert types(plain) == stock and configs_of(plain) == configs
    near(plain.predict(x, verbose=0), expected, 1e-6)


def test_nothing_is_fused_if_tensorflows_modules_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastconv.tensorflow.batch_norm_fusion.tapes", None)
    inputs = layers.Input((8, 8, 4))
    model = randomize(keras.Model(inputs, block(block(inputs), inputs)))
    fast = fk.accelerate(model, fuse=True)
    x, y = images(6, 8, 8, 4), np.ones((6, 8, 8, 4))
    ran = ops_run_by(fast.train_on_batch, x, y)
    assert ran["FastconvBatchNorm"] == ran["Relu"] == 2 and not ran["FastconvBatchNormStatistics"]
    model.train_on_batch(x, y)
    near(fast.get_weights(), model.get_weights(), 1e-5)
