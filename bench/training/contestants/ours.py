"""fastconv's layers in Keras on TensorFlow; everything else as stock."""

from __future__ import annotations

import fastconv
import fastconv.keras

from bench.reference import Array
from bench.training.contestants import Candidate, Server, on_keras
from bench.training.tasks import Task

__all__ = ["FRAMEWORK", "NAMES", "Server", "candidates", "setup"]

NAMES = ("fastconv",)
FRAMEWORK = False


def setup(threads: int) -> str:
    below = on_keras.setup(threads)
    return f"{fastconv.__version__} ({fastconv.show_config('dicts')['isa']}) in TensorFlow {below}"


def candidates(task: Task, arrays: dict[str, Array]) -> list[Candidate]:
    return on_keras.candidates(task, arrays, fastconv.keras)
