"""Keras models with fastconv's layers, by `fastconv.keras.accelerate` with `fuse=True`."""

from __future__ import annotations

import functools

import fastconv.keras
import keras

from bench.applications.task import Application
from bench.contestants import Candidate, stock
from bench.contestants.accelerated import FRAMEWORK, setup
from bench.oracle import Array
from bench.tasks import Task

__all__ = ["FRAMEWORK", "candidates", "setup"]


def candidates(task: Application | Task, arrays: dict[str, Array]) -> list[Candidate]:
    convert = functools.partial(fastconv.keras.accelerate, fuse=True)
    if isinstance(task, Task):
        return stock.network_candidates(task, arrays, keras.layers, convert=convert)
    return [stock.whole_network(task, arrays, convert)]
