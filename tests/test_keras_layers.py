"""`fastconv.keras` has drop-in replacements of Keras's layers."""

from __future__ import annotations

import contextlib
import inspect
import io
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fastconv.keras as fk
import keras
import numpy as np
import pytest
import tensorflow as tf
from fastconv.keras import _serving
from processes import run_python

STOCK = {ours.__name__: stock for stock, ours in fk.LAYERS.items()}


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """Reset layer names, random seeds and warnings before each test."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(7)
    _serving._warn_once.cache_clear()
    yield


def random(*shape: int, dtype: Any = np.float32, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def near(ours: Any, theirs: Any, tolerance: float = 1e-5) -> None:
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
    np.testing.assert_allclose(ours, theirs, rtol=tolerance, atol=tolerance)


def uses_our_op(layer: Any, x: Any) -> bool:
    graph = tf.function(lambda x: layer(x)).get_concrete_function(tf.TensorSpec(x.shape, x.dtype)).graph
    types = {op.type for op in graph.get_operations()}
    return any(name.startswith("Fastconv") for name in types)


def pair(name: str, x: np.ndarray, **arguments: Any) -> tuple[Any, Any]:
    """Our layer and the stock layer, built, with the same weights."""
    ours, stock = getattr(fk, name)(**arguments), STOCK[name](**arguments)
    ours.build(x.shape)
    stock.build(x.shape)
    for variable in stock.weights:
        variable.assign(random(*variable.shape, seed=1))
    ours.set_weights(stock.get_weights())
    return ours, stock


def value_and_gradients(layer: Any, x: np.ndarray) -> list[Any]:
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        loss = tf.reduce_sum(tf.sin(y))
    return [y, *tape.gradient(loss, [x, *(v.value for v in layer.trainable_variables)])]


# ---- The same numbers ------------------------------------------------------------------------------------------------

CONVOLUTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "same": {"padding": "same"},
    "strides": {"strides": (2, 3), "padding": "SAME"},
    "dilation": {"dilation_rate": 2},
    "no bias": {"use_bias": False},
    "relu": {"activation": "relu"},
    "relu, no bias": {"activation": "relu", "use_bias": False},
    "linear": {"activation": "linear"},
    "tanh": {"activation": "tanh"},
    "softmax": {"activation": "softmax"},
    "relu of another slope": {"activation": keras.layers.LeakyReLU(negative_slope=0.2)},
    "relu layer": {"activation": keras.layers.ReLU()},
    "rectangle": {"kernel_size": (1, 4), "padding": "same"},
    "float64": {"dtype": "float64"},
    "regularizers": {"kernel_regularizer": "l2", "bias_regularizer": "l1", "activity_regularizer": "l2"},
}
POOLS: dict[str, dict[str, Any]] = {
    "default": {},
    "strides": {"pool_size": 3, "strides": 2},
    "same": {"pool_size": (3, 2), "strides": 2, "padding": "same"},
    "float64": {"dtype": "float64"},
}


@pytest.mark.parametrize("case", CONVOLUTIONS)
def test_convolution(case: str) -> None:
    """Values and gradients."""
    arguments = {"filters": 6, "kernel_size": 3, **CONVOLUTIONS[case]}
    x = random(2, 11, 10, 4, dtype=arguments.get("dtype", "float32"))
    ours, stock = pair("Conv2D", x, **arguments)
    assert uses_our_op(ours, x)
    assert not uses_our_op(stock, x)
    for a, b in zip(value_and_gradients(ours, x), value_and_gradients(stock, x), strict=True):
        near(a, b, 1e-4)
    assert [v.path for v in ours.weights] == [v.path.replace("conv2d_1", "conv2d") for v in stock.weights]
    near(tf.add_n(ours.losses or [0.0]), tf.add_n(stock.losses or [0.0]))


def test_groups() -> None:
    """TensorFlow has no gradients of grouped convolutions on the CPU."""
    x = random(2, 9, 9, 6)
    ours, stock = pair("Conv2D", x, filters=9, kernel_size=3, groups=3, activation="relu")
    near(ours(x), stock(x))
    parts = keras.layers.Concatenate()
    layers = [keras.layers.Conv2D(3, 3, activation="relu") for _ in range(3)]
    with tf.GradientTape() as tape:
        split = parts([layer(part) for layer, part in zip(layers, tf.split(tf.constant(x), 3, axis=3), strict=True)])
    for i, layer in enumerate(layers):
        layer.set_weights([weights[..., 3 * i : 3 * i + 3] for weights in stock.get_weights()])
    with tf.GradientTape() as tape:
        tape.watch(given := tf.constant(x))
        split = parts([layer(part) for layer, part in zip(layers, tf.split(given, 3, axis=3), strict=True)])
        loss = tf.reduce_sum(tf.sin(split))
    expected = tape.gradient(loss, [given, *([layer.kernel.value for layer in layers])])
    _, d_input, d_kernel, _ = value_and_gradients(ours, x)
    near(d_input, expected[0], 1e-4)
    near(d_kernel, tf.concat(expected[1:], 3), 1e-4)


@pytest.mark.parametrize("name", ["MaxPooling2D", "AveragePooling2D"])
@pytest.mark.parametrize("case", POOLS)
def test_pooling(name: str, case: str) -> None:
    x = random(2, 9, 8, 5, dtype=POOLS[case].get("dtype", "float32"))
    ours, stock = pair(name, x, **{"pool_size": 2, **POOLS[case]})
    assert uses_our_op(ours, x)
    for a, b in zip(value_and_gradients(ours, x), value_and_gradients(stock, x), strict=True):
        near(a, b)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Conv2D", {"filters": 6, "kernel_size": 3, "strides": 2, "padding": "same", "activation": "relu"}),
        ("Conv2D", {"filters": 6, "kernel_size": (3, 2), "activation": "tanh"}),
        ("MaxPooling2D", {"pool_size": 3, "strides": 2}),
        ("AveragePooling2D", {"pool_size": 3, "strides": 2, "padding": "same"}),
    ],
)
def test_channels_first(name: str, arguments: dict[str, Any]) -> None:
    """TensorFlow's CPU kernels lack this format, so the stock layer computes the transposed problem."""
    x = random(2, 4, 9, 8)
    ours = getattr(fk, name)(**arguments, data_format="channels_first")
    stock = STOCK[name](**arguments, data_format="channels_last")
    ours.build(x.shape)
    stock.build((2, 9, 8, 4))
    stock.set_weights(ours.get_weights())
    assert uses_our_op(ours, x)
    results, expected = value_and_gradients(ours, x), value_and_gradients(stock, np.moveaxis(x, 1, 3).copy())
    for i, (a, b) in enumerate(zip(results, expected, strict=True)):
        near(a, np.moveaxis(np.asarray(b), 3, 1) if i < 2 else b, 1e-4)


