"""Convolutions and matrix products."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.onnx._elementwise import elementwise
from fastconv.onnx._importer import Node, converts
from fastconv.onnx._tensors import Array, Builder, Tensor, Unsupported, floats


def two(values: Sequence[int] | None, rank: int) -> list[int]:
    """Strides, dilations and the like along height and width. For sequences, 1 is added for the height."""
    values = [1] * rank if values is None else list(values)
    return [1, *values] if rank == 1 else values


def as_images(builder: Builder, x: Tensor) -> Tensor:
    """The tensor as images (N, H, W, C). Sequences (N, C, L) become images of height 1."""
    if x.rank not in (3, 4):
        raise Unsupported(f"its input has shape {list(x.shape)}: only sequences (N, C, L) and images are supported")
    x = builder.last(x)
    if x.rank == 4:
        return x
    batch, channels, length = x.shape
    if channels is None:
        raise Unsupported("the number of its channels is not known: give the model's inputs fixed sizes")
    return builder.add("reshape", [x], [batch, channels, 1, length], last=True, shape=[0, 1, -1, channels])


def as_before(builder: Builder, y: Tensor, rank: int) -> Tensor:
    """Undo `as_images`."""
    if rank == 4:
        return y
    batch, channels, _, length = y.shape
    return builder.add("reshape", [y], [batch, channels, length], last=True, shape=[0, -1, channels])


def padding_of(
    node: Node, x: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int]
) -> list[int]:
    """The attribute `padding` as [top, bottom, left, right]."""
    rank = x.rank - 2
    mode = node.attribute("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        pads = node.attribute("pads") or [0] * (2 * rank)
        first, last = list(pads[:rank]), list(pads[rank:])
    elif mode == "VALID":
        first = last = [0] * rank
    else:
        totals = []
        for size, k, stride, dilation in zip(
            x.shape[2:], kernel[-rank:], strides[-rank:], dilations[-rank:], strict=True
        ):
            window = (k - 1) * dilation + 1
            if size is None and stride != 1:
                raise Unsupported(f"auto_pad={mode} with strides needs a known image size")
            totals.append(max(window - 1 if size is None else (-(-size // stride) - 1) * stride + window - size, 0))
        small = [total // 2 for total in totals]
        large = [total - total // 2 for total in totals]
        first, last = (small, large) if mode == "SAME_UPPER" else (large, small)
    if min([*first, *last]) < 0:
        raise Unsupported(f"its padding {first + last} is negative: only padding of at least 0 is supported")
    if rank == 1:
        first, last = [0, *first], [0, *last]
    return [side for pair in zip(first, last, strict=True) for side in pair]


def size_after(size: int | None, window: int, stride: int, pads: Sequence[int], ceil: bool = False) -> int | None:
    if size is None:
        return None
    span = size + pads[0] + pads[1] - window
    count = (-(-span // stride) if ceil else span // stride) + 1
    if ceil and (count - 1) * stride >= size + pads[0]:
        count -= 1  # the last window would start in the padding at the end
    return count


def sizes_after(
    images: Tensor,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[int],
    ceil: bool = False,
) -> list[int | None]:
    """The height and width of the output of a convolution or pool."""
    windows = [(k - 1) * dilation + 1 for k, dilation in zip(kernel, dilations, strict=True)]
    return [size_after(images.shape[2 + a], windows[a], strides[a], pads[2 * a : 2 * a + 2], ceil) for a in range(2)]


@converts("Conv")
def _conv(node: Node, builder: Builder) -> Tensor:
    x = node.tensor()
    weights, bias = floats(node.constant(1, "weights")), node.constant(2, "bias")
    rank, groups = x.rank - 2, node.attribute("group", 1)
    images = as_images(builder, x)
    filters = weights[:, :, np.newaxis] if rank == 1 else weights
    kernel = filters.shape[2:]
    strides, dilations = two(node.attribute("strides"), rank), two(node.attribute("dilations"), rank)
    pads = padding_of(node, x, kernel, strides, dilations)
    sizes = sizes_after(images, kernel, strides, dilations, pads)
    depthwise = groups > 1 and weights.shape[1] == 1 and groups == images.shape[1]
    if depthwise:  # (C*M, 1, R, S) -> (R, S, C, M)
        operation, filters = "depthwise_conv2d", filters.reshape(groups, -1, *kernel).transpose(2, 3, 0, 1)
    else:
        operation, filters = "conv2d", filters.transpose(2, 3, 1, 0)
    y = builder.add(
        operation,
        [images, filters, None if bias is None else floats(bias), None],
        [images.shape[0], weights.shape[0], *sizes],
        last=True,
        strides=strides,
        padding=pads,
        dilations=dilations,
    )
    return as_before(builder, y, x.rank)


@converts("ConvTranspose")
def _conv_transpose(node: Node, builder: Builder) -> Tensor:
    x = node.tensor()
    weights, bias = floats(node.constant(1, "weights")), node.constant(2, "bias")
    rank, groups = x.rank - 2, node.attribute("group", 1)
    images = as_images(builder, x)
    filters = weights[:, :, np.newaxis] if rank == 1 else weights
    kernel = filters.shape[2:]
    strides, dilations = two(node.attribute("strides"), rank), two(node.attribute("dilations"), rank)
    extra = list(node.attribute("output_padding") or [0] * rank)
    extra = [0, *extra] if rank == 1 else extra
    wanted = node.attribute("output_shape")
    mode = node.attribute("auto_pad", "NOTSET")
    windows = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if wanted is None and mode in ("NOTSET", "VALID", ""):
        pads = padding_of(node, x, kernel, strides, dilations)
    else:
        wanted = [1, *wanted][-2:] if wanted is not None else None
        pads = []
        for a in range(2):
            size = images.shape[2 + a]
            if wanted is not None and size is None:
                raise Unsupported("output_shape needs an input of known size: give the model's inputs fixed sizes")
            grown = wanted[a] if wanted is not None else None
            rest = strides[a] if grown is None else grown - (size - 1) * strides[a]  # type: ignore[operator]
            total = windows[a] + extra[a] - rest
            if total < 0:
                extra[a] -= total
                total = 0
            half = total // 2
            pads += [half, total - half] if mode == "SAME_UPPER" else [total - half, half]
    sizes = []
    for a in range(2):
        size = images.shape[2 + a]
        added = windows[a] + extra[a] - pads[2 * a] - pads[2 * a + 1]
        sizes.append(None if size is None else (size - 1) * strides[a] + added)
    y = builder.add(
        "conv2d_transpose",
        [images, filters.transpose(2, 3, 1, 0), None if bias is None else floats(bias), None],
        [images.shape[0], weights.shape[1] * groups, *sizes],
        last=True,
        strides=strides,
        padding=pads,
        output_padding=extra,
        dilations=dilations,
        **({"groups": groups} if groups > 1 else {}),
    )
    return as_before(builder, y, x.rank)


def dense(builder: Builder, x: Tensor, weights: Array, bias: Array | None) -> Tensor:
    """``x @ weights + bias``. If `x` is a flattened image, the rows of the weights are put into its stored order."""
    if x.image is not None:
        channels, *sizes = x.image
        rows = weights.reshape(channels, math.prod(sizes), -1).transpose(1, 0, 2)
        weights = rows.reshape(weights.shape)
    elif x.channels_last and x.rank > 2:
        x = builder.plain(x)
    return builder.add("dense", [x, weights, bias, None], [*x.shape[:-1], weights.shape[1]])


@converts("Gemm")
def _gemm(node: Node, builder: Builder) -> Tensor:
    weights = floats(node.constant(1, "weights"))
    weights = weights.T if node.attribute("transB", 0) else weights
    x = node.tensor()
    if node.attribute("transA", 0):
        x = builder.plain(x)
        x = builder.add("transpose", [x], x.shape[::-1], perm=[1, 0])
    alpha, beta = node.attribute("alpha", 1.0), node.attribute("beta", 1.0)
    bias: Any = None
    if node.given(2) and not node.is_constant(2):
        y = dense(builder, x, weights * alpha, None)
        added = node.tensor(2)
        scaled = added if beta == 1 else elementwise(builder, "multiply", added, np.float64(beta))
        return elementwise(builder, "add", y, scaled)
    if node.given(2):
        bias = floats(node.constant(2, "bias"))
        if bias.size not in (1, weights.shape[1]) or (bias.ndim == 2 and bias.shape[0] != 1):
            y = dense(builder, x, weights * alpha, None)
            return builder.add("add", [y, bias * beta], y.shape)
        bias = np.broadcast_to(bias.ravel() * beta, (weights.shape[1],))
    return dense(builder, x, weights * alpha, bias)


@converts("MatMul")
def _matmul(node: Node, builder: Builder) -> Tensor:
    weights = floats(node.constant(1, "second matrix"))
    if weights.ndim != 2:
        raise Unsupported(f"its second matrix must have 2 dimensions, got {weights.ndim}")
    return dense(builder, node.tensor(), weights, None)
