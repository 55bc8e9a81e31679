"""PyTorch, in both memory formats; the faster one counts.

Single layers run eagerly under inference_mode, gradients by the op that autograd calls. Networks run eagerly and, where
it works, compiled, with fused Adam and L2 penalties as Adam's weight decay.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator
from typing import Any

# torch.compile would start processes of its own, which would not be stopped between turns.
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"

import numpy as np
import torch

from bench.cases import Case
from bench.contestants import Candidate, NotServed, fetched, steps_candidate
from bench.oracle import Array
from bench.tasks import BETAS, EPSILON, NETWORKS, OTHER_TASK, RATE, Conv, Network, Pool, Task, batches_of, weights_of

FRAMEWORK = True
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def setup(threads: int) -> str:
    torch.set_num_threads(threads)
    return str(torch.__version__)


def candidates(task: Case | Task, arrays: dict[str, Array]) -> Iterator[Candidate]:
    """One after the other, so that the memory of one is free when the next is built."""
    if isinstance(task, Case):
        for label in MEMORY_FORMATS:
            yield _layer(label, task, arrays)
        return
    if task.kind == "epoch":
        raise NotServed(OTHER_TASK)
    for compiled in (False, True):
        if compiled and os.environ.get("BENCH_NO_COMPILE"):
            continue
        for label in MEMORY_FORMATS:
            yield _network(label, task, arrays, compiled)


def _fetch(filters: bool, shape: tuple[int, ...], result: Any) -> Array:
    order = (2, 3, 1, 0) if filters else (0, 2, 3, 1)
    return np.ascontiguousarray(result.permute(order).numpy()).reshape(shape)


def _layer(label: str, case: Case, arrays: dict[str, Array]) -> Candidate:
    layer = case.layer
    memory = MEMORY_FORMATS[label]
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
            # All contestants get input, output and gradient. PyTorch's op wants indices: a forward pass finds them.
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
    return fetched(label, inferred, fetch)


def _build(network: Network, weights: list[Array]) -> tuple[Any, list[dict[str, Any]]]:
    """The network, and its parameters in groups for Adam. A penalty d*sum(w^2) is a weight decay of 2d."""
    layers: list[Any] = []
    groups: list[dict[str, Any]] = []
    rest = [torch.from_numpy(weight) for weight in weights]
    flat = False
    for layer in network.layers:
        if isinstance(layer, Pool):
            layers.append(torch.nn.MaxPool2d(2))
            continue
        kernel, bias = rest.pop(0), rest.pop(0)
        if isinstance(layer, Conv):
            module: Any = torch.nn.Conv2d(kernel.shape[2], layer.filters, 3, padding=1 if layer.same else 0)
            kernel = kernel.permute(3, 2, 0, 1)
        else:
            if not flat:
                layers.append(torch.nn.Flatten())  # (C, H, W), where Keras has (H, W, C)
                kernel = kernel.reshape(*network.flattened(), -1).permute(2, 0, 1, 3).reshape(kernel.shape)
                flat = True
            module = torch.nn.Linear(*kernel.shape)
            kernel = kernel.T
        with torch.no_grad():
            module.weight.copy_(kernel)
            module.bias.copy_(bias)
        decay = 0.0 if isinstance(layer, Conv) else 2 * layer.decay
        groups += [{"params": [module.weight], "weight_decay": decay}, {"params": [module.bias]}]
        layers.append(module)
        if layer.relu:
            layers.append(torch.nn.ReLU())
    return torch.nn.Sequential(*layers), groups


def _merge(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One group for each weight decay: each group is a call of the fused kernel."""
    merged: dict[float, list[Any]] = {}
    for group in groups:
        merged.setdefault(group.get("weight_decay", 0.0), []).extend(group["params"])
    return [{"params": parameters, "weight_decay": decay} for decay, parameters in merged.items()]


def _nchw(x: Array, memory: Any) -> Any:
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2))).contiguous(memory_format=memory)


def _network(label: str, task: Task, arrays: dict[str, Array], compiled: bool) -> Candidate:
    memory = MEMORY_FORMATS[label]
    label = f"{'compiled' if compiled else 'eager'} {label}"
    network = NETWORKS[task.network]
    model, groups = _build(network, weights_of(arrays))
    model = model.to(memory_format=memory)
    if compiled:
        torch._dynamo.reset()
        called = torch.compile(model, dynamic=False)
    else:
        called = model
    if task.kind == "predict":
        model.eval()
        x = _nchw(arrays["x"], memory)

        def predict() -> Any:
            with torch.inference_mode():
                return called(x)

        return Candidate(label, lambda: predict().numpy(), predict)
    groups = _merge(groups)
    optimizer = torch.optim.Adam(groups, RATE, BETAS, EPSILON, fused=True)
    batches = [(_nchw(x, memory), torch.from_numpy(y.argmax(1))) for x, y in batches_of(task, arrays)]

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(called(x), y)
        loss.backward()
        optimizer.step()
        return loss

    def penalty() -> float:
        squares = ((group["weight_decay"] / 2, parameter) for group in groups for parameter in group["params"])
        return sum(decay * float((parameter.detach() ** 2).sum()) for decay, parameter in squares if decay)

    def check() -> Array:
        losses = []
        for batch in batches[:3]:
            before = penalty()
            losses.append(float(step(*batch).detach()) + before)
        return np.array(losses)

    timed = steps_candidate(label, step, batches)
    return Candidate(label, check, timed.run)
