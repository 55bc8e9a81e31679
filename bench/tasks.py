"""Networks as lists of layers, which every contestant builds in its own way, and the tasks on them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.oracle import Array

OTHER_TASK = "no task of this contestant"  # why a contestant is not measured
BATCHES = 16  # the number of batches that the timed steps cycle through
# The tolerance, relative to the largest result. A loss sums many rounding errors, and those of an epoch add up. That of
# gradients is relative to the norm: where ReLU's input is close to zero, rounding decides whether it lets a value pass.
TOLERANCE = {"step": 1e-3, "predict": 1e-4, "epoch": 0.03, "gradients": 1e-2}
RATE, BETAS, EPSILON = 0.001, (0.9, 0.999), 1e-7  # of Adam; Keras's defaults


@dataclass(frozen=True)
class Conv:
    filters: int
    same: bool = False
    relu: bool = False
    decay = 0.0


@dataclass(frozen=True)
class Pool:
    """Maximum of 2x2 windows."""


@dataclass(frozen=True)
class Dense:
    units: int
    relu: bool = False
    decay: float = 0.0


@dataclass(frozen=True)
class Network:
    """Layers on images of a shape (H, W, C). Convolutions are 3x3. The last layer gives 10 logits."""

    input_shape: tuple[int, int, int]
    layers: tuple[Conv | Pool | Dense, ...]

    def inputs(self) -> Iterator[tuple[Conv | Pool | Dense, tuple[int, ...]]]:
        """Each layer, and the shape of its input. For the first dense layer, the shape before flattening."""
        shape: tuple[int, ...] = self.input_shape
        for layer in self.layers:
            yield layer, shape
            if isinstance(layer, Dense):
                shape = (layer.units,)
            elif isinstance(layer, Pool):
                shape = (shape[0] // 2, shape[1] // 2, shape[2])
            else:
                border = 0 if layer.same else 2
                shape = (shape[0] - border, shape[1] - border, layer.filters)

    def weight_shapes(self) -> list[tuple[int, ...]]:
        """The shapes of all weights, in the order of Keras's get_weights()."""
        shapes: list[tuple[int, ...]] = []
        for layer, shape in self.inputs():
            if isinstance(layer, Conv):
                shapes += [(3, 3, shape[-1], layer.filters), (layer.filters,)]
            elif isinstance(layer, Dense):
                shapes += [(math.prod(shape), layer.units), (layer.units,)]
        return shapes


_DENSE = (Dense(120, True, 0.001), Dense(84, True, 0.001), Dense(10))
NETWORKS = {
    "lenet": Network((28, 28, 1), (Conv(6), Pool(), Conv(16), Pool(), *_DENSE)),
    "cnn": Network(
        (32, 32, 3),
        (*[layer for k in (32, 64, 128) for layer in (Conv(k, True, True), Conv(k, True, True), Pool())], Dense(10)),
    ),
}
# The floor: LeNet without convolution and pooling. Its images are cropped to as many numbers as the dense layers get.
FLOORS = {"lenet": Network((20, 20, 1), _DENSE)}


@dataclass(frozen=True)
class Task:
    """`kind`: "step" (a bare training step), "epoch" (of Keras's `fit`) or "predict"."""

    kind: str
    network: str
    batch: int

    # A sample is 50 ms of calls, after 20 ms that are not timed.
    sample_seconds = 0.05
    warm_seconds = 0.02

    @property
    def tolerance(self) -> float:
        return TOLERANCE[self.kind]

    def __str__(self) -> str:
        return f"{self.kind} {self.network} {self.batch}"


TASKS = (
    *[Task("step", "lenet", batch) for batch in (32, 128, 512)],
    Task("step", "cnn", 64),
    *[Task("epoch", "lenet", batch) for batch in (32, 128, 512)],
    *[Task("predict", "lenet", batch) for batch in (1, 128)],
)


def initial_weights(network: Network, seed: int = 1) -> list[Array]:
    """Glorot's uniform distribution; biases zero."""
    random = np.random.default_rng(seed)
    weights: list[Array] = []
    for shape in network.weight_shapes():
        limit = np.sqrt(6 / (np.prod(shape[:-2]) * sum(shape[-2:]))) if len(shape) > 1 else 0.0
        weights.append(random.uniform(-limit, limit, shape).astype(np.float32))
    return weights


def weight_arrays(network: Network) -> dict[str, Array]:
    """The initial weights w0, w1, ..."""
    return {f"w{i}": weight for i, weight in enumerate(initial_weights(network))}


def task_arrays(task: Task, digits: tuple[Array, Array], images: int) -> dict[str, Array]:
    """Images, one-hot labels and initial weights (w0, w1, ...) for a task. An epoch has `images` images.

    LeNet gets digits, the other network noise: the time does not depend on the pixels.
    """
    network = NETWORKS[task.network]
    count = {"step": BATCHES * task.batch, "epoch": images, "predict": task.batch}[task.kind]
    if task.network == "lenet":
        chosen = np.arange(count) % len(digits[0])
        x = (digits[0][chosen][..., None] / np.float32(255)).astype(np.float32)
        labels = digits[1][chosen]
    else:
        random = np.random.default_rng(0)
        x = random.random((count, *network.input_shape), np.float32)
        labels = random.integers(0, 10, count)
    return {"x": x, "y": np.eye(10, dtype=np.float32)[labels], **weight_arrays(network)}


def weights_of(arrays: dict[str, Array]) -> list[Array]:
    return [arrays[f"w{i}"] for i in range(len(arrays) - 2)]


def batches_of(task: Task, arrays: dict[str, Array]) -> list[tuple[Any, Any]]:
    """The images and labels of a training task, divided into batches."""
    starts = range(0, len(arrays["x"]), task.batch)
    return [(arrays["x"][i : i + task.batch], arrays["y"][i : i + task.batch]) for i in starts]