# ---- Models ----------------------------------------------------------------------------------------------------------


def network(layers: Any, **arguments: Any) -> keras.Model:
    return keras.Sequential(
        [
            keras.layers.Input((12, 12, 1)),
            layers.Conv2D(4, 3, activation="relu", **arguments),
            layers.MaxPooling2D(),
            layers.Conv2D(6, 3, **arguments),
            layers.AveragePooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(3),
        ]
    )


def compiled(model: keras.Model, **arguments: Any) -> keras.Model:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"], **arguments)
    return model


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Three kinds of noisy stripes, which a network of this size can learn."""
    kind = np.arange(96) % 3
    rows, columns = np.indices((12, 12))
    patterns = np.stack([rows % 4 < 2, columns % 4 < 2, (rows + columns) % 4 < 2]).astype(np.float32)
    return (patterns[kind] + 0.3 * random(96, 12, 12))[..., None], kind


def printed_summary(model: keras.Model) -> str:
    lines: list[str] = []
    model.summary(print_fn=lambda text, **_: lines.append(text))
    return "\n".join(lines)


def test_training_equals_that_of_stock_layers() -> None:
    x, y = digits()
    stock = compiled(network(keras.layers))
    ours = compiled(network(fk))
    ours.set_weights(stock.get_weights())
    histories = [m.fit(x, y, epochs=5, batch_size=32, shuffle=False, verbose=0).history for m in (ours, stock)]
    for key, values in histories[1].items():
        near(histories[0][key], values, 1e-4)
    assert histories[1]["loss"][-1] < histories[1]["loss"][0]
    near(ours.predict(x, verbose=0), stock.predict(x, verbose=0), 1e-4)
    near(ours.evaluate(x, y, verbose=0), stock.evaluate(x, y, verbose=0), 1e-4)
    for a, b in zip(ours.get_weights(), stock.get_weights(), strict=True):
        near(a, b, 1e-4)


def test_it_learns() -> None:
    x, y = digits()
    model = compiled(network(fk))
    model.optimizer.learning_rate = 0.1
    model.fit(x, y, epochs=40, batch_size=32, verbose=0)
    assert model.evaluate(x, y, verbose=0)[1] > 0.9


def test_save_and_load(tmp_path: Path) -> None:
    """A .keras file can be loaded, also in another process, and training can go on."""
    x, y = digits()
    model = compiled(network(fk))
    model.fit(x, y, epochs=1, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert [type(layer) for layer in loaded.layers] == [type(layer) for layer in model.layers]
    near(loaded.predict(x, verbose=0), model.predict(x, verbose=0), 0)
    for m in (model, loaded):
        m.fit(x, y, epochs=1, shuffle=False, verbose=0)
    near(loaded.predict(x, verbose=0), model.predict(x, verbose=0), 1e-6)

    model.save(tmp_path / "again.keras")
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", model.predict(x, verbose=0))
    run_python(
        """
        import sys
        import numpy as np
        import fastconv
        import fastconv.keras
        import keras
        model = keras.models.load_model(sys.argv[1] + "/again.keras")
        assert type(model.layers[0]) is fastconv.keras.Conv2D
        y = model.predict(np.load(sys.argv[1] + "/x.npy"), verbose=0)
        assert np.array_equal(y, np.load(sys.argv[1] + "/y.npy"))
        """,
        str(tmp_path),
    )


def test_export(tmp_path: Path) -> None:
    x, _ = digits()
    model = network(fk)
    tf.saved_model.save(model, str(tmp_path / "model"))
    served = tf.saved_model.load(str(tmp_path / "model")).signatures["serving_default"]
    near(next(iter(served(tf.constant(x)).values())), model(x), 1e-6)


def test_weights_are_interchangeable(tmp_path: Path) -> None:
    x, _ = digits()
    for first, second in ((fk, keras.layers), (keras.layers, fk)):
        a, b, c = network(first), network(second), network(second)
        b.set_weights(a.get_weights())
        near(b(x), a(x))
        a.save_weights(tmp_path / "model.weights.h5")
        c.load_weights(tmp_path / "model.weights.h5")
        near(c(x), a(x))


def test_clone_to_and_from_stock_layers() -> None:
    x, _ = digits()
    ours = network(fk)

    def to_stock(layer: Any) -> Any:
        cls = STOCK.get(type(layer).__name__, type(layer))
        return cls.from_config(layer.get_config())

    stock = keras.models.clone_model(ours, clone_function=to_stock)
    assert not any(type(layer).__module__.startswith("fastconv") for layer in stock.layers)
    stock.set_weights(ours.get_weights())
    near(stock(x), ours(x))


def test_summary_is_that_of_stock_layers() -> None:
    summaries = []
    for layers in (fk, keras.layers):
        keras.utils.clear_session(free_memory=False)
        model = network(layers)
        summaries.append(printed_summary(model))
        assert [layer.name for layer in model.layers] == [
            "conv2d",
            "max_pooling2d",
            "conv2d_1",
            "average_pooling2d",
            "flatten",
            "dense",
        ]
    assert summaries[0] == summaries[1]
    assert "conv2d (Conv2D)" in summaries[0]


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        (
            "Conv2D",
            {
                "filters": 6,
                "kernel_size": (3, 2),
                "strides": 2,
                "padding": "same",
                "data_format": "channels_first",
                "groups": 2,
                "activation": "relu",
                "use_bias": False,
                "kernel_initializer": "he_normal",
                "kernel_regularizer": keras.regularizers.L2(0.01),
                "kernel_constraint": "max_norm",
                "name": "first",
                "trainable": False,
            },
        ),
        ("MaxPooling2D", {"pool_size": 3, "strides": 2, "padding": "same"}),
        ("AveragePooling2D", {"pool_size": (2, 3), "data_format": "channels_first", "name": "mean"}),
    ],
)
def test_config(name: str, arguments: dict[str, Any]) -> None:
    ours, stock = getattr(fk, name)(**arguments), STOCK[name](**arguments)
    config = ours.get_config()
    expected = stock.get_config()
    if "name" not in arguments:
        expected["name"] = config["name"]
    assert config == expected
    again = getattr(fk, name).from_config(config)
    assert again.get_config() == config
    serialized = keras.saving.serialize_keras_object(ours)
    assert serialized["registered_name"] == f"fastconv>{name}"
    assert type(keras.saving.deserialize_keras_object(serialized)) is getattr(fk, name)


@pytest.mark.parametrize("name", STOCK)
def test_signature_and_names(name: str) -> None:
    ours, stock = getattr(fk, name), STOCK[name]
    # Not the classes' signatures: before Python 3.11.3, inspect uses __new__ if a class has no __init__ of its own.
    assert inspect.signature(ours.__init__) == inspect.signature(stock.__init__)
    assert issubclass(ours, stock)
    assert ours.__name__ == name
    assert ours.__doc__ != stock.__doc__
    assert ours.__module__.startswith("fastconv.keras.")


def test_signature_of_a_subclass() -> None:
    class Two(fk.Conv2D):
        def __init__(self, scale: float) -> None:
            super().__init__(2, 3)

    assert list(inspect.signature(Two).parameters) == ["scale"]


# ---- Fallbacks to stock ops, and users' subclasses -------------------------------------------------------------------


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


def test_convolution_op_of_an_instance() -> None:
    layer = fk.Conv2D(3, 3)
    x = np.ones((1, 5, 5, 2), np.float32)
    layer.build(x.shape)
    layer.convolution_op = lambda inputs, kernel: tf.nn.conv2d(inputs, 2 * kernel, 1, "VALID")
    np.testing.assert_allclose(layer(x), 2 * tf.nn.conv2d(x, layer.kernel, 1, "VALID"), rtol=1e-5)


def test_overridden_convolution_op() -> None:
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
    assert np.abs(np.asarray(plain(x)) - np.asarray(ours(x))).max() > 0.1  # the override took part


def test_overridden_call() -> None:
    class Doubled(fk.Conv2D):
        def call(self, inputs: Any) -> Any:
            return 2 * super().call(inputs)

    x = random(2, 8, 8, 3)
    ours, plain = Doubled(4, 3), fk.Conv2D(4, 3)
    plain.build(x.shape)
    ours.build(x.shape)
    ours.set_weights(plain.get_weights())
    near(ours(x), 2 * np.asarray(plain(x)))


def test_lora() -> None:
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


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("Conv2D", {"filters": 4, "kernel_size": 5}),
        ("Conv2D", {"filters": 4, "kernel_size": 5, "activation": "relu", "data_format": "channels_first"}),
        ("MaxPooling2D", {"pool_size": 5}),
        ("AveragePooling2D", {"pool_size": 5}),
    ],
)
def test_too_small_an_input(name: str, arguments: dict[str, Any]) -> None:
    shape = (3, 4, 4) if arguments.get("data_format") else (4, 4, 3)
    for layers in (keras.layers, fk):
        with pytest.raises(ValueError):
            getattr(layers, name)(**arguments)(keras.layers.Input(shape))
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        getattr(fk, name)(**arguments)(random(2, *shape))


@pytest.mark.parametrize(
    "arguments",
    [
        {"filters": 0, "kernel_size": 3},
        {"filters": 4, "kernel_size": 0},
        {"filters": 4, "kernel_size": 3, "strides": 0},
        {"filters": 4, "kernel_size": 3, "strides": 2, "dilation_rate": 2},
        {"filters": 4, "kernel_size": 3, "groups": 3},
        {"filters": 4, "kernel_size": 3, "padding": "full"},
        {"filters": 4, "kernel_size": 3, "activation": "no such"},
        {"filters": 4, "kernel_size": 3, "data_format": "NHWC"},
    ],
)
def test_bad_arguments_get_keras_errors(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as stock:
        keras.layers.Conv2D(**arguments)
    with pytest.raises(ValueError) as ours:
        fk.Conv2D(**arguments)
    assert str(ours.value) == str(stock.value)


def test_wrong_channels() -> None:
    layer = fk.Conv2D(4, 3)
    layer(random(1, 8, 8, 3))
    with pytest.raises(ValueError, match=r"value 3.*shape.*\(1, 8, 8, 5\)"):
        layer(random(1, 8, 8, 5))


def test_unknown_sizes() -> None:
    """A functional model of images of any size."""
    inputs = keras.layers.Input((None, None, 3))
    y = fk.Conv2D(4, 3, strides=2, padding="same", activation="relu")(inputs)
    y = fk.AveragePooling2D(2)(fk.MaxPooling2D(padding="same")(y))
    assert y.shape == (None, None, None, 4)
    model = keras.Model(inputs, y)
    for size in (16, 33):
        assert model.predict(random(2, size, size + 8, 3), verbose=0).shape == model.compute_output_shape(
            (2, size, size + 8, 3)
        )
    inputs = keras.layers.Input((20, None, 3))
    assert fk.MaxPooling2D()(fk.Conv2D(4, 3)(inputs)).shape == (None, 9, None, 4)


def test_empty_batch() -> None:
    model = network(fk)
    assert model(np.zeros((0, 12, 12, 1), np.float32)).shape == (0, 3)


def test_no_warning_in_plain_use() -> None:
    x, y = digits()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = compiled(network(fk))
        with contextlib.redirect_stdout(io.StringIO()):
            model.fit(x, y, epochs=1)


def test_other_backends_are_refused() -> None:
    """Keras's other backends need further packages, so the loaded Keras only pretends to run on another one."""
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


def models_of(make: Callable[[Any], keras.Model]) -> tuple[keras.Model, keras.Model]:
    ours, stock = make(fk), make(keras.layers)
    ours.set_weights(stock.get_weights())
    return ours, stock


def test_inside_other_layers() -> None:
    """Our layers work inside a wrapper, as shared layers, and in a subclassed model."""

    def wrapped(layers: Any) -> keras.Model:
        inputs = keras.layers.Input((3, 8, 8, 2))
        shared = layers.Conv2D(4, 3, padding="same")
        y = keras.layers.TimeDistributed(shared)(inputs)
        y = keras.layers.TimeDistributed(layers.MaxPooling2D())(y)
        return keras.Model(inputs, keras.ops.sum(y, axis=1))

    ours, stock = models_of(wrapped)
    x = random(2, 3, 8, 8, 2)
    near(ours(x), stock(x))
    near(ours.predict(x, verbose=0), stock.predict(x, verbose=0))
