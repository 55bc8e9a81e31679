"""fastconv: its NumPy functions for single layers, its Keras layers for networks."""

from __future__ import annotations

import functools

import fastconv
import numpy as np

from bench.cases import Case
from bench.contestants import Candidate, fetched
from bench.oracle import Array
from bench.tasks import Task

FRAMEWORK = False
_threads = 1


def setup(threads: int) -> str:
    global _threads
    _threads = threads
    fastconv.set_num_threads(threads)
    return f"{fastconv.__version__} ({fastconv.show_config('dicts')['isa']})"


def candidates(task: Case | Task, arrays: dict[str, Array]) -> list[Candidate]:
    if isinstance(task, Case):
        return _layer(task, arrays)
    import fastconv.keras  # TensorFlow is loaded only where it is needed

    from bench.contestants import stock

    stock.setup(_threads)
    return stock.network_candidates(task, arrays, fastconv.keras)


def _layer(case: Case, arrays: dict[str, Array]) -> list[Candidate]:
    layer = case.layer
    if layer.pool:
        window = (layer.r, layer.s), layer.stride, layer.pad
        out = np.empty(case.result_shape, case.dtype)
        if case.direction == "max-pool":
            run = functools.partial(fastconv.max_pool2d, arrays["x"], *window, out=out)
        else:
            run = functools.partial(fastconv.max_pool2d_grad, arrays["x"], arrays["y"], arrays["dy"], *window, out=out)
        return [fetched("out=", run, np.asarray)]
    prefix = "depthwise_conv2d" if layer.depthwise else "conv2d"
    suffix = {"forward": "", "input-gradient": "_backprop_input", "filter-gradient": "_backprop_filter"}
    function = getattr(fastconv, prefix + suffix[case.direction])
    positional = {
        "forward": (arrays["x"], arrays["w"]),
        "input-gradient": (layer.input_shape, arrays["w"], arrays["dy"]),
        "filter-gradient": (arrays["x"], layer.filter_shape, arrays["dy"]),
    }[case.direction]
    keywords: dict[str, object] = {"algorithm": case.algorithm}
    if not layer.fresh:
        keywords["out"] = np.empty(case.result_shape, case.dtype)
    # Only the keywords that a user would write: each costs time in a call of two microseconds.
    if layer.stride > 1:
        keywords["strides"] = layer.stride
    if layer.pad:
        keywords["padding"] = layer.pad
    if case.algorithm == "auto":
        del keywords["algorithm"]
    run = functools.partial(function, *positional, **keywords)
    return [fetched("fresh" if layer.fresh else "out=", run, np.asarray)]
