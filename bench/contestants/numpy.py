"""The example without a framework, examples/lenet_numpy.py, with its matrix products on all threads and on one."""

from __future__ import annotations

import functools
import importlib.util
import runpy
from pathlib import Path
from typing import Any

import fastconv
import numpy as np

from bench import contestants
from bench.contestants import Candidate, NotServed, fetched, steps_candidate
from bench.oracle import Array
from bench.tasks import OTHER_TASK, Task, batches_of, weights_of

FRAMEWORK = False


def setup(threads: int) -> str:
    fastconv.set_num_threads(threads)
    return f"{np.__version__} with fastconv {fastconv.__version__}"


def candidates(task: Task, arrays: dict[str, Array]) -> list[Candidate]:
    if task.network != "lenet" or task.kind == "epoch":
        raise NotServed(OTHER_TASK)
    example = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "lenet_numpy.py"))
    found = []
    for label, begin in _blas():
        model = example["LeNet"]()
        for weight, value in zip(model.w.values(), weights_of(arrays), strict=True):
            weight[...] = value
        if task.kind == "predict":
            found.append(fetched(label, functools.partial(model.forward, arrays["x"]), np.copy, begin=begin))
        else:
            found.append(steps_candidate(label, model.step, batches_of(task, arrays), begin=begin))
    return found


def _blas() -> list[tuple[str, Any]]:
    """Settings of NumPy's BLAS. Its idle threads spin, so all threads may be slower than one."""
    if importlib.util.find_spec("threadpoolctl") is None:
        return [("BLAS as it is", lambda: None)]
    import threadpoolctl

    control = threadpoolctl.ThreadpoolController()
    counts = sorted({1, contestants.threads()})
    return [(f"BLAS on {n}", functools.partial(control.limit, limits=n, user_api="blas")) for n in counts]
