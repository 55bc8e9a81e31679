"""Measures tasks and neighbours: results first, then all contestants in turn, round after round."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np

from bench.reference import Array
from bench.training.tasks import Task, task_arrays
from bench.workers import Library, LibraryError, SharedArray

MODULES = {
    "stock": "stock",
    "fastconv": "ours",
    "floor": "floor",
    "torch": "pytorch",
    "jax": "jax",
    "numpy": "numpy_example",
}
INTER_OP = (1, 2, 4)
# How far results may be apart, relative to the largest: a loss sums up many roundings, an epoch's follow each other.
TOLERANCE = {"step": 1e-3, "predict": 1e-4, "epoch": 0.03}


def start(name: str, threads: int, cpus: list[int]) -> Library:
    """A contestant's process."""
    return Library(name, threads, cpus, f"bench.training.contestants.{MODULES[name]}")


def summary(samples: list[float]) -> dict[str, Any]:
    """Median and quartiles in milliseconds."""
    q1, median, q3 = np.percentile(samples, [25, 50, 75])
    return {
        "median_ms": float(median * 1e3),
        "q1_ms": float(q1 * 1e3),
        "q3_ms": float(q3 * 1e3),
        "samples_ms": [round(sample * 1e3, 4) for sample in samples],
    }


def disagreement(task: Task, found: Array, expected: Array) -> str | None:
    """Why two results of a task's check are not the same; None if they are."""
    if found.shape != expected.shape:
        return f"{found.shape} instead of {expected.shape}"
    apart = float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))
    if not apart <= TOLERANCE[task.kind]:  # a NaN is not
        return f"{apart:.1e} apart, {TOLERANCE[task.kind]:.0e} allowed"
    return None


def measure(
    task: Task, libraries: list[Library], digits: tuple[Array, Array], images: int, rounds: int
) -> dict[str, Any]:
    """One result of the JSON file; see README.md for its fields."""
    chosen: dict[str, dict[str, Any]] = {}
    refused: dict[str, str] = {}
    wrong: list[str] = []
    expected: Array | None = None  # stock's, or those of whoever comes first
    with contextlib.ExitStack() as stack:
        handles = {}
        for key, array in task_arrays(task, digits, images).items():
            shared = SharedArray(array.shape, str(array.dtype))
            stack.callback(shared.close)
            shared.array[...] = array
            handles[key] = shared.handle
        for library in libraries:
            try:
                entry = library.command("prepare", task, handles)
            except LibraryError as problem:
                refused[library.library] = str(problem)
                continue
            checks = entry.pop("checks")
            if library.library != "floor":  # another network
                expected = next(iter(checks.values())) if expected is None else expected
                apart = {label: disagreement(task, check, expected) for label, check in checks.items()}
                if any(apart.values()):
                    refused[library.library] = f"wrong: {apart}"
                    wrong.append(library.library)
                    continue
            chosen[library.library] = {**entry, "samples": []}
    by_name = {library.library: library for library in libraries}
    for _ in range(rounds):
        for name, entry in chosen.items():
            entry["samples"].append(by_name[name].command("sample"))
    for library in libraries:
        library.command("forget")
    for entry in chosen.values():
        entry.update(summary(entry.pop("samples")))
    return {
        "task": str(task),
        "kind": task.kind,
        "network": task.network,
        "batch": task.batch,
        "contestants": chosen,
        "refused": refused,
        "wrong": wrong,
    }


def measure_neighbours(threads: int, cpus: list[int], rounds: int) -> list[dict[str, Any]]:
    """For each inter_op, two processes in turn: one with the stock op, one with ours."""
    results = []
    for inter_op in INTER_OP:
        with contextlib.ExitStack() as stack:
            pair = {}
            for whose in ("stock", "fastconv"):
                module = "bench.training.contestants.neighbours"
                pair[whose] = stack.enter_context(Library(whose, threads, cpus, module))
                pair[whose].command("start", whose, inter_op)
            counts = {whose: library.command("threads") for whose, library in pair.items()}
            samples: dict[str, list[dict[str, float]]] = {whose: [] for whose in pair}
            for _ in range(rounds):
                for whose, library in pair.items():
                    samples[whose].append(library.command("sample"))
        times = {
            name: {whose: summary([sample[name] for sample in taken]) for whose, taken in samples.items()}
            for name in ("after", "beside")
        }
        results.append({"inter_op": inter_op, "threads": counts, **times})
    return results
