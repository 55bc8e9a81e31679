"""Our batch normalisation computes what Keras's does: outputs, gradients and moving statistics, in every mode."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastconv.keras as fk
import keras
import layer_pairs
import numpy as np
import pytest
import tensorflow as tf
from arrays import random

fresh = layer_pairs.fresh  # before each test
layers = keras.layers
Arguments = dict[str, Any]

# Shapes with each place of the channels, and arguments. Half of the axes are counted from the end.
CASES: dict[str, tuple[tuple[int, ...], Arguments]] = {
    "rows": ((37, 5), {}),
    "rows, axis 1": ((16, 5), {"axis": 1, "center": False}),
    "signals": ((4, 9, 6), {"axis": 2, "momentum": 0.7}),
    "signals, first": ((4, 6, 9), {"axis": -2, "epsilon": 0.1}),
    "images": ((3, 7, 5, 19), {"axis": 3, "epsilon": 1e-5, "momentum": 0.9}),
    "images, first": ((3, 6, 7, 5), {"axis": 1}),
    "neither scale nor offset": ((3, 7, 5, 4), {"scale": False, "center": False}),
    "no scale": ((3, 4, 7, 5), {"axis": -3, "scale": False}),
    "volumes": ((2, 3, 4, 5, 6), {}),
    "volumes, first": ((2, 6, 3, 4, 5), {"axis": 1}),
}
each = pytest.mark.parametrize(("shape", "arguments"), CASES.values(), ids=CASES)
RENORM = pytest.mark.skipif(
    "renorm" not in layers.BatchNormalization().get_config(), reason="this version of Keras has no renorm"
)
# Keras's policies, and for each the bound of the errors: some units in the last place of the results.
BOUNDS = {
    "float64": 1e-13,
    "float32": 4e-6,
    "mixed_float16": 2.0**-10,
    "mixed_bfloat16": 2.0**-7,
    "float16": 2.0**-9,
    "bfloat16": 2.0**-6,
}


def pair(shape: tuple[int, ...], arguments: Arguments) -> tuple[Any, Any]:
    """Our layer and Keras's with the same weights, which are positive."""
    ours, stock = (cls(**arguments) for cls in (fk.BatchNormalization, layers.BatchNormalization))
    for layer in (ours, stock):
        layer.build(shape)
        layer.set_weights([1 + np.abs(random(*v.shape, seed=i)) for i, v in enumerate(layer.weights)])
    return ours, stock


def inputs_of(shape: tuple[int, ...], dtype: Any = np.float64) -> np.ndarray:
    return (2 * random(*shape, dtype=np.float64) + 1).astype(dtype)


def results_of(layer: Any, x: Any, **call: Any) -> list[Any]:
    """The output, all gradients, and the weights after the call."""
    x = tf.convert_to_tensor(x)
    weights = [weight.value for weight in (layer.gamma, layer.beta) if weight is not None]
    with tf.GradientTape() as tape:
        tape.watch([x, *weights])
        y = layer(x, **call)
        factors = tf.reshape(tf.cast(tf.range(tf.size(y)) % 7 - 2, y.dtype), tf.shape(y))
        loss = tf.reduce_sum(tf.cast(y * factors, tf.float64))
    return [y, *tape.gradient(loss, [x, *weights]), *(v.value for v in layer.weights)]


def compare(ours: list[Any], expected: list[Any], bound: float) -> None:
    for i, (a, b) in enumerate(zip(ours, expected, strict=True)):
        assert (a.shape, a.dtype) == (b.shape, b.dtype), i
        a, b = (np.asarray(tf.cast(t, tf.float64)) for t in (a, b))
        np.testing.assert_allclose(a, b, rtol=0, atol=bound * max(1, np.abs(b).max()), err_msg=str(i))


def our_ops(layer: Any, *inputs: Any, **call: Any) -> set[str]:
    signature = [tf.TensorSpec(x.shape, x.dtype) for x in map(tf.convert_to_tensor, inputs)]
    graph = tf.function(lambda *x: layer(*x, **call)).get_concrete_function(*signature).graph
    return {op.type.removeprefix("Fastconv") for op in graph.get_operations() if op.type.startswith("Fastconv")}


# ---- The results of Keras -------------------------------------------------------------------------------------------


