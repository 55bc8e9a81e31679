"""Keras's own tests of its convolution and pooling layers pass on fastconv's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

NO_TESTS = 3


def test_keras_own_tests_pass() -> None:
    """In a process of its own, where our layers stand in for Keras's."""
    script = Path(__file__).with_name("keras_own_tests.py")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
    if done.returncode == NO_TESTS:
        pytest.skip(done.stdout.splitlines()[-1])
    assert done.returncode == 0, done.stdout + done.stderr
