"""Imports Keras and TensorFlow without TensorFlow's log messages."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

_VARIABLE = "TF_CPP_MIN_LOG_LEVEL"
_SILENT = "3"  # fatal errors only


def silence_tensorflow() -> None:
    """Silence TensorFlow's log, unless the user has set its level. Call this before TensorFlow is imported."""
    os.environ.setdefault(_VARIABLE, _SILENT)


def import_keras() -> ModuleType:
    """Import Keras, and TensorFlow with it.

    TensorFlow logs some messages before it reads its log level. If its log is silenced, standard error is therefore
    held back during the import.
    """
    if "keras" in sys.modules or os.environ.get(_VARIABLE) != _SILENT:
        return importlib.import_module("keras")
    with _stderr_held_back():
        return importlib.import_module("keras")


@contextmanager
def _stderr_held_back() -> Iterator[None]:
    """Drop what is written to standard error. After an exception, write it."""
    try:
        stderr = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        failed = True
        try:
            yield
            failed = False
        finally:
            if sys.stderr is not None:
                sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            if failed:
                held_back.seek(0)
                os.write(2, held_back.read())
