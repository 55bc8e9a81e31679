"""Finds activations that a model computes by several operations."""

from __future__ import annotations

from fastconv.network._graph import Graph
from fastconv.network.passes.matching import LINEAR, Matches, absorb, activation


def gates_to_activations(graph: Graph) -> bool:
    """``x * sigmoid(x)`` is silu, and ``x * hard_sigmoid(x)`` with ONNX's HardSwish constants is hard_swish."""
    for node in graph.nodes:
        if node.operation != "multiply" or activation(node) != LINEAR:
            continue
        matches = Matches(graph)
        for side in (0, 1):
            gate = matches.producer(node.inputs[side])
            if gate is None or gate.operation != "activate" or gate.inputs[0] != node.inputs[1 - side]:
                continue
            name, *parameters = activation(gate)
            if name == "sigmoid":
                node.attributes = {"activation": ["silu"]}
            elif name == "hard_sigmoid" and _is_sixth(parameters):
                node.attributes = {"activation": ["hard_swish"]}
            else:
                continue
            node.operation, node.inputs = "activate", [gate.inputs[0]]
            absorb(graph, gate, node, node)
            return True
    return False


def _is_sixth(parameters: list[object]) -> bool:
    slope, offset = parameters
    return isinstance(slope, float) and abs(slope - 1 / 6) < 1e-6 and offset == 0.5
