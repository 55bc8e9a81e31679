"""`accelerate(fuse=True)` runs a pair of layers as one op in a graph; elsewhere each layer gives its own output."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastconv.keras as fk
import keras
import keras_models
import numpy as np
import pytest
import tensorflow as tf
from fastconv.keras._folded import FOLDED
from fastconv.keras._fused import FUSED
from keras_models import all_layers, assert_same, configs_of, images, near, snapshot, twin, types
from processes import run_python
from tensorflow.python.eager import context

fresh = keras_models.fresh  # before each test
layers = keras.layers


def fused_layers(model: Any) -> list[Any]:
    return [layer for layer in all_layers(model) if type(layer) in (*FUSED.values(), *FOLDED.values())]


def gradients_by(call: Callable[[Any], Any], model: Any, x: Any) -> list[Any]:
    with tf.GradientTape() as tape:
        tape.watch(x)
        loss = tf.add_n([tf.reduce_sum(tf.cast(tf.sin(y), tf.float64)) for y in tf.nest.flatten(call(x))])
    return list(tape.gradient(loss, [x, *(v.value for v in model.trainable_variables)]))


def all_gradients(model: Any, x: np.ndarray) -> list[list[Any]]:
    """The gradients without a graph, with the tape inside a graph, and with the tape around a graph."""
    in_graph = tf.function(lambda x: gradients_by(model, model, x), autograph=False)
    around = tf.function(lambda x: model(x), autograph=False)
    x = tf.constant(x)
    return [gradients_by(model, model, x), in_graph(x), gradients_by(around, model, x)]


def ops_run_by(function: Callable[..., Any], *arguments: Any) -> Counter[str]:
    """The ops in the optimised graph of a function that has not been called yet."""
    context.context().enable_run_metadata()
    try:
        context.context().export_run_metadata()
        function(*arguments)
        metadata = context.context().export_run_metadata()
    finally:
        context.context().disable_run_metadata()
    graphs = [graph for functions in metadata.function_graphs for graph in functions.partition_graphs]
    return Counter(node.op for graph in graphs for node in graph.node)


def pair(name: str = "pair") -> Any:
    """A convolution, a ReLU and a layer after them."""
    stack = [layers.Conv2D(4, 3, name="conv"), layers.ReLU(name="relu"), layers.Flatten(), layers.Dense(2)]
    return keras.Sequential([layers.Input((16, 16, 3)), *stack], name=name)


# ---- Fused pairs -----------------------------------------------------------------------------------------------------


def relu_models() -> Iterator[tuple[Any, int]]:
    """Models, and how many of their layers are of a fused class. test_fusing_batch_norm.py has more of them."""
    conv, relu, inputs = layers.Conv2D, layers.ReLU, layers.Input((16, 16, 3))
    yield keras.Sequential([inputs, conv(4, 3), relu(), conv(4, 3), layers.Activation("relu"), conv(2, 3)]), 2
    yield keras.Sequential([inputs, conv(4, 3, use_bias=False), relu(), layers.MaxPooling2D()]), 2
    inner = keras.Sequential([layers.Input((16, 16, 3)), conv(3, 3, padding="same"), relu()])
    yield keras.Model(inputs, inner(inner(inputs))), 1
    yield keras.Sequential([inputs, conv(4, 3), relu(max_value=6), conv(4, 3), relu(negative_slope=0.1)]), 0
    yield keras.Sequential([inputs, conv(4, 3), relu(threshold=0.5), conv(4, 3), layers.Activation("tanh")]), 0
    yield keras.Sequential([inputs, conv(4, 3, activation="tanh"), relu(), conv(4, 3), relu(dtype="float64")]), 0
    yield keras.Sequential([inputs, conv(4, 3, activity_regularizer="l2"), relu(activity_regularizer="l2")]), 0
    yield keras.Sequential([inputs, conv(4, 3), relu(activity_regularizer="l2")]), 1
    x = conv(4, 3)(inputs)
    yield keras.Model(inputs, [relu()(x), x]), 0  # an output of the model
    yield keras.Model(inputs, layers.Add()([relu()(x), x])), 0  # another layer uses it
    yield keras.Model(inputs, relu()(relu()(x))), 1
    shared = conv(3, 3, padding="same")
    halves = layers.Rescaling(0.5)(inputs)
    yield keras.Model(inputs, layers.Add()([relu()(shared(inputs)), shared(halves)])), 1  # fused in one of two calls
    yield keras.Model(inputs, layers.Add()([relu()(shared(inputs)), relu()(shared(halves))])), 2
    again = relu()
    yield (
        keras.Model(inputs, layers.Add()([again(shared(inputs)), again(halves)])),
        1,
    )  # the ReLU also has another input
    yield keras.Model(inputs, relu()(layers.BatchNormalization()(x))), 2


@pytest.mark.parametrize("inplace", [pytest.param(False, marks=pytest.mark.slow), True])
def test_fusing_keeps_outputs_gradients_and_files(inplace: bool, tmp_path: Path) -> None:
    """Outputs, gradients, names, configs and weights stay the same, also in files, in clones and after `restore`."""
    x = images()
    for model, count in relu_models():
        model.compile("sgd", "mse")
        y = model.predict(x, verbose=0)
        before, configs = snapshot(model), configs_of(model)
        gradients = gradients_by(model, model, tf.constant(x))
        stock_types = types(model)
        fast = fk.accelerate(model, fuse=True, inplace=inplace)
        assert len(fused_layers(fast)) == count
        assert configs_of(fast) == configs
        near(fast.predict(x, verbose=0), y)
        for found in all_gradients(fast, x):
            near(found, gradients, 1e-4)
        fast.save(tmp_path / "fast.keras")
        fast.save_weights(tmp_path / "fast.weights.h5")
        loaded = keras.models.load_model(tmp_path / "fast.keras")
        assert types(loaded) == types(fast)
        near(loaded.predict(x, verbose=0), y)
        assert types(fk.accelerate(loaded, fuse=True)) == types(fast)
        for stock in (fk.restore(loaded), fk.restore(fast)):
            assert types(stock) == stock_types
            assert configs_of(stock) == configs
            near(stock.predict(x, verbose=0), y, 1e-6)
            stock.load_weights(tmp_path / "fast.weights.h5")
        if not inplace:
            assert_same(snapshot(model), before)
            twin(model, fast)


def test_the_table_shows_what_is_fused(capsys: pytest.CaptureFixture[str]) -> None:
    stack = [layers.Conv2D(4, 3, name="conv"), layers.ReLU(name="relu"), layers.Conv2D(4, 3, name="other")]
    stack += [layers.Activation("relu", name="also"), layers.BatchNormalization(name="bn"), layers.ReLU(6, name="last")]
    stack += [layers.ReLU(name="alone")]
    model = keras.Sequential([layers.Input((16, 16, 3)), *stack], name="net")
    fast = fk.accelerate(model, verbose=True, fuse=True)
    for rows in (capsys.readouterr().out, fk.accelerate(fast, verbose=True, fuse=True) and capsys.readouterr().out):
        assert re.search(r"relu +│ ReLU +│ fused into conv +│\n", rows), rows
        assert re.search(r"also +│ Activation +│ fused into other +│\n", rows), rows
        assert re.search(r"last +│ ReLU +│ fused into bn +│\n", rows), rows
        assert "alone" not in rows
        assert rows.splitlines()[-1] == "net: 3 of 4 activations and additions are fused into the layer before"
    fk.accelerate(model, verbose=True)
    assert "fused" not in capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["float32", "float64", "mixed_float16"])
@pytest.mark.parametrize("pool", [False, True])
def test_the_fused_op_runs_in_predict_and_fit(pool: bool, dtype: str) -> None:
    """The op runs once and computes the convolution, the ReLU and, where it is not rounded before, the max-pooling."""
    keras.config.set_dtype_policy(dtype)
    between = [layers.MaxPooling2D()] if pool else []
    inputs = layers.Input((16, 16, 3), dtype=None if dtype == "mixed_float16" else dtype)
    stack = [inputs, layers.Conv2D(4, 3, name="conv"), layers.ReLU(), *between, layers.Flatten(), layers.Dense(2)]
    model = keras.Sequential(stack)
    model.compile("sgd", "mse")
    fast = fk.accelerate(model, fuse=True)
    x = images(8, 16, 16, 3).astype(inputs.dtype)
    pooled = pool and dtype != "mixed_float16"
    for call in (lambda: fast.predict_on_batch(x), lambda: fast.train_on_batch(x, np.ones((8, 2), x.dtype))):
        ran = ops_run_by(call)
        assert [ran["FastconvConv2D"], ran["FastconvConv2DMaxPool2D"]] == [1 - pooled, pooled]
        assert ran["Relu"] == 0
    if dtype != "mixed_float16":
        # As in a layer with activation="relu", one op computes the ReLU's gradient together with that of the pooling
        # or of the bias.
        merged = "FastconvConv2DMaxPool2DBackpropFilterBias" if pool else "FastconvReluBiasGrad"
        assert ran[merged] == 1, ran


# ---- Intermediate outputs stay the same ------------------------------------------------------------------------------


def test_a_layer_alone_gives_its_own_output() -> None:
    model = pair()
    x = images()
    for inplace in (False, True):
        expected = keras.ops.convert_to_numpy(model.layers[0](x))
        assert expected.min() < -1
        fast = fk.accelerate(model, fuse=True, inplace=inplace)
        conv, relu = fast.layers[:2]
        for call in (conv, tf.function(conv)):
            near(call(x), expected)
        for call in (relu, tf.function(relu)):
            near(call(x), np.maximum(x, 0), 0)
        near(
            tf.function(lambda x, conv=conv, relu=relu: [conv(x), relu(conv(x))])(x),
            [expected, np.maximum(expected, 0)],
        )


@pytest.mark.parametrize("built", ["before", "after"])
def test_a_model_on_an_intermediate_output(built: str) -> None:
    model = pair()
    x = images()
    expected = [keras.ops.convert_to_numpy(model.layers[0](x)), keras.ops.convert_to_numpy(model(x))]

    def models(of: Any) -> list[Any]:
        between = of.get_layer("conv").output
        return [keras.Model(of.inputs, between), keras.Model(of.inputs, [between, *of.outputs])]

    if built == "before":
        looking = models(model)
        fast = fk.accelerate(model, fuse=True, inplace=True)
    else:
        fast = fk.accelerate(model, fuse=True)
        looking = models(fast)
    near(looking[0].predict(x, verbose=0), expected[0])
    near(looking[1].predict(x, verbose=0), expected)
    near(fast.predict(x, verbose=0), expected[1])


def test_the_gradient_of_an_intermediate_output() -> None:
    """Grad-CAM uses such a gradient. First-order and second-order gradients are right."""
    model = pair()
    x = tf.constant(images())

    def importance(of: Any) -> tuple[Any, Any]:
        both = keras.Model(of.inputs, [of.get_layer("conv").output, *of.outputs])
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                between, y = both(x)
                loss = tf.reduce_sum(y**3)
            first = tape.gradient(loss, [between, x])
            norm = tf.reduce_sum(first[1] ** 2)
        return *first, outer.gradient(norm, x)

    expected = importance(model)
    fast = fk.accelerate(model, fuse=True)
    near(importance(fast), expected, 1e-3)
    near(tf.function(lambda: importance(fast), autograph=False)(), expected, 1e-3)


class Walker(keras.Model):
    """Calls the first two layers of a model one by one, and returns the smallest value of each."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner

    def call(self, inputs: Any) -> Any:
        seen = []
        for layer in self.inner.layers[:2]:
            inputs = layer(inputs)
            seen.append(keras.ops.min(inputs))
        return keras.ops.stack(seen) + 0 * keras.ops.sum(inputs)


