"""No kernel accesses memory outside its arrays or writes to an input.

The arrays border on inaccessible pages, so a violation crashes. The calls run in a child process, which prints each
problem before its calls.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import guard_pages
import numpy as np
import problems
import pytest
from processes import TIMEOUT
from workers import ISAS

SCRIPT = str(Path(guard_pages.__file__))


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command, variables = [sys.executable, *arguments], {**os.environ, **environment}
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=TIMEOUT)


@pytest.mark.parametrize("side", ["before", "behind"])
@pytest.mark.parametrize("isa", ISAS)
def test_no_kernel_touches_a_guard_page(isa: str, side: str, seed: int, count: int) -> None:
    few = max(1, count // 3)
    # One thread, because the report of a crash is then easier to read. No bound depends on threads.
    run = python(SCRIPT, side, str(few), str(seed), FASTCONV_ISA=isa, FASTCONV_NUM_THREADS="1")
    lines = run.stdout.strip().splitlines()
    what = f"exit status {run.returncode} (negative: a signal) in {lines[-1:]}\n{run.stderr}"
    assert run.returncode == 0, what
    functions_of_a_round = len(problems.CONV) * 2 + len(
        problems.DEPTHWISE + problems.POOL + problems.ADAPTIVE + problems.CONV_MAX_POOL
    )
    assert lines[-1] == f"{2 * few * functions_of_a_round} calls on {isa}"


TOO_FAR = """
import ctypes, sys
import guard_pages, numpy as np
size, side, offset, access, protection = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), *sys.argv[4:]
array = guard_pages.guarded(np.ones(size, np.float32), side, read_only=protection == "read-only")
element = ctypes.c_float.from_address(array.ctypes.data + 4 * offset)
print("before", flush=True)
if access == "write":
    element.value = 3
else:
    assert element.value == 1
print("after", flush=True)
"""


@pytest.mark.parametrize("size", [1, 1024, 1025])
@pytest.mark.parametrize(
    ("side", "element", "access", "protection", "crashes"),
    [
        ("behind", "last", "write", "writable", False),
        ("behind", "one too far", "write", "writable", True),
        ("behind", "one too far", "read", "writable", True),
        ("before", "first", "write", "writable", False),
        ("before", "one before", "write", "writable", True),
        ("before", "one before", "read", "read-only", True),
        ("behind", "last", "read", "read-only", False),
        ("behind", "last", "write", "read-only", True),
    ],
)
def test_the_guard_pages_catch_violations(
    size: int, side: str, element: str, access: str, protection: str, crashes: bool
) -> None:
    """Access to one float beyond the array is a segmentation fault. Access to its first and last float is not."""
    offset = {"last": size - 1, "one too far": size, "first": 0, "one before": -1}[element]
    arguments = ("-c", TOO_FAR, str(size), side, str(offset), access, protection)
    run = python(*arguments, PYTHONPATH=os.pathsep.join([str(Path(SCRIPT).parent), os.environ.get("PYTHONPATH", "")]))
    assert run.stdout.startswith("before"), run.stderr
    if crashes:
        # A sanitizer handles the signal itself and ends the process differently.
        assert run.returncode == -signal.SIGSEGV or "AddressSanitizer:DEADLYSIGNAL" in run.stderr
        assert "after" not in run.stdout
    else:
        assert run.returncode == 0 and "after" in run.stdout, run.stderr


def test_guarded_copies_keep_their_values() -> None:
    values = np.arange(12, dtype=np.float64).reshape(3, 4)
    for side in ("before", "behind"):
        np.testing.assert_array_equal(guard_pages.guarded(values, side, read_only=True), values)
