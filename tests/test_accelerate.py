"""`fastconv.keras.accelerate` copies a model to our layers, and `restore` copies it back to Keras's layers."""

from __future__ import annotations

import re
from typing import Any

import fastconv.keras as fk
import keras
import keras_models
import numpy as np
import pytest
from fastconv.keras import _serving
from fastconv.keras._folded import FOLDED
from fastconv.keras._fused import FUSED
from keras_models import all_layers, assert_same, images, near, ours, snapshot, twin, types, uses_our_ops
from stock_models import MODELS, SERVED, SERVING, compiled, data, functional, sequential

layers = keras.layers
fresh = keras_models.fresh  # before each test


# ---- A copy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_accelerate_and_restore_return_equal_copies(name: str) -> None:
    model = MODELS[name]()
    x, _ = data(model)
    before = snapshot(model)
    fast = fk.accelerate(model)
    again = fk.restore(fast)
    assert_same(snapshot(model), before)
    assert fast is not model and not fast.compiled
    twin(model, fast)
    twin(model, again)
    assert len(ours(fast)) >= SERVED[name]
    assert types(fast) == [SERVING.get(cls, cls) for cls in types(model)]
    assert types(again) == types(model)
    assert name == "functional" or (uses_our_ops(fast, x) and not uses_our_ops(again, x))
    near(fast(x), model(x))
    near(again(x), model(x), 0)
    near(fast.predict(x, verbose=0), model.predict(x, verbose=0))


@pytest.mark.parametrize("name", MODELS)
def test_training_continues(name: str) -> None:
    """The accelerated model has the same weights, optimizer and random seeds. Its steps equal the stock model's."""
    model = compiled(MODELS[name]())
    x, y = data(model)
    model.fit(x, y, epochs=2, batch_size=2, shuffle=False, verbose=0)
    before = snapshot(model)
    fast = fk.accelerate(model)
    again = fk.restore(fast)
    assert_same(snapshot(model), before)
    for copy in (fast, again):
        assert copy.compiled and copy.optimizer is not model.optimizer
        assert type(copy.optimizer) is type(model.optimizer)
        assert copy.optimizer.get_config() == model.optimizer.get_config()
        state = [[keras.ops.convert_to_numpy(v) for v in m.optimizer.variables] for m in (model, copy)]
        assert_same(*state)
        assert int(copy.optimizer.iterations.numpy()) == 4
    histories = [m.fit(x, y, epochs=3, batch_size=2, shuffle=False, verbose=0).history for m in (model, fast, again)]
    assert histories[0].keys() == histories[1].keys() == histories[2].keys()
    near(histories[1], histories[0], 1e-3)
    near(histories[2], histories[0], 1e-4)
    near(fast.get_weights(), model.get_weights(), 1e-3)
    if name == "functional class":
        assert histories[1]["steps"] == [1.0] * 3
    near(fast.evaluate(x, y, verbose=0), model.evaluate(x, y, verbose=0), 1e-3)


def test_arguments_of_compile_are_kept() -> None:
    model = compiled(sequential(), run_eagerly=True, steps_per_execution=3, loss_weights=2.0)
    fast = fk.accelerate(model)
    assert (fast.run_eagerly, fast.steps_per_execution, fast.jit_compile) == (True, 3, False)
    assert fast._compile_config.config["loss_weights"] == 2.0
    with pytest.warns(UserWarning, match="jit_compile"):
        fast = fk.accelerate(compiled(sequential(), jit_compile=True))
    assert not fast.jit_compile
    assert fk.restore(fast).jit_compile


def test_a_nested_model_stays_compiled() -> None:
    inner = compiled(sequential())
    inputs = layers.Input((16, 16, 3))
    fast = fk.accelerate(keras.Model(inputs, inner(inputs)))
    assert not fast.compiled
    copy = fast.get_layer("chain")
    assert copy.compiled and copy.optimizer is not inner.optimizer and copy.loss is inner.loss


def test_the_state_of_a_wrapped_optimizer_is_copied() -> None:
    """A loss scale wraps the optimizer, which is built for some of the weights only."""
    keras.config.set_dtype_policy("mixed_float16")
    model = sequential()
    model.get_layer("first").trainable = False
    compiled(model)
    x, y = data(model)
    model.fit(x, y, verbose=0)
    model.get_layer("first").trainable = True
    fast = fk.accelerate(model)
    assert type(fast.optimizer) is keras.optimizers.LossScaleOptimizer
    state = [[keras.ops.convert_to_numpy(v) for v in m.optimizer.variables] for m in (model, fast)]
    assert_same(*state)


