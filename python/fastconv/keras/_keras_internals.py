"""All that fastconv uses of Keras beyond its public API.

Only what `accelerate` and `restore` import when they are called may import this module. A new version of Keras can then
break these two, but not the layers.
"""

from __future__ import annotations

from typing import Any

import keras


class UnsupportedKeras(ImportError):
    """A name that Keras had when this was written is gone."""

    def __init__(self, missing: object) -> None:
        super().__init__(
            f"fastconv.keras.accelerate and restore cannot change models of Keras {keras.__version__} ({missing}). The "
            "layers of fastconv.keras still work: build the model with them, or install an earlier version of Keras 3"
        )


try:
    from keras.src.models.functional import Functional, functional_like_constructor
except ImportError as error:
    raise UnsupportedKeras(error) from error


def _private(thing: Any, name: str) -> Any:
    try:
        return getattr(thing, name)
    except AttributeError as error:
        raise UnsupportedKeras(error) from error


def flatten_layers(layer: Any, include_self: bool = True) -> list[Any]:
    """The layer and all layers inside of it; models come before their layers."""
    return list(_private(layer, "_flatten_layers")(include_self=include_self))


def sequential_layers(model: Any) -> list[Any]:
    """With the input, which `layers` leaves out, and which carries its shape, type and name."""
    return list(_private(model, "_layers"))


def weights_scope(layer: Any) -> Any:
    """The scope in which Keras calls ``layer.build``."""
    return _private(layer, "_open_name_scope")()


def is_made_from_tensors(model: Any) -> bool:
    """Whether it is a functional model whose constructor takes input and output tensors."""
    return isinstance(model, Functional) and bool(functional_like_constructor(type(model)))


def runs_its_graph(model: Any) -> bool:
    """Whether it is a functional model that does nothing else when it is called."""
    return isinstance(model, Functional) and type(model).call is Functional.call


def graph_calls(model: Any) -> list[tuple[Any, list[Any]]]:
    """The operations of a functional model, each as often as it is called, and the tensors that they take."""
    depths = _private(model, "_nodes_by_depth").values()
    return [(_private(node, "operation"), _private(node, "input_tensors")) for nodes in depths for node in nodes]


def operation_of(tensor: Any) -> Any:
    """The operation of a functional model that gives `tensor`."""
    return _private(_private(tensor, "_keras_history"), "operation")


def keeps_compile_arguments(model: Any) -> bool:
    return hasattr(model, "_compile_config")


def compile_arguments(model: Any) -> dict[str, Any]:
    """What ``keras.Model.compile`` was given; the model's own dictionary."""
    arguments: dict[str, Any] = _private(_private(model, "_compile_config"), "config")
    return arguments


def trained_variables(optimizer: Any) -> list[Any]:
    """The variables of models for which the optimizer was built."""
    return list(_private(optimizer, "_trainable_variables"))
