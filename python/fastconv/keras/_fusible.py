"""Finds the layers that `accelerate` lets the layer before them compute."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import keras

from fastconv.keras._activations import trainable_layer
from fastconv.keras._classes import stock_class
from fastconv.keras._fused import ACTIVATIONS, is_relu
from fastconv.keras._keras_internals import flatten_layers, graph_calls, operation_of, runs_its_graph
from fastconv.keras._serving import why_stock
from fastconv.keras.convolutional import is_small
from fastconv.keras.normalization import why_keras

_layers = keras.layers
_Edge: TypeAlias = tuple[Any, Any, bool]


def fusible(model: Any) -> dict[Any, list[Any]]:
    """For each layer that can be fused, or already is: the layers right before it that compute it.

    A batch normalisation without such layers has an empty list. It is in the result if it computes a layer after it.

    Fusing keeps the output of the layer before available. But if another layer uses this output, the layer before runs
    twice. A layer is therefore left out if its input has another consumer in some graph.
    """
    edges = [edge for part in flatten_layers(model) for edge in _edges(part)]
    folded = _pairs(edges, lambda before, after: _is_foldable(before) and _is_normalization(after))
    added = _pairs(edges, lambda before, after: _is_normalization(before) and _is_addition(after))
    activated = _pairs(
        edges,
        lambda before, after: (
            (_is_linear(before) and is_relu_layer(after))
            or (_is_activation(after) and _is_normalization(before))
            or (_is_activation(after) and before in added and not _is_regularized(before))
        ),
    )
    pooled = _pairs(edges, lambda before, after: _is_max_pool(after) and _is_poolable(before, activated))
    before = {layer for layers in (added | activated).values() for layer in layers}
    alone: dict[Any, list[Any]] = {layer: [] for layer in before if _is_normalization(layer)}
    return alone | folded | added | activated | pooled


def is_fusible_kind(layer: Any) -> bool:
    """Whether a layer can be fused if the layer before it allows that."""
    return _is_addition(layer) or _is_activation(layer)


def is_relu_layer(layer: Any) -> bool:
    """Whether a layer is a ReLU of a class that can be fused."""
    return stock_class(type(layer)) in ACTIVATIONS and is_relu(layer)


def _pairs(edges: list[_Edge], computes: Callable[[Any, Any], bool]) -> dict[Any, list[Any]]:
    """For each layer that layers right before it compute: those layers.

    Leaves out a layer if one of those layers has an output that is used elsewhere.
    """
    pairs: dict[Any, list[Any]] = {}
    shared = set()
    for before, after, is_private in edges:
        if not computes(before, after) or before.compute_dtype != after.compute_dtype:
            continue
        if not is_private:
            shared.add(after)
        elif before not in pairs.setdefault(after, []):
            pairs[after].append(before)
    return {after: layers for after, layers in pairs.items() if after not in shared}


def _edges(part: Any) -> Iterator[_Edge]:
    """Pairs of consecutive operations of a model, and whether the second is the only consumer of the first."""
    if type(part) is keras.Sequential:
        for first, second in zip(part.layers, part.layers[1:], strict=False):
            yield first, second, True
    elif runs_its_graph(part):
        calls = graph_calls(part)
        seen = Counter(id(tensor) for _, tensors in calls for tensor in tensors)
        seen.update(id(tensor) for tensor in part.outputs)
        for operation, tensors in calls:
            for tensor in tensors:
                yield operation_of(tensor), operation, seen[id(tensor)] == 1


def _is_linear(layer: Any) -> bool:
    """Whether a layer is a convolution on fastconv's kernels, without activation and activity regularizer."""
    return _is_convolution(layer, _layers.Conv2D) and layer.activation is keras.activations.linear


def _is_foldable(layer: Any) -> bool:
    """Whether a layer is such a convolution that can also compute a batch normalisation."""
    kinds = _layers.Conv2D, _layers.DepthwiseConv2D, _layers.SeparableConv2D
    return _is_convolution(layer, *kinds) and layer.activation is keras.activations.linear


def _is_convolution(layer: Any, *classes: type) -> bool:
    return stock_class(type(layer)) in classes and not _is_regularized(layer) and not why_stock(layer)


def _is_poolable(layer: Any, activated: dict[Any, list[Any]]) -> bool:
    """Whether a layer is a small convolution, or the ReLU after one, that a max-pooling can compute."""
    activations = keras.activations.linear, keras.activations.relu
    return not _is_regularized(layer) and all(
        _is_convolution(conv, _layers.Conv2D) and conv.activation in activations and is_small(conv)
        for conv in activated.get(layer, [layer])
    )


def _is_max_pool(layer: Any) -> bool:
    return stock_class(type(layer)) is _layers.MaxPooling2D and layer.compute_dtype in ("float32", "float64")


def _is_normalization(layer: Any) -> bool:
    """Whether a layer is a batch normalisation on fastconv's kernels, without activity regularizer."""
    return (
        stock_class(type(layer)) is _layers.BatchNormalization
        and not _is_regularized(layer)
        and layer.compute_dtype in ("float32", "float64")
        and why_keras(layer) is None
    )


def _is_addition(layer: Any) -> bool:
    return stock_class(type(layer)) is _layers.Add


def _is_activation(layer: Any) -> bool:
    return stock_class(type(layer)) in ACTIVATIONS and trainable_layer(layer) is not None


def _is_regularized(layer: Any) -> bool:
    """Whether a layer's output also adds to the loss, which is another use of it."""
    return layer.activity_regularizer is not None
