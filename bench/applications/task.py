"""A training step or a prediction of a Keras network, and the network as a list that needs no Keras to be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench.contestants import Candidate, fetched, steps_candidate
from bench.measure import duration
from bench.tasks import TOLERANCE

SGD_RATE = 1e-5  # small: with random weights, gradients are large, and rounding errors would decide the second loss


@dataclass(frozen=True)
class Node:
    """A layer: its class and config, the numbers of the nodes that it reads, and its shapes without the batch."""

    kind: str
    config: dict[str, Any]
    inputs: tuple[int, ...]
    input_shape: tuple[int, ...]  # of the first input
    output_shape: tuple[int, ...]
    weights: int  # how many of the network's weights are this layer's


@dataclass(frozen=True)
class Application:
    """`kind`: "step" (`train_on_batch`), "predict" (`predict_on_batch`) or "gradients" (also that of the input).

    The nodes come in the order of the network's layers, each after the nodes that it reads.
    """

    kind: str
    network: str
    size: int
    batch: int
    nodes: tuple[Node, ...] = field(repr=False)

    # Only of gradients. A sample of the others is one call.
    sample_seconds = 0.2
    warm_seconds = 0.1

    @property
    def tolerance(self) -> float:
        return TOLERANCE[self.kind]

    def __str__(self) -> str:
        return f"{self.kind} {self.network} {self.size}x{self.size} {self.batch}"


def prediction(label: str, run: Callable[[], Any]) -> Candidate:
    """A candidate whose samples are one call each, after a call that is not timed."""

    def seconds() -> float:
        run()
        return duration(run)

    return fetched(label, run, seconds=seconds)


def training(label: str, step: Callable[[Any, Any], Any], x: Any, y: Any) -> Candidate:
    """A candidate whose samples are one training step each. The second loss that is compared depends on gradients."""
    return steps_candidate(label, step, [(x, y)] * 2, seconds=lambda: duration(lambda: step(x, y)))
