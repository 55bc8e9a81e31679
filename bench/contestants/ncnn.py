"""ncnn, forward only, float32 arithmetic: a network of one layer, filters packed when it is loaded.

It has no batch: the images are computed one after the other, each by all threads, as its users do.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import ncnn
import numpy as np

from bench.cases import Case
from bench.contestants import Candidate, NotServed, fetched
from bench.oracle import Array

FRAMEWORK = False
_threads = 1


def setup(threads: int) -> str:
    global _threads
    _threads = threads
    return str(ncnn.__version__)


def _network(case: Case, arrays: dict[str, Array]) -> Any:
    layer = case.layer
    if layer.pool:
        # 0 = maximum; 5 = 1: sizes rounded down
        text = f"Pooling layer 1 1 x y 0=0 1={layer.s} 11={layer.r} 2={layer.stride} 3={layer.pad} 5=1"
        weights = b""
    else:
        w = arrays["w"].reshape(layer.r, layer.s, -1, layer.k).transpose(3, 2, 0, 1)
        kind = "ConvolutionDepthWise" if layer.groups > 1 else "Convolution"
        text = (
            f"{kind} layer 1 1 x y 0={layer.k} 1={layer.s} 11={layer.r} 3={layer.stride} 4={layer.pad} 5=0 6={w.size}"
            + (f" 7={layer.groups}" if layer.groups > 1 else "")
        )
        weights = bytes(4) + np.ascontiguousarray(w).tobytes()  # four zeros: plain float32 follow
    net = ncnn.Net()
    net.opt.num_threads = _threads
    for option in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, option, False)
    with tempfile.TemporaryDirectory() as folder:
        param, binary = Path(folder, "net.param"), Path(folder, "net.bin")
        param.write_text(f"7767517\n2 2\nInput input 0 1 x\n{text}\n", encoding="ascii")
        binary.write_bytes(weights)
        if net.load_param(str(param)) or net.load_model(str(binary)):
            raise NotServed("the layer could not be loaded")
    return net


def candidates(case: Case, arrays: dict[str, Array]) -> list[Candidate]:
    if case.direction not in ("forward", "max-pool"):
        raise NotServed("inference only")
    if case.dtype != "float32":
        raise NotServed("float32 only")
    net = _network(case, arrays)
    planes = np.ascontiguousarray(arrays["x"].transpose(0, 3, 1, 2))
    images = [ncnn.Mat(image).clone() for image in planes]

    def run() -> list[Any]:
        results = []
        for image in images:
            extractor = net.create_extractor()
            extractor.input("x", image)
            results.append(extractor.extract("y")[1])
        return results

    return [fetched("extractor", run, lambda ys: np.stack([np.array(y) for y in ys]).transpose(0, 2, 3, 1).copy())]