@each
@pytest.mark.parametrize("training", [True, False, None])
def test_the_results_are_those_of_keras(shape: tuple[int, ...], arguments: Arguments, training: bool | None) -> None:
    ours, stock = pair(shape, {**arguments, "dtype": "float64"})
    x = inputs_of(shape)
    for _ in range(2 if training else 1):  # the second call starts with other moving statistics
        compare(results_of(ours, x, training=training), results_of(stock, x, training=training), BOUNDS["float64"])


def test_our_ops_compute_the_layer() -> None:
    for shape, arguments in CASES.values():
        ours, _ = pair(shape, arguments)
        x = inputs_of(shape, np.float32)
        assert our_ops(ours, x, training=True) == {"BatchNorm"}
        assert our_ops(ours, x, training=False) == our_ops(ours, x) == {"BatchNormInference"}
        ours.trainable = False
        assert our_ops(ours, x, training=True) == {"BatchNormInference"}


@pytest.mark.parametrize("policy", BOUNDS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("axis", [-1, 1])
def test_every_dtype_is_computed_as_in_keras(policy: str, training: bool, axis: int) -> None:
    """The dtypes are Keras's, too. Half types are computed in float32."""
    shape = (6, 7, 9, 8)
    ours, stock = pair(shape, {"axis": axis, "dtype": policy})
    x = inputs_of(shape, np.float64 if policy == "float64" else np.float32)
    assert our_ops(ours, x, training=training)
    x = tf.cast(x, ours.compute_dtype)
    compare(results_of(ours, x, training=training), results_of(stock, x, training=training), BOUNDS[policy])


def test_float32_is_as_exact_as_in_keras() -> None:
    """The inputs have a mean far from zero. The error is that of the results in float64, in norm."""
    shape = (8, 15, 15, 12)
    x = inputs_of(shape, np.float32) + np.float32(500)
    _, exact = pair(shape, {"dtype": "float64"})
    expected = results_of(exact, x.astype(np.float64), training=True)
    errors = []
    for layer in pair(shape, {}):
        results = results_of(layer, x, training=True)
        errors.append([float(tf.norm(tf.cast(a, tf.float64) - b)) for a, b in zip(results, expected, strict=True)])
    for i, (ours, theirs) in enumerate(zip(*errors, strict=True)):
        assert ours <= max(2 * theirs, 1e-6 * float(tf.norm(expected[i]))), i


def test_a_layer_that_is_not_trainable_uses_and_keeps_its_moving_statistics() -> None:
    x = inputs_of((4, 5, 5, 3))
    ours, stock = pair(x.shape, {"dtype": "float64"})
    before = ours.get_weights()
    for layer in (ours, stock):
        layer.trainable = False
    compare(results_of(ours, x, training=True), results_of(stock, x, training=True), 1e-13)
    for a, b in zip(ours.get_weights(), before, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("axis", [-1, 1])
def test_sizes_may_be_unknown(axis: int) -> None:
    sizes = (3, None, None) if axis == 1 else (None, None, 3)
    ours, stock = pair((None, *sizes), {"axis": axis, "dtype": "float64"})
    signature = [tf.TensorSpec((None, *sizes), tf.float64)]
    in_graph = tf.function(lambda x: results_of(ours, x, training=True), input_signature=signature)
    for batch, height in ((2, 5), (3, 4), (1, 1)):
        x = inputs_of((batch, *(size or height for size in sizes)))
        compare(in_graph(x), results_of(stock, x, training=True), 1e-13)
    inputs = layers.Input(sizes)
    assert ours(inputs).shape == stock(inputs).shape


@pytest.mark.parametrize("training", [True, False])
def test_nan_and_infinity_are_those_of_keras(training: bool) -> None:
    x = inputs_of((3, 4, 5, 6))
    x[0, 0, 0, :3] = np.nan, np.inf, -np.inf
    x[1, 2, 3, 4] = np.nan
    ours, stock = pair(x.shape, {"dtype": "float64"})
    for a, b in zip(results_of(ours, x, training=training), results_of(stock, x, training=training), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-11)


def test_an_empty_batch_is_that_of_keras() -> None:
    ours, stock = pair((0, 4, 4, 3), {})
    x = inputs_of((0, 4, 4, 3), np.float32)
    for training in (False, True):  # statistics of no values are NaN
        for a, b in zip(results_of(ours, x, training=training), results_of(stock, x, training=training), strict=True):
            np.testing.assert_array_equal(a, b)


def test_second_order_gradients_are_those_of_keras() -> None:
    x = tf.constant(inputs_of((4, 3, 3, 2)))
    found = []
    for layer in pair(x.shape, {"dtype": "float64"}):
        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = tf.reduce_sum(layer(x, training=True) ** 3)
            norm = tf.reduce_sum(tape.gradient(y, x) ** 2)
        found.append([norm, outer.gradient(norm, x)])
    compare(*found, 1e-11)


# ---- What is left to Keras ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((3, 4, 5, 6), {"axis": 2}),
        ((3, 4, 5, 6, 2), {"axis": -3}),
        ((3, 4, 5, 6), {"synchronized": True}),
        ((3, 4, 5, 6), {"epsilon": -1e-4}),
        pytest.param((3, 4, 5, 6), {"renorm": True}, marks=RENORM),
    ],
    ids=str,
)
def test_keras_computes_the_rest(shape: tuple[int, ...], arguments: Arguments) -> None:
    ours, stock = pair(shape, arguments)
    x = inputs_of(shape, np.float32)
    assert not our_ops(ours, x, training=True)
    for training in (True, True, False):
        for a, b in zip(results_of(ours, x, training=training), results_of(stock, x, training=training), strict=True):
            np.testing.assert_array_equal(a, b)
    (replaced,) = fk.accelerate(keras.Sequential([layers.Input(shape[1:]), stock])).layers
    assert type(replaced) is layers.BatchNormalization


