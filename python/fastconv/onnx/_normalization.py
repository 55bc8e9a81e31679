"""Normalisation and softmax."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

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
