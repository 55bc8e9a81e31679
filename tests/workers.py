"""Child processes with their own instruction set, threading backend and so on.

fastconv reads its environment variables once, so each setting needs its own process.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, nullcontext
from typing import Any

import fastconv
import numpy as np

ISAS: list[str] = fastconv.show_config("dicts")["isa_available"]

# (function's name, arguments by name)
Plain = tuple[str, dict[str, Any]]


@contextmanager
def worker(**environment: str) -> Iterator[ProcessPoolExecutor]:
    """A process whose environment is this process's, changed by these variables."""
    before = {name: os.environ.get(name) for name in environment}
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        os.environ.update(environment)
        try:
            pool.submit(os.getpid).result()
        finally:
            for name, value in before.items():
                os.environ.pop(name)
                if value is not None:
                    os.environ[name] = value
        yield pool


def compute(calls: Sequence[Plain], threads: int | None = None) -> list[Any]:
    """The results of the calls, made one after another."""
    with fastconv.threads(threads) if threads is not None else nullcontext():
        return [getattr(fastconv, name)(**arguments) for name, arguments in calls]


def execute(code: str) -> None:
    """Run a script, which contains its own assertions."""
    exec(compile(code, "<script of a test>", "exec"), {})


def compute_packed(calls: Sequence[Plain]) -> list[Any]:
    """Like `compute`, with packed filters."""
    packed = [
        (name, {**arguments, "filters": fastconv.PackedFilters(arguments["filters"])}) for name, arguments in calls
    ]
    return compute(packed)


def displaced(array: np.ndarray, elements: int) -> np.ndarray:
    """A copy that starts `elements` elements after a multiple of 64 bytes."""
    room = np.empty(array.nbytes + 64 + elements * array.itemsize, np.uint8)
    start = -room.ctypes.data % 64 + elements * array.itemsize
    copy = room[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def compute_displaced(calls: Sequence[Plain], elements: int) -> list[Any]:
    """Like `compute`, with every array of floats `elements` elements off a 64-byte boundary."""

    def moved(value: Any) -> Any:
        return displaced(value, elements) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value

    return compute([(name, {key: moved(value) for key, value in arguments.items()}) for name, arguments in calls])
