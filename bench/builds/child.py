"""Computes with one build and one instruction set: ``python -m bench.builds.child FOLDER COMMAND ...``.

Each answer is a line of JSON on standard output, so that the answers before a crash arrive.

    config                    the result of show_config
    bits SEED INDEX...        for each problem [index, {variant: digest}]
    explain                   for each layer and direction [what, algorithm, kernel]
"""

from __future__ import annotations

import hashlib
import inspect
import json
import sys
from typing import Any

import fastconv
import numpy as np

from bench.builds.build import check_home
from bench.builds.problems import Problem, draw
from bench.layers import EXTRA, read_suite, suites

THREADS = (1, 2)
DIRECTIONS: tuple[Any, ...] = ("forward", "input gradient", "filter gradient")


def digest_array(array: Any) -> str:
    """Dtype, shape and a digest of the bits. All NaNs count as equal: their payload is not specified."""
    if array is None:
        return "None"
    if array.dtype.kind == "f":
        array = np.where(np.isnan(array), np.asarray(np.nan, array.dtype), array)
    bits = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
    return f"{array.dtype}{list(array.shape)}:{bits}"


def call(function: str, arguments: dict[str, Any]) -> Any:
    if "pool_size" in arguments and "pool_size" not in inspect.signature(getattr(fastconv, function)).parameters:
        size = arguments["pool_size"]  # older builds call the argument ksize
        arguments = {name: value for name, value in arguments.items() if name != "pool_size"} | {"ksize": size}
    if function != "conv2d_max_pool2d_backprop":
        return getattr(fastconv, function)(**arguments)
    forward = {name: value for name, value in arguments.items() if name not in ("grad", "input_gradient", "out")}
    _, taps = fastconv.conv2d_max_pool2d(**forward)
    return fastconv.conv2d_max_pool2d_backprop(taps=taps, **arguments)


def variants(problem: Problem) -> dict[str, str]:
    """The results of a problem with each number of threads, with packed filters, and with `out=`."""
    arguments = problem.draw_arguments()
    found: dict[str, str] = {}

    def compute(variant: str, arguments: dict[str, Any]) -> Any:
        try:
            result = call(problem.function, arguments)
        except Exception as error:
            found[variant] = f"{type(error).__name__}: {error}"
            return None
        found[variant] = " ".join(digest_array(part) for part in (result if isinstance(result, tuple) else (result,)))
        return result

    packed: Any = None
    if "filters" in arguments and problem.function != "conv2d_max_pool2d_backprop":
        try:
            packed = fastconv.PackedFilters(arguments["filters"])
        except Exception as error:
            found["packing"] = f"{type(error).__name__}: {error}"
    for threads in THREADS:
        fastconv.set_num_threads(threads)
        result = compute(f"threads={threads}", arguments)
        if packed is not None:
            compute(f"threads={threads}, packed filters", {**arguments, "filters": packed})
    if result is not None and problem.index % 3 == 0:
        several = isinstance(result, tuple)
        out = tuple(None if part is None else ones_like(part) for part in (result if several else (result,)))
        compute("out=", {**arguments, "out": out if several else out[0]})
    return found


def ones_like(array: Any) -> Any:
    """An array of ones, to be overwritten."""
    return np.full(array.shape, 1, array.dtype)


def explanations() -> None:
    for suite in [*suites(), EXTRA]:
        for layer in read_suite(suite):
            if layer.pool:
                continue
            for direction in DIRECTIONS:
                for dtype in ("float32", "float64"):
                    told = fastconv.explain(
                        layer.input_shape, layer.filter_shape, layer.stride, layer.pad, direction=direction,
                        depthwise=layer.depthwise, dtype=dtype,
                    )  # fmt: skip
                    answer([f"{suite} {layer.name}, {direction}, {dtype}", told.algorithm, told.kernel])


def answer(value: Any) -> None:
    print(json.dumps(value), flush=True)


def main(folder: str, command: str, *arguments: str) -> None:
    check_home(fastconv, folder)
    if command == "config":
        answer(fastconv.show_config("dicts"))
    elif command == "bits":
        seed, *indices = (int(argument) for argument in arguments)
        for index in indices:
            answer([index, variants(draw(seed, index))])
    else:
        explanations()


if __name__ == "__main__":
    main(*sys.argv[1:])
