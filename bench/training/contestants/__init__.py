"""One module for each contestant, imported in a process of its own, see bench/workers.py.

A module has ``NAMES``, ``FRAMEWORK`` and ``setup(threads)`` as those of ``bench.contestants``, ``Server``, the class
below, and ``candidates(task, arrays)``: the ways in which its users would do the task. The fastest is measured.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from bench.contestants import NotServed
from bench.reference import Array
from bench.training.tasks import CHECKED_STEPS, Task
from bench.workers import SHARED, copy_arrays, error_text

SAMPLE_SECONDS = 0.05
WARM_SECONDS = 0.02  # after its process was stopped, and not timed


@dataclass(frozen=True)
class Candidate:
    """`check` gives what is compared (losses from the initial weights, logits); then `run` is timed.

    Where `seconds` is there, it runs and times itself. `begin` is called at the start of each turn.
    """

    label: str
    check: Callable[[], Array]
    run: Callable[[], Any]
    seconds: Callable[[], float] | None = None
    begin: Callable[[], Any] = lambda: None


def steps_candidate(
    label: str, step: Callable[[Any, Any], Any], batches: list[tuple[Any, Any]], **more: Any
) -> Candidate:
    """A candidate for training steps; `step` returns the loss, once everything is done."""

    def check() -> Array:
        return np.array([float(step(*batch)) for batch in batches[:CHECKED_STEPS]])

    rest: Iterator[tuple[Any, Any]] = itertools.cycle(batches[CHECKED_STEPS:] + batches[:CHECKED_STEPS])
    return Candidate(label, check, lambda: step(*next(rest)), **more)


def _calls(candidate: Candidate, count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
        candidate.run()
    return (time.perf_counter() - start) / count


class Server:
    """The commands, in the contestant's process."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._chosen: tuple[Candidate, float] | None = None

    def prepare(self, task: Task, handles: dict[str, SHARED]) -> dict[str, Any]:
        """Build and check all candidates and choose the fastest; what each took, and why one could not."""
        seconds: dict[str, float] = {}
        checks: dict[str, Array] = {}
        failed: dict[str, str] = {}
        for candidate in self._module.candidates(task, copy_arrays(handles)):
            candidate.begin()
            try:
                checks[candidate.label] = candidate.check()
                if candidate.seconds is not None:
                    duration = candidate.seconds()
                else:
                    duration = min(_calls(candidate, 1) for _ in range(5))
                    count = max(1, int(WARM_SECONDS / duration))
                    duration = min(_calls(candidate, count) for _ in range(3))
            except Exception as error:  # a compiler that is missing, for instance
                failed[candidate.label] = error_text(error)
                continue
            seconds[candidate.label] = duration
            if self._chosen is None or duration < self._chosen[1]:
                self._chosen = candidate, duration
        if self._chosen is None:
            raise NotServed("; ".join(f"{label}: {why}" for label, why in failed.items()))
        return {"variant": self._chosen[0].label, "variants": seconds, "checks": checks, "failed": failed}

    def sample(self) -> float:
        """Seconds of one call (or epoch)."""
        if self._chosen is None:
            raise NotServed("nothing is prepared")
        candidate, duration = self._chosen
        candidate.begin()
        if candidate.seconds is not None:
            return candidate.seconds()
        _calls(candidate, max(1, int(WARM_SECONDS / duration)))
        return _calls(candidate, max(1, int(SAMPLE_SECONDS / duration)))

    def forget(self) -> None:
        """Free a task's memory."""
        self._chosen = None
