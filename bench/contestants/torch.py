"""PyTorch, in both memory formats; the faster one counts.

Single layers run eagerly under inference_mode. Their gradients are computed by the op that autograd calls. Networks run
eagerly and, if the compiler works, compiled, with fused Adam and L2 penalties as Adam's weight decay. Networks of
keras.applications run eagerly in channels_last, with fused SGD.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

# torch.compile would start processes of its own, which would not be stopped between turns.
os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"

import torch

from bench.applications.task import SGD_RATE, Application, prediction, training
from bench.cases import Case
from bench.contestants import (
    Candidate,
    NotServed,
    as_nhwc,
    channels_first,
    channels_last,
    fetched,
    nchw,
    steps_candidate,
)
from bench.oracle import Array
from bench.tasks import BETAS, EPSILON, NETWORKS, OTHER_TASK, RATE, Conv, Network, Pool, Task, batches_of, weights_of

FRAMEWORK = True
MEMORY_FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def setup(threads: int) -> str:
    torch.set_num_threads(threads)
    return str(torch.__version__)


def candidates(task: Case | Task | Application, arrays: dict[str, Array]) -> Iterator[Candidate]:
    """Candidates come one after the other, so that the memory of one is free when the next is built."""
    if isinstance(task, Case):
        for label in MEMORY_FORMATS:
            yield _layer(label, task, arrays)
        return
    if isinstance(task, Application):
        yield _application(task, arrays)
        return
    if task.kind == "epoch":
        raise NotServed(OTHER_TASK)
    for compiled in (False, True):
        if compiled and os.environ.get("BENCH_NO_COMPILE"):
            continue
        for label in MEMORY_FORMATS:
            yield _network(label, task, arrays, compiled)


def _layer(label: str, case: Case, arrays: dict[str, Array]) -> Candidate:
    layer = case.layer
    memory = MEMORY_FORMATS[label]
    data: dict[str, Any] = {
        name: torch.from_numpy(array).contiguous(memory_format=memory)
        for name, array in channels_first(case, arrays).items()
    }
    x, w, dy = (data.get(name) for name in ("x", "w", "dy"))
    stride, pad, dilation = [layer.stride] * 2, [layer.pad] * 2, [1, 1]
    window = [layer.r, layer.s], stride, pad, dilation
    mask = [case.direction == "input-gradient", case.direction == "filter-gradient", False]
    aten, functional = torch.ops.aten, torch.nn.functional

    def gradient() -> Any:
        rest = None, stride, pad, dilation, False, [0, 0], layer.groups, mask
        return aten.convolution_backward(dy, x, w, *rest)[mask.index(True)]

    def pool_gradient() -> Any:
        # All contestants get input, output and gradient. PyTorch's op wants indices: a forward pass finds them.
        indices = aten.max_pool2d_with_indices(x, *window)[1]
        return aten.max_pool2d_with_indices_backward(dy, x, *window, False, indices)

    run = {
        "forward": lambda: functional.conv2d(x, w, None, stride, pad, dilation, layer.groups),
        "input-gradient": gradient,
        "filter-gradient": gradient,
        "max-pool": lambda: functional.max_pool2d(x, *window),
        "max-pool-gradient": pool_gradient,
    }[case.direction]
    return fetched(label, torch.inference_mode()(run), lambda result: channels_last(case, result.numpy()))


def _build(network: Network, weights: list[Array]) -> tuple[Any, list[dict[str, Any]]]:
    """The network, and its parameters in one group per weight decay.

    Few groups are faster: Adam with `fused=True` updates each group in a call of its own. A penalty d*sum(w^2) is a
    weight decay of 2d.
    """
    layers: list[Any] = []
    groups: dict[float, list[Any]] = {}
    rest = iter(torch.from_numpy(weight) for weight in weights)
    for layer, shape in network.inputs():
        if isinstance(layer, Pool):
            layers.append(torch.nn.MaxPool2d(2))
            continue
        kernel, bias = next(rest), next(rest)
        if isinstance(layer, Conv):
            module: Any = torch.nn.Conv2d(shape[-1], layer.filters, 3, padding=1 if layer.same else 0)
            kernel = kernel.permute(3, 2, 0, 1)
        else:
            if len(shape) > 1:
                layers.append(torch.nn.Flatten())  # (C, H, W), where Keras has (H, W, C)
                kernel = kernel.reshape(*shape, -1).permute(2, 0, 1, 3).reshape(kernel.shape)
            module = torch.nn.Linear(*kernel.shape)
            kernel = kernel.T
        with torch.no_grad():
            module.weight.copy_(kernel)
            module.bias.copy_(bias)
        groups.setdefault(2 * layer.decay, []).append(module.weight)
        groups.setdefault(0.0, []).append(module.bias)
        layers += [module, torch.nn.ReLU()] if layer.relu else [module]
    return torch.nn.Sequential(*layers), [{"params": some, "weight_decay": decay} for decay, some in groups.items()]


def _step(model: Any, optimizer: Any) -> Callable[[Any, Any], Any]:
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad(set_to_none=True)
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def _application(task: Application, arrays: dict[str, Array]) -> Candidate:
    from bench.applications.torch_network import TorchNetwork

    model: Any = TorchNetwork(task.nodes, weights_of(arrays)).to(memory_format=torch.channels_last)
    x = model.images(arrays["x"])
    if task.kind == "predict":
        model.eval()
        return prediction("channels_last", torch.inference_mode()(lambda: model(x).softmax(1)))
    if task.kind == "step":
        optimizer = torch.optim.SGD(model.parameters(), SGD_RATE, fused=True)
        return training("channels_last", _step(model, optimizer), x, torch.from_numpy(arrays["y"]))
    dy = model.images(arrays["y"])
    x.requires_grad_()

    def gradients() -> Any:
        x.grad = None
        model.zero_grad(set_to_none=True)
        model(x).backward(dy)
        return x.grad

    return fetched("channels_last", gradients, lambda result: as_nhwc(result.numpy()))


def _network(label: str, task: Task, arrays: dict[str, Array], compiled: bool) -> Candidate:
    memory = MEMORY_FORMATS[label]
    model, groups = _build(NETWORKS[task.network], weights_of(arrays))
    model = called = model.to(memory_format=memory)
    if compiled:
        torch._dynamo.reset()
        called = torch.compile(model, dynamic=False)

    def images(x: Array) -> Any:
        return torch.from_numpy(nchw(x)).contiguous(memory_format=memory)

    label = f"{'compiled' if compiled else 'eager'} {label}"
    if task.kind == "predict":
        model.eval()
        x = images(arrays["x"])
        return fetched(label, torch.inference_mode()(lambda: called(x)), lambda result: result.numpy())
    optimizer = torch.optim.Adam(groups, RATE, BETAS, EPSILON, fused=True)

    def penalty() -> float:
        squares = ((group["weight_decay"] / 2, parameter) for group in groups for parameter in group["params"])
        return sum(decay * float((parameter.detach() ** 2).sum()) for decay, parameter in squares if decay)

    batches = [(images(x), torch.from_numpy(y.argmax(1))) for x, y in batches_of(task, arrays)]
    return steps_candidate(label, _step(called, optimizer), batches, penalty)
