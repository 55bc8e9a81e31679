"""Shared by the tests of whole Keras models: their layers, their state, and comparisons."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from fastconv.keras._classes import stock_class


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(5)
    yield
    keras.config.set_dtype_policy("float32")


def images(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape or (4, 16, 16, 3)).astype(np.float32)


def all_layers(model: Any) -> list[Any]:
    return list(model._flatten_layers())


def types(model: Any) -> list[type]:
    return [type(layer) for layer in all_layers(model)]


def ours(model: Any) -> list[str]:
    """The names of the layers whose classes are fastconv's."""
    return sorted(layer.name for layer in all_layers(model) if stock_class(type(layer)) is not type(layer))


def configs_of(model: Any) -> list[dict[str, Any]]:
    """The configs of all layers except nested models. Their configs would name the classes of the layers inside."""
    return [layer.get_config() for layer in all_layers(model) if not isinstance(layer, keras.Model)]


def uses_our_ops(model: Any, x: np.ndarray) -> bool:
    graph = tf.function(lambda x: model(x)).get_concrete_function(tf.TensorSpec(x.shape, x.dtype)).graph
    return any(op.type.startswith("Fastconv") for op in graph.get_operations())


def snapshot(model: Any) -> dict[str, Any]:
    """Everything in a model that must not change, by identity and by value."""
    return {
        "layers": [(id(layer), type(layer), layer.name, layer.trainable) for layer in all_layers(model)],
        "variables": [(id(v), v.path, v.trainable) for v in model.variables],
        "values": [keras.ops.convert_to_numpy(v) for v in model.variables],
        "nodes": [(len(layer._inbound_nodes), len(layer._outbound_nodes)) for layer in all_layers(model)],
        "compiled": [
            (id(getattr(part, name, None)))
            for part in all_layers(model)
            if isinstance(part, keras.Model)
            for name in ("optimizer", "loss", "train_function", "predict_function", "_compile_config")
        ],
        "optimizer": [keras.ops.convert_to_numpy(v) for v in (model.optimizer.variables if model.compiled else ())],
    }


def assert_same(a: Any, b: Any) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        a, b = list(a.values()), list(b.values())
    if isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, np.ndarray):
        np.testing.assert_array_equal(a, b)
    else:
        assert a == b


def twin(model: Any, copy: Any) -> None:
    """Assert that two models are equal but share no layer and no variable."""
    first, second = all_layers(model), all_layers(copy)
    assert [(x.name, x.trainable, x.dtype_policy.name, x.built) for x in first] == [
        (x.name, x.trainable, x.dtype_policy.name, x.built) for x in second
    ]
    assert configs_of(model) == configs_of(copy)
    assert not {id(x) for x in first} & {id(x) for x in second}
    assert not {id(v) for v in model.variables} & {id(v) for v in copy.variables}
    assert [v.path for v in model.weights] == [v.path for v in copy.weights]
    assert_same(model.get_weights(), copy.get_weights())
    assert_same(
        [keras.ops.convert_to_numpy(v) for v in model.variables],
        [keras.ops.convert_to_numpy(v) for v in copy.variables],
    )


def near(a: Any, b: Any, tolerance: float = 1e-5) -> None:
    a, b = keras.tree.flatten(a), keras.tree.flatten(b)
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=tolerance, atol=tolerance)
