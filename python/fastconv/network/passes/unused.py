"""Removes nodes whose results nothing reads, and constants that no node needs any more."""

from __future__ import annotations

from fastconv.network._graph import Graph


def remove_unused(graph: Graph) -> bool:
    needed = {index for _, index in graph.outputs}
    kept = []
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(index for index in node.inputs if index is not None)
            kept.append(node)
    changed = len(kept) < len(graph.nodes)
    graph.nodes = kept[::-1]
    for index, value in enumerate(graph.values):
        if index not in needed and value.array is not None:
            value.array = None
    return changed
