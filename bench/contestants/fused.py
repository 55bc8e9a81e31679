"""Keras models with fastconv's layers, by `fastconv.keras.accelerate` with `fuse=True`."""

from __future__ import annotations

import functools

import fastconv.keras

from bench.applications.task import Application
from bench.contestants import Candidate, stock
from bench.contestants.accelerated import FRAMEWORK, setup
from bench.oracle import Array

__all__ = ["FRAMEWORK", "candidates", "setup"]


def candidates(task: Application, arrays: dict[str, Array]) -> list[Candidate]:
    return [stock.whole_network(task, arrays, functools.partial(fastconv.keras.accelerate, fuse=True))]
