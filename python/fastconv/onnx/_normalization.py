"""Normalisation and softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from fastconv.onnx._elementwise import elementwise
from fastconv.onnx._importer import Node, converts
from fastconv.onnx._tensors import Builder, Tensor, Unsupported, floats, known_sizes


@converts("BatchNormalization")
def _batch_normalization(node: Node, builder: Builder) -> Tensor:
    if node.attribute("training_mode", 0):
        raise Unsupported("it is in training mode: export the model for inference")
    gamma, beta, mean, variance = (
        floats(node.constant(index, what)) for index, what in enumerate(("scale", "bias", "mean", "variance"), 1)
    )
    scale = gamma / np.sqrt(variance + node.attribute("epsilon", 1e-5))
    return scale_shift(builder, node.tensor(), scale, beta - mean * scale)


def scale_shift(builder: Builder, x: Tensor, scale: Any, shift: Any) -> Tensor:
    """``x * scale + shift`` with one number for each channel, ONNX's second dimension."""
    if x.image is not None:
        x = builder.plain(x)
    y = builder.last(x)
    return builder.add("scale_shift", [y, scale, shift], y.shape, last=y.channels_last)


@converts("LayerNormalization")
def _layer_normalization(node: Node, builder: Builder) -> Tensor:
    x = builder.plain(node.tensor())
    axis = node.attribute("axis", -1) % x.rank
    shape = known_sizes(x.shape[axis:])
    scale, offset = (
        None if value is None else np.broadcast_to(floats(value), shape)
        for value in (node.constant(1, "scale"), node.constant(2, "bias"))
    )
    return builder.add(
        "layer_normalization", [x, scale, offset], x.shape, axis=axis, epsilon=node.attribute("epsilon", 1e-5)
    )


@converts("NormalizeAxes")
def _normalize_axes(node: Node, builder: Builder) -> Tensor:
    """A layer normalisation that the model writes as several nodes. See `find_layer_normalization`."""
    x = node.tensor()
    axes = [int(axis) for axis in node.attribute("axes")]
    x = builder.plain(x) if x.image is not None else x
    if sorted(x.axis(axis) for axis in axes) != list(range(x.rank - len(axes), x.rank)):
        x = builder.last(x) if axes == [1] else builder.plain(x)
    stored = sorted(x.axis(axis) for axis in axes)
    if stored != list(range(x.rank - len(axes), x.rank)):
        raise Unsupported(f"it normalises the dimensions {axes}: only the last ones or the channels are supported")
    epsilon = float(node.constant(3, "epsilon").item())
    y = builder.add(
        "layer_normalization", [x, None, None], x.shape, last=x.channels_last, axis=stored[0], epsilon=epsilon
    )
    for operation, index in (("multiply", 1), ("add", 2)):
        if node.given(index):
            y = elementwise(builder, operation, y, floats(node.constant(index, "factor or offset")))
    return y


@converts("InstanceNormalization")
def _instance_normalization(node: Node, builder: Builder) -> Tensor:
    x = node.tensor()
    if x.rank < 3:
        raise Unsupported(f"its input must have at least 3 dimensions, got {x.rank}")
    x = builder.plain(x)
    y = builder.add("layer_normalization", [x, None, None], x.shape, axis=2, epsilon=node.attribute("epsilon", 1e-5))
    return _scaled(node, builder, y, 1)


@converts("GroupNormalization")
def _group_normalization(node: Node, builder: Builder) -> Tensor:
    x = builder.last(node.tensor())
    groups = int(node.attribute("num_groups"))
    batch, channels, *sizes = x.shape
    each, rest = divmod(known_sizes([channels])[0], groups) if groups > 0 else (0, 1)
    if x.rank < 3 or rest:
        raise Unsupported(f"its input of shape {list(x.shape)} cannot be divided into {groups} groups of channels")
    free = [0] * (x.rank - 1)
    split = builder.add("reshape", [x], [batch, *sizes, groups, each], shape=[*free, groups, each])
    axes = [0, x.rank - 1, x.rank, *range(1, x.rank - 1)]
    turned = builder.add("transpose", [split], [batch, groups, each, *sizes], perm=axes)
    y = builder.add(
        "layer_normalization", [turned, None, None], turned.shape, axis=2, epsilon=node.attribute("epsilon", 1e-5)
    )
    back = builder.add("transpose", [y], split.shape, perm=[0, *range(3, x.rank + 1), 1, 2])
    joined = builder.add("reshape", [back], x.shape, last=True, shape=[*free, -1])
    return _scaled(node, builder, joined, each)


def _scaled(node: Node, builder: Builder, y: Tensor, each: int) -> Tensor:
    """The normalised tensor, times the node's scale, plus its bias. Both may have one number per `each` channels."""
    channels = known_sizes([y.shape[1]])[0]
    scale, bias = (floats(node.constant(index, what)) for index, what in ((1, "scale"), (2, "bias")))
    scale, bias = (np.repeat(value, each) if value.size < channels else value for value in (scale, bias))
    if np.all(scale == 1) and not np.any(bias):
        return builder.last(y)
    return scale_shift(builder, y, scale, bias)


@converts("Softmax", "LogSoftmax")
def _softmax(node: Node, builder: Builder) -> Tensor:
    operation = "softmax" if node.proto.op_type == "Softmax" else "log_softmax"
    x = node.tensor()
    axis = node.attribute("axis", -1 if node.opset >= 13 else 1) % x.rank
    if node.opset < 13 and axis < x.rank - 1:
        # Before version 13, all dimensions from `axis` on count as one.
        x = builder.plain(x)
        known_sizes(x.shape[1:axis])
        size = math.prod(known_sizes(x.shape[axis:]))
        flat = builder.add("reshape", [x], [None, size], shape=[-1, size])
        y = builder.add(operation, [flat], flat.shape, axis=1)
        return builder.add("reshape", [y], x.shape, shape=[-1, *x.shape[1:]])
    x = builder.plain(x) if x.image is not None else x
    return builder.add(operation, [x], x.shape, last=x.channels_last, axis=x.axis(axis))
