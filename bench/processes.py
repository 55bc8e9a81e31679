"""Runs each library in its own process, which gets commands over a pipe and is stopped between its turns.

Libraries have thread pools that spin for a while after their work is done, and settings (denormals, huge pages,
allocators) that hold for a whole process. So each process gets SIGSTOP after a command and SIGCONT before the next, and
its first calls after SIGCONT are not timed. All processes may use the same CPUs, one for each thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

from bench.contestants import Candidate, NotServed
from bench.oracle import Array


def _seconds(candidate: Candidate, calls: int) -> float:
    """The mean time of some calls."""
    start = time.perf_counter()
    for _ in range(calls):
        candidate.run()
    return (time.perf_counter() - start) / calls


class Server:
    """Runs the commands in the library's process. A contestant's module may have a `Server` of its own."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self.forget()

    def prepare(self, task: Any, arrays: dict[str, Array]) -> dict[str, Any]:
        """Build all candidates and choose the fastest. Returns the result and time of each, or its error."""
        seconds: dict[str, float] = {}
        results: dict[str, Array] = {}
        failed: dict[str, str] = {}
        for candidate in self._module.candidates(task, arrays):
            candidate.begin()
            try:
                results[candidate.label] = candidate.check()
                seconds[candidate.label] = self._duration(candidate, task)
            except Exception as error:  # for instance, a compiler is missing
                results.pop(candidate.label, None)
                failed[candidate.label] = error_text(error)
                continue
            if self._chosen is None or seconds[candidate.label] < self._seconds:
                self._chosen, self._seconds, self._task = candidate, seconds[candidate.label], task
        if self._chosen is None:
            raise NotServed("; ".join(f"{label}: {why}" for label, why in failed.items()))
        return {"variant": self._chosen.label, "variants": seconds, "failed": failed, "results": results}

    @staticmethod
    def _duration(candidate: Candidate, task: Any) -> float:
        if candidate.seconds is not None:
            return candidate.seconds()
        # The minimum leaves out calls that start threads and allocate memory. Of slow candidates, two calls are enough.
        taken: list[float] = []
        while len(taken) < 2 or (len(taken) < 5 and sum(taken) < 0.2):
            taken.append(_seconds(candidate, 1))
        calls = int(task.warm_seconds / min(taken))
        return min(_seconds(candidate, calls) for _ in range(3)) if calls > 1 else min(taken)

    def sample(self) -> float:
        """Seconds of one call, after calls that are not timed."""
        candidate = self._chosen
        if candidate is None:
            raise NotServed("no task is prepared: call prepare before sample")
        candidate.begin()
        if candidate.seconds is not None:
            return candidate.seconds()
        _seconds(candidate, max(1, round(self._task.warm_seconds / self._seconds)))
        return _seconds(candidate, max(1, round(self._task.sample_seconds / self._seconds)))

    def forget(self) -> None:
        """Free the memory of a task."""
        self._chosen: Candidate | None = None
        self._seconds = 0.0
        self._task: Any = None


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Drop what C++ code logs. Python's warnings are still shown, and errors arrive as exceptions."""
    with open(os.devnull, "wb") as nowhere, os.fdopen(os.dup(2), "w") as stderr:
        os.dup2(nowhere.fileno(), 2)
        try:
            # A warning says, for example, that a contestant fell back to another implementation.
            with contextlib.redirect_stderr(stderr if sys.stderr is sys.__stderr__ else sys.stderr):
                yield
        finally:
            os.dup2(stderr.fileno(), 2)


def _serve(
    module_name: str, threads: int, cpus: list[int], pipe: Connection, folder: Path | None, environment: dict[str, str]
) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: a stopped orphan would never end
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.sched_setaffinity(0, cpus)
    os.environ.update(environment)
    if folder is not None:
        sys.path.insert(0, str(folder))

    server: Any = None

    def answer(function: Callable[..., Any], *arguments: Any) -> None:
        try:
            with quiet():
                result = function(*arguments)
            pipe.send((None, result))
        except Exception as error:
            pipe.send((error_text(error), None))

    def load() -> tuple[bool, str]:
        nonlocal server
        module = importlib.import_module(module_name)
        version = module.setup(threads)
        server = getattr(module, "Server", Server)(module)
        return module.FRAMEWORK, version

    answer(load)
    while server is not None:
        command, *arguments = pipe.recv()
        answer(getattr(server, command), *arguments)


def error_text(error: BaseException) -> str:
    """The first line of an error."""
    first = (str(error).splitlines() or [""])[0]
    return first if isinstance(error, NotServed) else f"{type(error).__name__}: {first}"[:200]


class LibraryError(RuntimeError):
    """An error in the library's process."""


class Library(contextlib.AbstractContextManager["Library"]):
    """A library's process, seen from the benchmark's process.

    The library's process imports `module`. If `folder` is given, Python looks for packages there first. `environment`
    is set before the library loads.
    """

    def __init__(
        self,
        name: str,
        threads: int,
        cpus: list[int],
        module: str = "",
        folder: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        context = multiprocessing.get_context("spawn")  # a fork would keep locks without their threads
        self._pipe, theirs = context.Pipe()
        arguments = module or f"bench.contestants.{name}", threads, cpus, theirs, folder, environment or {}
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self.name = name
        try:
            self.framework, self.version = self._receive()
        except LibraryError:
            self.close()
            raise
        self._signal(signal.SIGSTOP)

    def _signal(self, number: int) -> None:
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, number)

    def _receive(self) -> Any:
        try:
            error, answer = self._pipe.recv()
        except EOFError as end:
            self._process.join()
            raise LibraryError(f"the process of {self.name} ended with status {self._process.exitcode}") from end
        if error is not None:
            raise LibraryError(error)
        return answer

    def command(self, name: str, *arguments: Any) -> Any:
        """Call a method of the process's server; LibraryError if it raises."""
        self._signal(signal.SIGCONT)
        try:
            self._pipe.send((name, *arguments))
            return self._receive()
        except BrokenPipeError as error:
            raise LibraryError(f"the process of {self.name} has ended") from error
        finally:
            self._signal(signal.SIGSTOP)

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def __exit__(self, *error: object) -> None:
        self.close()
