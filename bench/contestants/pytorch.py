"""PyTorch, in both memory formats: eager under inference_mode, gradients by the op that autograd calls."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from bench.cases import Case
from bench.contestants import Variant
from bench.reference import Array

NAMES = ("torch channels_last", "torch contiguous")
FRAMEWORK = True


def setup(threads: int) -> str:
    torch.set_num_threads(threads)
    return str(torch.__version__)


def _fetch(filters: bool, shape: tuple[int, ...], result: Any) -> Array:
    order = (2, 3, 1, 0) if filters else (0, 2, 3, 1)
    return np.ascontiguousarray(result.permute(order).numpy()).reshape(shape)


def variants(name: str, case: Case, arrays: dict[str, Array]) -> list[Variant]:
    layer = case.layer
    memory = torch.channels_last if name == "torch channels_last" else torch.contiguous_format
    data: dict[str, Any] = {}
    for key, array in arrays.items():
        # (N,H,W,C) -> (N,C,H,W); filters (R,S,C,K) -> (K,C,R,S), depthwise (R,S,C,1) -> (C,1,R,S)
        nchw = (3, 2, 0, 1) if key == "w" else (0, 3, 1, 2)
        if key == "w" and layer.depthwise:
            array = array.reshape(layer.r, layer.s, 1, layer.k)
        data[key] = torch.from_numpy(np.ascontiguousarray(array.transpose(nchw))).contiguous(memory_format=memory)
    stride, pad, dilation = [layer.stride] * 2, [layer.pad] * 2, [1, 1]
    aten = torch.ops.aten
    if layer.pool:
        window = [layer.r, layer.s], stride, pad, dilation

        def run() -> Any:
            if case.direction == "max-pool":
                return torch.nn.functional.max_pool2d(data["x"], *window)
            # From input, output and gradient, as everyone here: PyTorch's op wants indices, which forward must find.
            indices = aten.max_pool2d_with_indices(data["x"], *window)[1]
            return aten.max_pool2d_with_indices_backward(data["dy"], data["x"], *window, False, indices)

    elif case.direction == "forward":
        run = functools.partial(
            torch.nn.functional.conv2d, data["x"], data["w"], None, stride, pad, dilation, layer.groups
        )
    else:
        mask = [case.direction == "input-gradient", case.direction == "filter-gradient", False]

        def run() -> Any:
            return aten.convolution_backward(
                data["dy"], data["x"], data["w"], None, stride, pad, dilation, False, [0, 0], layer.groups, mask
            )[mask.index(True)]

    def inferred() -> Any:
        with torch.inference_mode():
            return run()

    fetch = functools.partial(_fetch, case.direction == "filter-gradient", case.result_shape)
    return [Variant("eager", inferred, fetch)]