@keras.saving.register_keras_serializable("tests")
class Holder(layers.Layer):
    """Holds a layer that is also used elsewhere in the model."""

    def __init__(self, held: Any, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.held = held

    def call(self, inputs: Any) -> Any:
        return keras.ops.min(self.held(inputs), axis=(1, 2, 3))


def test_a_subclassed_model_that_calls_layers_one_by_one() -> None:
    model = Walker(pair())
    x = images()
    expected = model.predict(x, batch_size=4, verbose=0)
    assert expected[0] < -1
    fast = fk.accelerate(model, inplace=True, fuse=True)
    assert fused_layers(fast)
    near(fast.predict(x, batch_size=4, verbose=0), expected)
    near(fast(x), expected)


def test_a_convolution_that_another_layer_holds_gives_its_own_output() -> None:
    inputs = layers.Input((16, 16, 3))
    conv = layers.Conv2D(4, 3, name="conv")
    model = keras.Model(inputs, [layers.ReLU()(conv(inputs)), Holder(conv)(inputs)])
    x = images()
    expected = model.predict(x, verbose=0)
    assert expected[1].min() < -1
    fast = fk.accelerate(model, inplace=True, fuse=True)
    assert fused_layers(fast)
    near(fast.predict(x, verbose=0), expected)


def test_a_nested_model_whose_layers_others_use() -> None:
    inner = pair("inner")
    inputs = layers.Input((16, 16, 3))
    low = layers.GlobalMaxPooling2D()(keras.ops.negative(inner.get_layer("conv")(inputs)))
    model = keras.Model(inputs, [inner(inputs), low])
    x = images()
    expected = model.predict(x, verbose=0)
    assert expected[1].max() > 1
    fast = fk.accelerate(model, fuse=True)
    assert len(fused_layers(fast)) == 1
    near(fast.predict(x, verbose=0), expected)
    near(fk.restore(fast).predict(x, verbose=0), expected)


def test_activity_regularizers_see_unchanged_outputs() -> None:
    for regularized in ("conv", "relu"):
        own = {"activity_regularizer": "l2"}
        first = layers.Conv2D(4, 3, **(own if regularized == "conv" else {}))
        second = layers.ReLU(**(own if regularized == "relu" else {}))
        model = keras.Sequential([layers.Input((16, 16, 3)), first, second, layers.Flatten(), layers.Dense(1)])
        model.compile("sgd", "mse")
        x, y = images(), np.ones((4, 1), np.float32)
        fast = fk.accelerate(model, fuse=True)
        near(fast.evaluate(x, y, verbose=0), model.evaluate(x, y, verbose=0))
        near(fast.train_on_batch(x, y), model.train_on_batch(x, y))
        near(fast.get_weights(), model.get_weights(), 1e-4)


def test_a_replaced_method_of_a_layer_is_used() -> None:
    """The call, activation or convolution_op of a layer is replaced, before or after `accelerate`."""
    x = images()

    def patch(layer: Any) -> None:
        original = layer.call
        layer.call = lambda inputs: 2 * original(inputs) - 1

    changes: list[tuple[str, Callable[[Any], None]]] = [
        ("conv", patch),
        ("relu", patch),
        ("conv", lambda layer: setattr(layer, "activation", keras.activations.tanh)),
        ("relu", lambda layer: setattr(layer, "activation", keras.activations.tanh)),
        ("conv", lambda layer: setattr(layer, "convolution_op", lambda inputs, kernel: inputs[..., :1] - 0.5)),
    ]
    for name, change in changes:
        for before in (True, False):
            stack = [layers.Conv2D(4, 3, name="conv"), layers.Activation("relu", name="relu"), layers.Flatten()]
            model = keras.Sequential([layers.Input((16, 16, 3)), *stack])
            if before:
                change(model.get_layer(name))
            expected = None if not before else model.predict(x, verbose=0)
            fast = fk.accelerate(model, fuse=True, inplace=True)
            if not before:
                change(fast.get_layer(name))
                expected = fk_stock(fast).predict(x, verbose=0)
            near(fast.predict(x, verbose=0), expected)


def fk_stock(model: Any) -> Any:
    """The same layers with the same changes, called one by one without a graph."""

    class Eager:
        def predict(self, x: np.ndarray, verbose: int) -> Any:
            for layer in model.layers:
                x = layer(x)
            return keras.ops.convert_to_numpy(x)

    return Eager()


def test_a_functional_model_with_a_call_of_its_own() -> None:
    @keras.saving.register_keras_serializable("tests")
    class Doubled(keras.Model):
        def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
            return self.get_layer("conv")(inputs), super().call(inputs)

    inputs = layers.Input((16, 16, 3))
    model = Doubled(inputs, layers.ReLU()(layers.Conv2D(4, 3, name="conv")(inputs)))
    x = images()
    expected = model.predict(x, verbose=0)
    fast = fk.accelerate(model, fuse=True)
    near(fast.predict(x, verbose=0), expected)


# ---- Files -----------------------------------------------------------------------------------------------------------


def test_a_fused_model_in_files(tmp_path: Path) -> None:
    """The loaded model is fused too, the convolution gives its own output, and exports compute the same."""
    model = pair()
    model.compile("sgd", "mse")
    x = images()
    own, y = keras.ops.convert_to_numpy(model.layers[0](x)), model.predict(x, verbose=0)
    fast = fk.accelerate(model, fuse=True)
    fast.save(tmp_path / "fast.keras")
    fast.export(tmp_path / "exported", verbose=False)
    np.savez(tmp_path / "values.npz", x=x, y=y, own=own)
    loaded = keras.models.load_model(tmp_path / "fast.keras")
    near(loaded.layers[0](x), own)
    assert ops_run_by(loaded.predict_on_batch, x)["FastconvConv2D"] == 1
    near(loaded.predict(x, verbose=0), y)
    run_python(
        """
        import fastconv.keras
        import keras
        import numpy as np
        import tensorflow as tf

        values = np.load("values.npz")
        x, y, own = tf.constant(values["x"]), values["y"], values["own"]
        model = keras.models.load_model("fast.keras")
        np.testing.assert_allclose(model.predict(x, verbose=0), y, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(model.layers[0](x), own, rtol=1e-5, atol=1e-5)
        exported = tf.saved_model.load("exported")
        np.testing.assert_allclose(exported.serve(x), y, rtol=1e-5, atol=1e-5)
        gradients = []
        for function in (model, exported.serve):
            with tf.GradientTape() as tape:
                tape.watch(x)
                z = function(x)
            gradients.append(tape.gradient(z, x))
        np.testing.assert_allclose(*gradients, rtol=1e-4, atol=1e-5)
        """,
        folder=tmp_path,
    )


def test_nothing_is_fused_if_tensorflows_modules_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("relu_fusion", "batch_norm_fusion", "fusion"):
        monkeypatch.setattr(f"fastconv.tensorflow.{module}.tapes", None)
    model = pair()
    x = images()
    fast = fk.accelerate(model, fuse=True)
    ran = ops_run_by(fast.predict_on_batch, x)
    assert ran["FastconvConv2D"] == ran["Relu"] == 1
    near(fast.predict(x, verbose=0), model.predict(x, verbose=0))
