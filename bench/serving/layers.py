"""The convolutions of networks, each distinct layer once, from layers.json (written by list_layers.py)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from bench.oracle import Array, reference

if TYPE_CHECKING:  # the peers' processes do not import fastconv
    from fastconv.network import Graph

PATH = Path(__file__).with_name("layers.json")
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {  # in float64
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "relu6": lambda x: np.clip(x, 0, 6),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "silu": lambda x: x / (1 + np.exp(-x)),
}


@dataclass(frozen=True)
class ServedLayer:
    """A convolution with bias and activation. `padding` is (top, bottom, left, right)."""

    network: str
    name: str
    size: tuple[int, int]
    channels: int
    filters: tuple[int, int, int, int]  # (R, S, C / groups, K), of a depthwise layer (R, S, C, M)
    strides: tuple[int, int]
    padding: tuple[int, int, int, int]
    depthwise: bool
    activation: str

    @property
    def outputs(self) -> int:
        """The number of output channels."""
        return self.filters[3] * (self.channels if self.depthwise else 1)

    @property
    def groups(self) -> int:
        return self.channels if self.depthwise else self.channels // self.filters[2]

    @property
    def geometry(self) -> Any:
        top, bottom, left, right = self.padding
        return reference.Geometry(self.size, self.filters[:2], self.strides, ((top, bottom), (left, right)), (1, 1))

    def flops(self, batch: int) -> int:
        """Multiplications and additions of the direct algorithm, including multiplications by padding."""
        rows, columns = self.geometry.output
        window = self.filters[0] * self.filters[1] * self.channels // self.groups
        return 2 * batch * rows * columns * self.outputs * window

    def __str__(self) -> str:
        rows, columns, _, _ = self.filters
        sizes = "x".join(map(str, (*self.size, self.channels)))
        step = f" s{self.strides[0]}" if self.strides != (1, 1) else ""
        return f"{sizes} -> {self.outputs}, {rows}x{columns}{step}{' depthwise' * self.depthwise} {self.activation}"


def read_layers() -> list[ServedLayer]:
    """All layers; a layer that several networks have is listed for each of them."""
    tuples = {"size", "filters", "strides", "padding"}
    return [
        ServedLayer(network, **{key: tuple(value) if key in tuples else value for key, value in layer.items()})
        for network, layers in json.loads(PATH.read_text(encoding="utf-8")).items()
        for layer in layers
    ]


def find_layers(networks: Iterable[str], text: str) -> list[ServedLayer]:
    """The layers of these networks whose 'network name: sizes' contains `text`, each distinct one once."""
    found: dict[tuple[Any, ...], ServedLayer] = {}
    for layer in read_layers():
        if layer.network in networks and text in f"{layer.network} {layer.name}: {layer}":
            found.setdefault((layer.size, layer.padding, str(layer)), layer)
    return list(found.values())


def make_arrays(layer: ServedLayer, batch: int) -> dict[str, Array]:
    """Normal numbers: images x, filters w and bias b. The sums have a standard deviation of about 1."""
    random = np.random.default_rng(0)
    rows, columns, depth, _ = layer.filters
    deviation = np.float32((rows * columns * (1 if layer.depthwise else depth)) ** -0.5)
    return {
        "x": random.standard_normal((batch, *layer.size, layer.channels), np.float32),
        "w": random.standard_normal(layer.filters, np.float32) * deviation,
        "b": random.standard_normal(layer.outputs, np.float32),
    }


def graph_of(layer: ServedLayer, arrays: dict[str, Array]) -> Graph:
    """The network of this layer alone."""
    from fastconv.network import Graph

    graph = Graph(np.dtype(np.float32))
    x = graph.input("x", (None, *layer.size, layer.channels))
    inputs = [x, graph.constant(arrays["w"]), graph.constant(arrays["b"]), None]
    y = graph.add(
        "depthwise_conv2d" if layer.depthwise else "conv2d",
        inputs,
        (None, *layer.geometry.output, layer.outputs),
        name=layer.name,
        strides=list(layer.strides),
        padding=list(layer.padding),
        activation=[layer.activation],
    )
    graph.outputs.append(("y", y))
    graph.round_constants()
    return graph


def result_and_bound(layer: ServedLayer, arrays: dict[str, Array]) -> tuple[Array, Array]:
    """The result in float64, and sum(abs(x) * abs(w)) + abs(b) for each of its elements."""
    function = reference.depthwise_conv2d if layer.depthwise else reference.conv2d
    found = function(arrays["x"], arrays["w"], layer.geometry, arrays["b"])
    return ACTIVATIONS[layer.activation](found.value), found.magnitude
