"""Networks of our layers train, save, load and print as those of Keras's layers, and exchange weights with them."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastconv.keras as fk
import keras
import layer_pairs
import numpy as np
import tensorflow as tf
from arrays import random
from layer_pairs import STOCK, compiled, digits, near, network
from processes import run_python

fresh = layer_pairs.fresh  # before each test


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


def test_a_network_of_our_layers_learns() -> None:
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


def test_an_exported_model_computes_the_same(tmp_path: Path) -> None:
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


def test_unknown_sizes() -> None:
    """A functional model accepts images of any size."""
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


def models_of(make: Callable[[Any], keras.Model]) -> tuple[keras.Model, keras.Model]:
    ours, stock = make(fk), make(keras.layers)
    ours.set_weights(stock.get_weights())
    return ours, stock


def test_inside_another_layer() -> None:
    """Our layers work inside a TimeDistributed wrapper."""

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
