"""Runs Python code in another process, and loads scripts as modules."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from types import ModuleType

# Seconds: ten times what the slowest process takes, but less than pytest's timeout, which would end the test worker.
TIMEOUT = 500
EXAMPLES = Path(__file__).parents[1] / "examples"


def run_python(code: str, *arguments: str, folder: Path | None = None, **environment: str) -> str:
    """The output of the code in another process, which must succeed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={**os.environ, **environment},
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout


def load_example(name: str) -> ModuleType:
    """The script examples/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
