"""One of two builds of fastconv, in its own process. The build's folder comes first in sys.path."""

from __future__ import annotations

import sys
import timeit

import fastconv
import numpy as np

from bench import processes
from bench.builds.build import check_home
from bench.contestants import fastconv as ours
from bench.contestants.fastconv import FRAMEWORK, candidates

__all__ = ["FRAMEWORK", "Server", "candidates", "setup"]


def setup(threads: int) -> str:
    check_home(fastconv, sys.path[0])
    return ours.setup(threads)


class Server(processes.Server):
    """Runs the usual commands, and one that times the smallest call."""

    def tiny(self) -> float:
        """Seconds of a call of the public function that computes next to nothing; the best of many."""
        image, filters = np.ones((1, 8, 8, 1), np.float32), np.ones((3, 3, 1, 1), np.float32)
        return min(timeit.repeat(lambda: fastconv.conv2d(image, filters), number=10, repeat=1000)) / 10
