"""Keras's own layers on TensorFlow."""

from __future__ import annotations

import keras

from bench.reference import Array
from bench.training.contestants import Candidate, Server, on_keras
from bench.training.contestants.on_keras import setup
from bench.training.tasks import Task

__all__ = ["FRAMEWORK", "NAMES", "Server", "candidates", "setup"]

NAMES = ("stock",)
FRAMEWORK = True


def candidates(task: Task, arrays: dict[str, Array]) -> list[Candidate]:
    return on_keras.candidates(task, arrays, keras.layers)
