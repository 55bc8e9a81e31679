"""fastconv: its NumPy functions for single layers, its Keras layers for networks, `Network` for inference."""

from __future__ import annotations

import functools
from typing import Any

import fastconv
import numpy as np

from bench import contestants
from bench.applications.task import Application
from bench.cases import Case
from bench.contestants import Candidate, fetched
from bench.oracle import Array
from bench.serving.task import Served
from bench.tasks import Task

FRAMEWORK = False


def setup(threads: int) -> str:
    fastconv.set_num_threads(threads)
    return f"{fastconv.__version__} ({fastconv.show_config('dicts')['isa']})"


def candidates(task: Case | Task | Served | Application, arrays: dict[str, Array]) -> list[Candidate]:
    if isinstance(task, Served):
        return [fetched("Network", functools.partial(fastconv.load(task.file("fastconv")), arrays["x"]))]
    if isinstance(task, Case):
        return _layer(task, arrays)
    if isinstance(task, Application):
        return [_batch_norm(arrays)]
    from fastconv import keras  # TensorFlow is loaded only where it is needed

    from bench.contestants import stock

    stock.setup(contestants.threads())
    return stock.network_candidates(task, arrays, keras)


def _layer(case: Case, arrays: dict[str, Array]) -> list[Candidate]:
    layer = case.layer
    x, w, y, dy = (arrays.get(name) for name in ("x", "w", "y", "dy"))
    window = (layer.r, layer.s), layer.stride, layer.pad
    positional: tuple[Any, ...]
    name, positional = {
        "forward": ("conv2d", (x, w)),
        "input-gradient": ("conv2d_backprop_input", (layer.input_shape, w, dy)),
        "filter-gradient": ("conv2d_backprop_filter", (x, layer.filter_shape, dy)),
        "max-pool": ("max_pool2d", (x, *window)),
        "max-pool-gradient": ("max_pool2d_grad", (x, y, dy, *window)),
    }[case.direction]
    # Only the keywords that a user would write, because each adds time to a call of two microseconds.
    keywords: dict[str, Any] = {} if layer.fresh else {"out": np.empty(case.result_shape, case.dtype)}
    if not layer.pool:
        given = {"strides": (layer.stride, 1), "padding": (layer.pad, 0), "algorithm": (case.algorithm, "auto")}
        keywords.update({key: value for key, (value, default) in given.items() if value != default})
    function = getattr(fastconv, "depthwise_" * layer.depthwise + name)
    return [fetched("fresh" if layer.fresh else "out=", functools.partial(function, *positional, **keywords))]


def _batch_norm(arrays: dict[str, Array]) -> Candidate:
    """Batch normalisation and ReLU, forward and backward."""
    x, dy, scale, offset = (arrays[name] for name in ("x", "y", "w0", "w1"))
    statistics = np.empty_like(scale), np.empty_like(scale)
    outputs = np.empty_like(x), *statistics
    gradients = np.empty_like(x), np.empty_like(scale), np.empty_like(scale), None

    def run() -> Array:
        fastconv.batch_norm(x, scale, offset, activation="relu", out=outputs)
        fastconv.batch_norm_grad(x, *statistics, dy, scale, offset, activation="relu", out=gradients)
        return gradients[0]

    return fetched("out=", run)