def test_an_input_passed_as_a_structure_keeps_its_name_and_shape() -> None:
    model = functional()
    fast = fk.accelerate(model)
    assert [layer.name for layer in fast.layers] == [layer.name for layer in model.layers]
    assert fast.input["left"].shape == (None, 16, 16, 3)
    assert fast.layers[0].get_config() == model.layers[0].get_config()


def test_a_layer_shared_with_a_nested_model_stays_shared() -> None:
    conv = layers.Conv2D(3, 3, padding="same")
    inner_in, inputs = layers.Input((8, 8, 3)), layers.Input((8, 8, 3))
    inner = keras.Model(inner_in, conv(inner_in))
    fast = fk.accelerate(keras.Model(inputs, inner(conv(inputs))))
    assert len(fast.weights) == 2
    assert len(ours(fast)) == 1


def test_lora_and_frozen_weights_are_kept() -> None:
    model = sequential()
    model.get_layer("first").enable_lora(2)
    model.layers[-1].bias.trainable = False
    fast = fk.accelerate(model)
    twin(model, fast)
    assert [v.path for v in fast.trainable_variables] == [v.path for v in model.trainable_variables]


def test_a_sequential_model_without_an_input_is_accelerated() -> None:
    """The model can be accelerated before it is built. The copy is built in its first call."""
    model = keras.Sequential([layers.Conv2D(4, 3, name="c"), layers.Flatten(), layers.Dense(3)])
    fast = fk.accelerate(model)
    assert not fast.built and ours(fast) == ["c"]
    x = images()
    assert fast(x).shape == (4, 3)
    model(x)
    fast.set_weights(model.get_weights())
    near(fast(x), model(x))
    near(fk.accelerate(fast)(x), model(x))
    assert not model.layers[0].__class__.__module__.startswith("fastconv")


# ---- Layers that are left unchanged ----------------------------------------------------------------------------------


@pytest.mark.parametrize("bfloat16", [True, False])
def test_unchanged_layers_are_reported_with_the_reason(
    bfloat16: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_serving, "_onednn_has_bfloat16", lambda: bfloat16)

    class Mine(layers.Conv2D):
        pass

    inputs = layers.Input((3, 16, 16, 3))
    x = layers.TimeDistributed(layers.Conv2D(4, 3, name="in_time"))(inputs)
    x = layers.Reshape((42, 14, 4))(x)
    x = Mine(4, 3, name="mine")(x)
    x = layers.Conv2D(4, 1, dtype="mixed_bfloat16", name="bfloat")(x)
    x = fk.Conv2D(4, 1, dtype="mixed_bfloat16", name="own_bfloat")(x)
    x = layers.Conv2D(4, 3, dtype="mixed_float16", name="half")(x)
    x = layers.Conv2D(4, 3, dtype="float64", name="double")(x)
    x = fk.Conv2D(4, 3, name="ours")(x)
    x = layers.GlobalAveragePooling2D(name="reduction")(x)
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(2)(x)), name="mixture")
    fast = fk.accelerate(model, verbose=True)
    assert ours(fast) == ["bfloat", "double", "half", "in_time", "ours", "own_bfloat"]
    assert type(fast.get_layer("mine")) is Mine
    text = capsys.readouterr().out
    op = ", but calls TensorFlow's own op: TensorFlow is faster in bfloat16 on this CPU: 1 x 1 convolution of stride 1"
    bfloat_op = op if bfloat16 else ""
    for line in (
        r"in_time +│ Conv2D +│ replaced +│\n",
        r"mine +│ Mine +│ not replaced: a subclass of Conv2D",
        rf"bfloat +│ Conv2D +│ replaced{bfloat_op} +│\n",
        rf"own_bfloat +│ Conv2D +│ already fastconv's{bfloat_op} +│\n",
        r"half +│ Conv2D +│ replaced +│\n",
        r"reduction +│ GlobalAveragePooling2D +│ not replaced: TensorFlow's reduction is as fast",
        r"double +│ Conv2D +│ replaced",
        r"ours +│ Conv2D +│ already fastconv's",
        r"other layers, not replaced: .*2 Dense",
        rf"mixture: {len(ours(fast))} of \d+ layers are fastconv's",
    ):
        assert re.search(line, text), (line, text)
    assert fk.accelerate(model) is not None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("steps", [3, None])
