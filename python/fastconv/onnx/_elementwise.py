"""Activations and arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastconv.network._graph import broadcast
from fastconv.onnx._importer import Node, converts
from fastconv.onnx._tensors import Array, Builder, Tensor, Unsupported, floats

# The attribute `activation` for each operator, with ONNX's own defaults.
_ACTIVATIONS: dict[str, Callable[[Node], list[Any]]] = {
    "Relu": lambda node: ["relu"],
    "Sigmoid": lambda node: ["sigmoid"],
    "Tanh": lambda node: ["tanh"],
    "HardSwish": lambda node: ["hard_swish"],
    "Elu": lambda node: ["elu", node.attribute("alpha", 1.0)],
    "LeakyRelu": lambda node: ["leaky_relu", node.attribute("alpha", 0.01)],
    "HardSigmoid": lambda node: ["hard_sigmoid", node.attribute("alpha", 0.2), node.attribute("beta", 0.5)],
    "Gelu": lambda node: ["gelu_tanh" if node.attribute("approximate", "none") == "tanh" else "gelu"],
}


@converts(*_ACTIVATIONS)
def _activation(node: Node, builder: Builder) -> Tensor:
    return builder.same(node.tensor(), "activate", activation=_ACTIVATIONS[node.proto.op_type](node))


@converts("Swish")
def _swish(node: Node, builder: Builder) -> Tensor:
    if node.attribute("alpha", 1.0) != 1:
        raise Unsupported(f"its alpha is {node.attribute('alpha')}: only 1 is supported")
    return builder.same(node.tensor(), "activate", activation=["silu"])


@converts("Clip")
def _clip(node: Node, builder: Builder) -> Tensor:
    limits = []
    for index, (name, default) in enumerate((("min", -math.inf), ("max", math.inf)), 1):
        limit = node.attribute(name) if node.opset < 11 else node.constant(index, name)
        limits.append(default if limit is None else float(np.asarray(limit).item()))
    limits[0] = min(limits)  # the upper limit wins
    if limits == [0, 6]:
        return builder.same(node.tensor(), "activate", activation=["relu6"])
    encoded = [str(limit) if math.isinf(limit) else limit for limit in limits]
    return builder.same(node.tensor(), "activate", activation=["clip", *encoded])


@converts("PRelu")
def _prelu(node: Node, builder: Builder) -> Tensor:
    x = node.tensor()
    positive = builder.same(x, "activate", activation=["relu"])
    negative = elementwise(builder, "minimum", x, np.float64(0))
    slope = floats(node.constant(1, "slope"))
    if node.opset < 7 and slope.ndim == 1 and slope.size > 1:
        slope = slope.reshape(-1, *[1] * (x.rank - 2))  # one slope for each channel
    return elementwise(builder, "add", positive, elementwise(builder, "multiply", negative, slope))


@converts("Identity", "Dropout")
def _identity(node: Node, builder: Builder) -> Tensor:
    if node.proto.op_type == "Dropout" and node.given(2) and bool(node.constant(2, "training_mode")):
        raise Unsupported("it is in training mode: export the model for inference")
    return node.tensor()


@converts("Cast", "CastLike")
def _cast(node: Node, builder: Builder) -> Tensor:
    if node.dtype() != builder.graph.dtype:
        raise Unsupported(f"it casts to a type other than {builder.graph.dtype}: a network computes in one type")
    return node.tensor()


def elementwise(builder: Builder, operation: str, a: Any, b: Any) -> Tensor:
    """An operation with NumPy's broadcasting, between tensors or a tensor and an array."""
    if not isinstance(a, Tensor) or not isinstance(b, Tensor):
        x, other = (a, b) if isinstance(a, Tensor) else (b, a)
        other = np.asarray(other)
        value: Array
        if other.size == 1 and other.ndim <= x.rank:
            value = other.reshape(())
        elif x.image is not None or other.ndim > x.rank:
            x = builder.plain(x)
            value = other
        elif x.channels_last:
            whole = other.reshape((1,) * (x.rank - other.ndim) + other.shape)
            value = whole.transpose([0, *range(2, x.rank), 1]) if x.rank > 2 else whole
        else:
            value = other
        shape = broadcast(x.shape, other.shape)
        inputs = [x, value] if isinstance(a, Tensor) else [value, x]
        if x.image is not None:
            indices = [v.index if isinstance(v, Tensor) else builder.graph.constant(v) for v in inputs]
            return Tensor(builder.graph.add(operation, indices, x.shape, builder.node), x.shape, image=x.image)
        return builder.add(operation, inputs, shape, last=x.channels_last and len(shape) == x.rank)
    if a.image is not None or b.image is not None:
        if a.image != b.image or a.shape != b.shape:
            a, b = builder.plain(a), builder.plain(b)
        else:
            index = builder.graph.add(operation, [a.index, b.index], a.shape, builder.node)
            return Tensor(index, a.shape, image=a.image)
    if a.rank == b.rank and a.rank > 2 and (a.channels_last or b.channels_last):
        a, b = builder.last(a), builder.last(b)
        return builder.add(operation, [a, b], broadcast(a.shape, b.shape), last=True)
    return builder.add(operation, [builder.plain(a), builder.plain(b)], broadcast(a.shape, b.shape))


def _operand(node: Node, index: int) -> Any:
    return floats(node.constant(index, "operand")) if node.is_constant(index) else node.tensor(index)


_ARITHMETIC = {"Add": "add", "Sub": "subtract", "Mul": "multiply", "Div": "divide", "Max": "maximum", "Min": "minimum"}


@converts(*_ARITHMETIC, "Sum", "Mean")
def _arithmetic(node: Node, builder: Builder) -> Tensor:
    operation = _ARITHMETIC.get(node.proto.op_type, "add")
    result = _operand(node, 0)
    for index in range(1, node.count()):
        result = elementwise(builder, operation, result, _operand(node, index))
    if node.proto.op_type == "Mean":
        result = elementwise(builder, "divide", result, np.float64(node.count()))
    return result if isinstance(result, Tensor) else node.tensor(0)


@converts("Neg")
def _negative(node: Node, builder: Builder) -> Tensor:
    return elementwise(builder, "multiply", node.tensor(), np.float64(-1))
