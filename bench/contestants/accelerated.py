"""Keras models with fastconv's layers, by `fastconv.keras.accelerate`."""

from __future__ import annotations

import fastconv
import fastconv.keras

from bench.applications.task import Application
from bench.contestants import Candidate, stock
from bench.oracle import Array
from bench.serving.task import Served

FRAMEWORK = True


def setup(threads: int) -> str:
    fastconv.set_num_threads(threads)
    return f"fastconv {fastconv.__version__} on {stock.setup(threads)}"


def candidates(task: Served | Application, arrays: dict[str, Array]) -> list[Candidate]:
    return [stock.whole_network(task, arrays, fastconv.keras.accelerate)]
