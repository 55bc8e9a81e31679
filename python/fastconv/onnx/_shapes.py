"""Operators that move, cut, join or resize."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastconv.onnx._importer import Node, converts
from fastconv.onnx._sizes import Size
from fastconv.onnx._tensors import Builder, Tensor, Unsupported, known_sizes, moved


@converts("Flatten")
def _flatten(node: Node, builder: Builder) -> Tensor:
    x = node.tensor()
    axis = node.attribute("axis", 1)
    axis = axis + x.rank if axis < 0 else axis
    if axis == 1:
        return flatten(builder, x)
    x = builder.plain(x)
    before, after = x.shape[:axis], x.shape[axis:]
    sizes = [None if None in part else math.prod(part) for part in (before, after)]  # type: ignore[arg-type]
    if None not in before:
        attribute = [sizes[0], -1]
    elif None not in after:
        attribute = [-1, sizes[1]]
    else:
        raise Unsupported("the sizes of its input are not known: give the model's inputs fixed sizes")
    return builder.add("reshape", [x], sizes, shape=attribute)


def flatten(builder: Builder, x: Tensor) -> Tensor:
    """(N, C, H, W) -> (N, C*H*W). If values are stored as (H, W, C), they stay so, and the tensor remembers it."""
    if x.image is not None or x.rank == 2:
        return x
    known = None not in x.shape[1:]
    size = math.prod(x.shape[1:]) if known else None  # type: ignore[arg-type]
    if x.channels_last and known and x.rank > 2:
        index = builder.graph.add("reshape", [x.index], [x.shape[0], size], builder.node, shape=[0, size])
        inner = [n for n in x.shape[1:] if n != 1]
        image = None if len(inner) < 2 or math.prod(x.shape[2:]) == 1 else tuple(x.shape[1:])  # type: ignore[arg-type]
        return Tensor(index, (x.shape[0], size), image=image)  # type: ignore[arg-type]
    x = builder.plain(x)
    return builder.add("reshape", [x], [x.shape[0], size], shape=[0, -1 if size is None else size])


@converts("Reshape")
def _reshape(node: Node, builder: Builder) -> Tensor:
    x = node.tensor()
    allow_zero = node.attribute("allowzero", 0)
    if node.is_constant(1):
        wanted = [int(size) for size in node.constant(1, "shape")]
        if allow_zero and 0 in wanted:
            raise Unsupported("its output has no elements: only tensors with elements are supported")
    else:
        wanted = _inferred(node)
    resolved = _resolved(x, wanted)
    batch = len(wanted) > 1 and (wanted[0] in (0, x.shape[0]) or (x.shape[0] is None and wanted[0] == -1))
    if len(wanted) == 2 and batch and x.rank > 2 and None not in x.shape[1:] and resolved[1] == math.prod(x.shape[1:]):  # type: ignore[arg-type]
        return flatten(builder, x)
    x = builder.plain(x)
    return builder.add("reshape", [x], resolved, shape=wanted)


def _inferred(node: Node) -> list[int]:
    """The shape of a Reshape: 0 for a size that is copied, -1 for one that follows from the number of elements."""
    sizes = node.importer.constants.sizes(node.proto.input[1])
    if sizes is None or 0 in sizes or -1 in sizes:
        sizes = node.sizes_after()
    if not sizes:
        raise Unsupported("its shape must follow from the shapes of the model's inputs")
    before = node.sizes_before()
    wanted = [-1 if isinstance(size, Size) else size for size in sizes]
    if wanted.count(-1) > 1:
        copied = [size == other for size, other in zip(sizes, before, strict=False)]
        wanted = [0 if size == -1 and any(copied[axis : axis + 1]) else size for axis, size in enumerate(wanted)]
    if wanted.count(-1) > 1:
        raise Unsupported("several sizes of its shape are not known: give the model's inputs fixed sizes")
    return wanted


def _resolved(x: Tensor, wanted: Sequence[int]) -> list[int | None]:
    result: list[int | None] = [
        x.shape[a] if size == 0 else None if size == -1 else size for a, size in enumerate(wanted)
    ]
    if -1 in wanted:
        free = list(wanted).index(-1)
        rest = [size for a, size in enumerate(result) if a != free]
        unknown_in, unknown_out = x.shape.count(None), rest.count(None)
        if unknown_in == unknown_out:  # the unknown sizes are the same on both sides, so they cancel
            known = [math.prod(size for size in sizes if size is not None) for sizes in (x.shape, rest)]
            result[free] = known[0] // max(known[1], 1)
    return result


@converts("Transpose")
def _transpose(node: Node, builder: Builder) -> Tensor:
    x = builder.plain(node.tensor()) if node.tensor().image is not None else node.tensor()
    perm = list(node.attribute("perm") or reversed(range(x.rank)))
    stored = [x.axis(axis) for axis in perm]
    shape = [x.shape[axis] for axis in perm]
    if stored == list(range(x.rank)):
        return Tensor(x.index, tuple(shape))  # the values are already stored in this order
    if not x.channels_last and x.rank > 2 and perm == [0, x.rank - 1, *range(1, x.rank - 1)]:
        return Tensor(x.index, tuple(shape), channels_last=True)
    return builder.add("transpose", [x], shape, perm=stored)


@converts("Squeeze", "Unsqueeze")
def _squeeze(node: Node, builder: Builder) -> Tensor:
    x = node.tensor()
    axes: Any = node.attribute("axes")
    if axes is None and node.given(1):
        axes = node.constant(1, "axes").tolist()
    if node.proto.op_type == "Unsqueeze":
        axes = sorted(axis % (x.rank + len(axes)) for axis in axes)
        shape = list(x.shape)
        for axis in axes:
            shape.insert(axis, 1)
    else:
        axes = [a % x.rank for a in axes] if axes is not None else [a for a, size in enumerate(x.shape) if size == 1]
        shape = [size for a, size in enumerate(x.shape) if a not in axes]
        if x.channels_last and x.rank == 4 and sorted(axes) == [2, 3]:
            return builder.add("reshape", [x], shape, shape=[0, -1 if shape[1] is None else shape[1]])
    x = builder.plain(x)
    sizes = [-1 if size is None else size for size in shape]
    if sizes.count(-1) > 1 and shape[0] is None and x.shape[0] is None:
        sizes[0] = 0
    if sizes.count(-1) > 1:
        return _squeeze_free_sizes(builder, x, shape, axes, node.proto.op_type == "Unsqueeze")
    return builder.add("reshape", [x], shape, shape=sizes)


def _squeeze_free_sizes(
    builder: Builder, x: Tensor, shape: Sequence[int | None], axes: Sequence[int], insert: bool
) -> Tensor:
    """Insert or remove dimensions of size 1. These are last when the tensor is reshaped. All other dimensions
    therefore keep their places, and their sizes can be copied."""
    rank = max(x.rank, len(shape))
    order = [*(axis for axis in range(rank) if axis not in axes), *axes]
    if insert:
        longer = builder.add("reshape", [x], [*x.shape, *[1] * len(axes)], shape=[0] * x.rank + [1] * len(axes))
        return builder.add("transpose", [longer], shape, perm=[order.index(axis) for axis in range(rank)])
    turned = builder.add("transpose", [x], [x.shape[axis] for axis in order], perm=order)
    return builder.add("reshape", [turned], shape, shape=[0] * len(shape))


@converts("Concat")
def _concat(node: Node, builder: Builder) -> Tensor:
    tensors = [node.tensor(index) for index in range(node.count())]
    axis = node.attribute("axis") % tensors[0].rank
    last = any(x.channels_last for x in tensors) and tensors[0].rank > 2
    tensors = [builder.last(x) if last else builder.plain(x) for x in tensors]
    sizes = [x.shape[axis] for x in tensors]
    shape = list(tensors[0].shape)
    shape[axis] = None if None in sizes else sum(size for size in sizes if size is not None)
    return builder.add("concatenate", tensors, shape, last=last, axis=tensors[0].axis(axis))


@converts("Split")
def _split(node: Node, builder: Builder) -> list[Tensor]:
    x = node.tensor()
    x = builder.plain(x) if x.image is not None else x
    axis = node.attribute("axis", 0) % x.rank
    size = x.shape[axis]
    parts: Any = node.attribute("split")
    if parts is None and node.given(1):
        parts = node.constant(1, "split").tolist()
    if parts is None:
        if size is None:
            raise Unsupported("the size that it splits is not known: give the model's inputs fixed sizes")
        count = len(node.proto.output)
        each = -(-size // count)
        parts = [min(each, size - each * i) for i in range(count)]
    results, start = [], 0
    for part in parts:
        results.append(cut(builder, x, [axis], [start], [start + part], [1]))
        start += part
    return results


def cut(
    builder: Builder,
    x: Tensor,
    axes: Sequence[int],
    starts: Sequence[int],
    ends: Sequence[int | None],
    steps: Sequence[int],
) -> Tensor:
    begin: list[int | None] = [0] * x.rank
    end: list[int | None] = [None] * x.rank
    strides, shape, changed = [1] * x.rank, list(x.shape), False
    for axis, first, last, step in zip(axes, starts, ends, steps, strict=True):
        at = axis % x.rank
        begin[at], end[at], strides[at] = first, last, step
        size = x.shape[at]
        whole = first == 0 and last in (None, size) and step == 1
        changed |= not whole
        shape[at] = size if whole else None if size is None else len(range(size)[first:last:step])
    if not changed:
        return x
    if x.channels_last:
        begin, end, strides = moved(begin), moved(end), moved(strides)
    return builder.add("slice", [x], shape, last=x.channels_last, begin=begin, end=end, strides=strides)


@converts("Slice")
def _slice(node: Node, builder: Builder) -> Tensor:
    x = node.tensor()
    x = builder.plain(x) if x.image is not None else x
    if node.opset < 10:
        starts, ends, axes = (node.attribute(name) for name in ("starts", "ends", "axes"))
        steps = None
    else:
        starts, axes, steps = (
            None if value is None else value.tolist()
            for value in (node.constant(index, what) for index, what in ((1, "starts"), (3, "axes"), (4, "steps")))
        )
        ends = node.sizes(2, "ends")
    axes = list(range(len(starts))) if axes is None else axes
    steps = [1] * len(starts) if steps is None else steps
    most = 1 << 31  # a model writes "to the end" as any number from this on
    first = [
        None if abs(s) >= most and (s > 0) == (step < 0) else int(s) for s, step in zip(starts, steps, strict=True)
    ]
    sizes: Sequence[int | Size | None] = node.sizes_before() or x.shape
    last = [_end(*each) for each in zip(ends, (sizes[axis % len(sizes)] for axis in axes), steps, strict=True)]
    return cut(builder, x, axes, first, last, steps)  # type: ignore[arg-type]


def _end(end: int | Size, size: int | Size | None, step: int) -> int | None:
    """The end of a slice. None for the end of the dimension, which models write as a large number or as its size."""
    if not isinstance(end, Size):
        return None if abs(end) >= 1 << 31 else end
    if step < 0:
        raise Unsupported("its step is negative and its end is not known yet: give the model's inputs fixed sizes")
    if end != size:
        raise Unsupported("one of its ends is known only when the network runs: give the model's inputs fixed sizes")
    return None


@converts("Pad")
def _pad(node: Node, builder: Builder) -> Tensor:
    x = node.tensor()
    x = builder.plain(x) if x.image is not None else x
    pads: Any = node.attribute("pads") if node.opset < 11 else node.constant(1, "pads").tolist()
    value = node.attribute("value", 0.0) if node.opset < 11 else node.constant(2, "constant_value")
    axes = node.constant(3, "axes")
    axes = list(range(x.rank)) if axes is None else [int(axis) % x.rank for axis in axes]
    pairs = [[0, 0] for _ in range(x.rank)]
    for index, axis in enumerate(axes):
        pairs[axis] = [int(pads[index]), int(pads[index + len(axes)])]
    if min(map(min, pairs)) < 0:
        raise Unsupported(f"its padding {pairs} is negative: only padding of at least 0 is supported")
    if not any(map(any, pairs)):
        return x
    mode = node.attribute("mode", "constant")
    if mode not in ("constant", "reflect", "edge"):
        raise Unsupported(f"its mode is {mode!r}: only 'constant', 'reflect' and 'edge' are supported")
    shape = [None if size is None else size + sum(pair) for size, pair in zip(x.shape, pairs, strict=True)]
    return builder.add(
        "pad",
        [x],
        shape,
        last=x.channels_last,
        paddings=moved(pairs) if x.channels_last else pairs,
        value=float(np.asarray(0.0 if value is None else value).item()),
        mode=mode,
    )


@converts("Resize", "Upsample")
def _resize(node: Node, builder: Builder) -> Tensor:
    x = builder.last(node.tensor())
    if x.rank != 4:
        raise Unsupported(f"its input must have 4 dimensions, got {x.rank}")
    mode = node.attribute("mode", "nearest")
    method = {"nearest": "nearest", "linear": "bilinear"}.get(mode)
    old = node.proto.op_type == "Upsample" or node.opset < 11
    coordinates = node.attribute("coordinate_transformation_mode", "asymmetric" if old else "half_pixel")
    known = ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel")
    if method is None:
        raise Unsupported(f"its mode is {mode!r}: only 'nearest' and 'linear' are supported")
    if coordinates not in known:
        names = ", ".join(map(repr, known))
        raise Unsupported(f"its coordinate_transformation_mode is {coordinates!r}: only {names} are supported")
    if node.attribute("antialias", 0):
        raise Unsupported("it has antialias=1: only resizing without antialias is supported")
    if node.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise Unsupported(
            f"its keep_aspect_ratio_policy is {node.attribute('keep_aspect_ratio_policy')!r}: only 'stretch' is "
            "supported"
        )
    options = {"method": method, "coordinates": coordinates}
    if method == "nearest":
        options["rounding"] = node.attribute("nearest_mode", "floor" if old else "round_prefer_floor")
    scales = node.attribute("scales")
    if scales is None:
        index = 1 if old else 2
        scales = node.constant(index, "scales") if node.given(index) else None
    axes = node.attribute("axes")
    if scales is not None and len(scales):
        factors = [float(scale) for scale in _by_axis(scales, axes, [1.0] * 4)]
        if factors[:2] != [1, 1]:
            raise Unsupported("it resizes the batch or the channels: only height and width can be resized")
        sizes = [None if size is None else int(size * f) for size, f in zip(x.shape[2:], factors[2:], strict=True)]
        return builder.add("resize", [x], [*x.shape[:2], *sizes], last=True, scales=factors[2:], **options)
    if node.is_constant(3):
        size = [int(n) for n in _by_axis(node.constant(3, "sizes"), axes, known_sizes([1, 1, *x.shape[2:]]))[2:]]
    else:
        shape = node.shape()
        if shape is None or None in shape[2:]:
            raise Unsupported(
                "its sizes must follow from the shapes of the model's inputs: give the inputs fixed image sizes, or "
                "resize by factors"
            )
        size = known_sizes(shape[2:])
    return builder.add("resize", [x], [*x.shape[:2], *size], last=True, size=size, **options)


def _by_axis(values: Any, axes: Sequence[int] | None, otherwise: list[Any]) -> list[Any]:
    """A value for each dimension: `values` for the dimensions in `axes`, and `otherwise` for the others."""
    if axes is None:
        return list(values)
    result = list(otherwise)
    for axis, value in zip(axes, values, strict=True):
        result[axis % len(result)] = value
    return result


@converts("DepthToSpace", "SpaceToDepth")
def _depth_to_space(node: Node, builder: Builder) -> Tensor:
    x = builder.last(node.tensor())
    block = node.attribute("blocksize")
    batch = x.shape[0]
    if node.proto.op_type == "DepthToSpace" and None in x.shape[2:]:
        return _depth_to_free_space(builder, x, block, node.attribute("mode", "DCR"))
    channels, height, width = known_sizes(x.shape[1:])
    if node.proto.op_type == "SpaceToDepth":
        split = [0, height // block, block, width // block, block, channels]
        sizes = [height // block, width // block, channels * block * block]
        perm = [0, 1, 3, 2, 4, 5] if node.attribute("mode", "DCR") == "DCR" else [0, 1, 3, 5, 2, 4]
    else:
        depth = channels // (block * block)
        sizes = [height * block, width * block, depth]
        if node.attribute("mode", "DCR") == "DCR":
            split, perm = [0, height, width, block, block, depth], [0, 1, 3, 2, 4, 5]
        else:
            split, perm = [0, height, width, depth, block, block], [0, 1, 4, 2, 5, 3]
    apart = builder.add("reshape", [x], [batch, *split[1:]], shape=split)
    turned = builder.add("transpose", [apart], [apart.shape[axis] for axis in perm], perm=perm)
    return builder.add("reshape", [turned], [batch, sizes[2], *sizes[:2]], last=True, shape=[0, *sizes])


def _depth_to_free_space(builder: Builder, x: Tensor, block: int, mode: str) -> Tensor:
    """DepthToSpace of unknown sizes. A reshape can then join only the last two dimensions, so this takes two."""
    batch, channels, height, width = x.shape
    depth = known_sizes([channels])[0] // (block * block)
    rows, columns = (None if size is None else size * block for size in (height, width))
    split, perm = (
        ([block, block, depth], [0, 2, 4, 5, 1, 3]) if mode == "DCR" else ([depth, block, block], [0, 2, 5, 3, 1, 4])
    )
    apart = builder.add("reshape", [x], [batch, height, width, *split], shape=[0, 0, 0, *split])
    turned = builder.add("transpose", [apart], [apart.shape[axis] for axis in perm], perm=perm)
    tall = builder.add("reshape", [turned], [batch, width, block, depth, rows], shape=[0, 0, block, depth, -1])
    turned = builder.add("transpose", [tall], [batch, rows, depth, width, block], perm=[0, 4, 3, 1, 2])
    wide = builder.add("reshape", [turned], [batch, rows, depth, columns], shape=[0, 0, depth, -1])
    return builder.add("transpose", [wide], [batch, depth, rows, columns], last=True, perm=[0, 1, 3, 2])


@converts("ChannelShuffle")
def _channel_shuffle(node: Node, builder: Builder) -> Tensor:
    x = builder.last(node.tensor())
    batch, channels, *sizes = x.shape
    groups = node.attribute("group")
    each = known_sizes([channels])[0] // groups
    split = builder.add("reshape", [x], [batch, *sizes, groups, each], shape=[0, 0, 0, groups, each])
    turned = builder.add("transpose", [split], [batch, *sizes, each, groups], perm=[0, 1, 2, 4, 3])
    return builder.add("reshape", [turned], x.shape, last=True, shape=[0, 0, 0, channels])