def test_layers_in_a_time_distributed_are_replaced(steps: int | None) -> None:
    """The number of steps is known or unknown. TimeDistributed holds a single layer or a model."""
    inner = keras.Sequential([layers.Input((7, 7, 4)), layers.DepthwiseConv2D(3), layers.ReLU()], name="inner")
    inputs = layers.Input((steps, 16, 16, 3))
    x = layers.TimeDistributed(layers.Conv2D(4, 3, activation="relu", name="conv"))(inputs)
    x = layers.TimeDistributed(layers.MaxPooling2D(name="pool"))(x)
    x = layers.TimeDistributed(inner)(x)
    model = keras.Model(inputs, layers.TimeDistributed(layers.Flatten())(x))
    model.compile("sgd", "mse")
    fast = fk.accelerate(model)
    assert ours(fast) == ["conv", "depthwise_conv2d", "pool"]
    x = images(2, 3, 16, 16, 3)
    assert uses_our_ops(fast, x)
    y = model.predict(x, verbose=0)
    near(fast.predict(x, verbose=0), y)
    near(fast(x), y)
    near(fast.train_on_batch(x, y + 1), model.train_on_batch(x, y + 1))
    near(fast.get_weights(), model.get_weights(), 1e-4)
    near(fk.restore(fast)(x), model(x), 1e-4)


def test_our_layers_add_no_state_to_keras_layers() -> None:
    """A layer can therefore change its class in place."""
    for stock, own in [*fk.LAYERS.items(), *FUSED.items(), *FOLDED.items()]:
        assert issubclass(own, stock)
        for name in ("__init__", "build", "quantize", "__slots__"):
            assert getattr(own, name, None) is getattr(stock, name, None), (own, name)


@pytest.mark.parametrize(("model", "hint"), [(layers.Conv2D(3, 3), "keras.Sequential"), (None, "got NoneType")])
def test_anything_but_a_model_is_refused(model: Any, hint: str) -> None:
    for function in (fk.accelerate, fk.restore):
        with pytest.raises(TypeError, match=f"model must be a keras.Model.*{hint}"):
            function(model)


@pytest.mark.parametrize("argument", ["inplace", "verbose", "fuse"])
def test_flags_that_are_not_booleans_are_refused(argument: str) -> None:
    model = keras.Sequential([layers.Input((8, 8, 3)), layers.Conv2D(3, 3)])
    for wrong in ("yes", 2, None, 1.0, [True], np.array([True])):
        with pytest.raises(TypeError, match=re.escape(f"{argument} must be True or False, got {wrong!r}")):
            fk.accelerate(model, **{argument: wrong})
    assert type(model.layers[0]) is layers.Conv2D
    for right in (True, False, 1, 0, np.True_):  # Keras's own `verbose` is 0 or 1
        fk.accelerate(model, **{argument: right})


def test_a_lambda_is_copied_as_it_is() -> None:
    """No config can hold a lambda as activation, so the copy uses the same lambda."""
    factor = 3.0
    conv = layers.Conv2D(4, 3, activation=lambda x: factor * x, name="conv")
    model = keras.Sequential([layers.Input((16, 16, 3)), conv, layers.TimeDistributed(layers.Dense(2))])
    x = images()
    for copy in (fk.accelerate(model), fk.restore(fk.accelerate(model))):
        assert copy.get_layer("conv").activation is conv.activation
        near(copy(x), model(x))


def test_a_layer_shared_by_two_time_distributed_stays_shared() -> None:
    conv, inputs = layers.Conv2D(3, 3, padding="same", activation=lambda x: x / 2), layers.Input((2, 8, 8, 3))
    model = keras.Model(inputs, layers.TimeDistributed(conv, name="b")(layers.TimeDistributed(conv, name="a")(inputs)))
    fast = fk.accelerate(model)
    assert [layer.name for layer in all_layers(fast)] == [layer.name for layer in all_layers(model)]
    assert len(fast.weights) == 2 and fast.get_layer("a").layer is fast.get_layer("b").layer
    assert ours(fast) == [conv.name]
    x = images(2, 2, 8, 8, 3)
    near(fast(x), model(x))
