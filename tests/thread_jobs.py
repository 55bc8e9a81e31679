"""Jobs for several threads in other Python processes, and the digests of their results with one thread."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import fastconv
import pytest
from processes import TIMEOUT

# Runs in another Python process, for tests of the environment, of fork and of thread pools. It defines jobs that are
# large enough for several threads, and digest(), which runs a job and returns a digest of the result's bits.
JOBS = """
import hashlib, json, os, sys, threading
import numpy as np
import fastconv

def array(*shape, dtype=np.float32):
    return np.random.default_rng(shape).standard_normal(shape).astype(dtype)

X, FILTERS, Y, DEPTHWISE = array(5, 24, 23, 17), array(3, 3, 17, 19), array(5, 22, 21, 19), array(3, 3, 17, 2)
POOLED, DEPTHWISE_Y = array(5, 12, 12, 17), array(5, 22, 21, 34)
NCHW, IMAGE, IMAGE_FILTERS = array(3, 18, 20, 21), array(2, 96, 97, 1), array(5, 5, 1, 6)
X64, FILTERS64 = array(2, 19, 18, 9, dtype=float), array(3, 3, 9, 10, dtype=float)
Y64 = array(2, 17, 16, 10, dtype=float)
MAXIMA, TAPS = array(5, 11, 10, 19), (np.arange(5 * 11 * 10 * 19).reshape(5, 11, 10, 19) % 4).astype(np.uint8)
JOBS = {
    "conv2d": lambda: fastconv.conv2d(X, FILTERS, padding="SAME", activation="relu", bias=array(19)),
    "conv2d strided": lambda: fastconv.conv2d(X, FILTERS, 2, 1, dilations=2),
    "conv2d grouped": lambda: fastconv.conv2d(NCHW, array(3, 3, 6, 9), data_format="NCHW"),
    "conv2d one channel": lambda: fastconv.conv2d(IMAGE, IMAGE_FILTERS),
    "conv2d float64": lambda: fastconv.conv2d(X64, FILTERS64),
    "input gradient": lambda: fastconv.conv2d_backprop_input(X.shape, FILTERS, Y, algorithm="direct"),
    "input gradient strided": lambda: fastconv.conv2d_backprop_input((5, 45, 43, 17), FILTERS, Y, 2),
    "input gradient float64": lambda: fastconv.conv2d_backprop_input(X64.shape, FILTERS64, Y64),
    "filter gradient": lambda: fastconv.conv2d_backprop_filter(X, FILTERS.shape, Y),
    "filter gradient of one image": lambda: fastconv.conv2d_backprop_filter(X[:1], FILTERS.shape, Y[:1]),
    "filter gradient float64": lambda: fastconv.conv2d_backprop_filter(X64, FILTERS64.shape, Y64),
    "winograd": lambda: fastconv.conv2d(X, FILTERS, algorithm="winograd"),
    "winograd input gradient": lambda: fastconv.conv2d_backprop_input(X.shape, FILTERS, Y, algorithm="winograd"),
    "winograd filter gradient": lambda: fastconv.conv2d_backprop_filter(X, FILTERS.shape, Y, algorithm="winograd"),
    "depthwise": lambda: fastconv.depthwise_conv2d(X, DEPTHWISE),
    "depthwise input gradient": lambda: fastconv.depthwise_conv2d_backprop_input(X.shape, DEPTHWISE, DEPTHWISE_Y),
    "depthwise filter gradient": lambda: fastconv.depthwise_conv2d_backprop_filter(X, DEPTHWISE.shape, DEPTHWISE_Y),
    "max pool": lambda: fastconv.max_pool2d_with_argmax(X, 3, 1, "SAME"),
    "max pool gradient": lambda: fastconv.max_pool2d_grad(X, POOLED, POOLED, 2, 2, "SAME"),
    "convolution and max pool": lambda: fastconv.conv2d_max_pool2d(X, FILTERS, 2),
    "convolution and max pool, gradients": lambda: fastconv.conv2d_max_pool2d_backprop(X, FILTERS, TAPS, MAXIMA, 2),
    "average pool": lambda: fastconv.avg_pool2d(X, 3, 1, "SAME"),
    "average pool gradient": lambda: fastconv.avg_pool2d_grad(X.shape, POOLED, 2, 2, "SAME"),
}

def digest(name):
    result = JOBS[name]()
    parts = result if isinstance(result, tuple) else (result,)
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()

def digests():
    return {name: digest(name) for name in JOBS}
"""

BACKENDS: list[str] = fastconv.show_config("dicts")["threading_available"]
# The end of the message about another backend.
NO_BACKEND = "must be 'openmp' or 'pool'" if "openmp" in BACKENDS else "this build supports only 'pool'"
needs_openmp = pytest.mark.skipif("openmp" not in BACKENDS, reason="this fastconv was built without OpenMP")


def run_python(code: str, **environment: str) -> Any:
    """The JSON output of the code, run in another Python process with only these thread settings."""
    names = ("FASTCONV_NUM_THREADS", "OMP_NUM_THREADS", "FASTCONV_THREADING")
    inherited = {name: value for name, value in os.environ.items() if name not in names}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**inherited, **environment}, timeout=TIMEOUT
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def serial_digests() -> dict[str, str]:
    """The digest of each job with one thread."""
    result: dict[str, str] = run_python(JOBS + "print(json.dumps(digests()))", FASTCONV_NUM_THREADS="1")
    assert len(set(result.values())) == len(result) > 20
    return result


# Some of the jobs, a graph of TensorFlow with our ops, and threads that compute all the time.
SOME = ["conv2d", "filter gradient", "winograd", "max pool gradient"]
BUSY = f"""
SOME = {SOME!r}

def some():
    return {{name: digest(name) for name in SOME}}

def with_tensorflow():
    '''A function that runs several of our ops at once in TensorFlow.'''
    import tensorflow as tf
    import fastconv.tensorflow as fc

    @tf.function
    def step(x, filters):
        with tf.GradientTape() as tape:
            tape.watch([x, filters])
            y = [fc.max_pool2d(fc.conv2d(x, filters, dilations=d, activation="relu"), 2) for d in (1, 2, 3)]
        return tape.gradient(y, [x, filters])

    arguments = tf.constant(X), tf.constant(FILTERS)
    step(*arguments)
    return lambda: step(*arguments)

class Busy:
    '''Threads that are almost always inside a call.'''

    def __init__(self, *calls):
        self.stop = False
        self.threads = [threading.Thread(target=self.run, args=(call,)) for call in calls]

    def run(self, call):
        while not self.stop:
            call()

    def __enter__(self):
        for thread in self.threads:
            thread.start()

    def __exit__(self, *error):
        self.stop = True
        for thread in self.threads:
            thread.join()
"""

needs_tensorflow = pytest.param(True, marks=pytest.mark.tensorflow, id="TensorFlow")
