"""Measures a task: first the results, then the times of all contestants in turn, round after round."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
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


def in_turn(calls: dict[str, Callable[[], Any]], rounds: int, seconds: float = math.inf) -> dict[str, Any]:
    """The times of calls in this process, round after round, until `rounds` or, after three of them, `seconds` end."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    for done in range(rounds):
        if done >= 3 and time.perf_counter() > end:
            break
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            samples[name].append(time.perf_counter() - start)
    return {name: summary(taken) for name, taken in samples.items()}


def measure(
    task: Any,
    arrays: dict[str, Array],
    error: Callable[[str, Array], float],
    libraries: list[Library],
    rounds: int,
) -> dict[str, Any]:
    """The contestants' times. `error` judges a result; above the task's tolerance it is wrong and not timed."""
    chosen: dict[str, dict[str, Any]] = {}
    refused: dict[str, str] = {}
    wrong: list[str] = []
    samples: dict[str, list[float]] = {}
    for library in libraries:
        try:
            entry = library.command("prepare", task, arrays)
        except LibraryError as problem:
            refused[library.name] = str(problem)
            continue
        errors = {label: error(library.name, result) for label, result in entry.pop("results").items()}
        bad = {label: value for label, value in errors.items() if not value <= task.tolerance}  # nor is NaN
        if bad:
            refused[library.name] = f"wrong: {', '.join(f'{label}: error {value:.3g}' for label, value in bad.items())}"
            wrong.append(library.name)
            continue
        chosen[library.name] = {"framework": library.framework, "error": errors[entry["variant"]], **entry}
        samples[library.name] = []
    by_name = {library.name: library for library in libraries}
    for _ in range(rounds):
        for name, seconds in samples.items():
            seconds.append(by_name[name].command("sample"))
    for library in libraries:
        library.command("forget")
    for name, seconds in samples.items():
        chosen[name].update(summary(seconds))
    return {"contestants": chosen, "refused": refused, "wrong": wrong}
