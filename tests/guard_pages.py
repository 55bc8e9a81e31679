"""Runs calls whose arrays border on inaccessible memory: an access beyond an array ends this process.

    python guard_pages.py before|behind COUNT SEED

With "behind", an inaccessible page follows each array; with "before", one precedes it. The pages of inputs are
read-only. The description of each call is printed before it runs, so that the last line names a call that crashed.
This script checks only that every element of the outputs is written. Other tests compare the values.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from typing import Any

import fastconv
import numpy as np
import problems
import random_problems

PAGE = mmap.PAGESIZE
PROT_NONE, PROT_READ = 0, 1
libc = ctypes.CDLL(None, use_errno=True)


def protect(address: int, size: int, protection: int) -> None:
    if libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), protection) != 0:
        raise OSError(ctypes.get_errno(), "mprotect failed")


def guarded(values: np.ndarray, side: str, read_only: bool) -> np.ndarray:
    """A copy that borders on an inaccessible page at `side`. Another inaccessible page lies at the far end."""
    pages = max(1, -(-values.nbytes // PAGE))
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    start = PAGE if side == "before" else (pages + 1) * PAGE - values.nbytes
    array = np.frombuffer(memory, values.dtype, values.size, start).reshape(values.shape)
    array[...] = values
    protect(address, PAGE, PROT_NONE)
    protect(address + (pages + 1) * PAGE, PAGE, PROT_NONE)
    if read_only:
        protect(address + PAGE, pages * PAGE, PROT_READ)
    return array


def run(call: problems.Call, side: str) -> None:
    given = dict(call.arguments)
    if call.name in ("conv2d", "depthwise_conv2d", "conv2d_transpose") and call.problem.forms % 2:
        given |= {"residual": np.ones(call.result_shapes()[0][0], call.problem.dtype), "activation": "elu"}
    arguments: dict[str, Any] = {
        name: guarded(value, side, read_only=True)
        if isinstance(value, np.ndarray) and value.dtype in (call.problem.dtype, np.uint8)
        else value
        for name, value in given.items()
    }
    shapes = call.result_shapes()
    out = tuple(guarded(np.full(shape, unwritten(dtype), dtype), side, read_only=False) for shape, dtype in shapes)
    getattr(fastconv, call.name)(**arguments, out=out if len(out) > 1 else out[0])
    if call.problem.values != "nan":
        for array in out:
            left = np.isnan(array) if array.dtype.kind == "f" else array == unwritten(array.dtype)
            assert not left.any(), f"elements that are not written: {left.sum()}\n{call}"


def unwritten(dtype: np.typing.DTypeLike) -> float:
    """A mark for unwritten elements. No result has this value."""
    return np.nan if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max


def main() -> None:
    side, count, seed = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    done = 0
    for dtype in ("float32", "float64"):
        for kind in problems.KINDS:
            for problem in random_problems.draw(count, seed, dtype, kind):
                for call in problems.calls_of(problem):
                    print(call, flush=True)
                    run(call, side)
                    done += 1
    print(f"{done} calls on {fastconv.show_config('dicts')['isa']}")


if __name__ == "__main__":
    main()
