"""Random convolutions and windows, most of them small.

A family is a function that draws layers of one kind. Together, the families use every algorithm and kernel, in the
forward pass and in both gradients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Pair = tuple[int, int]

MOST_PRODUCTS = 80_000_000
MOST_VALUES = 600_000


class Dice:
    """Random numbers and choices for the families."""

    def __init__(self, *seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def pick(self, *choices: Any) -> Any:
        return choices[int(self._random.integers(len(choices)))]

    def chance(self, share: float) -> bool:
        return bool(self._random.random() < share)

    def between(self, least: int, most: int) -> int:
        return int(self._random.integers(least, most + 1))

    def size(self, least: int, most: int) -> Pair:
        return self.between(least, most), self.between(least, most)

    def pair(self, *choices: int) -> Pair:
        """Two of these values, which are mostly equal."""
        first: int = self.pick(*choices)
        return first, first if self.chance(0.5) else self.pick(*choices)


@dataclass(frozen=True)
class Window:
    """How a window moves over an image."""

    size: Pair
    kernel: Pair
    strides: Pair = (1, 1)
    dilations: Pair = (1, 1)
    padding: Any = "VALID"
    pads: tuple[Pair, Pair] = ((0, 0), (0, 0))

    @property
    def extent(self) -> Pair:
        height, width = ((self.kernel[axis] - 1) * self.dilations[axis] + 1 for axis in range(2))
        return height, width

    @property
    def output(self) -> Pair:
        rows, columns = (
            (self.size[axis] + sum(self.pads[axis]) - self.extent[axis]) // self.strides[axis] + 1 for axis in range(2)
        )
        return rows, columns


@dataclass(frozen=True)
class Layer:
    """A convolution. `channels` and `filters` are totals over the groups."""

    n: int
    window: Window
    channels: int
    filters: int
    groups: int = 1

    @property
    def input_shape(self) -> tuple[int, ...]:
        return self.n, *self.window.size, self.channels

    @property
    def output_shape(self) -> tuple[int, ...]:
        return self.n, *self.window.output, self.filters

    @property
    def filter_shape(self) -> tuple[int, ...]:
        return *self.window.kernel, self.channels // self.groups, self.filters

    @property
    def exists(self) -> bool:
        return min(self.window.output) >= 0

    @property
    def fits(self) -> bool:
        """Whether the output exists and the layer is small enough to be computed quickly."""
        if not self.exists:
            return False
        values = max(int(np.prod(shape)) for shape in (self.input_shape, self.output_shape))
        products = int(np.prod(self.output_shape)) * int(np.prod(self.filter_shape[:3]))
        return values <= MOST_VALUES and products <= MOST_PRODUCTS

    @property
    def winograd_serves(self) -> bool:
        window = self.window
        return window.kernel in ((3, 3), (5, 5)) and {*window.strides, *window.dilations, self.groups} == {1}


def same_pads(window: Window) -> tuple[Pair, Pair]:
    found = []
    for axis in range(2):
        outputs = -(-window.size[axis] // window.strides[axis])
        both = max(0, (outputs - 1) * window.strides[axis] + window.extent[axis] - window.size[axis])
        found.append((both // 2, both - both // 2))
    return found[0], found[1]


def pad(dice: Dice, window: Window, data_format: str, smaller: bool = False) -> Window:
    """The window with a random padding in one of its forms. If `smaller`, the padding is less than the window."""
    style = dice.pick("VALID", "SAME", "explicit")
    if style == "VALID":
        return replace(window, padding=dice.pick("VALID", "valid"))
    if style == "SAME":
        return replace(window, padding=dice.pick("SAME", "same"), pads=same_pads(window))
    most = [min(4, extent - 1 if smaller else extent + 1) for extent in window.extent]
    top, left, bottom, right = (dice.between(0, most[axis % 2]) for axis in range(4))
    if dice.chance(0.4):
        bottom, right = top, left
    four = [[0, 0], [top, bottom], [left, right], [0, 0]]
    forms: list[Any] = [((top, bottom), (left, right)), four if data_format == "NHWC" else [four[0], *four[:3]]]
    if top == bottom and left == right:
        forms += [(top, left), top] if top == left else [(top, left)]
    return replace(window, padding=dice.pick(*forms), pads=((top, bottom), (left, right)))


# ---- families -------------------------------------------------------------------------------------------------------


def tiny(dice: Dice) -> Layer:
    window = Window(dice.size(1, 9), dice.pair(1, 2, 3), dice.pair(1, 1, 2), dice.pair(1, 1, 2))
    return Layer(dice.pick(0, 1, 1, 2), window, dice.between(1, 5), dice.between(1, 9))


def mixed(dice: Dice) -> Layer:
    """Any geometry, groups included."""
    window = Window(dice.size(1, 32), dice.pair(1, 2, 3, 3, 4, 5, 7), dice.pair(1, 1, 2, 3), dice.pair(1, 1, 2, 3))
    groups = dice.pick(1, 1, 2, 3, 5, 8)
    channels, filters = (groups * dice.pick(1, 2, 3, 6, 8, 16, 17, 33) for _ in range(2))
    return Layer(dice.pick(1, 1, 2, 3, 5), window, channels, filters, groups)


def small_k(dice: Dice) -> Layer:
    """Few filters, for kernels with vectors along pixels."""
    window = Window(dice.size(3, 48), dice.pick((3, 3), (3, 3), (5, 5), (3, 5)))
    return Layer(dice.pick(1, 1, 2, 5, 9), window, dice.pick(1, 1, 2, 3, 6, 8, 13), dice.between(1, 16))


def dot_products(dice: Dice) -> Layer:
    """So few filters that vectors run along the window."""
    window = Window(dice.size(2, 20), dice.pair(1, 3, 5), dice.pair(1, 2))
    return Layer(dice.pick(1, 1, 2), window, dice.between(24, 300), dice.between(1, 5))


def winograd(dice: Dice) -> Layer:
    window = Window(dice.size(5, 36), dice.pick((3, 3), (3, 3), (5, 5)))
    return Layer(dice.pick(0, 1, 1, 2, 3), window, dice.between(30, 140), dice.between(30, 140))


def winograd_streamed(dice: Dice) -> Layer:
    """Filters so large, and tiles so few, that the transformed filters are not stored."""
    return Layer(1, Window(dice.size(5, 14), (3, 3)), dice.between(170, 300), dice.between(170, 300))


def pointwise(dice: Dice) -> Layer:
    window = Window(dice.size(1, 32), (1, 1), dice.pair(1, 1, 2))
    return Layer(dice.pick(1, 2, 3), window, dice.between(1, 200), dice.between(1, 200))


def pointwise_streamed(dice: Dice) -> Layer:
    """1x1 windows with so many filters, and so few pixels, that each task packs its own filters."""
    window = Window(dice.size(1, 7), (1, 1), dice.pair(1, 1, 2))
    return Layer(dice.pick(1, 1, 2), window, dice.between(16, 300), dice.between(260, 1100))


def large_window(dice: Dice) -> Layer:
    kernel = dice.size(7, 15)
    size = kernel[0] + dice.between(-2, 14), kernel[1] + dice.between(-2, 14)
    return Layer(dice.pick(1, 2), Window(size, kernel, dice.pair(1, 1, 2, 4)), dice.between(1, 20), dice.between(1, 40))


def huge_window(dice: Dice) -> Layer:
    """Windows with more elements than one sum may have."""
    kernel = dice.pick((33, 33), (40, 27), (27, 41), (1, 1030), (1100, 1))
    size = kernel[0] + dice.between(0, 5), kernel[1] + dice.between(0, 5)
    return Layer(1, Window(size, kernel, dice.pair(1, 1, 2)), dice.between(1, 4), dice.between(1, 20))


def wide(dice: Dice) -> Layer:
    """Rows so long that they are divided, and only their borders are copied."""
    window = Window((dice.between(2, 12), dice.between(48, 330)), dice.pair(2, 3, 5), dice.pair(1, 1, 2))
    return Layer(1, window, dice.between(1, 40), dice.between(1, 70))


def strided(dice: Dice) -> Layer:
    """Strides above 1, where the input gradient is one convolution for each residue of the strides."""
    window = Window(dice.size(4, 32), dice.pair(1, 2, 3, 4, 5, 6, 7), dice.pair(2, 2, 3))
    return Layer(dice.pick(1, 1, 2), window, dice.between(1, 100), dice.between(1, 100))


def many_channels(dice: Dice) -> Layer:
    """Short rows that must be divided because of their channels."""
    window = Window((dice.between(1, 3), dice.between(4, 40)), dice.pair(1, 3), dice.pair(1, 5))
    return Layer(1, window, dice.between(3000, 7000), dice.between(1, 20))


def giant(dice: Dice) -> Layer:
    """Filters so large that they are packed or transformed in parts."""
    shapes = (  # size, kernel, channels, filters, groups
        (3, 3, 1000, 1000, 1), (3, 3, 1400, 1400, 2), (30, 30, 160, 60, 1), (18, 5, 310, 310, 1), (34, 3, 440, 440, 1)
    )  # fmt: skip
    size, kernel, channels, filters, groups = dice.pick(*shapes)
    return Layer(1, Window((size, size), (kernel, kernel)), channels, filters, groups)


def depthwise(dice: Dice) -> Layer:
    """A convolution with as many groups as channels."""
    channels = dice.pick(1, 3, 6, 8, 16, 17, 31, 33, 64, 100, 140, 520, 640)
    size = dice.size(1, 14 if channels > 500 else 32)
    window = Window(size, dice.pair(1, 2, 3, 3, 3, 5, 7), dice.pair(1, 1, 2, 3), dice.pair(1, 1, 1, 2))
    return Layer(dice.pick(0, 1, 1, 2, 3), window, channels, channels * dice.pick(1, 1, 1, 2, 3), channels)


Families = Sequence[Callable[[Dice], Layer]]
FAMILIES: Families = (
    *3 * (
        tiny, tiny, mixed, mixed, mixed, small_k, small_k, small_k, dot_products, winograd, winograd,
        winograd_streamed, pointwise, pointwise_streamed, large_window, huge_window, wide, strided, strided,
    ),
    many_channels, giant,
)  # fmt: skip
BEFORE_POOL: Families = (tiny, small_k, small_k, small_k, mixed, winograd, strided)


def draw_layer(dice: Dice, families: Families, data_format: str, inward: bool = False) -> Layer:
    """A random layer of one of the families. If `inward`, channels and filters may be swapped, for input gradients."""
    family = families[dice.between(0, len(families) - 1)]
    while True:
        layer = family(dice)
        if inward and layer.groups == 1 and dice.chance(0.5):
            layer = replace(layer, channels=layer.filters, filters=layer.channels)
        layer = replace(layer, window=pad(dice, layer.window, data_format))
        if layer.fits or (family is giant and layer.exists):
            return layer
