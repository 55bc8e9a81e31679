"""One module for each contestant, imported in a process of its own (bench/processes.py).

A module has ``FRAMEWORK`` (whether it counts for the ratio to the best framework), ``setup(threads)``, which returns
the library's version, and ``candidates(task, arrays)``: the ways in which its users would compute a
`bench.cases.Case` or a `bench.tasks.Task`. The fastest is measured. What it cannot compute raises `NotServed`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.oracle import Array

CHECKED_STEPS = 3  # their losses are compared before anything is timed: the later ones depend on gradients and Adam


class NotServed(Exception):
    """The library has no such computation."""


@dataclass(frozen=True)
class Candidate:
    """`check` gives the result that is compared; `run` is timed. `begin` is called at the start of each turn.

    A candidate with `seconds` runs and times itself.
    """

    label: str
    check: Callable[[], Array]
    run: Callable[[], Any]
    seconds: Callable[[], float] | None = None
    begin: Callable[[], Any] = lambda: None


def fetched(label: str, run: Callable[[], Any], fetch: Callable[[Any], Array]) -> Candidate:
    """A candidate whose result `fetch` turns into an array in our layout."""
    return Candidate(label, lambda: fetch(run()), run)


def steps_candidate(
    label: str, step: Callable[[Any, Any], Any], batches: list[tuple[Any, Any]], **more: Any
) -> Candidate:
    """A candidate for training steps. `step` returns the loss when all work is done."""

    def check() -> Array:
        return np.array([float(step(*batch)) for batch in batches[:CHECKED_STEPS]])

    rest: Iterator[tuple[Any, Any]] = itertools.cycle(batches[CHECKED_STEPS:] + batches[:CHECKED_STEPS])
    return Candidate(label, check, lambda: step(*next(rest)), **more)
