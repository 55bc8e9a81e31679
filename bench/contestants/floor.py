"""A lower limit of the time, without convolution and pooling: the dense layers alone, on cropped images."""

from __future__ import annotations

import keras

from bench.contestants import Candidate, NotServed
from bench.contestants.stock import network_candidates, setup
from bench.oracle import Array
from bench.tasks import FLOORS, OTHER_TASK, Task, weight_arrays

__all__ = ["FRAMEWORK", "candidates", "setup"]

FRAMEWORK = False


def candidates(task: Task, arrays: dict[str, Array]) -> list[Candidate]:
    if task.network not in FLOORS:
        raise NotServed(OTHER_TASK)
    network = FLOORS[task.network]
    height, width, _ = network.input_shape
    top, left = (arrays["x"].shape[1] - height) // 2, (arrays["x"].shape[2] - width) // 2
    cropped = arrays["x"][:, top : top + height, left : left + width].copy()
    arrays = {"x": cropped, "y": arrays["y"], **weight_arrays(network)}
    return network_candidates(task, arrays, keras.layers, network)
