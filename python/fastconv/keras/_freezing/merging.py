"""Layers that join several tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from fastconv.keras._freezing.registry import converts
from fastconv.keras._freezing.tensors import Array, Builder, Tensor, numbers
from fastconv.network._graph import broadcast


def elementwise(builder: Builder, operation: str, a: Tensor | Array, b: Tensor | Array) -> Tensor:
    return builder.add(operation, [a, b], broadcast(a.shape, b.shape))


def _same_rank(builder: Builder, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Insert dimensions of size 1 after the batch, as Keras does."""
    rank = max(x.rank for x in tensors)
    return [builder.reshape(x, [x.shape[0], *[1] * (rank - x.rank), *x.shape[1:]]) for x in tensors]


def _merge(operation: str, builder: Builder, tensors: Sequence[Tensor]) -> Tensor:
    first, *others = _same_rank(builder, tensors)
    for other in others:
        first = elementwise(builder, operation, first, other)
    return first


def _register(layer: type, operation: str) -> None:
    @converts(layer)
    def convert(builder: Builder, layer: Any, tensors: Sequence[Tensor]) -> Tensor:
        return _merge(operation, builder, tensors)


_register(keras.layers.Add, "add")
_register(keras.layers.Subtract, "subtract")
_register(keras.layers.Multiply, "multiply")
_register(keras.layers.Maximum, "maximum")
_register(keras.layers.Minimum, "minimum")


@converts(keras.layers.Average)
def _average(builder: Builder, layer: Any, tensors: Sequence[Tensor]) -> Tensor:
    total = _merge("add", builder, tensors)
    return builder.add("divide", [total, numbers(float(len(tensors)))], total.shape)


def concatenate(builder: Builder, tensors: Sequence[Tensor], axis: int) -> Tensor:
    axis %= tensors[0].rank
    sizes = [x.shape[axis] for x in tensors]
    shape = list(tensors[0].shape)
    shape[axis] = None if None in sizes else sum(size for size in sizes if size is not None)
    return builder.add("concatenate", tensors, shape, axis=axis)


@converts(keras.layers.Concatenate)
def _concatenate(builder: Builder, layer: Any, tensors: Sequence[Tensor]) -> Tensor:
    return concatenate(builder, tensors, layer.axis)
