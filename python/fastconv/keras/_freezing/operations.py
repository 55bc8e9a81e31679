"""Operations of ``keras.ops`` between the layers of a functional model, such as ``x + y``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastconv.keras._freezing import merging
from fastconv.keras._freezing.registry import Unfreezable, converts_named
from fastconv.keras._freezing.reshaping import cut
from fastconv.keras._freezing.tensors import Array, Builder, Tensor, numbers

_OPS = "keras.src.ops"


def _operand(value: Any) -> Tensor | Array:
    return value if isinstance(value, Tensor) else numbers(value)


def _register_elementwise(operation: str, *names: str) -> None:
    @converts_named(_OPS, *names)
    def convert(builder: Builder, layer: Any, a: Any, b: Any) -> Tensor:
        return merging.elementwise(builder, operation, _operand(a), _operand(b))


_register_elementwise("add", "Add")
_register_elementwise("subtract", "Subtract")
_register_elementwise("multiply", "Multiply")
_register_elementwise("divide", "Divide", "TrueDivide")
_register_elementwise("maximum", "Maximum")
_register_elementwise("minimum", "Minimum")


@converts_named(_OPS, "Negative")
def _negative(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    return builder.add("multiply", [x, numbers(-1.0)], x.shape)


def _register_activation(name: str, attribute: Callable[[Any], list[Any]]) -> None:
    @converts_named(_OPS, name)
    def convert(builder: Builder, layer: Any, x: Tensor) -> Tensor:
        return builder.add("activate", [x], x.shape, activation=attribute(layer))


_register_activation("Relu", lambda layer: ["relu"])
_register_activation("Relu6", lambda layer: ["relu6"])
_register_activation("Sigmoid", lambda layer: ["sigmoid"])
_register_activation("Silu", lambda layer: ["silu"])
_register_activation("Tanh", lambda layer: ["tanh"])
_register_activation("HardSigmoid", lambda layer: ["hard_sigmoid", 1 / 6, 0.5])
_register_activation("HardSilu", lambda layer: ["hard_swish"])
_register_activation("Elu", lambda layer: ["elu", float(layer.alpha)])
_register_activation("LeakyRelu", lambda layer: ["leaky_relu", float(np.float32(layer.negative_slope))])
_register_activation("Gelu", lambda layer: ["gelu_tanh" if layer.approximate else "gelu"])
_register_activation("Clip", lambda layer: ["clip", float(layer.x_min), float(layer.x_max)])


@converts_named(_OPS, "Softmax")
def _softmax(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    return builder.add("softmax", [x], x.shape, axis=layer.axis % x.rank)


def _register_reduction(method: str, name: str) -> None:
    @converts_named(_OPS, name)
    def convert(builder: Builder, layer: Any, x: Tensor) -> Tensor:
        axis = layer.axis
        axes = list(range(x.rank)) if axis is None else [axis] if isinstance(axis, int) else list(axis)
        axes = sorted(a % x.rank for a in axes)
        shape = [1 if a in axes else size for a, size in enumerate(x.shape) if layer.keepdims or a not in axes]
        return builder.add("reduce", [x], shape, method=method, axes=axes, keepdims=bool(layer.keepdims))


_register_reduction("mean", "Mean")
_register_reduction("sum", "Sum")
_register_reduction("max", "Max")
_register_reduction("min", "Min")


@converts_named(_OPS, "Concatenate")
def _concatenate(builder: Builder, layer: Any, tensors: Sequence[Tensor]) -> Tensor:
    return merging.concatenate(builder, tensors, layer.axis)


@converts_named(_OPS, "Transpose")
def _transpose(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    return builder.transpose(x, layer.axes if layer.axes is not None else list(reversed(range(x.rank))))


@converts_named(_OPS, "Reshape")
def _reshape(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    sizes = list(layer.newshape)
    if x.shape[0] is not None and sizes and sizes[0] == x.shape[0]:
        sizes[0] = 0
    shape: list[int | None] = [x.shape[0] if size == 0 else None if size == -1 else size for size in sizes]
    return builder.add("reshape", [x], shape, shape=sizes)


@converts_named(_OPS, "ExpandDims")
def _expand_dims(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    axis = layer.axis % (x.rank + 1)
    return builder.reshape(x, [*x.shape[:axis], 1, *x.shape[axis:]])


@converts_named(_OPS, "Squeeze")
def _squeeze(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    axes = [a % x.rank for a in ([layer.axis] if isinstance(layer.axis, int) else layer.axis or [])]
    drop = axes or [a for a, size in enumerate(x.shape) if size == 1]
    return builder.reshape(x, [size for a, size in enumerate(x.shape) if a not in drop])


@converts_named(_OPS, "GetItem")
def _get_item(builder: Builder, layer: Any, x: Tensor, key: Any) -> Tensor:
    keys = list(key) if isinstance(key, tuple) else [key]
    if Ellipsis in keys:
        at = keys.index(Ellipsis)
        keys[at : at + 1] = [slice(None)] * (x.rank - len(keys) + 1)
    keys += [slice(None)] * (x.rank - len(keys))
    if not all(isinstance(part, slice) and part.step in (None, 1) for part in keys) or len(keys) != x.rank:
        raise Unfreezable("only slices with a step of 1 are supported")
    return cut(builder, x, [part.start for part in keys], [part.stop for part in keys])


@converts_named(_OPS, "Cast")
def _cast(builder: Builder, layer: Any, x: Tensor) -> Tensor:
    if not str(layer.dtype).startswith(("float", "bfloat")):
        raise Unfreezable(f"it casts to {layer.dtype}: a frozen network computes in one floating-point type")
    return x
