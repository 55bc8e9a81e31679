"""Keras's own tests of convolution, pooling and batch normalisation layers pass on fastconv's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from processes import TIMEOUT

pytestmark = pytest.mark.tensorflow

NO_TESTS = 3


def test_keras_own_tests_pass(not_run: set[str]) -> None:
    """They run in another process, in which our layers replace Keras's."""
    command = [sys.executable, str(Path(__file__).with_name("keras_own_tests.py"))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    if done.returncode == NO_TESTS:
        why = done.stdout.splitlines()[-1]
        not_run.add(f"Keras's own tests on fastconv's layers: {why}")
        pytest.skip(why)
    assert done.returncode == 0, done.stdout + done.stderr
