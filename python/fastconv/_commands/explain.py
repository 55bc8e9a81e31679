"""``fastconv explain``: the shapes, the work and the algorithm of a convolution, without running it."""

from __future__ import annotations

import argparse
import math
from typing import Any

import numpy as np

from fastconv._commands import arguments, layer
from fastconv._console import counted
from fastconv._explain import Explanation, readable_bytes, with_prefix


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
    parser.add_argument("input", type=layer.INPUT, metavar="INPUT", help=layer.INPUT_HELP)
    parser.add_argument("filters", type=layer.FILTERS, metavar="FILTERS", help=layer.FILTERS_HELP)
    layer.add_options(parser, direction="forward")


def run(options: argparse.Namespace) -> None:
    """Print the explanation.

    Raises
    ------
    ValueError
        If the shapes do not fit.
    """
    described = layer.Layer.of(options)
    # These calls check all arguments.
    explanations = [described.explain(direction) for direction in layer.directions(options)]
    rows = [row for explanation in explanations for row in _algorithm(explanation)]
    for name, text in _convolution(described) + rows:
        print(f"{name:17}{text}" if text else f"\n{name}")


def _convolution(described: layer.Layer) -> list[tuple[str, str]]:
    """What does not depend on the direction: a name and a text for each line."""
    rows, columns = described.axes
    item = np.dtype(described.dtype).itemsize
    arrays = {"input": described.input, "filters": described.filters, "output": described.output}
    memory = ", ".join(f"{name} {readable_bytes(item * math.prod(sizes))}" for name, sizes in arrays.items())
    lines = [
        ("input", f"{_by(described.input)} ({described.data_format})"),
        ("filters", _by(described.filters)),
        ("padding", f"top {rows.before}, bottom {rows.after}, left {columns.before}, right {columns.after}"),
    ]
    if described.dilations != (1, 1):
        windows = [f"({axis.kernel} - 1) * {axis.dilation} + 1 = {axis.window}" for axis in (rows, columns)]
        lines.append(
            ("dilated window", f"{_by((rows.window, columns.window))}: {' and '.join(dict.fromkeys(windows))}")
        )
    work = f"{_product(described.factors)}, or {_count(described.operations)}FLOP with the additions"
    return [
        *lines,
        ("output height", rows.formula()),
        ("output width", columns.formula()),
        ("output", _by(described.output)),
        ("multiplications", work),
        ("parameters", f"{_product(described.filters)}, and {described.channels_out:,} more with a bias"),
        ("memory", f"{memory} ({described.dtype})"),
    ]


def _algorithm(found: Explanation) -> list[tuple[str, str]]:
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
        ("register tile", f"{counted(first, unit)} x {counted(second, 'filter')}"),
        ("multiplications", f"{found.multiplications:,.0f} with this algorithm"),
        ("tasks", f"{found.tasks:,} for {counted(found.threads, 'thread')}"),
        ("scratch memory", f"up to {readable_bytes(found.scratch_bytes)}" if found.scratch_bytes else "none"),
    ]


def _by(sizes: tuple[int, ...]) -> str:
    return " x ".join(map(str, sizes))


def _product(factors: Any) -> str:
    return f"{_by(tuple(factors))} = {math.prod(factors):,}"


def _count(number: float) -> str:
    """A number with three digits and an SI prefix."""
    return with_prefix(number, 1000, ("", "k", "M", "G", "T"))
