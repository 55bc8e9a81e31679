"""Which pairs of layers `accelerate` can fuse."""

from __future__ import annotations

from collections import Counter
from typing import Any

import keras

from fastconv.keras import convolutional
from fastconv.keras._keras_internals import flatten_layers, graph_calls, operation_of, runs_its_graph


def fusible(model: Any) -> list[tuple[Any, Any]]:
    """Convolutions and the ReLU layers after them, both used once in all of the model, of which nobody sees between."""
    pairs = []
    uses: Counter[int] = Counter()
    for part in flatten_layers(model):
        if type(part) is keras.Sequential:
            uses.update(map(id, part.layers))
            pairs += list(zip(part.layers, part.layers[1:], strict=False))
        elif runs_its_graph(part):
            calls = graph_calls(part)
            uses.update(id(operation) for operation, _ in calls)
            seen = Counter(id(tensor) for _, tensors in calls for tensor in tensors)
            seen.update(id(tensor) for tensor in part.outputs)
            for operation, tensors in calls:
                if len(tensors) == 1 and seen[id(tensors[0])] == 1:
                    pairs.append((operation_of(tensors[0]), operation))
    return [
        (conv, relu)
        for conv, relu in pairs
        if _is_linear(conv) and _is_relu(relu) and conv.compute_dtype == relu.compute_dtype
        if uses[id(conv)] == uses[id(relu)] == 1
    ]


def _is_linear(layer: Any) -> bool:
    """Whether it is a convolution whose outputs nobody has changed, nor looks at for a loss."""
    return (
        type(layer) in (keras.layers.Conv2D, convolutional.Conv2D)
        and layer.activation is keras.activations.linear
        and layer.activity_regularizer is None
    )


def _is_relu(layer: Any) -> bool:
    if type(layer) is keras.layers.Activation:
        return layer.activation is keras.activations.relu
    return type(layer) is keras.layers.ReLU and (layer.max_value, layer.negative_slope, layer.threshold) == (None, 0, 0)
