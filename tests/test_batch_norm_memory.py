"""Batch normalisation in NCHW needs little memory besides its arguments and results."""

from __future__ import annotations

import json
import os

import pytest
from processes import run_python

MB = 1_000_000

CODE = """
    import json, sys
    import fastconv
    import numpy as np

    name, shapes = json.loads(sys.argv[1])

    def peak():
        with open("/proc/self/status") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))

    def call(size, activation):
        channels = size[1]
        x, grad, result = (np.ones(size, np.float32) for _ in range(3))
        mean, variance, *sums = (np.ones(channels, np.float32) for _ in range(4))
        arguments = [x] if name == "batch_norm" else [x, mean, variance]
        out = (result, *sums)
        if name.endswith("grad"):
            arguments.append(grad)
            out = (*out, None)
        elif name.endswith("inference"):
            out = result
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")  # the peak becomes what is in memory now
        before = peak()
        getattr(fastconv, name)(*arguments, data_format="NCHW", activation=activation, out=out)
        return peak() - before

    call((2, 1000, 5), "relu")
    print(max(call(shape, activation) for shape in shapes for activation in ("relu", "silu")))
"""

SHAPES = [(1, 300_000, 2), (2, 20_000, 7, 7), (2, 2000, 30, 30)]


@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="AddressSanitizer takes memory")
@pytest.mark.parametrize("name", ["batch_norm", "batch_norm_inference", "batch_norm_grad", "batch_norm_inference_grad"])
def test_scratch_memory(name: str) -> None:
    taken = int(run_python(CODE, json.dumps([name, SHAPES]), FASTCONV_NUM_THREADS="2"))
    assert taken < 2 * MB, f"{taken / MB:.1f} MB"
