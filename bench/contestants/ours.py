"""fastconv, through its NumPy functions."""

from __future__ import annotations

import functools

import fastconv
import numpy as np

from bench.cases import Case
from bench.contestants import Variant
from bench.reference import Array

NAMES = ("fastconv",)
FRAMEWORK = False


def setup(threads: int) -> str:
    fastconv.set_num_threads(threads)
    return f"{fastconv.__version__} ({fastconv.show_config('dicts')['isa']})"


def variants(name: str, case: Case, arrays: dict[str, Array]) -> list[Variant]:
    layer = case.layer
    if layer.pool:
        window = (layer.r, layer.s), layer.stride, layer.pad
        out = np.empty(case.result_shape, case.dtype)
        if case.direction == "max-pool":
            run = functools.partial(fastconv.max_pool2d, arrays["x"], *window, out=out)
        else:
            run = functools.partial(fastconv.max_pool2d_grad, arrays["x"], arrays["y"], arrays["dy"], *window, out=out)
        return [Variant("out=", run, np.asarray)]
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
    # As few keywords as a user would write: they count in a call of two microseconds.
    if layer.stride > 1:
        keywords["strides"] = layer.stride
    if layer.pad:
        keywords["padding"] = layer.pad
    if case.algorithm == "auto":
        del keywords["algorithm"]
    return [
        Variant("fresh" if layer.fresh else "out=", functools.partial(function, *positional, **keywords), np.asarray)
    ]
