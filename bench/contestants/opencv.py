"""OpenCV's `filter2D`, forward only, filters of single channels.

`sepFilter2D` is not used: it needs a filter that is the product of a column and a row.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2

from bench.cases import Case
from bench.contestants import SINGLE_CHANNELS, Candidate, NotServed, each_channel, require_single_channels
from bench.oracle import Array

FRAMEWORK = False


def setup(threads: int) -> str:
    cv2.setNumThreads(threads)
    return str(cv2.__version__)


def candidates(case: Case, arrays: dict[str, Array]) -> Iterator[Candidate]:
    require_single_channels(case)
    if not (case.layer.r % 2 and case.layer.s % 2):  # the window has no centre
        raise NotServed(SINGLE_CHANNELS)

    def filter2d(x: Array, w: Array, out: Array) -> Array:
        cv2.filter2D(x, -1, w, out, borderType=cv2.BORDER_CONSTANT)
        return out

    yield each_channel("filter2D", case, arrays, filter2d)
