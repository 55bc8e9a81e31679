"""ncnn, forward only, float32 arithmetic: a network of one layer, filters packed when it is loaded.

It has no batch: the images are computed one after the other, each by all threads, as its users do.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import ncnn
import numpy as np

from bench import contestants
from bench.cases import Case
from bench.contestants import INFERENCE_ONLY, Candidate, NotServed, channels_first, channels_last, fetched
from bench.layers import Layer
from bench.oracle import Array

FRAMEWORK = False


def setup(threads: int) -> str:
    return str(ncnn.__version__)


def _network(layer: Layer, w: Array | None) -> Any:
    if w is None:
        # 0 = maximum; 5 = 1: sizes rounded down
        text = f"Pooling layer 1 1 x y 0=0 1={layer.s} 11={layer.r} 2={layer.stride} 3={layer.pad} 5=1"
    else:
        kind, groups = ("ConvolutionDepthWise", f" 7={layer.groups}") if layer.groups > 1 else ("Convolution", "")
        sizes = f"0={layer.k} 1={layer.s} 11={layer.r} 3={layer.stride} 4={layer.pad} 5=0 6={w.size}{groups}"
        text = f"{kind} layer 1 1 x y {sizes}"
    net = ncnn.Net()
    net.opt.num_threads = contestants.threads()
    for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, option, False)
    with tempfile.TemporaryDirectory() as folder:
        param, binary = Path(folder, "net.param"), Path(folder, "net.bin")
        param.write_text(f"7767517\n2 2\nInput input 0 1 x\n{text}\n", encoding="ascii")
        binary.write_bytes(b"" if w is None else bytes(4) + w.tobytes())  # four zeros: plain float32 follow
        if net.load_param(str(param)) or net.load_model(str(binary)):
            raise NotServed("the layer could not be loaded")
    return net


def candidates(case: Case, arrays: dict[str, Array]) -> list[Candidate]:
    if case.direction not in ("forward", "max-pool"):
        raise NotServed(INFERENCE_ONLY)
    if case.dtype != "float32":
        raise NotServed("float32 only")
    arrays = channels_first(case, arrays)
    net = _network(case.layer, arrays.get("w"))
    images = [ncnn.Mat(image).clone() for image in arrays["x"]]

    def infer(image: Any) -> Any:
        extractor = net.create_extractor()
        extractor.input("x", image)
        return extractor.extract("y")[1]

    def fetch(results: list[Any]) -> Array:
        return channels_last(case, np.stack([np.array(y) for y in results]))

    return [fetched("extractor", lambda: [infer(image) for image in images], fetch)]
