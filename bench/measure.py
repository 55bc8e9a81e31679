"""Measures a task: first the results, then the times of all contestants in turn, round after round."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from bench.oracle import Array
from bench.processes import Library, LibraryError


def summary(samples: list[float]) -> dict[str, float]:
    """Median and quartiles of seconds, in microseconds."""
    q1, median, q3 = np.percentile(samples, [25, 50, 75]) * 1e6
    return {"median_us": float(median), "q1_us": float(q1), "q3_us": float(q3)}


def ratio(entries: dict[str, dict[str, Any]], above: str, below: str) -> float | None:
    """The quotient of two medians; None if one is missing."""
    if above not in entries or below not in entries:
        return None
    return float(entries[above]["median_us"] / entries[below]["median_us"])


def geometric_mean(values: Iterable[float]) -> float | None:
    logarithms = [math.log(value) for value in values]
    return math.exp(sum(logarithms) / len(logarithms)) if logarithms else None


def rounds_of(samples: Mapping[str, Callable[[], Any]], rounds: int, seconds: float = math.inf) -> dict[str, list[Any]]:
    """Samples in turn, in at most `rounds` rounds. After three rounds, sampling ends once `seconds` have passed."""
    taken: dict[str, list[Any]] = {name: [] for name in samples}
    end = time.perf_counter() + seconds
    for done in range(rounds):
        if done >= 3 and time.perf_counter() > end:
            break
        for name, sample in samples.items():
            taken[name].append(sample())
    return taken


def duration(call: Callable[[], Any]) -> float:
    """Seconds of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def in_turn(calls: dict[str, Callable[[], Any]], rounds: int, seconds: float = math.inf) -> dict[str, Any]:
    """The times of calls in this process, in turn."""
    samples = {name: functools.partial(duration, call) for name, call in calls.items()}
    return {name: summary(taken) for name, taken in rounds_of(samples, rounds, seconds).items()}


def measure(
    task: Any,
    arrays: dict[str, Array],
    error: Callable[[str, Array], float],
    libraries: list[Library],
    rounds: int,
) -> dict[str, Any]:
    """The contestants' times. `error` measures a result. Above the task's tolerance, the contestant is not timed."""
    chosen: dict[str, dict[str, Any]] = {}
    refused: dict[str, str] = {}
    wrong: list[str] = []
    measured: dict[str, Library] = {}
    for library in libraries:
        name = library.name
        try:
            entry = library.command("prepare", task, arrays)
        except LibraryError as problem:
            refused[name] = str(problem)
            continue
        errors = {label: error(name, result) for label, result in entry.pop("results").items()}
        # `not ... <=`, so that NaN is wrong, too.
        bad = [f"{label}: error {value:.3g}" for label, value in errors.items() if not value <= task.tolerance]
        if bad:
            refused[name] = f"wrong: {', '.join(bad)}"
            wrong.append(name)
            continue
        chosen[name] = {"framework": library.framework, "error": errors[entry["variant"]], **entry}
        measured[name] = library
    samples = rounds_of({name: functools.partial(one.command, "sample") for name, one in measured.items()}, rounds)
    for library in libraries:
        library.command("forget")
    for name, taken in samples.items():
        chosen[name].update(summary(taken))
    return {"contestants": chosen, "refused": refused, "wrong": wrong}


def not_measured(results: list[dict[str, Any]], *expected: str) -> Iterator[str]:
    """A sentence for each contestant that has a failed variant, or was refused for a reason that is not `expected`."""
    for result in results:
        for name, reason in result["refused"].items():
            if name in result["wrong"] or reason not in expected:
                yield f"not measured: {name}, {result['task']}: {reason}"
        for name, entry in result["contestants"].items():
            for label, reason in entry["failed"].items():
                yield f"failed: {name} {label}, {result['task']}: {reason}"
