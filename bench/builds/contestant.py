"""One of two builds of fastconv. It has its own process, with the build's folder first in the path."""

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
    """The commands of a build's process. Besides the others, it times the smallest call."""

    def tiny(self) -> float:
        """Seconds of a call that computes next to nothing, through the public function; the best of many."""
        image, filters = np.ones((1, 8, 8, 1), np.float32), np.ones((3, 3, 1, 1), np.float32)
        return min(timeit.repeat(lambda: fastconv.conv2d(image, filters), number=10, repeat=1000)) / 10
