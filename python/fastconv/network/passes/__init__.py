"""Passes simplify the graph of a network. Each pass is a function that returns whether it changed the graph."""

from __future__ import annotations

from collections.abc import Callable

from fastconv.network._graph import Graph
from fastconv.network.passes.affine import constants_to_affine, fold_after, fold_before, join_affine
from fastconv.network.passes.epilogues import fuse_activations, fuse_residuals
from fastconv.network.passes.padding import merge_padding
from fastconv.network.passes.patterns import gates_to_activations
from fastconv.network.passes.unused import remove_unused

# Residuals are fused after these passes, because `fold_after` folds nothing into a convolution that has a residual.
_PASSES = (
    remove_unused,
    gates_to_activations,
    constants_to_affine,
    join_affine,
    fold_after,
    fold_before,
    merge_padding,
    fuse_activations,
)


def simplify(graph: Graph) -> None:
    """Run all passes until none changes the graph, then round the constants to the dtype of the graph."""
    _repeat(graph, _PASSES)
    _repeat(graph, (fuse_residuals, fuse_activations, remove_unused))
    graph.round_constants()


def _repeat(graph: Graph, passes: tuple[Callable[[Graph], bool], ...]) -> None:
    while any([run(graph) for run in passes]):
        pass
