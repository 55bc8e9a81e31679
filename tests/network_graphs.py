"""Graphs that several tests of `fastconv.Network` run."""

from __future__ import annotations

from typing import Any

import numpy as np
from fastconv.network import Graph

RANDOM = np.random.default_rng(5)


def random(*shape: int, dtype: Any = np.float32) -> np.ndarray:
    return RANDOM.standard_normal(shape).astype(dtype)


def lenet(dtype: Any = np.float32, size: int | None = 28) -> Graph:
    graph = Graph(np.dtype(dtype))

    def weights(*shape: int) -> int:
        return graph.constant(random(*shape) / np.sqrt(np.prod(shape[:-1])))

    x = graph.input("images", (None, size, size, 1))
    x = graph.add(
        "conv2d", [x, weights(5, 5, 1, 6), weights(6), None], (), "conv1", padding="SAME", activation=["relu"]
    )
    x = graph.add("max_pool2d", [x], (), "pool1", ksize=[2, 2])
    x = graph.add(
        "conv2d_max_pool2d", [x, weights(5, 5, 6, 16), weights(16)], (), "conv2", activation=["relu"], pool_size=[2, 2]
    )
    if size is None:
        x = graph.add("reduce", [x], (), "pool", method="mean", axes=[1, 2])
    else:
        x = graph.add("reshape", [x], (), "flatten", shape=[0, -1])
    x = graph.add(
        "dense", [x, weights(16 if size is None else 400, 84), weights(84), None], (), "dense1", activation=["relu"]
    )
    x = graph.add("dense", [x, weights(84, 10), None, None], (None, 10), "dense2")
    graph.outputs.append(("scores", graph.add("softmax", [x], (None, 10), "softmax")))
    return graph
