"""A convolution as the command line describes it: options, shapes and the amount of work."""

from __future__ import annotations

import argparse
import math
from typing import Any, NamedTuple, get_args

import fastconv
from fastconv._commands import arguments
from fastconv._explain import Direction, Explanation

DIRECTIONS: dict[str, Direction] = {word.replace(" ", "-"): word for word in get_args(Direction)}
INPUT = arguments.sizes((2, 4), "8x56x56x64")
INPUT_HELP = "the input's shape, such as 8x56x56x64, or its height and width for one image"
FILTERS = arguments.sizes((4,), "3x3x64x128")
FILTERS_HELP = "the filters' shape: height, width, channels in, channels out"
# Options of a layer, and what they are unless they are given.
DEFAULTS: dict[str, Any] = {
    "strides": (1, 1),
    "dilations": (1, 1),
    "padding": "VALID",
    "data_format": "NHWC",
    "depthwise": False,
    "algorithm": "auto",
    "dtype": "float32",
}


def add_options(parser: argparse.ArgumentParser, direction: str) -> None:
    """Add all options of a layer but its shapes. `direction` is the default of ``--direction``."""
    add = parser.add_argument
    add("--strides", type=arguments.sizes((1, 2), "2 or 2x1"), metavar="N", help="N or HEIGHTxWIDTH (default: 1)")
    add("--dilations", type=arguments.sizes((1, 2), "2 or 2x1"), metavar="N", help="N or HEIGHTxWIDTH (default: 1)")
    add(
        "--padding",
        type=arguments.padding,
        metavar="P",
        help="VALID, SAME, N, HEIGHTxWIDTH or TOP,BOTTOM,LEFT,RIGHT (default: %(default)s)",
    )
    add("--data-format", choices=("NHWC", "NCHW"), help="the input's order (default: %(default)s)")
    add(
        "--depthwise", action="store_true", help="a depthwise convolution: the filters are height, width, C, multiplier"
    )
    add(
        "--direction",
        choices=(*DIRECTIONS, "all"),
        default=direction,
        help="the convolution, one of its gradients, or all three (default: %(default)s)",
    )
    add("--algorithm", choices=("auto", "direct", "winograd", "depthwise"), help="(default: %(default)s)")
    add("--dtype", choices=("float32", "float64"), help="(default: %(default)s)")
    parser.set_defaults(**DEFAULTS)


def directions(options: argparse.Namespace) -> list[Direction]:
    """What ``--direction`` asks for."""
    return list(DIRECTIONS.values()) if options.direction == "all" else [DIRECTIONS[options.direction]]


class Axis(NamedTuple):
    """Height or width of a convolution."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def window(self) -> int:
        return (self.kernel - 1) * self.dilation + 1

    @property
    def output(self) -> int:
        return (self.size + self.before + self.after - self.window) // self.stride + 1

    def formula(self) -> str:
        padding = self.before + self.after
        return f"floor(({self.size} + {padding} - {self.window}) / {self.stride}) + 1 = {self.output}"


class Layer(NamedTuple):
    """A convolution. The arguments are those of `fastconv.explain`. `input` has all four sizes."""

    input: tuple[int, ...]
    filters: tuple[int, ...]
    strides: tuple[int, ...] = (1, 1)
    padding: Any = "VALID"
    data_format: str = "NHWC"
    dilations: tuple[int, ...] = (1, 1)
    depthwise: bool = False
    algorithm: str = "auto"
    dtype: str = "float32"

    @classmethod
    def of(cls, options: argparse.Namespace) -> Layer:
        """The layer of a command. Height and width alone stand for one image."""
        strides, dilations = (
            numbers * 2 if len(numbers) == 1 else numbers for numbers in (options.strides, options.dilations)
        )
        shape, padding = tuple(options.input), options.padding
        if isinstance(padding, tuple) and len(padding) == 4:
            padding = (padding[:2], padding[2:])
        if len(shape) == 2:
            channels = options.filters[2]
            shape = (1, *shape, channels) if options.data_format == "NHWC" else (1, channels, *shape)
        return cls(
            shape, options.filters, strides, padding, options.data_format, dilations,
            options.depthwise, options.algorithm, options.dtype,
        )  # fmt: skip

    def explain(self, direction: Direction) -> Explanation:
        """What fastconv would do. ValueError, with the command's names, if the arguments do not fit each other."""
        try:
            return fastconv.explain(
                self.input,
                self.filters,
                self.strides,
                self.padding,
                self.data_format,
                self.dilations,
                direction=direction,
                depthwise=self.depthwise,
                algorithm=self.algorithm,
                dtype=self.dtype,
            )
        except ValueError as error:
            raise ValueError(str(error).replace("input_sizes", "INPUT").replace("filter_sizes", "FILTERS")) from None

    @property
    def axes(self) -> tuple[Axis, Axis]:
        """Height and width."""
        first = 1 if self.data_format == "NHWC" else 2
        rows, columns = (
            _axis(*sizes, self.padding, index)
            for index, sizes in enumerate(
                zip(self.input[first : first + 2], self.filters[:2], self.strides, self.dilations, strict=True)
            )
        )
        return rows, columns

    @property
    def channels_out(self) -> int:
        return self.filters[3] * (self.filters[2] if self.depthwise else 1)

    @property
    def output(self) -> tuple[int, ...]:
        rows, columns = (axis.output for axis in self.axes)
        if self.data_format == "NHWC":
            return (self.input[0], rows, columns, self.channels_out)
        return (self.input[0], self.channels_out, rows, columns)

    @property
    def factors(self) -> list[int]:
        """Their product is the number of multiplications of the definition."""
        r, s, channels = self.filters[:3]
        rows, columns = self.axes
        each = [] if self.depthwise else [channels]
        return [self.input[0], rows.output, columns.output, self.channels_out, r, s, *each]

    @property
    def operations(self) -> int:
        """Multiplications and additions."""
        return 2 * math.prod(self.factors)


def _axis(size: int, kernel: int, stride: int, dilation: int, padding: Any, index: int) -> Axis:
    if padding == "SAME":
        window = (kernel - 1) * dilation + 1
        total = max((-(-size // stride) - 1) * stride + window - size, 0)
        before, after = total // 2, total - total // 2
    elif padding == "VALID":
        before = after = 0
    elif isinstance(padding, int):
        before = after = padding
    elif isinstance(padding[index], int):
        before = after = padding[index]
    else:
        before, after = padding[index]
    return Axis(size, kernel, stride, dilation, before, after)
