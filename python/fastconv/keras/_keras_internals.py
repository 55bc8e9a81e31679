"""All that fastconv uses of Keras beyond its public API.

`accelerate` and `restore` import this module when they are called, and nothing else may import it. A new version of
Keras can then break these two functions, but not the layers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras


class UnsupportedKeras(ImportError):
    """An internal name of Keras that fastconv uses does not exist."""

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
    """The layer and all layers inside it. Models come before their layers."""
    return list(_private(layer, "_flatten_layers")(include_self=include_self))


def sequential_layers(model: Any) -> list[Any]:
    """All layers, including the input layer. The attribute `layers` leaves the input layer out."""
    return list(_private(model, "_layers"))


def weights_scope(layer: Any) -> Any:
    """The scope in which Keras calls ``layer.build``."""
    return _private(layer, "_open_name_scope")()


def is_made_from_tensors(model: Any) -> bool:
    """Whether `model` is a functional model whose constructor takes input and output tensors."""
    return isinstance(model, Functional) and bool(functional_like_constructor(type(model)))


def runs_its_graph(model: Any) -> bool:
    """Whether `model` is a functional model whose call only runs its graph."""
    return isinstance(model, Functional) and type(model).call is Functional.call


def functional_form(model: Any) -> Any:
    """The functional model that computes what `model` computes, or None if there is none."""
    if isinstance(model, keras.Sequential) and type(model).call is keras.Sequential.call:
        return _private(model, "_functional")
    return model if runs_its_graph(model) else None


def run_graph(model: Any, inputs: Any, applier: Callable[[Any], Callable[..., Any]]) -> Any:
    """Run a functional model. ``applier(operation)`` gives the function that stands for each operation."""
    return _private(model, "_run_through_graph")(inputs, operation_fn=applier)


def graph_calls(model: Any) -> list[tuple[Any, list[Any]]]:
    """The calls of a functional model. Each is an operation and its input tensors."""
    depths = _private(model, "_nodes_by_depth").values()
    return [(_private(node, "operation"), _private(node, "input_tensors")) for nodes in depths for node in nodes]


def operation_of(tensor: Any) -> Any:
    """The operation of a functional model that computes `tensor`."""
    return _private(_private(tensor, "_keras_history"), "operation")


def keeps_compile_arguments(model: Any) -> bool:
    return hasattr(model, "_compile_config")


def compile_arguments(model: Any) -> dict[str, Any]:
    """The arguments of ``keras.Model.compile``, as the dictionary that the model itself uses."""
    arguments: dict[str, Any] = _private(_private(model, "_compile_config"), "config")
    return arguments


def trained_variables(optimizer: Any) -> list[Any]:
    """The variables for which the optimizer was built."""
    return list(_private(optimizer, "_trainable_variables"))