def test_keras_computes_masks_and_other_inputs() -> None:
    x = inputs_of((4, 6, 3), np.float32)
    mask = np.arange(24).reshape(4, 6) % 3 > 0
    ours, stock = pair(x.shape, {})
    assert our_ops(ours, x) and not our_ops(ours, x, mask=mask)
    for training in (True, False):
        results = [results_of(layer, x, training=training, mask=mask) for layer in (ours, stock)]
        for a, b in zip(*results, strict=True):
            np.testing.assert_array_equal(a, b)
    x[mask] = 0
    found = [keras.Sequential([layers.Masking(), layer])(x, training=True) for layer in (ours, stock)]
    np.testing.assert_array_equal(*found)
    with pytest.raises(ValueError, match="mask"):
        ours(x, mask=mask[..., None])
    with pytest.warns(UserWarning, match="floating-point numbers, not int32, so the layers use Keras's own ops"):
        np.testing.assert_array_equal(*(layer(x.astype(np.int32)) for layer in (ours, stock)))
    unknown = tf.function(ours.call, input_signature=[tf.TensorSpec(None, tf.float32)])
    np.testing.assert_allclose(unknown(x), stock(x), rtol=1e-6, atol=1e-6)


# ---- Models ---------------------------------------------------------------------------------------------------------


def network(batch_norm: Any, axis: int = -1) -> Any:
    keras.utils.set_random_seed(3)
    image_format = "channels_first" if axis == 1 else "channels_last"
    stack = [
        layers.Input((3, 8, 8) if axis == 1 else (8, 8, 3)),
        batch_norm(axis=axis, name="first"),
        fk.Conv2D(4, 3, padding="same", data_format=image_format, use_bias=False, name="conv"),
        batch_norm(axis=axis, momentum=0.8, gamma_regularizer="l2", beta_constraint="max_norm", name="second"),
        layers.ReLU(),
        layers.Flatten(),
        layers.Dense(2, use_bias=False),
        batch_norm(name="last"),
    ]
    return keras.Sequential(stack)


@pytest.fixture
def float64() -> Iterator[None]:
    """Everything in Keras is float64, also losses and metrics."""
    for dtype in ("float64", "float32"):
        keras.config.set_floatx(dtype)
        keras.config.set_dtype_policy(dtype)
        if dtype == "float64":
            yield


