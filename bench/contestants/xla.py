"""Stock Keras on TensorFlow, with `jit_compile=True`."""

from __future__ import annotations

from bench.applications.task import Application
from bench.contestants import Candidate, stock
from bench.contestants.stock import FRAMEWORK, setup
from bench.oracle import Array

__all__ = ["FRAMEWORK", "candidates", "setup"]


def candidates(task: Application, arrays: dict[str, Array]) -> list[Candidate]:
    return [stock.whole_network(task, arrays, jit_compile=True)]
