"""A contestant's process. It is stopped between its turns, as the idle threads of many libraries spin for a while."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np

from fastconv._commands.contestants import CALLS, Array, NotComputed, make_arrays
from fastconv._commands.layer import Layer
from fastconv._explain import Direction

_SAMPLE_SECONDS = 0.002
_WARM_SECONDS = 0.001

_run: Callable[[], Any]  # of the layer that was prepared last


def _begin(quiet: bool) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a stopped orphan would never end
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if quiet:  # errors arrive as exceptions
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)


def _load(name: str) -> str:
    return str(importlib.import_module(name).__version__)


def _prepare(name: str, layer: Layer, direction: Direction, threads: int) -> list[tuple[str, Array]]:
    """The results of all calls. The fastest call is the one that is sampled."""
    global _run
    results = []
    fastest = np.inf
    for label, (run, fetch) in CALLS[name](layer, direction, make_arrays(layer), threads).items():
        results.append((label, np.array(fetch(run()))))
        seconds = _seconds_per_call(run, _WARM_SECONDS)
        if seconds < fastest:
            _run, fastest = run, seconds
    return results


def _sample() -> float:
    _seconds_per_call(_run, _WARM_SECONDS)
    return _seconds_per_call(_run, _SAMPLE_SECONDS)


def _peak(dtype: str) -> float:
    from fastconv.network._report import measured_peak

    return measured_peak(np.dtype(dtype))


def _seconds_per_call(run: Callable[[], Any], least: float) -> float:
    calls, start = 0, time.perf_counter()
    while True:
        run()
        calls += 1
        seconds = time.perf_counter() - start
        if seconds >= least:
            return seconds / calls


def _answer(function: Callable[..., Any], *arguments: Any) -> Any:
    """Exceptions of a library can be unpickled only where it is imported, so others stand for them."""
    try:
        return function(*arguments)
    except NotComputed:
        raise
    except Exception as error:
        first = (re.sub(r"\{\{.*?\}\}", "", str(error)).strip().splitlines() or [""])[0]  # TensorFlow's names of nodes
        raise NotComputed(f"{type(error).__name__}: {first}"[:200].strip()) from None


class Contestant(contextlib.AbstractContextManager["Contestant"]):
    """A library in a process of its own. Each method raises `NotComputed` if the library fails."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        self._threads = threads
        spawn = multiprocessing.get_context("spawn")  # a fork would keep locks without their threads
        self._pool = ProcessPoolExecutor(1, spawn, _begin, (name != "fastconv",))
        self._process = 0
        try:
            self._process = self._call(os.getpid)
            self.version: str = self._call(_load, name)
        except BaseException:  # Ctrl-C included: an import may take many seconds
            self.close()
            raise

    def _signal(self, number: signal.Signals) -> None:
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process, number)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self._signal(signal.SIGCONT)
        try:
            return self._pool.submit(_answer, function, *arguments).result()
        except BrokenProcessPool:
            self._process = 0  # another process may get its number
            raise NotComputed(f"the process of {self.name} has ended") from None
        finally:
            self._signal(signal.SIGSTOP)

    def prepare(self, layer: Layer, direction: Direction) -> list[tuple[str, Array]]:
        found: list[tuple[str, Array]] = self._call(_prepare, self.name, layer, direction, self._threads)
        return found

    def sample(self) -> float:
        """Seconds of a call of what was prepared last."""
        return float(self._call(_sample))

    def peak(self, dtype: str) -> float:
        return float(self._call(_peak, dtype))

    def close(self) -> None:
        self._signal(signal.SIGKILL)
        self._pool.shutdown()

    def __exit__(self, *error: object) -> None:
        self.close()
