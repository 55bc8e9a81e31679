"""Runs a Keras model on symbolic tensors, and so collects the graph of a frozen network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from fastconv.keras._freezing import Unfreezable, converter_of
from fastconv.keras._freezing.tensors import Builder, Tensor
from fastconv.keras._keras_internals import flatten_layers, functional_form, operation_of, run_graph
from fastconv.network._graph import Graph


def graph_of(model: Any) -> Graph:
    """The graph of a model, before any pass simplifies it."""
    walk = _Walk(Graph(_dtype_of(model)))
    functional = functional_form(model)
    if functional is None:
        kind = (
            "is not built: call it once, or model.build(shape), before freezing"
            if not model.built
            else ("computes in its own call(): write it as a functional or sequential model")
        )
        raise ValueError(f"model {model.name!r} ({type(model).__name__}) cannot be frozen, because it {kind}")
    names = _unique([operation_of(x).name for x in functional.inputs])
    inputs = [
        Tensor(walk.graph.input(name, x.shape), tuple(x.shape))
        for name, x in zip(names, functional.inputs, strict=True)
    ]
    outputs = keras.tree.flatten(walk.run(functional, inputs))
    if walk.problems:
        lines = "".join(f"\n- {problem}" for problem in walk.problems)
        raise ValueError(
            f"model {model.name!r} cannot be frozen, because of these layers:{lines}\nReplace them, or keep the model "
            "in Keras and speed it up with fastconv.keras.accelerate"
        )
    names = _output_names(functional)
    walk.graph.outputs = list(zip(names, [y.index for y in outputs], strict=True))
    return walk.graph


def _dtype_of(model: Any) -> np.dtype[Any]:
    types = {getattr(layer, "compute_dtype", None) for layer in flatten_layers(model)}
    return np.dtype(np.float64 if "float64" in types else np.float32)


def _output_names(functional: Any) -> list[str]:
    """The keys of the outputs if they are a dictionary, else the names of the layers that compute them."""
    if isinstance(functional.output, dict):
        return [str(key) for key in keras.tree.flatten({key: key for key in functional.output})]
    return _unique(functional.output_names)


def _unique(names: list[str]) -> list[str]:
    """The names. A number is appended to a name that occurs again."""
    result: list[str] = []
    for name in names:
        count = 1
        unique = name
        while unique in result:
            unique = f"{name}_{count}"
            count += 1
        result.append(unique)
    return result


class _Walk:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.problems: list[str] = []

    def run(self, functional: Any, inputs: Any) -> Any:
        return run_graph(functional, inputs, self._applier)

    def _applier(self, operation: Any) -> Callable[..., Any]:
        def apply(*arguments: Any, **keywords: Any) -> Any:
            if isinstance(operation, keras.Model):
                functional = functional_form(operation)
                if functional is not None:
                    return self.run(functional, arguments[0] if len(arguments) == 1 else list(arguments))
                return self._refuse(
                    operation,
                    "computes in its own call(): write it as a functional or sequential model",
                    arguments,
                    keywords,
                )
            convert = converter_of(operation)
            if convert is None:
                return self._refuse(operation, "layers of this class are not supported", arguments, keywords)
            keywords = {name: value for name, value in keywords.items() if value is not None}
            keywords.pop("training", None)  # a frozen network always computes with training=False
            try:
                return convert(Builder(self.graph, operation.name), operation, *arguments, **keywords)
            except Unfreezable as reason:
                return self._refuse(operation, str(reason), arguments, keywords)

        return apply

    def _refuse(self, operation: Any, reason: str, arguments: Any, keywords: Any) -> Any:
        """Note the problem and go on, so that one error lists all problems."""
        self.problems.append(f"{operation.name!r} ({type(operation).__name__}): {reason}")
        symbolic = keras.tree.map_structure(
            lambda x: keras.KerasTensor(x.shape, str(self.graph.dtype)) if isinstance(x, Tensor) else x,
            (arguments, keywords),
        )
        outputs = operation.compute_output_spec(*symbolic[0], **symbolic[1])
        return keras.tree.map_structure(lambda y: Tensor(self.graph.value(y.shape), tuple(y.shape)), outputs)
