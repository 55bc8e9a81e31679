"""``fastconv explain``: the shapes, the work and the algorithm of a convolution, without running it."""

from __future__ import annotations

import argparse
import math
from typing import Any, NamedTuple, get_args

import numpy as np

import fastconv
from fastconv._commands import arguments
from fastconv._explain import Direction, Explanation

_DIRECTIONS: dict[str, Direction] = {word.replace(" ", "-"): word for word in get_args(Direction)}


def add_parser(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = commands.add_parser(
        "explain",
        help="show output size, work, memory and algorithm of a convolution",
        description="Show the output size of a convolution with the numbers filled in, its work and memory, and the "
        "algorithm that fastconv would use on this machine. Nothing is computed.",
        epilog=arguments.examples(
            "fastconv explain 28x28 3x3x1x6",
            "fastconv explain 8x56x56x64 3x3x64x128 --strides 2 --padding SAME",
            "fastconv explain 8x56x56x64 3x3x64x64 --padding 1 --direction all",
            "fastconv explain 1x112x112x32 3x3x32x1 --depthwise --padding 0,1,0,1",
        ),
        formatter_class=arguments.Formatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "input",
        type=arguments.sizes((2, 4), "8x56x56x64"),
        metavar="INPUT",
        help="the input's shape, such as 8x56x56x64, or its height and width for one image",
    )
    add(
        "filters",
        type=arguments.sizes((4,), "3x3x64x128"),
        metavar="FILTERS",
        help="the filters' shape: height, width, channels in, channels out",
    )
    add("--strides", type=arguments.sizes((1, 2), "2 or 2x1"), metavar="N", default=(1,), help="N or HEIGHTxWIDTH")
    add("--dilations", type=arguments.sizes((1, 2), "2 or 2x1"), metavar="N", default=(1,), help="N or HEIGHTxWIDTH")
    add(
        "--padding",
        type=arguments.padding,
        metavar="P",
        default="VALID",
        help="VALID, SAME, N, HEIGHTxWIDTH or TOP,BOTTOM,LEFT,RIGHT (default: %(default)s)",
    )
    add("--data-format", choices=("NHWC", "NCHW"), default="NHWC", help="the input's order (default: %(default)s)")
    add(
        "--depthwise", action="store_true", help="a depthwise convolution: the filters are height, width, C, multiplier"
    )
    add(
        "--direction",
        choices=(*_DIRECTIONS, "all"),
        default="forward",
        help="the convolution, one of its gradients, or all three (default: %(default)s)",
    )
    add("--algorithm", choices=("auto", "direct", "winograd", "depthwise"), default="auto")
    add("--dtype", choices=("float32", "float64"), default="float32", help="(default: %(default)s)")


class _Axis(NamedTuple):
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


def run(options: argparse.Namespace) -> None:
    """Print the explanation.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    chosen = list(_DIRECTIONS.values()) if options.direction == "all" else [_DIRECTIONS[options.direction]]
    strides, dilations = (
        numbers * 2 if len(numbers) == 1 else numbers for numbers in (options.strides, options.dilations)
    )
    padding: Any = options.padding
    if isinstance(padding, tuple) and len(padding) == 4:
        padding = (padding[:2], padding[2:])
    # These calls check all arguments.
    explanations = [
        fastconv.explain(
            options.input,
            options.filters,
            strides,
            padding,
            options.data_format,
            dilations,
            direction=direction,
            depthwise=options.depthwise,
            algorithm=options.algorithm,
            dtype=options.dtype,
        )
        for direction in chosen
    ]
    rows = [row for explanation in explanations for row in _algorithm(options, explanation)]
    for name, text in _convolution(options, strides, padding, dilations) + rows:
        print(f"{name:17}{text}" if text else f"\n{name}")


def _convolution(
    options: argparse.Namespace, strides: tuple[int, ...], padding: Any, dilations: tuple[int, ...]
) -> list[tuple[str, str]]:
    """What does not depend on the direction: a name and a text for each line."""
    r, s, channels, last = options.filters
    shape = _input_shape(options)
    height = 1 if options.data_format == "NHWC" else 2
    axes = [
        _axis(size, kernel, stride, padding, dilation, index)
        for index, (size, kernel, stride, dilation) in enumerate(
            zip(shape[height : height + 2], (r, s), strides, dilations, strict=True)
        )
    ]
    output = _output_shape(options, axes)
    rows, columns = axes
    out_channels = channels * last if options.depthwise else last
    factors = [shape[0], rows.output, columns.output, out_channels, r, s, *([] if options.depthwise else [channels])]
    item = np.dtype(options.dtype).itemsize
    arrays = {"input": shape, "filters": options.filters, "output": output}
    memory = ", ".join(f"{name} {_bytes(item * math.prod(sizes))}" for name, sizes in arrays.items())
    lines = [
        ("input", f"{_by(shape)} ({options.data_format})"),
        ("filters", _by(options.filters)),
        ("padding", f"top {rows.before}, bottom {rows.after}, left {columns.before}, right {columns.after}"),
    ]
    if dilations != (1, 1):
        windows = [f"({axis.kernel} - 1) * {axis.dilation} + 1 = {axis.window}" for axis in axes]
        lines.append(
            ("dilated window", f"{_by((rows.window, columns.window))}: {' and '.join(dict.fromkeys(windows))}")
        )
    return [
        *lines,
        ("output height", rows.formula()),
        ("output width", columns.formula()),
        ("output", _by(output)),
        ("multiplications", f"{_product(factors)}, or {_count(2 * math.prod(factors))}FLOP with the additions"),
        ("parameters", f"{_product(options.filters)}, and {out_channels:,} more with a bias"),
        ("memory", f"{memory} ({options.dtype})"),
    ]


def _algorithm(options: argparse.Namespace, found: Explanation) -> list[tuple[str, str]]:
    heading = {
        "forward": "forward: the output",
        "input gradient": "input gradient: an array of the input's shape",
        "filter gradient": "filter gradient: an array of the filters' shape",
    }[found.direction]
    if not found.kernel:
        return [(heading, ""), ("algorithm", "none: there is nothing to compute")]
    first, second = found.tile
    unit = "window element" if found.direction == "filter gradient" else "pixel"
    return [
        (heading, ""),
        ("algorithm", f"{found.algorithm}, kernel {found.kernel}, {found.isa}"),
        ("register tile", f"{_several(first, unit)} x {_several(second, 'filter')}"),
        ("multiplications", f"{found.multiplications:,.0f} with this algorithm"),
        ("tasks", f"{found.tasks:,} for {_several(found.threads, 'thread')}"),
        ("scratch memory", f"up to {_bytes(found.scratch_bytes)}" if found.scratch_bytes else "none"),
    ]


def _input_shape(options: argparse.Namespace) -> tuple[int, ...]:
    """The whole shape. Height and width alone stand for one image."""
    if len(options.input) == 4:
        return tuple(options.input)
    channels = options.filters[2]
    return (1, *options.input, channels) if options.data_format == "NHWC" else (1, channels, *options.input)


def _output_shape(options: argparse.Namespace, axes: list[_Axis]) -> tuple[int, ...]:
    batch, (rows, columns) = _input_shape(options)[0], (axis.output for axis in axes)
    channels = options.filters[3] * (options.filters[2] if options.depthwise else 1)
    return (batch, rows, columns, channels) if options.data_format == "NHWC" else (batch, channels, rows, columns)


def _axis(size: int, kernel: int, stride: int, padding: Any, dilation: int, index: int) -> _Axis:
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
    return _Axis(size, kernel, stride, dilation, before, after)


def _several(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count:,} {noun}s"


def _by(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))


def _product(factors: Any) -> str:
    return f"{_by(tuple(factors))} = {math.prod(factors):,}"


def _count(number: float) -> str:
    """A number with three digits and an SI prefix."""
    step = 0
    while number >= 999.5 and step < 4:
        number /= 1000
        step += 1
    return f"{number:.3g} {('', 'k', 'M', 'G', 'T')[step]}"


def _bytes(size: float) -> str:
    step = 0
    while size >= 1023.5 and step < 4:
        size /= 1024
        step += 1
    return f"{size:.4g} {('bytes', 'KiB', 'MiB', 'GiB', 'TiB')[step]}"
