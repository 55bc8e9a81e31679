"""SciPy, forward only, filters of single channels.

`convolve2d` and `ndimage.correlate` compute one channel in one thread. `oaconvolve` computes all images at once, with
Fourier transforms on all threads.
"""

from __future__ import annotations

from collections.abc import Iterator

import scipy
from scipy import fft, ndimage, signal

from bench import contestants
from bench.cases import Case
from bench.contestants import Candidate, each_channel, fetched, require_single_channels
from bench.oracle import Array

FRAMEWORK = False


def setup(threads: int) -> str:
    return str(scipy.__version__)


def candidates(case: Case, arrays: dict[str, Array]) -> Iterator[Candidate]:
    require_single_channels(case)
    layer, mode = case.layer, "same" if case.layer.pad else "valid"

    def convolve2d(x: Array, w: Array, out: Array) -> Array:
        y: Array = signal.convolve2d(x, w[::-1, ::-1], mode)
        return y

    def correlate(x: Array, w: Array, out: Array) -> Array:
        ndimage.correlate(x, w, out, mode="constant")
        return out

    yield each_channel("convolve2d", case, arrays, convolve2d)
    if layer.r % 2 and layer.s % 2:  # the window has a centre
        yield each_channel("ndimage.correlate", case, arrays, correlate)
    x = arrays["x"][..., None]
    w = arrays["w"].reshape(1, layer.r, layer.s, layer.c, -1)[:, ::-1, ::-1]

    top, left = layer.r - 1 - layer.pad, layer.s - 1 - layer.pad

    def oaconvolve() -> Array:
        with fft.set_workers(contestants.threads()):
            # Modes other than "full" keep one filter of each channel only.
            full: Array = signal.oaconvolve(x, w, axes=(1, 2))
        return full[:, top : top + layer.p, left : left + layer.q]

    yield fetched("oaconvolve", oaconvolve, lambda y: y.reshape(case.result_shape))
