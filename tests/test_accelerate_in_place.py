"""Models are accelerated and restored in place, also models that cannot be copied. Copying these is a clear error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import fastconv.keras as fk
import keras
import keras_models
import pytest
from keras_models import all_layers, assert_same, images, near, ours, snapshot, types, uses_our_ops
from stock_models import MODELS, SERVED, Net, compiled, data

layers = keras.layers
fresh = keras_models.fresh  # before each test


# ---- Models that cannot be copied ------------------------------------------------------------------------------------


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
def test_a_model_that_cannot_be_copied_is_accelerated_in_place(make: Callable[[], Any]) -> None:
    model = make()
    with pytest.raises(ValueError, match=r"(?s)cannot be copied: .*inplace=True"):
        fk.accelerate(model)
    assert not ours(model)
    assert fk.accelerate(model, inplace=True) is model
    assert ours(model)


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
def test_accelerate_and_restore_in_place_keep_the_objects(name: str) -> None:
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
    """The models were built from our layers. XLA can compile the restored ones."""
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
