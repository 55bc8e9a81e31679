"""Layers and the text files (suites) that list them. README.md explains the format."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

FOLDER = Path(__file__).parent / "suites"
NETWORKS = ("lenet", "resnet50", "vgg16", "alexnet", "mobilenet")
EXTRA = "extra"  # the suite that every run measures: a tiny call, and a layer whose output array is new in each call
IMAGES = "images"  # filters of images, which are no layers of a network
FORWARD_ONLY = (EXTRA, IMAGES)  # suites without gradients

_LINE = re.compile(r"(\S+)\s+(\d+)x(\d+)x(\d+)x(\d+)\s*(?:->\s*(\d+)|\s+max)\s+(\d+)x(\d+)((?:\s+\S+)*)")


@dataclass(frozen=True)
class Layer:
    """A convolution, or a max-pooling if ``k == 0``, with `pad` on all four sides and `stride` along both axes."""

    suite: str
    name: str
    n: int
    h: int
    w: int
    c: int
    k: int
    r: int
    s: int
    stride: int = 1
    pad: int = 0
    groups: int = 1
    depthwise: bool = False
    anchor: bool = False
    fresh: bool = False  # fastconv is called without out=

    @property
    def pool(self) -> bool:
        return self.k == 0

    @property
    def channels_out(self) -> int:
        return self.c if self.pool else self.k

    @property
    def p(self) -> int:
        return (self.h + 2 * self.pad - self.r) // self.stride + 1

    @property
    def q(self) -> int:
        return (self.w + 2 * self.pad - self.s) // self.stride + 1

    @property
    def input_shape(self) -> tuple[int, int, int, int]:
        return self.n, self.h, self.w, self.c

    @property
    def filter_shape(self) -> tuple[int, int, int, int]:
        if self.depthwise:
            return self.r, self.s, self.c, self.k // self.c
        return self.r, self.s, self.c // self.groups, self.k

    @property
    def output_shape(self) -> tuple[int, int, int, int]:
        return self.n, self.p, self.q, self.channels_out

    @property
    def shapes(self) -> dict[str, tuple[int, int, int, int]]:
        """The shapes of input x, filters w, output y and its gradient dy."""
        return {"x": self.input_shape, "w": self.filter_shape, "y": self.output_shape, "dy": self.output_shape}

    @property
    def flops(self) -> int:
        """Multiplications and additions of the direct algorithm, including multiplications by padding; 0 for a pool."""
        return 2 * self.n * self.p * self.q * self.r * self.s * self.k * (self.c // self.groups)

    @property
    def least_flops(self) -> int:
        """As `flops`, but without multiplications by padding, which a direct kernel may leave out."""

        def inside(size: int, window: int, outputs: int) -> int:
            taps = np.arange(outputs)[:, None] * self.stride - self.pad + np.arange(window)
            return int(((taps >= 0) & (taps < size)).sum())

        taps = inside(self.h, self.r, self.p) * inside(self.w, self.s, self.q)
        return 2 * self.n * taps * self.k * (self.c // self.groups)

    @property
    def multiplies_directly(self) -> bool:
        """Whether all libraries multiply directly here. Winograd's algorithm may serve larger windows at stride 1."""
        return self.stride > 1 or self.groups > 1 or min(self.r, self.s) == 1

    def __str__(self) -> str:
        sizes = f"{self.n}x{self.h}x{self.w}x{self.c}"
        if self.pool:
            return f"{sizes} max {self.r}x{self.s} s{self.stride}"
        kind = " depthwise" if self.depthwise else f" g{self.groups}" if self.groups > 1 else ""
        step = f" s{self.stride}" if self.stride > 1 else ""
        return f"{sizes} -> {self.k}, {self.r}x{self.s}{step}{kind}"


def parse_line(line: str, suite: str) -> Layer:
    """Read one line of a suite; ValueError if it does not describe a layer."""
    match = _LINE.fullmatch(line)
    if match is None:
        raise ValueError(
            f"{suite}: {line!r} is not a layer; write NAME NxHxWxC -> K RxS [s=2] [p=1] [g=2] [depthwise] [anchor] or "
            "NAME NxHxWxC max RxS [s=2] [p=1]"
        )
    name, *numbers, words = match.groups("0")
    n, h, w, c, k, r, s = map(int, numbers)
    options = {"s": 1 if k else s, "p": 0, "g": 1, "depthwise": 0, "anchor": 0, "fresh": 0}
    for word in words.split():
        option = re.fullmatch(r"([spg])=(\d+)|(depthwise|anchor|fresh)", word)
        if option is None:
            raise ValueError(f"{suite}: options are s=, p=, g=, depthwise, anchor and fresh, got {word!r} in {line!r}")
        options[option[1] or option[3]] = int(option[2] or 1)
    stride, pad, groups, depthwise, anchor, fresh = options.values()
    groups = c if depthwise else groups
    if min(n, h, w, c, r, s, stride, groups) < 1 or c % groups or k % groups:
        raise ValueError(f"{suite}: sizes must be at least 1, and groups must divide C and K, got {line!r}")
    layer = Layer(suite, name, n, h, w, c, k, r, s, stride, pad, groups, bool(depthwise), bool(anchor), bool(fresh))
    if min(layer.p, layer.q) < 1:
        raise ValueError(f"{suite}: the window must not be larger than the padded input, got {line!r}")
    return layer


def read_suite(name: str) -> list[Layer]:
    """Layers of ``suites/<name>.txt``; ``#`` starts a comment."""
    text = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    return [parse_line(line, name) for line in lines if line]


def find_layers(names: Iterable[str], text: str) -> list[Layer]:
    """The layers of these suites whose 'suite name' contains `text`."""
    return [layer for name in names for layer in read_suite(name) if text in f"{layer.suite} {layer.name}"]


def suites() -> list[str]:
    """Names of all suites but `EXTRA`, the five networks first."""
    found = sorted(path.stem for path in FOLDER.glob("*.txt") if path.stem != EXTRA)
    return sorted(found, key=lambda name: NETWORKS.index(name) if name in NETWORKS else len(NETWORKS))
