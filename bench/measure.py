"""Measures one case: results first, then all contestants in turn, round after round."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from bench.cases import Case, make_arrays
from bench.reference import Array, Disagreement, error_in_eps, reference_and_bound
from bench.workers import SHARED, Library, LibraryError, SharedArray

OURS = "fastconv"


@contextlib.contextmanager
def shared_arrays(case: Case, arrays: dict[str, Array]) -> Iterator[tuple[dict[str, SHARED], SharedArray]]:
    """The case's arrays where all processes find them, and room for a result."""
    shared = {key: SharedArray(array.shape, case.dtype) for key, array in arrays.items()}
    result = SharedArray(case.result_shape, case.dtype)
    try:
        for key, array in arrays.items():
            shared[key].array[...] = array
        yield {key: memory.handle for key, memory in shared.items()}, result
    finally:
        for memory in (*shared.values(), result):
            memory.close()


def measure(case: Case, libraries: list[Library], rounds: int) -> dict[str, Any]:
    """One result of the JSON file, without the ratios; see README.md for its fields."""
    arrays = make_arrays(case)
    reference, bound = reference_and_bound(case.layer, case.direction, arrays)
    chosen: dict[str, dict[str, Any]] = {}
    refused: dict[str, str] = {}
    wrong: list[str] = []
    by_name = {name: library for library in libraries for name in library.names}
    with shared_arrays(case, arrays) as (handles, result):
        for name, library in by_name.items():
            result.array.fill(np.nan)
            try:
                variant = library.command("prepare", name, case, handles, result.handle)
                error = error_in_eps(result.array, reference, bound)
            except Disagreement as problem:
                refused[name] = f"wrong: {problem}"
                wrong.append(name)
            except LibraryError as problem:
                refused[name] = str(problem)
            else:
                chosen[name] = {"variant": variant, "error_eps": error, "framework": library.framework, "samples": []}
        for _ in range(rounds):
            for name, entry in chosen.items():
                entry["samples"].append(by_name[name].command("sample", name))
        for library in libraries:
            library.command("forget")
    for name, entry in chosen.items():
        entry["direct"] = _direct(case, name)
        _summarise(case, entry)
    layer = case.layer
    return {
        "suite": layer.suite,
        "layer": layer.name,
        "sizes": str(layer),
        "direction": case.direction,
        "anchor": layer.anchor,
        "gflop": layer.flops * 1e-9,
        "least_gflop": layer.least_flops * 1e-9,
        "gigabytes": case.bytes_moved * 1e-9,
        "contestants": chosen,
        "refused": refused,
        "wrong": wrong,
        **ratios(chosen),
    }


def _direct(case: Case, name: str) -> bool:
    """Whether a contestant does all multiplications of the direct algorithm: only ours and ncnn know Winograd's."""
    if case.layer.multiplies_directly or name not in (OURS, "ncnn"):
        return True
    return name == OURS and case.algorithm == "direct"


def _summarise(case: Case, entry: dict[str, Any]) -> None:
    """Median and quartiles over the rounds, in microseconds, and rates."""
    samples = np.array(entry.pop("samples"))
    q1, median, q3 = np.percentile(samples, [25, 50, 75])
    entry["median_us"], entry["q1_us"], entry["q3_us"] = (float(value * 1e6) for value in (median, q1, q3))
    entry["samples_us"] = [float(value) for value in np.round(samples * 1e6, 3)]
    entry["gflops"] = float(case.layer.flops / median * 1e-9)
    entry["gigabytes_per_s"] = float(case.bytes_moved / median * 1e-9)


def ratios(contestants: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """How much faster ours is than the best framework and than the best of all; None without ours or without peers."""
    peers = {name: entry["median_us"] for name, entry in contestants.items() if name != OURS}
    frameworks = {name: time for name, time in peers.items() if contestants[name]["framework"]}
    found: dict[str, Any] = {}
    for key, group in (("framework", frameworks), ("all", peers)):
        best = min(group, key=lambda name: group[name]) if group else None
        found[f"best_{key}"] = best
        known = best is not None and OURS in contestants
        found[f"ratio_{key}"] = group[best] / contestants[OURS]["median_us"] if best is not None and known else None
    return found


def geometric_means(results: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of the ratios, for each direction: over all layers of the run, and over those that ANCHORS marks."""
    found: dict[str, dict[str, Any]] = {}
    for direction in dict.fromkeys(result["direction"] for result in results):
        chosen = [result for result in results if result["direction"] == direction and result["suite"] != "extra"]
        for label, group in (("", chosen), (" (anchors)", [result for result in chosen if result["anchor"]])):
            entry: dict[str, Any] = {}
            for key in ("framework", "all"):
                values = [result[f"ratio_{key}"] for result in group if result[f"ratio_{key}"] is not None]
                entry[key] = math.exp(float(np.mean(np.log(values)))) if values else None
                entry[f"worst_{key}"] = min(values, default=None)
                entry[f"layers_{key}"] = len(values)
            if group:
                found[direction + label] = entry
    return found


def add_percent_of_peak(results: list[dict[str, Any]], peak: float) -> list[str]:
    """Set ``percent_of_peak`` everywhere; returns what voids the run: direct kernels above 105 % of `peak`.

    The latter without the multiplications that meet padding: a kernel may leave them out.
    """
    void = []
    for result in results:
        for name, entry in result["contestants"].items():
            percent = 1e11 * entry["gflops"] / peak if result["gflop"] else None
            entry["percent_of_peak"] = percent
            if percent is None or not entry["direct"]:
                continue
            percent *= result["least_gflop"] / result["gflop"]
            if percent > 105:
                void.append(f"{name}, {result['suite']} {result['layer']} {result['direction']}: {percent:.0f} %")
    return void
