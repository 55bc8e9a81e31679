"""PyTorch: eager in both memory formats and, where it works, compiled; Adam fused, L2 as Adam's weight decay."""

from __future__ import annotations

import os
from typing import Any

# torch.compile would start processes of its own, which nobody stops while it is not their turn.
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"

import numpy as np
import torch

from bench.contestants import NotServed
from bench.reference import Array
from bench.training.contestants import Candidate, Server, steps_candidate
from bench.training.tasks import (
    BETA1,
    BETA2,
    EPSILON,
    NETWORKS,
    OTHER_TASK,
    RATE,
    Conv,
    Network,
    Pool,
    Task,
    batches_of,
    weights_of,
)

__all__ = ["FRAMEWORK", "NAMES", "Server", "candidates", "setup"]

NAMES = ("torch",)
FRAMEWORK = True


def setup(threads: int) -> str:
    torch.set_num_threads(threads)
    return str(torch.__version__)


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


def _candidate(task: Task, arrays: dict[str, Array], memory: Any, compiled: bool) -> Candidate:
    label = ("compiled " if compiled else "eager ") + ("channels_last" if memory is torch.channels_last else "NCHW")
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
    optimizer = torch.optim.Adam(groups, RATE, (BETA1, BETA2), EPSILON, fused=True)
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


def candidates(task: Task, arrays: dict[str, Array]) -> Any:
    """One after the other, so that a model that is not faster is gone when the next is built."""
    if task.kind == "epoch":
        raise NotServed(OTHER_TASK)
    for compiled in (False, True):
        if compiled and os.environ.get("BENCH_NO_COMPILE"):
            continue
        for memory in (torch.contiguous_format, torch.channels_last):
            yield _candidate(task, arrays, memory, compiled)
