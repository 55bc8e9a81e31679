"""Environment variables are read once, when fastconv is imported. Wrong values are refused."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from thread_jobs import BACKENDS, NO_BACKEND, needs_openmp

THREADS, THREADING, WINOGRAD, ISA = (f"FASTCONV_{name}" for name in ("NUM_THREADS", "THREADING", "WINOGRAD", "ISA"))
NUMBERS = "must be a number from 1 to 1024"
SWITCH = "must be '0' or '1'"
WRONG = [
    *[(THREADS, text, NUMBERS) for text in ("two", "0", "-1", "1.5", "1025", "100000", "9" * 20, "4,2", "3 ", " ")],
    *[(THREADING, text, NO_BACKEND) for text in ("foo", "OpenMP", "pool ")],
    *[(WINOGRAD, text, SWITCH) for text in ("off", "false", "2", "00")],
    (ISA, "sse9", "this CPU supports only: "),
]


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("FASTCONV_", "OMP_"))}
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**variables, **environment}, timeout=120
    )


@pytest.mark.parametrize(("name", "value", "expected"), WRONG, ids=str)
def test_a_wrong_value_is_refused(name: str, value: str, expected: str) -> None:
    done = run("import fastconv", **{name: value})
    assert done.returncode == 1
    assert f"ValueError: the environment variable {name} is '{value}', but {expected}" in done.stderr


SHOW = """
import numpy as np
import fastconv
config = fastconv.show_config("dicts")
algorithm = fastconv.explain((8, 56, 56, 64), (3, 3, 64, 64)).algorithm
print(config["threads"], config["threading"], algorithm)
"""
RIGHT = [
    ({THREADS: "1"}, f"1 {BACKENDS[0]} winograd"),
    ({THREADS: "1024", THREADING: "pool"}, "1024 pool winograd"),
    pytest.param({THREADS: "3", THREADING: "openmp", WINOGRAD: "1"}, "3 openmp winograd", marks=needs_openmp),
    ({THREADS: "3", THREADING: "", WINOGRAD: "0"}, f"3 {BACKENDS[0]} direct"),
    ({THREADS: "", "OMP_NUM_THREADS": "5", WINOGRAD: "", ISA: ""}, f"5 {BACKENDS[0]} winograd"),
]


@pytest.mark.parametrize(("environment", "expected"), RIGHT, ids=str)
def test_right_values_are_used(environment: dict[str, str], expected: str) -> None:
    done = run(SHOW, **environment)
    assert done.stdout == expected + "\n", done.stderr


@pytest.mark.parametrize(
    ("value", "expected"),
    [("5", 5), ("4,2", 4), (" 4 , 2 ", 4), ("5000", 1024), ("two", None), ("0", None), ("-1", None), ("1.5", None),
     ("4,", None), ("4,x", None), ("", None), ("9" * 30, None)],
)  # fmt: skip
def test_openmps_variable_is_read_as_openmp_reads_it(value: str, expected: int | None) -> None:
    """OpenMP ignores wrong values and takes the first number of a list."""
    code = "import fastconv; print(fastconv.get_num_threads())"
    default = run(code).stdout
    assert run(code, OMP_NUM_THREADS=value).stdout == (default if expected is None else f"{expected}\n")
