"""Each library in a process of its own, commanded over a pipe and stopped while it is not its turn.

The libraries bring thread pools (several copies of OpenMP, Eigen's, XLA's) that spin for a while after the work is
done, and settings (denormals, huge pages, allocators) that one process can have only once. In one process, the pool of
the library that was timed last would take the CPU from the next. So each library has a long-lived process, it gets
SIGSTOP after each command and SIGCONT before the next, and its first calls after that are not timed. Nobody but the
one whose turn it is uses a CPU.

All processes may use the same CPUs, as many as there are threads. They are fed the same numbers through shared memory
and copy them to memory of their own, allocated as their users' would be.
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
from collections.abc import Iterator
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from bench.cases import Case
from bench.contestants import NotServed, Variant
from bench.reference import Array

MODULES = {
    "fastconv": "ours",
    "tensorflow": "tensorflow",
    "torch": "pytorch",
    "jax": "jax",
    "onnxruntime": "onnxruntime",
    "ncnn": "ncnn",
}
PEERS = tuple(name for name in MODULES if name != "fastconv")
SAMPLE_SECONDS = 1e-3  # a sample is as many calls as it takes to fill this
SHARED = tuple[str, tuple[int, ...], str]  # name of the shared memory, shape, dtype


class SharedArray:
    """An array that another process can attach to by its `handle`."""

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self._memory = SharedMemory(create=True, size=max(size, 1))
        self.array: Array = np.ndarray(shape, dtype, buffer=self._memory.buf)
        self.handle: SHARED = (self._memory.name, shape, dtype)

    def close(self) -> None:
        del self.array
        self._memory.close()
        self._memory.unlink()


def _seconds(variant: Variant, calls: int) -> float:
    start = time.perf_counter_ns()
    for _ in range(calls):
        variant.run()
    return (time.perf_counter_ns() - start) * 1e-9 / calls


def _calls_per_sample(seconds: float) -> int:
    return max(1, int(np.ceil(SAMPLE_SECONDS / max(seconds, 1e-8))))


def copy_arrays(handles: dict[str, SHARED]) -> dict[str, Array]:
    """What the benchmark's process has put into shared memory, in memory of this process."""
    arrays: dict[str, Array] = {}
    for key, (memory_name, shape, dtype) in handles.items():
        memory = SharedMemory(name=memory_name)
        arrays[key] = np.ndarray(shape, dtype, buffer=memory.buf).copy()
        memory.close()
    return arrays


class Server:
    """The commands, in the library's process. A module may bring a `Server` of its own."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module
        self._chosen: dict[str, tuple[Variant, int]] = {}

    def prepare(self, name: str, case: Case, handles: dict[str, SHARED], result: SHARED) -> str:
        """Compute `case` once into `result`; choose the fastest variant and the calls of one sample."""
        arrays = copy_arrays(handles)
        timed = []
        for variant in self._module.variants(name, case, arrays):
            raw = variant.run()
            # Minima: by then threads run, memory is there, and nobody else took the CPU.
            seconds = min(_seconds(variant, 1) for _ in range(5))
            seconds = min(_seconds(variant, _calls_per_sample(seconds)) for _ in range(3))
            timed.append((seconds, variant, raw))
        seconds, variant, raw = min(timed, key=lambda entry: entry[0])
        array = variant.fetch(raw)
        memory_name, shape, dtype = result
        if array.shape != shape or array.dtype != np.dtype(dtype):
            raise RuntimeError(f"{name} gave {array.shape} {array.dtype} instead of {shape} {dtype}")
        memory = SharedMemory(name=memory_name)
        np.ndarray(shape, dtype, buffer=memory.buf)[...] = array
        memory.close()
        self._chosen[name] = variant, _calls_per_sample(seconds)
        label: str = variant.label
        return label

    def sample(self, name: str) -> float:
        """Seconds of one call, the mean of one sample, after as many that are not timed."""
        variant, calls = self._chosen[name]
        _seconds(variant, calls)
        return _seconds(variant, calls)

    def forget(self) -> None:
        """Free a case's arrays."""
        self._chosen.clear()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Drop what C++ code logs while a library loads; what goes wrong arrives as an exception."""
    stderr = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _serve(
    module_name: str, threads: int, cpus: list[int], pipe: Connection, folder: Path | None, environment: dict[str, str]
) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nobody would wake us up again
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.sched_setaffinity(0, cpus)
    os.environ.update(environment)
    if folder is not None:
        sys.path.insert(0, str(folder))
    try:
        with _quiet():
            module = importlib.import_module(module_name)
        pipe.send((None, (module.NAMES, module.FRAMEWORK, module.setup(threads))))
    except Exception as error:
        pipe.send((error_text(error), None))
        return
    server = getattr(module, "Server", Server)(module)
    while True:
        command, *arguments = pipe.recv()
        try:
            pipe.send((None, getattr(server, command)(*arguments)))
        except Exception as error:
            pipe.send((error_text(error), None))


def error_text(error: BaseException) -> str:
    """One line that tells an error."""
    first = (str(error).splitlines() or [""])[0]
    return first if isinstance(error, NotServed) else f"{type(error).__name__}: {first}"[:200]


class LibraryError(RuntimeError):
    """What went wrong in the library's process."""


class Library:
    """A library's process, seen from the benchmark's.

    `module` is what it imports and runs; `folder` is where the library is, if not where Python finds it anyway;
    `environment` is set before it loads.
    """

    def __init__(
        self,
        library: str,
        threads: int,
        cpus: list[int],
        module: str | None = None,
        folder: Path | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        module = module or f"bench.contestants.{MODULES[library]}"
        context = multiprocessing.get_context("spawn")  # a forked child would inherit threads' locks without threads
        self._pipe, theirs = context.Pipe()
        arguments = module, threads, cpus, theirs, folder, environment or {}
        self._process = context.Process(target=_serve, args=arguments, daemon=True)
        self._process.start()
        theirs.close()
        self.library = library
        try:
            self.names, self.framework, self.version = self._receive()
        except LibraryError:
            self.close()
            raise
        self._pause()

    def _pause(self) -> None:
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, signal.SIGSTOP)

    def _wake(self) -> None:
        if self._process.pid is not None and self._process.is_alive():
            os.kill(self._process.pid, signal.SIGCONT)

    def _receive(self) -> Any:
        try:
            error, answer = self._pipe.recv()
        except EOFError as end:
            self._process.join()
            raise LibraryError(f"its process ended with status {self._process.exitcode}") from end
        if error is not None:
            raise LibraryError(error)
        return answer

    def command(self, name: str, *arguments: Any) -> Any:
        """Call a method of the process's server; LibraryError if it raises."""
        self._wake()
        try:
            self._pipe.send((name, *arguments))
            return self._receive()
        except BrokenPipeError as error:
            raise LibraryError("its process has ended") from error
        finally:
            self._pause()

    def close(self) -> None:
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def __enter__(self) -> Library:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
