"""Makes a pad node part of the convolutions or pools after it, where the result is the same."""

from __future__ import annotations

from typing import Any

from fastconv.network._graph import Graph, Node
from fastconv.network.passes.matching import Matches, activation

_NOT_NEGATIVE = ("relu", "relu6", "sigmoid", "hard_sigmoid")


def merge_padding(graph: Graph) -> bool:
    matches = Matches(graph)
    for node in graph.nodes:
        if node.operation != "pad" or node.output in matches.results or not _pads_images_with_zeros(node):
            continue
        users = matches.users.get(node.output, [])
        source = matches.producers.get(node.inputs[0] if node.inputs[0] is not None else -1)
        if not users or not all(_takes(user, node, source) for user in users):
            continue
        sides = [side for pair in node.attributes["paddings"][1:3] for side in pair]
        for user in users:
            own = _explicit(user)
            assert own is not None
            user.attributes["padding"] = [side + more for side, more in zip(own, sides, strict=True)]
            user.inputs[0] = node.inputs[0]
            user.fused.insert(0, node.name)
        graph.nodes.remove(node)
        return True
    return False


def _pads_images_with_zeros(node: Node) -> bool:
    pads = node.attributes["paddings"]
    if node.attributes.get("mode", "constant") != "constant" or node.attributes.get("value", 0.0) != 0:
        return False
    return len(pads) == 4 and pads[0] == [0, 0] and pads[3] == [0, 0] and min(map(min, pads)) >= 0


def _explicit(user: Node) -> list[int] | None:
    padding: Any = user.attributes.get("padding", "VALID")
    return [0, 0, 0, 0] if padding == "VALID" else None if padding == "SAME" else list(padding)


def _takes(user: Node, pad: Node, source: Node | None) -> bool:
    if user.inputs.count(pad.output) != 1 or user.inputs[0] != pad.output or _explicit(user) is None:
        return False
    if user.operation in ("conv2d", "depthwise_conv2d"):
        return True
    own, pads = _explicit(user), pad.attributes["paddings"]
    if user.operation == "max_pool2d" and source is not None:
        # A max-pooling ignores its own padding, but not the zeros of a pad node. Both give the same maximum if no value
        # is negative and each window has a value.
        window = user.attributes["ksize"]
        small = all(max(pads[1 + axis]) < window[axis] for axis in range(2))
        return own == [0, 0, 0, 0] and small and activation(source)[0] in _NOT_NEGATIVE and _computes_activation(source)
    return user.operation == "avg_pool2d" and bool(user.attributes.get("count_include_pad"))


def _computes_activation(node: Node) -> bool:
    """Whether the node's result has passed through its attribute `activation`."""
    return "activation" in node.attributes
