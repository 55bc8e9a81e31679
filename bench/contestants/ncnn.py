"""ncnn, forward only, float32 arithmetic: a network of one layer, filters packed when the network is loaded.

ncnn has no batch dimension. As its users would, this module computes the images one by one, each with all threads.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ncnn
import numpy as np

from bench import contestants
from bench.cases import Case
from bench.contestants import INFERENCE_ONLY, Candidate, NotServed, channels_first, channels_last, fetched, nchw
from bench.layers import Layer
from bench.oracle import Array
from bench.serving.layers import ServedLayer
from bench.serving.task import OTHER_FORM, Served

FRAMEWORK = False


def setup(threads: int) -> str:
    return str(ncnn.__version__)


def _line(layer: Layer, weights: int) -> str:
    """The line of ncnn's network file for a convolution with `weights` numbers, or for a pool."""
    if layer.pool:
        # 0=0: the maximum. 5=1: output sizes are rounded down.
        return f"Pooling layer 1 1 x y 0=0 1={layer.s} 11={layer.r} 2={layer.stride} 3={layer.pad} 5=1"
    kind, groups = ("ConvolutionDepthWise", f" 7={layer.groups}") if layer.groups > 1 else ("Convolution", "")
    sizes = f"0={layer.k} 1={layer.s} 11={layer.r} 3={layer.stride} 4={layer.pad} 5=0 6={weights}{groups}"
    return f"{kind} layer 1 1 x y {sizes}"


# The activations that a convolution of ncnn can apply itself.
ACTIVATIONS = {"linear": "", "relu": "9=1", "relu6": "9=3 -23310=2,0.0,6.0", "sigmoid": "9=4"}


def _served_lines(layer: ServedLayer, weights: int) -> list[str]:
    """The lines of ncnn's network file for a layer with bias and activation."""
    kind, groups = ("ConvolutionDepthWise", f" 7={layer.groups}") if layer.groups > 1 else ("Convolution", "")
    top, bottom, left, right = layer.padding
    sizes = f"0={layer.outputs} 1={layer.filters[1]} 11={layer.filters[0]} 3={layer.strides[1]} 13={layer.strides[0]}"
    pads = f"4={left} 14={top} 15={right} 16={bottom}"
    more = f"5=1 6={weights}{groups} {ACTIVATIONS.get(layer.activation, '')}".rstrip()
    if layer.activation in ACTIVATIONS:
        return [f"{kind} layer 1 1 x y {sizes} {pads} {more}"]
    if layer.activation != "silu":
        raise NotServed(f"there is no ncnn line for the activation {layer.activation}")
    return [f"{kind} layer 1 1 x z {sizes} {pads} {more}", "Swish activation 1 1 z y"]


def _network(lines: list[str], weights: bytes) -> Any:
    net = ncnn.Net()
    net.opt.num_threads = contestants.threads()
    for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, option, False)
    text = "\n".join(["7767517", f"{len(lines) + 1} {len(lines) + 1}", "Input input 0 1 x", *lines, ""])
    with tempfile.TemporaryDirectory() as folder:
        param, binary = Path(folder, "net.param"), Path(folder, "net.bin")
        param.write_text(text, encoding="ascii")
        binary.write_bytes(weights and bytes(4) + weights)  # four zero bytes mean that plain float32 numbers follow
        if net.load_param(str(param)) or net.load_model(str(binary)):
            raise NotServed("ncnn cannot load the layer")
    return net


def _of_case(case: Case, arrays: dict[str, Array]) -> Candidate:
    if case.direction not in ("forward", "max-pool"):
        raise NotServed(INFERENCE_ONLY)
    if case.dtype != "float32":
        raise NotServed("ncnn computes in float32 only")
    arrays = channels_first(case, arrays)
    w = arrays.get("w", np.empty(0, np.float32))
    net = _network([_line(case.layer, w.size)], w.tobytes())
    return _candidate(net, arrays["x"], lambda result: channels_last(case, result))


def _of_served(layer: ServedLayer, arrays: dict[str, Array]) -> Candidate:
    w = arrays["w"].reshape(*layer.filters[:2], -1, layer.outputs).transpose(3, 2, 0, 1)
    net = _network(_served_lines(layer, w.size), w.tobytes() + arrays["b"].tobytes())
    return _candidate(net, nchw(arrays["x"]), lambda result: result.transpose(0, 2, 3, 1))


def _candidate(net: Any, x: Array, fetch: Callable[[Array], Array]) -> Candidate:
    images = [ncnn.Mat(image).clone() for image in x]

    def infer(image: Any) -> Any:
        extractor = net.create_extractor()
        extractor.input("x", image)
        return extractor.extract("y")[1]

    def stacked(results: list[Any]) -> Array:
        return fetch(np.stack([np.array(y) for y in results]))

    return fetched("extractor", lambda: [infer(image) for image in images], stacked)


def candidates(task: Case | Served, arrays: dict[str, Array]) -> list[Candidate]:
    if isinstance(task, Case):
        return [_of_case(task, arrays)]
    if task.layer is None:
        raise NotServed(OTHER_FORM)
    return [_of_served(task.layer, arrays)]
