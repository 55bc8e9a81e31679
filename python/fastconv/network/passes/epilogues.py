"""Makes activations and additions part of the operation before them, so that they need no pass of their own."""

from __future__ import annotations

from fastconv.network._graph import Graph, Node
from fastconv.network.passes.matching import LINEAR, PRODUCTS, Matches, absorb, activation

_TAKE_ACTIVATIONS = (*PRODUCTS, "scale_shift", "add", "subtract", "multiply", "divide", "maximum", "minimum")


def fuse_activations(graph: Graph) -> bool:
    """Apply an activation in the operation that computes its input."""
    changed = False
    for node in list(graph.nodes):
        if node.operation != "activate":
            continue
        before = Matches(graph).producer(node.inputs[0])
        if before is None or before.operation not in _TAKE_ACTIVATIONS or activation(before) != LINEAR:
            continue
        before.attributes["activation"] = activation(node)
        absorb(graph, before, node, before)
        changed = True
    return changed


def fuse_residuals(graph: Graph) -> bool:
    """Let the convolution or dense layer that computes one operand of an addition also add the other operand."""
    changed = False
    for node in list(graph.nodes):
        if node.operation != "add":
            continue
        shapes = {graph.values[index].shape for index in (*node.inputs, node.output) if index is not None}
        if len(shapes) > 1:
            continue  # the addition broadcasts
        # If both operands are products, take the later one: the other operand is computed before it.
        product, residual = max(
            ((_product(Matches(graph), node.inputs[side]), node.inputs[1 - side]) for side in (0, 1)),
            key=lambda pair: -1 if pair[0] is None else graph.nodes.index(pair[0]),
        )
        if product is None or residual == product.output:
            continue
        product.inputs[3] = residual
        product.attributes["activation"] = activation(node)
        absorb(graph, product, node, product)
        changed = True
    return changed


def _product(matches: Matches, value: int | None) -> Node | None:
    node = matches.producer(value)
    if node is None or node.operation not in PRODUCTS or node.inputs[3] is not None or activation(node) != LINEAR:
        return None
    return node
