"""Importing fastconv leaves the lock (GIL) of a free-threaded Python off, and all threads get the same bits."""

from __future__ import annotations

import re
import sysconfig
from pathlib import Path

import pytest
from processes import run_python

MODULE = Path(__file__).parents[1] / "cpp" / "frontends" / "numpy" / "module.cpp"


def test_the_module_declares_that_it_needs_no_lock() -> None:
    """A Python with the lock ignores the declaration, so the test reads the source."""
    declarations = re.findall(r"PYBIND11_MODULE\(.*\)", MODULE.read_text())
    assert len(declarations) == 1 and "py::mod_gil_not_used()" in declarations[0]


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="no free-threaded Python")
def test_the_lock_stays_off() -> None:
    run_python(
        """
        import sys
        import threading
        import numpy as np
        off_before = not sys._is_gil_enabled()
        import fastconv
        assert off_before and not sys._is_gil_enabled()
        x = np.random.default_rng(0).standard_normal((2, 14, 14, 8)).astype(np.float32)
        filters = np.random.default_rng(1).standard_normal((3, 3, 8, 16)).astype(np.float32)
        packed, expected, found = fastconv.PackedFilters(filters), fastconv.conv2d(x, filters).tobytes(), []

        def call():
            for _ in range(200):
                found.append(fastconv.conv2d(x, packed).tobytes() == expected)

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [True] * 1600
        """
    )
