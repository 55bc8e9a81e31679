"""What would remain if convolution and pooling cost nothing: the dense layers alone, on images cropped beforehand."""

from __future__ import annotations

import keras

from bench.contestants import NotServed
from bench.reference import Array
from bench.training.contestants import Candidate, Server, on_keras
from bench.training.contestants.on_keras import setup
from bench.training.tasks import FLOORS, OTHER_TASK, Task, initial_weights

__all__ = ["FRAMEWORK", "NAMES", "Server", "candidates", "setup"]

NAMES = ("floor",)
FRAMEWORK = False


def candidates(task: Task, arrays: dict[str, Array]) -> list[Candidate]:
    if task.network not in FLOORS:
        raise NotServed(OTHER_TASK)
    network = FLOORS[task.network]
    top, left = ((whole - part) // 2 for whole, part in zip(arrays["x"].shape[1:3], network.input_shape, strict=False))
    height, width, _ = network.input_shape
    cropped: dict[str, Array] = {
        "x": arrays["x"][:, top : top + height, left : left + width].copy(),
        "y": arrays["y"],
        **{f"w{i}": weight for i, weight in enumerate(initial_weights(network))},
    }
    return on_keras.candidates(task, cropped, keras.layers, network)
