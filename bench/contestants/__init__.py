"""One module for each contestant, imported in a process of its own (bench/processes.py).

A module has ``FRAMEWORK`` (whether it counts for the ratio to the best framework), ``setup(threads)``, which returns
the library's version, and ``candidates(task, arrays)``: the ways in which its users would compute a
`bench.cases.Case`, a `bench.tasks.Task` or a `bench.serving.task.Served`. The fastest is measured. If the library
cannot compute a task, `candidates` raises `NotServed`.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from bench.cases import RESULTS, Case
from bench.oracle import Array

CHECKED_STEPS = 3  # their losses are compared before anything is timed: the later ones depend on gradients and Adam
# Why a layer is not measured.
INFERENCE_ONLY = "inference only"
SINGLE_CHANNELS = "only forward, with filters of single channels, stride 1, and no padding or SAME"


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


def fetched(label: str, run: Callable[[], Any], fetch: Callable[[Any], Array] = np.asarray, **more: Any) -> Candidate:
    """A candidate whose result `fetch` turns into an array in our layout."""
    return Candidate(label, lambda: fetch(run()), run, **more)


def steps_candidate(
    label: str,
    step: Callable[[Any, Any], Any],
    batches: list[tuple[Any, Any]],
    penalty: Callable[[], float] = lambda: 0.0,
    **more: Any,
) -> Candidate:
    """A candidate for training steps. `step` returns the loss when all work is done.

    `penalty` computes, before a step, the part of the loss that `step` leaves out.
    """

    def check() -> Array:
        return np.array([penalty() + float(step(*batch)) for batch in batches[:CHECKED_STEPS]])

    rest: Iterator[tuple[Any, Any]] = itertools.cycle(batches[CHECKED_STEPS:] + batches[:CHECKED_STEPS])
    return Candidate(label, check, lambda: step(*next(rest)), **more)


def threads() -> int:
    """The number of threads of every contestant, which is the number of CPUs that its process may use."""
    return len(os.sched_getaffinity(0))


def nchw(x: Array) -> Array:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2))


def as_nhwc(y: Array) -> Array:
    """The result of a network on images (N,C,H,W), in our layout."""
    return np.ascontiguousarray(y.transpose(0, 2, 3, 1)) if y.ndim == 4 else y


def _reason_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.reason")


def write_reason(path: Path, reason: str) -> None:
    """Tell the processes of the libraries why the file `path` is missing."""
    _reason_file(path).write_text(reason, encoding="utf-8")


def existing(path: Path) -> Path:
    """The path of a file; if the file is missing, NotServed with the reason."""
    if not path.exists():
        reason = _reason_file(path)
        raise NotServed(
            f"there is no {path.name}: {reason.read_text(encoding='utf-8') if reason.exists() else 'unknown'}"
        )
    return path


def channels_first(case: Case, arrays: dict[str, Array]) -> dict[str, Array]:
    """The arrays of a case, images as (N,C,H,W) and filters as (K,C/groups,R,S)."""
    layer = case.layer
    found = {name: nchw(array) for name, array in arrays.items() if name != "w"}
    if "w" in arrays:
        filters = arrays["w"].reshape(layer.r, layer.s, -1, layer.k)
        found["w"] = np.ascontiguousarray(filters.transpose(3, 2, 0, 1))
    return found


def channels_last(case: Case, result: Array) -> Array:
    """The result of a computation on `channels_first` arrays, in our layout."""
    order = (2, 3, 1, 0) if RESULTS[case.direction] == "w" else (0, 2, 3, 1)
    return np.ascontiguousarray(result.transpose(order)).reshape(case.result_shape)


def require_single_channels(case: Case) -> None:
    """NotServed, unless each channel of the result is a channel of the input under one filter."""
    layer = case.layer
    padded = layer.pad and not layer.r == layer.s == 2 * layer.pad + 1
    if case.direction != "forward" or layer.c != layer.groups or layer.stride > 1 or padded:
        raise NotServed(SINGLE_CHANNELS)


def each_channel(
    label: str, case: Case, arrays: dict[str, Array], correlate: Callable[[Array, Array, Array], Array]
) -> Candidate:
    """A candidate that calls `correlate` for each image and filter.

    It gets a channel of an image, a filter and memory of the size of the image. Its result has the size of the case's
    result, or the size of the image, of which the border is then dropped.
    """
    layer, operands = case.layer, channels_first(case, arrays)
    memory = np.empty((layer.n, layer.k, layer.h, layer.w), case.dtype)
    calls = [
        (image[k * layer.c // layer.k], operands["w"][k, 0], out[k])
        for image, out in zip(operands["x"], memory, strict=True)
        for k in range(layer.k)
    ]

    def fetch(found: list[Array]) -> Array:
        y = np.stack(found).reshape(layer.n, layer.k, *found[0].shape)
        top, left = (y.shape[2] - layer.p) // 2, (y.shape[3] - layer.q) // 2
        return channels_last(case, y[:, :, top : top + layer.p, left : left + layer.q])

    return fetched(label, lambda: [correlate(*call) for call in calls], fetch)
