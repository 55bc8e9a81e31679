"""Stock Keras on TensorFlow, with `jit_compile=True`."""

from __future__ import annotations

import keras

from bench.applications.task import Application
from bench.contestants import Candidate, stock
from bench.contestants.stock import FRAMEWORK, setup
from bench.oracle import Array
from bench.serving.task import Served
from bench.tasks import Task

__all__ = ["FRAMEWORK", "candidates", "setup"]


def candidates(task: Task | Served | Application, arrays: dict[str, Array]) -> list[Candidate]:
    if isinstance(task, Task):
        return stock.network_candidates(task, arrays, keras.layers, jit_compile=True)
    return [stock.whole_network(task, arrays, jit_compile=True)]
