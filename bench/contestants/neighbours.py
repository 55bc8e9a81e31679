"""How a convolution in a TensorFlow graph affects a matmul after it and beside it, and how many threads run."""

from __future__ import annotations

import functools
import os
import statistics
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import tensorflow as tf

from bench.contestants.tensorflow import FRAMEWORK, setup
from bench.measure import duration

__all__ = ["FRAMEWORK", "Server", "setup"]

INPUT, FILTERS, MATRIX = (128, 13, 13, 6), (3, 3, 6, 16), 512  # the second convolution of LeNet
WARM, CALLS = 10, 30
PARALLEL = 4


def _op(whose: str) -> Any:
    if whose == "stock":
        return lambda x, w: tf.nn.conv2d(x, w, 1, "VALID")
    import fastconv.tensorflow

    return fastconv.tensorflow.conv2d


class Server:
    """Runs the commands. A process has one setting of inter_op and one kind of op."""

    def __init__(self, module: ModuleType) -> None:
        pass

    def start(self, whose: str, inter_op: int) -> None:
        tf.config.threading.set_inter_op_parallelism_threads(inter_op)
        op = _op(whose)
        random = np.random.default_rng(0)
        x, *filters = (
            tf.constant(random.standard_normal(shape, np.float32)) for shape in (INPUT, *[FILTERS] * PARALLEL)
        )
        a, b = (tf.constant(random.standard_normal((MATRIX, MATRIX), np.float32)) for _ in range(2))

        @tf.function(autograph=False)
        def after(x: Any, w: Any, a: Any, b: Any) -> Any:
            """Seconds of the matmul alone, from the end of the op, by the clock of the graph itself."""
            y = op(x, w)
            with tf.control_dependencies([y]):
                begin = tf.timestamp()
            with tf.control_dependencies([begin]):
                product = tf.matmul(a, b)
            with tf.control_dependencies([product]):
                seconds = tf.timestamp() - begin
            return seconds, y, product  # TensorFlow prunes results that are not returned

        @tf.function(autograph=False)
        def beside(x: Any, w: Any, a: Any, b: Any) -> Any:
            return op(x, w), tf.matmul(a, b)

        @tf.function(autograph=False)
        def parallel(x: Any, filters: Any) -> Any:
            return [op(x, w) for w in filters]

        self._parallel = functools.partial(parallel, x, filters)
        self._seconds: dict[str, Callable[[], float]] = {
            "after": lambda: float(after(x, filters[0], a, b)[0]),
            "beside": lambda: duration(lambda: beside(x, filters[0], a, b)),
        }

    def threads(self) -> int:
        """The number of threads of this process after ops have run side by side."""
        for _ in range(WARM):
            self._parallel()
        return len(os.listdir("/proc/self/task"))

    def sample(self) -> dict[str, float]:
        """Median seconds of a matmul after the op, and of the op and a matmul together."""
        return {
            name: statistics.median([seconds() for _ in range(WARM + CALLS)][WARM:])
            for name, seconds in self._seconds.items()
        }
