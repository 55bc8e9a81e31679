"""Pools."""

from __future__ import annotations

from typing import Any

from fastconv.onnx._convolutions import as_before, as_images, padding_of, sizes_after, two
from fastconv.onnx._importer import Node, converts
from fastconv.onnx._tensors import Builder, Tensor, Unsupported


def _pool(node: Node, builder: Builder, operation: str, **options: Any) -> Tensor:
    x = node.tensor()
    rank = x.rank - 2
    ksize, strides = two(node.attribute("kernel_shape"), rank), two(node.attribute("strides"), rank)
    dilations = two(node.attribute("dilations"), rank)
    images = as_images(builder, x)
    pads = padding_of(node, x, ksize, strides, dilations)
    ceil = bool(node.attribute("ceil_mode", 0))
    sizes = sizes_after(images, ksize, strides, dilations, pads, ceil)
    y = builder.add(
        operation,
        [images],
        [*images.shape[:2], *sizes],
        last=True,
        ksize=ksize,
        strides=strides,
        padding=pads,
        dilations=dilations,
        ceil_mode=ceil,
        **options,
    )
    return as_before(builder, y, x.rank)


@converts("MaxPool")
def _max_pool(node: Node, builder: Builder) -> Tensor:
    return _pool(node, builder, "max_pool2d")


@converts("AveragePool")
def _average_pool(node: Node, builder: Builder) -> Tensor:
    return _pool(node, builder, "avg_pool2d", count_include_pad=bool(node.attribute("count_include_pad", 0)))


def reduce(builder: Builder, x: Tensor, method: str, axes: list[int], keepdims: bool) -> Tensor:
    axes = sorted(axis % x.rank for axis in axes)
    x = builder.plain(x) if x.image is not None else x
    shape = [1 if a in axes else size for a, size in enumerate(x.shape) if keepdims or a not in axes]
    left = [a for a in range(x.rank) if a not in axes]
    if not keepdims and 1 in left and max(left) > 1:
        x = builder.plain(x)  # stored last, the channels would follow another dimension of the result
    stored = sorted(x.axis(axis) for axis in axes)
    return builder.add(
        "reduce", [x], shape, last=x.channels_last and keepdims, method=method, axes=stored, keepdims=keepdims
    )


@converts("GlobalAveragePool", "GlobalMaxPool")
def _global_pool(node: Node, builder: Builder) -> Tensor:
    x = builder.last(node.tensor())
    method = "mean" if node.proto.op_type == "GlobalAveragePool" else "max"
    return reduce(builder, x, method, list(range(2, x.rank)), True)


@converts("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd")
def _reduce(node: Node, builder: Builder) -> Tensor:
    x = node.tensor()
    axes = node.attribute("axes")
    if axes is None and node.given(1):
        axes = node.constant(1, "axes").tolist()
    if not axes:
        if node.attribute("noop_with_empty_axes", 0):
            return x
        axes = list(range(x.rank))
    if x.rank == 0:
        raise Unsupported("its input has no dimensions")
    method = node.proto.op_type.removeprefix("Reduce").lower()
    return reduce(builder, x, method, axes, bool(node.attribute("keepdims", 1)))
