"""Functions that all passes share: find the nodes that compute and read a value, and join two nodes."""

from __future__ import annotations

from fastconv.network._graph import Graph, Node

#: Operations with constant filters at input 1, a bias at input 2 and a residual at input 3.
PRODUCTS = ("conv2d", "depthwise_conv2d", "conv2d_transpose", "dense")
LINEAR = ["linear"]


def activation(node: Node) -> list[object]:
    return node.attributes.get("activation", LINEAR)  # type: ignore[no-any-return]


def is_plain_product(graph: Graph, node: Node | None) -> bool:
    """Whether the node is a product by constants, without activation and residual: factors can be folded into it."""
    return (
        node is not None
        and node.operation in PRODUCTS
        and activation(node) == LINEAR
        and node.inputs[3] is None
        and graph.array(node.inputs[1]) is not None
        and (node.inputs[2] is None or graph.array(node.inputs[2]) is not None)
    )


class Matches:
    """Producers and users of all values. Make a new one after each change of the graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producers = graph.producers()
        self.users = graph.users()
        self.results = {index for _, index in graph.outputs}

    def only_user(self, value: int) -> Node | None:
        """The only node that reads the value. None if it has no or several readers, or is an output of the network."""
        users = self.users.get(value, [])
        return users[0] if len(users) == 1 and value not in self.results else None

    def producer(self, value: int | None) -> Node | None:
        """The node that computes the value. None unless exactly one node reads it and it is not an output."""
        if value is None or self.only_user(value) is None:
            return None
        return self.producers.get(value)


def absorb(graph: Graph, first: Node, second: Node, into: Node) -> None:
    """Remove one of two neighbouring nodes. The other one, `into`, now computes what both did, under its own name."""
    gone = second if into is first else first
    if into is first:
        # The second node may read values that are computed after the first.
        graph.nodes.remove(first)
        graph.nodes[graph.nodes.index(second)] = first
        first.output = second.output
        first.fused += [second.name, *second.fused]
    else:
        graph.nodes.remove(first)
        second.fused = [*([first.name] if first.name != second.name else []), *first.fused, *second.fused]
    if gone.name == into.name and gone.name in into.fused:
        into.fused.remove(gone.name)
