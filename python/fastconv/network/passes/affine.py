"""Folds factors and offsets of channels, such as batch normalisation, into convolutions and dense layers next to them.

Convolutions and dense layers are called products here. All arithmetic is in float64, and the constants are rounded once
at the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from fastconv.network._graph import Graph, Node
from fastconv.network.passes.matching import LINEAR, PRODUCTS, Matches, absorb, activation, is_plain_product

Array = npt.NDArray[Any]

_ELEMENTWISE = ("add", "subtract", "multiply", "divide")


def constants_to_affine(graph: Graph) -> bool:
    """Turn an elementwise operation with a constant for each channel into a scale_shift."""
    changed = False
    for node in graph.nodes:
        if node.operation not in _ELEMENTWISE:
            continue
        left, right = graph.array(node.inputs[0]), graph.array(node.inputs[1])
        constant, tensor = (right, node.inputs[0]) if right is not None else (left, node.inputs[1])
        if constant is None or tensor is None or graph.array(tensor) is not None:
            continue
        shape = graph.values[tensor].shape
        channels = shape[-1] if shape else None
        if channels is None or shape != graph.values[node.output].shape:
            continue
        if constant.size not in (1, channels) or (constant.size > 1 and constant.shape[-1] != channels):
            continue
        values = np.broadcast_to(constant.ravel(), (channels,))
        scale, shift = _factors(node.operation, values, constant is right)
        if scale is None and shift is None:
            continue
        node.operation = "scale_shift"
        node.inputs = [tensor, *(None if part is None else graph.constant(part) for part in (scale, shift))]
        changed = True
    return changed


def _factors(operation: str, values: Array, on_the_right: bool) -> tuple[Array | None, Array | None]:
    if operation == "add":
        return None, values
    if operation == "multiply":
        return values, None
    if operation == "subtract":
        return (None, -values) if on_the_right else (-np.ones_like(values), values)
    if on_the_right and np.all(values != 0):
        return 1 / values, None
    return None, None


def _parts(graph: Graph, node: Node) -> tuple[Array, Array]:
    """Scale and shift of a scale_shift."""
    scale, shift = graph.array(node.inputs[1]), graph.array(node.inputs[2])
    channels = (scale if scale is not None else shift).shape  # type: ignore[union-attr]
    return np.ones(channels) if scale is None else scale, np.zeros(channels) if shift is None else shift


def _set_parts(graph: Graph, node: Node, scale: Array, shift: Array) -> None:
    node.inputs[1] = None if np.all(scale == 1) else graph.constant(scale)
    node.inputs[2] = None if np.all(shift == 0) and node.inputs[1] is not None else graph.constant(shift)


def join_affine(graph: Graph) -> bool:
    """Join two consecutive scale_shift nodes."""
    for node in graph.nodes:
        if node.operation != "scale_shift":
            continue
        first = Matches(graph).producer(node.inputs[0])
        if first is None or first.operation != "scale_shift" or activation(first) != LINEAR:
            continue
        scale, shift = _parts(graph, first)
        scale_2, shift_2 = _parts(graph, node)
        _set_parts(graph, node, scale * scale_2, shift * scale_2 + shift_2)
        node.inputs[0] = first.inputs[0]
        absorb(graph, first, node, node)
        return True
    return False


def fold_after(graph: Graph) -> bool:
    """Fold a scale_shift into the product that computes its input."""
    matches = Matches(graph)
    changed = False
    for node in list(graph.nodes):
        if node.operation != "scale_shift":
            continue
        product = matches.producer(node.inputs[0])
        if product is None or not is_plain_product(graph, product) or product.attributes.get("groups", 1) > 1:
            continue
        scale, shift = _parts(graph, node)
        filters, bias = graph.array(product.inputs[1]), graph.array(product.inputs[2])
        assert filters is not None
        product.inputs[1] = graph.constant(filters * _per_filter(product.operation, filters, scale))
        bias = shift if bias is None else bias * scale + shift
        product.inputs[2] = graph.constant(bias) if np.any(bias) else None
        product.attributes["activation"] = activation(node)
        absorb(graph, product, node, product)
        matches = Matches(graph)
        changed = True
    return changed


def _per_filter(operation: str, filters: Array, values: Array) -> Array:
    """One number for each output channel, in a shape that broadcasts to the filters."""
    if operation == "depthwise_conv2d":
        return values.reshape(filters.shape[2:])
    if operation == "conv2d_transpose":
        return values[:, np.newaxis]
    return values


def fold_before(graph: Graph) -> bool:
    """Fold a scale_shift into the products that read it.

    A shift is folded only into products without padding, because it must not shift the zeros of the padding. It is not
    folded into transposed convolutions.
    """
    matches = Matches(graph)
    for node in graph.nodes:
        if node.operation != "scale_shift" or activation(node) != LINEAR or node.output in matches.results:
            continue
        scale, shift = _parts(graph, node)
        users = matches.users.get(node.output, [])
        if not users or not all(_takes(graph, user, node.output, shift) for user in users):
            continue
        for user in users:
            _fold_into(graph, user, scale, shift)
            user.inputs[0] = node.inputs[0]
            user.fused.insert(0, node.name)
        graph.nodes.remove(node)
        return True
    return False


def _takes(graph: Graph, user: Node, value: int, shift: Array) -> bool:
    filters = graph.array(user.inputs[1]) if user.operation in PRODUCTS else None
    if filters is None or user.inputs[0] != value or user.inputs.count(value) > 1:
        return False
    if user.inputs[2] is not None and graph.array(user.inputs[2]) is None:
        return False
    if not np.any(shift):
        return True
    if user.operation == "conv2d_transpose":
        return False
    return user.operation == "dense" or user.attributes.get("padding", "VALID") in ("VALID", [0, 0, 0, 0])


def _fold_into(graph: Graph, user: Node, scale: Array, shift: Array) -> None:
    filters, bias = graph.array(user.inputs[1]), graph.array(user.inputs[2])
    assert filters is not None
    per_input = [_per_input(user, filters, values) for values in (scale, shift)]
    user.inputs[1] = graph.constant(filters * per_input[0])
    if not np.any(shift):
        return
    products = filters * per_input[1]
    if user.operation == "depthwise_conv2d":
        added = products.sum(axis=(0, 1)).ravel()
    else:
        added = products.reshape(-1, products.shape[-1]).sum(axis=0)
    user.inputs[2] = graph.constant(added if bias is None else bias + added)


def _per_input(user: Node, filters: Array, values: Array) -> Array:
    """One number for each input channel, in a shape that broadcasts to the filters."""
    if user.operation == "dense":
        return values[:, np.newaxis]
    if user.operation == "depthwise_conv2d":
        return values[:, np.newaxis]
    if user.operation == "conv2d_transpose":
        return values  # the last dimension of the filters
    groups = values.size // filters.shape[2]
    if groups == 1:
        return values[:, np.newaxis]
    # (groups, C/groups) -> (C/groups, K): the filters of a group see the channels of this group.
    return np.repeat(values.reshape(groups, -1).T, filters.shape[3] // groups, axis=1)