@pytest.mark.parametrize("axis", [-1, 1])
def test_training_is_that_of_keras(axis: int, float64: None) -> None:
    """All weights, moving statistics and losses, after six steps in float64."""
    models = [network(layers.BatchNormalization, axis) for _ in range(2)]
    models[1] = fk.accelerate(models[1], inplace=True)
    models.append(fk.accelerate(models[0]))
    x = inputs_of((24, *models[0].input_shape[1:]))
    y = random(24, 2, dtype=np.float64)
    before = models[0].get_weights()
    histories = []
    for model in models:
        model.compile(keras.optimizers.SGD(0.1), "mse")
        options = {"batch_size": 8, "epochs": 2, "shuffle": False, "validation_data": (x, y)}
        histories.append(model.fit(x, y, verbose=0, **options).history)
    assert all(np.abs(a - b).max() > 1e-6 for a, b in zip(models[0].get_weights(), before, strict=True))
    for model, history in zip(models[1:], histories[1:], strict=True):
        assert type(model.get_layer("second")) is fk.BatchNormalization
        for name, values in histories[0].items():
            np.testing.assert_allclose(history[name], values, rtol=1e-9, err_msg=name)
        for a, b in zip(model.get_weights(), models[0].get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


def test_files_configs_and_restore(tmp_path: Path) -> None:
    x = inputs_of((5, 8, 8, 3), np.float32)
    model = network(fk.BatchNormalization)
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    stock = fk.restore(loaded)
    assert {type(layer) for layer in loaded.layers} >= {fk.BatchNormalization}
    assert not any(isinstance(layer, fk.BatchNormalization) for layer in stock.layers)
    for other in (loaded, stock, fk.accelerate(stock)):
        assert [layer.get_config() for layer in other.layers] == [layer.get_config() for layer in model.layers]
        np.testing.assert_allclose(other(x), model(x), rtol=1e-5, atol=1e-6)
    model.save_weights(tmp_path / "model.weights.h5")
    again = network(layers.BatchNormalization)
    again.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_allclose(again(x), model(x), rtol=1e-5, atol=1e-6)
    serialized = keras.saving.serialize_keras_object(model.layers[0])
    assert serialized["registered_name"] == "fastconv>BatchNormalization"


def test_the_table_names_what_is_left_to_keras(capsys: pytest.CaptureFixture[str]) -> None:
    class Mine(layers.BatchNormalization):
        pass

    stack = [
        layers.BatchNormalization(name="last"),
        layers.BatchNormalization(axis=1, name="first"),
        layers.BatchNormalization(axis=2, name="middle"),
        layers.BatchNormalization(synchronized=True, name="together"),
        Mine(name="mine"),
    ]
    fk.accelerate(keras.Sequential([layers.Input((4, 5, 6)), *stack], name="net"), inplace=True, verbose=True)
    rows = [[cell.strip() for cell in row.split("│")] for row in capsys.readouterr().out.splitlines()]
    fates = {row[1]: row[3] for row in rows if len(row) > 3}
    assert fates["last"] == fates["first"] == "replaced"
    assert fates["middle"] == "not replaced: axis=2 is left to Keras"
    assert fates["together"] == "not replaced: synchronized=True is left to Keras"
    assert fates["mine"] == "not replaced: a subclass of BatchNormalization"


def test_a_subclass_may_override_call() -> None:
    class Doubled(fk.BatchNormalization):
        def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
            return 2 * super().call(inputs, training=training, mask=mask)

    x = inputs_of((3, 5, 5, 4), np.float32)
    _, stock = pair(x.shape, {})
    ours = Doubled()
    ours.build(x.shape)
    ours.set_weights(stock.get_weights())
    assert our_ops(ours, x) == {"BatchNormInference"}
    for training in (True, False):
        y = stock(x, training=training)
        np.testing.assert_allclose(ours(x, training=training), 2 * y, rtol=1e-5, atol=1e-5)


def test_steps_of_a_time_distributed() -> None:
    """Each step of the sequence updates the moving statistics, as in Keras."""
    x = inputs_of((4, 3, 5, 6))
    outer = [layers.TimeDistributed(layer, dtype="float64") for layer in pair((4, 5, 6), {"dtype": "float64"})]
    results = [tf.function(layer)(x, training=True) for layer in outer]
    np.testing.assert_allclose(*results, rtol=1e-12, atol=1e-12)
    for a, b in zip(*(layer.get_weights() for layer in outer), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_xla_is_left_off() -> None:
    model = network(fk.BatchNormalization)
    with pytest.warns(UserWarning, match="jit_compile"):
        model.compile("sgd", "mse", jit_compile=True)
    x = inputs_of((4, 8, 8, 3), np.float32)
    assert np.isfinite(model.train_on_batch(x, np.ones((4, 2), np.float32)))
    ours, _ = pair(x.shape, {})
    with pytest.raises(NotImplementedError, match="XLA cannot compile fastconv's ops"):
        tf.function(ours, jit_compile=True)(tf.constant(x))
