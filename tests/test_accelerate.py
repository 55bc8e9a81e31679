"""What `fastconv.keras.accelerate` and `restore` promise: the same model on other layers, and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastconv.keras as fk
import keras
import numpy as np
import pytest
from fastconv.keras import _serving
from fastconv.keras._fused import FUSED
from fastconv.keras._serving import OnCPU
from keras_models import all_layers, assert_same, images, near, ours, snapshot, twin, types, uses_our_ops
from processes import run_python

SERVING = {stock: own for stock, own in fk.LAYERS.items() if issubclass(own, OnCPU)}
layers = keras.layers


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(5)
    yield
    keras.config.set_dtype_policy("float32")


def sequential() -> Any:
    return keras.Sequential(
        [
            layers.Input((16, 16, 3), name="pictures"),
            layers.Conv2D(6, 3, activation="relu", name="first"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Dropout(0.3, seed=1),
            layers.Conv2D(8, 3, padding="same"),
            layers.AveragePooling2D(2),
            layers.Flatten(),
            layers.Dense(3),
        ],
        name="chain",
    )


def functional() -> Any:
    """Two inputs and outputs, a shared layer, a nested model used twice, operations that are not layers."""
    block = keras.Sequential([layers.Input((14, 14, 4)), layers.Conv2D(4, 3, padding="same"), layers.ReLU()], name="b")
    a, b = layers.Input((16, 16, 3), name="left"), layers.Input((16, 16, 3), name="right")
    shared = layers.Conv2D(4, 3, activation="tanh", name="shared")
    x, y = shared(a), shared(b)
    x = block(x) + keras.ops.multiply(block(y), 0.5)
    x = layers.Identity(name="map")(layers.MaxPooling2D()(x)[:, 1:])
    z = layers.GlobalAveragePooling2D()(keras.ops.pad(x, [[0, 0], [1, 1], [0, 0], [0, 0]]))
    model = keras.Model({"left": a, "right": b}, {"map": x, "class": layers.Dense(3, name="class")(z)}, name="two")
    model.get_layer("shared").trainable = False
    return model


def nested() -> Any:
    inner = keras.Sequential([layers.Conv2D(4, 3), layers.Lambda(lambda x: np.float32(2) * x)], name="inner")
    middle_in = layers.Input((14, 14, 5))
    middle = keras.Model(middle_in, layers.Activation("relu")(inner(middle_in)), name="middle")
    inputs = layers.Input((16, 16, 3))
    outputs = layers.Dense(3)(layers.Flatten()(middle(layers.Conv2D(5, 3)(inputs))))
    model = keras.Model(inputs, outputs, name="outer")
    middle.trainable = False
    inner.layers[0].trainable = True
    return model


class Block(layers.Layer):
    """A user's layer with layers in attributes, lists and dicts."""

    def __init__(self, filters: int, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.filters = filters
        self.first = layers.Conv2D(filters, 3, padding="same", activation=leaky)
        self.more = [layers.Conv2D(filters, 1), {"pool": layers.MaxPooling2D()}]

    def build(self, shape: Any) -> None:
        self.first.build(shape)
        self.more[0].build((*shape[:-1], self.filters))

    def call(self, inputs: Any) -> Any:
        return self.more[1]["pool"](self.more[0](self.first(inputs)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters}


def leaky(x: Any) -> Any:
    return keras.ops.maximum(x, 0.1 * x)


class Net(keras.Model):
    """A user's model, which Keras can make again from its config."""

    def __init__(self, filters: int = 4, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.filters = filters
        self.block = Block(filters)
        self.stack = [layers.Conv2D(filters, 3), layers.Flatten()]
        self.heads = {"a": layers.Dense(3)}

    def call(self, inputs: Any) -> Any:
        x = self.block(inputs)
        for layer in self.stack:
            x = layer(x)
        return self.heads["a"](x)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "filters": self.filters}


def subclassed() -> Any:
    model = Net()
    model(images())
    return model


class Steps(keras.Model):
    """A functional model with a train_step of its own."""

    def train_step(self, data: Any) -> Any:
        return {**super().train_step(data), "steps": 1.0}


def functional_class() -> Any:
    inputs = layers.Input((16, 16, 3))
    return Steps(inputs, layers.Dense(3)(layers.Flatten()(Block(4, name="mine")(layers.Conv2D(3, 3)(inputs)))))


MODELS: dict[str, Callable[[], Any]] = {
    "sequential": sequential,
    "functional": functional,
    "nested": nested,
    "subclassed": subclassed,
    "functional class": functional_class,
}
# The layers that become ours; only two-dimensional convolution and pooling layers do.
SERVED = {
    "sequential": 4,
    "functional": 3,
    "nested": 2,
    "subclassed": 4,
    "functional class": 4,
}


def data(model: Any) -> tuple[Any, Any]:
    """Inputs and targets."""
    x = images()
    if model.name == "two":
        x = {"left": x, "right": x[::-1].copy()}
    return x, keras.tree.map_structure(lambda y: np.ones_like(y), model(x))


def compiled(model: Any, **arguments: Any) -> Any:
    def squares(y: Any, prediction: Any) -> Any:
        """A loss that is not registered with Keras."""
        return keras.ops.mean((y - prediction) ** 2, axis=-1)

    several = model.name == "two"
    loss = {"map": squares, "class": "mse"} if several else squares
    metrics = {"class": ["mae", keras.metrics.MeanSquaredError(name="m")]} if several else ["mae"]
    model.compile(keras.optimizers.Adam(0.01), loss, metrics=metrics, **arguments)
    return model


# ---- A copy ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_copy_on_our_layers_and_back(name: str) -> None:
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


def test_mixed_optimizer_state() -> None:
    """A loss scale around the optimizer, and one built for some of the weights only."""
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


def test_lora_and_frozen_weights() -> None:
    model = sequential()
    model.get_layer("first").enable_lora(2)
    model.layers[-1].bias.trainable = False
    fast = fk.accelerate(model)
    twin(model, fast)
    assert [v.path for v in fast.trainable_variables] == [v.path for v in model.trainable_variables]


def test_a_sequential_model_without_an_input() -> None:
    """It can be accelerated before it is built, and builds as usual afterwards."""
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
def test_layers_in_a_time_distributed(steps: int | None) -> None:
    """With a known and an unknown number of steps; of single layers and of a model."""
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


def test_our_layers_add_no_state_to_keras_ones() -> None:
    """A layer can therefore change its class in place."""
    for stock, own in [*fk.LAYERS.items(), *FUSED.items()]:
        assert issubclass(own, stock)
        for name in ("__init__", "build", "quantize", "__slots__"):
            assert getattr(own, name, None) is getattr(stock, name, None), (own, name)


@pytest.mark.parametrize(("model", "hint"), [(layers.Conv2D(3, 3), "keras.Sequential"), (None, "got NoneType")])
def test_not_a_model(model: Any, hint: str) -> None:
    for function in (fk.accelerate, fk.restore):
        with pytest.raises(TypeError, match=f"model must be a keras.Model.*{hint}"):
            function(model)


@pytest.mark.parametrize("argument", ["inplace", "verbose", "fuse"])
def test_flags_that_are_not_booleans(argument: str) -> None:
    model = keras.Sequential([layers.Input((8, 8, 3)), layers.Conv2D(3, 3)])
    for wrong in ("yes", 2, None, 1.0, [True], np.array([True])):
        with pytest.raises(TypeError, match=re.escape(f"{argument} must be True or False, got {wrong!r}")):
            fk.accelerate(model, **{argument: wrong})
    assert type(model.layers[0]) is layers.Conv2D
    for right in (True, False, 1, 0, np.True_):  # Keras's own `verbose` is 0 or 1
        fk.accelerate(model, **{argument: right})


class NoConfig(keras.Model):
    def __init__(self, conv: Any) -> None:
        super().__init__()
        self.parts = {"conv": [conv]}

    def call(self, inputs: Any) -> Any:
        return self.parts["conv"][0](inputs)


class OtherLayers(Net):
    def __init__(self, filters: int = 4, more: bool = False) -> None:
        super().__init__(filters)
        if more:
            self.more = layers.Conv2D(3, 3)

    def get_config(self) -> dict[str, Any]:
        return {"filters": self.filters}


class OwnCompile(keras.Model):
    def compile(self, optimizer: Any, extra: float) -> None:
        super().compile(optimizer, loss="mse")
        self.extra = extra


def own_compile() -> Any:
    inputs = layers.Input((8, 8, 3))
    model = OwnCompile(inputs, layers.Conv2D(3, 3)(inputs))
    model.compile("sgd", 2.0)
    return model


@pytest.mark.parametrize("make", [lambda: NoConfig(layers.Conv2D(3, 3)), lambda: OtherLayers(more=True), own_compile])
def test_a_model_that_cannot_be_copied(make: Callable[[], Any]) -> None:
    model = make()
    with pytest.raises(ValueError, match=r"(?s)cannot be copied: .*inplace=True"):
        fk.accelerate(model)
    assert not ours(model)
    assert fk.accelerate(model, inplace=True) is model
    assert ours(model)


def test_a_lambda_is_copied_as_it_is() -> None:
    """No config can hold a lambda as activation, so the copy takes the object itself."""
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


@keras.saving.register_keras_serializable("tests")
class Held(layers.Wrapper):
    def call(self, inputs: Any) -> Any:
        return self.layer(inputs)


class NoLayerConfig(layers.Layer):
    def __init__(self, inner: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.inner = [inner]

    def call(self, inputs: Any) -> Any:
        return self.inner[0](inputs)


class TwoArguments(keras.Model):
    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.conv = layers.Conv2D(3, 3, padding="same")

    def call(self, left: Any, right: Any) -> Any:
        return self.conv(left) + right


def uncopyable() -> Iterator[tuple[Any, str]]:
    """Models, and the expected message: which layer cannot be copied, why, and the remedy."""
    inputs, conv = layers.Input((8, 8, 3)), layers.Conv2D(3, 3, padding="same", name="both")
    shared = keras.Model(inputs, Held(conv, name="b")(Held(conv, name="a")(inputs)), name="m")
    yield shared, "layer 'both' (Conv2D) is held by 'b' and 'a', so the copy would have it twice"
    outside = keras.Model(inputs, Held(conv, name="a")(conv(inputs)), name="m")
    yield outside, "layer 'both' (Conv2D) is held by 'a' and by the model itself, so the copy would have it twice"
    scaled = Held(layers.Conv2D(3, 3, activation=lambda x: 2 * x, name="scaled"), name="a")
    yield (
        keras.Sequential([layers.Input((8, 8, 3)), scaled], name="m"),
        "layer 'a' (Held): the activation of its layer 'scaled' is a lambda. Use a function with a name, or use",
    )
    unsaid = keras.Sequential([layers.Input((8, 8, 3)), NoLayerConfig(layers.Conv2D(3, 3), name="a")], name="m")
    yield unsaid, "layer 'a' (NoLayerConfig) has no get_config() of its own. Implement it, or use accelerate("
    two = TwoArguments(name="m")
    two(images(1, 8, 8, 3), images(1, 8, 8, 3))
    yield two, "Keras cannot build it from the shapes of its inputs. Implement build_from_config(), or use accelerate("


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `lambda`")
def test_the_layer_that_cannot_be_copied_is_named() -> None:
    for model, reason in uncopyable():
        with pytest.raises(ValueError, match="cannot be copied") as raised:
            fk.accelerate(model)
        message = str(raised.value)
        assert reason in message and "inplace=True" in message, message
        assert len(message) < 300 and "\n" not in message, message
        assert ours(fk.accelerate(model, inplace=True))


# ---- In place --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*MODELS, "no config"])
def test_in_place_and_back(name: str) -> None:
    """The objects stay the same, and functions that were traced before are traced again."""
    model = compiled(NoConfig(layers.Conv2D(3, 3)) if name == "no config" else MODELS[name]())
    x, y = data(model)
    model.fit(x, y, verbose=0)
    expected = model.predict(x, verbose=0)
    before, stock = snapshot(model), types(model)
    kept = [part for part in all_layers(model)]
    assert fk.accelerate(model, inplace=True) is model
    assert len(ours(model)) >= SERVED.get(name, 1)
    assert all(a is b for a, b in zip(all_layers(model), kept, strict=True))
    assert model.predict_function is None and model.train_function is None
    near(model.predict(x, verbose=0), expected)
    assert name == "functional" or uses_our_ops(model, x)
    assert fk.restore(model) is model
    assert types(model) == stock
    after = snapshot(model)
    for key in ("layers", "variables", "values", "optimizer"):
        assert_same(after[key], before[key])
    near(model.predict(x, verbose=0), expected, 0)
    model.fit(x, y, verbose=0)
    assert name == "no config" or fk.restore(model) is not model


def test_restore_of_models_that_were_never_accelerated() -> None:
    """Afterwards XLA can compile their layers, as it can stock layers."""
    model = keras.Sequential([layers.Input((8, 8, 3)), fk.Conv2D(4, 3), fk.MaxPooling2D()])
    stock = fk.restore(model)
    assert types(stock)[1:] == [layers.InputLayer, layers.MaxPooling2D, layers.Conv2D] or not ours(stock)
    assert all(layer.supports_jit for layer in stock.layers)
    assert ours(model)
    near(stock(images(2, 8, 8, 3)), model(images(2, 8, 8, 3)))

    class Mine(fk.Conv2D):
        pass

    with pytest.warns(UserWarning, match="'mine' is not replaced, because its class Mine derives from a layer"):
        fk.restore(keras.Sequential([layers.Input((8, 8, 3)), Mine(4, 3, name="mine")]))


# ---- Files -----------------------------------------------------------------------------------------------------------


def test_a_restored_model_loads_without_fastconv(tmp_path: Path) -> None:
    """Accelerate, train, save; load elsewhere, restore, save; load where there is no fastconv: the same outputs."""
    model = sequential()
    model.compile("adam", "mse", metrics=["mae"])
    x, y = data(model)
    fast = fk.accelerate(model)
    fast.fit(x, y, verbose=0)
    fast.save(tmp_path / "fast.keras")
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", fast.predict(x, verbose=0))
    run_python(
        """
        import sys
        import fastconv.keras
        import keras, numpy as np
        where = sys.argv[1]
        model = keras.models.load_model(where + "/fast.keras")
        assert type(model.layers[0]) is fastconv.keras.Conv2D
        x, y = (np.load(f"{where}/{name}.npy") for name in "xy")
        assert np.array_equal(model.predict(x, verbose=0), y)
        stock = fastconv.keras.restore(model)
        assert int(stock.optimizer.iterations.numpy()) == 1
        stock.save(where + "/stock.keras")
        """,
        str(tmp_path),
    )
    run_python(
        """
        import sys
        sys.modules["fastconv"] = None  # importing it fails from here on
        import keras, numpy as np
        try:
            import fastconv
        except ImportError:
            pass
        else:
            raise AssertionError("fastconv is here")
        where = sys.argv[1]
        model = keras.models.load_model(where + "/stock.keras")
        x, y = (np.load(f"{where}/{name}.npy") for name in "xy")
        assert np.allclose(model.predict(x, verbose=0), y, rtol=1e-5, atol=1e-5)
        assert all(type(layer).__module__.startswith("keras.") for layer in model.layers)
        assert int(model.optimizer.iterations.numpy()) == 1
        model.fit(x, y, verbose=0)
        try:
            keras.models.load_model(where + "/fast.keras")
        except Exception as error:
            assert "Conv2D" in str(error), error
        else:
            raise AssertionError("a file that needs fastconv was loaded without")
        """,
        str(tmp_path),
    )


def test_weight_files_are_interchangeable(tmp_path: Path) -> None:
    model = functional()
    fast = fk.accelerate(model)
    for source, target in ((model, fast), (fast, model)):
        source.set_weights([w + 1 for w in source.get_weights()])
        source.save_weights(tmp_path / "model.weights.h5")
        target.load_weights(tmp_path / "model.weights.h5")
        assert_same(source.get_weights(), target.get_weights())
