"""Finds the ReLU layers that `accelerate` lets a convolution compute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import keras

from fastconv.keras import convolutional
from fastconv.keras._classes import stock_class
from fastconv.keras._fused import FUSED, is_relu
from fastconv.keras._keras_internals import flatten_layers, graph_calls, operation_of, runs_its_graph
from fastconv.keras._serving import why_stock


def fusible(model: Any) -> dict[Any, list[Any]]:
    """For each ReLU layer that can be fused, or already is: the convolutions right before it.

    Fusing keeps the output of the convolution available. But if another layer uses this output, the convolution runs
    twice. A ReLU layer is therefore left out if its input has another consumer in some graph.
    """
    pairs: dict[Any, list[Any]] = {}
    shared = set()
    for part in flatten_layers(model):
        for conv, relu, is_private in _edges(part):
            if not (_is_linear(conv) and is_relu_layer(relu) and conv.compute_dtype == relu.compute_dtype):
                continue
            if not is_private:
                shared.add(relu)
            elif conv not in pairs.setdefault(relu, []):
                pairs[relu].append(conv)
    return {relu: convs for relu, convs in pairs.items() if relu not in shared}


def _edges(part: Any) -> Iterator[tuple[Any, Any, bool]]:
    """Pairs of consecutive operations of a model, and whether the second is the only consumer of the first."""
    if type(part) is keras.Sequential:
        for first, second in zip(part.layers, part.layers[1:], strict=False):
            yield first, second, True
    elif runs_its_graph(part):
        calls = graph_calls(part)
        seen = Counter(id(tensor) for _, tensors in calls for tensor in tensors)
        seen.update(id(tensor) for tensor in part.outputs)
        for operation, tensors in calls:
            if len(tensors) == 1:
                yield operation_of(tensors[0]), operation, seen[id(tensors[0])] == 1


def _is_linear(layer: Any) -> bool:
    """Whether a layer is a convolution on fastconv's kernels, without activation and activity regularizer."""
    return (
        type(layer) in (keras.layers.Conv2D, convolutional.Conv2D)
        and layer.activation is keras.activations.linear
        and layer.activity_regularizer is None
        and not why_stock(layer)
    )


def is_relu_layer(layer: Any) -> bool:
    """Whether a layer is a ReLU of a class that can be fused."""
    return stock_class(type(layer)) in FUSED and is_relu(layer)
