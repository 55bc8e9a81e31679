"""``fastconv bench``: the times of fastconv and of other libraries, where they are installed, on this machine."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import math
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import fastconv
from fastconv._commands import arguments, layer
from fastconv._commands.contestants import PEERS, Array, NotComputed
from fastconv._commands.layer import Layer
from fastconv._console import counted, print_table
from fastconv._explain import Direction, readable_bytes

if TYPE_CHECKING:
    from fastconv._commands.bench_process import Contestant

# Without INPUT and FILTERS, these are measured.
_LAYERS = {
    "LeNet-5, second convolution": Layer((128, 13, 13, 6), (3, 3, 6, 16)),
    "ResNet-50, first convolution": Layer((4, 224, 224, 3), (7, 7, 3, 64), (2, 2), 3),
    "ResNet-50, 3 x 3": Layer((4, 56, 56, 64), (3, 3, 64, 64), padding="SAME"),
    "ResNet-50, 1 x 1": Layer((4, 14, 14, 1024), (1, 1, 1024, 256)),
    "MobileNet, depthwise": Layer((4, 56, 56, 128), (3, 3, 128, 1), padding="SAME", depthwise=True),
    "image filter, 5 x 5": Layer((1, 512, 512, 1), (5, 5, 1, 1), padding="SAME"),
}
_ROUNDS, _LEAST_ROUNDS = 15, 3
_SECONDS = 0.4  # for each line of a table, unless --rounds is given
_TOLERANCE = 1e4  # times the precision of the dtype, relative to the largest value


def add_parser(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = commands.add_parser(
        "bench",
        help="time convolutions, also of TensorFlow, PyTorch and SciPy where they are installed",
        description="Time a convolution and its gradients on this machine. Without INPUT and FILTERS, layers of "
        "well-known networks are timed. TensorFlow, PyTorch and SciPy are timed in turn with fastconv if they are "
        "installed, each in a process of its own, after their results have been compared.",
        epilog=arguments.examples(
            "fastconv bench",
            "fastconv bench --peer none",
            "fastconv bench 8x56x56x64 3x3x64x64 --padding SAME",
            "fastconv bench 1x512x512x1 7x7x1x1 --direction forward --peer scipy",
            "FASTCONV_NUM_THREADS=1 fastconv bench",
        ),
        formatter_class=arguments.Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("input", nargs="?", type=layer.INPUT, metavar="INPUT", help=layer.INPUT_HELP)
    parser.add_argument("filters", nargs="?", type=layer.FILTERS, metavar="FILTERS", help=layer.FILTERS_HELP)
    layer.add_options(parser, direction="all")
    parser.add_argument(
        "--peer",
        choices=(*PEERS, "none"),
        action="append",
        help="time this library, too, or none; may be given several times (default: all that are installed)",
    )
    parser.add_argument(
        "--rounds",
        type=arguments.integer(_LEAST_ROUNDS, 10_000),
        metavar="N",
        help=f"samples of each time (default: {_ROUNDS}, but as few as {_LEAST_ROUNDS} of slow layers)",
    )


def run(options: argparse.Namespace) -> None:
    """Print the tables, each as soon as it is measured.

    Raises
    ------
    ValueError, ImportError
        If the layer or a peer is not right. ValueError also if a result differs from fastconv's.
    """
    layers = _layers(options)
    peers, missing = _peers(options)
    for described in layers.values():
        _check(described, layer.directions(options), len(peers))
    outcome = _Outcome()
    with contextlib.ExitStack() as stack:
        contestants = _start(stack, options, peers, missing)
        for name, described in layers.items():
            lines = [
                _line(options, described, direction, contestants, outcome) for direction in layer.directions(options)
            ]
            print()
            _print(name, described, lines, [contestant.name for contestant in contestants[1:]])
    if outcome.remarks:
        print("\nnot timed:", *outcome.remarks, sep="\n")
    if outcome.wrong:
        raise ValueError(f"results differ by more than rounding errors: {'; '.join(outcome.wrong)}")


def _layers(options: argparse.Namespace) -> dict[str, Layer]:
    if options.filters:
        return {"": Layer.of(options)}
    if options.input:
        raise ValueError("INPUT needs FILTERS, such as 3x3x64x64; leave out both to time layers of well-known networks")
    for name, default in layer.DEFAULTS.items():
        if name != "dtype" and getattr(options, name) != default:
            raise ValueError(f"--{name.replace('_', '-')} needs INPUT and FILTERS")
    return {name: described._replace(dtype=options.dtype) for name, described in _LAYERS.items()}


def _check(described: Layer, directions: list[Direction], peers: int) -> None:
    """ValueError if the layer cannot be computed, or not in this machine's memory."""
    if not all([described.explain(direction).kernel for direction in directions]):
        raise ValueError("there is nothing to compute: an array of this layer is empty")
    sizes = sum(math.prod(shape) for shape in (described.input, described.filters, described.output))
    needed = sizes * np.dtype(described.dtype).itemsize
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    copies = 4 * (1 + peers)  # each process has its own
    if needed > memory / copies:
        remedy = "a smaller batch or --peer none" if peers else "a smaller batch"
        raise ValueError(
            f"INPUT and FILTERS: the arrays must fit {copies} times into the memory of {readable_bytes(memory)}, but "
            f"take {readable_bytes(needed)}; take {remedy}"
        )


def _peers(options: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The peers to time, and those that are not installed. Those that ``--peer`` names must be installed."""
    wanted = options.peer or PEERS
    if "none" in wanted:
        if len(set(wanted)) > 1:
            raise ValueError(f"--peer none excludes other peers, got {' and '.join(wanted)}")
        return [], []
    missing = [name for name in PEERS if name in wanted and importlib.util.find_spec(name) is None]
    if options.peer and missing:
        raise ImportError(f"--peer {missing[0]}: this library is not installed; run pip install {missing[0]}")
    return [name for name in PEERS if name in wanted and name not in missing], missing


def _start(
    stack: contextlib.ExitStack, options: argparse.Namespace, peers: list[str], missing: list[str]
) -> list[Contestant]:
    """Start fastconv and the peers, and print what is compared."""
    from fastconv._commands.bench_process import Contestant

    config = fastconv.show_config("dicts")
    contestants = []
    notes = [f"not installed: {', '.join(missing)}"] if missing else []
    for name in ["fastconv", *peers]:
        with _progress(f"starting {name}"):
            try:
                contestants.append(stack.enter_context(Contestant(name, config["threads"])))
            except NotComputed as problem:
                if name == "fastconv" or options.peer:
                    raise ImportError(f"{name} cannot be imported: {problem}") from problem
                notes.insert(0, f"{name} cannot be imported: {problem}")
    versions = ", ".join(f"{contestant.name} {contestant.version}" for contestant in contestants)
    print(
        "; ".join([versions, f"{config['isa']}, {counted(config['threads'], 'thread')}, {options.dtype}", *notes]),
        flush=True,
    )
    return contestants


class _Outcome:
    """What could not be timed, and which results differ."""

    def __init__(self) -> None:
        self.remarks: dict[str, None] = {}  # in their order, each once
        self.wrong: list[str] = []


class _Line(NamedTuple):
    """A line of a table. `samples` are seconds, of fastconv first."""

    direction: Direction
    peak: float
    samples: dict[str, list[float]]


def _line(
    options: argparse.Namespace,
    described: Layer,
    direction: Direction,
    contestants: list[Contestant],
    outcome: _Outcome,
) -> _Line:
    """Compare the results, and then take samples in turn."""
    ready: dict[str, Contestant] = {}
    with _progress(f"{_sizes(described)}, {direction}"):
        (_, ours), *_ = contestants[0].prepare(described, direction)
        for contestant in contestants[1:]:
            try:
                theirs = contestant.prepare(described, direction)
            except NotComputed as problem:
                outcome.remarks[f"  {contestant.name}: {problem}"] = None
                continue
            different = [label for label, result in theirs if not _same(result, ours)]
            outcome.wrong += [f"{contestant.name} {label}, {direction} of {_sizes(described)}" for label in different]
            if not different:
                ready[contestant.name] = contestant
        peak = contestants[0].peak(described.dtype)
        return _Line(direction, peak, _samples({"fastconv": contestants[0], **ready}, options.rounds))


def _same(theirs: Array, ours: Array) -> bool:
    if theirs.shape != ours.shape:
        return False
    allowed = _TOLERANCE * float(np.finfo(ours.dtype).eps * np.abs(ours).max())
    return bool(np.abs(theirs - ours).max() <= allowed)


def _samples(contestants: dict[str, Contestant], rounds: int | None) -> dict[str, list[float]]:
    """Seconds of a call, in turn. Without a number of rounds, slow layers get fewer."""
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    end = time.perf_counter() + _SECONDS
    for done in range(rounds or _ROUNDS):
        if rounds is None and done >= _LEAST_ROUNDS and time.perf_counter() > end:
            break
        for name, contestant in contestants.items():
            try:
                taken[name].append(contestant.sample())
            except NotComputed as problem:
                raise ValueError(f"{name}: {problem}") from problem
    return taken


def _print(name: str, described: Layer, lines: list[_Line], peers: list[str]) -> None:
    """The table of a layer. It has a column for each peer that was timed."""
    timed = [peer for peer in peers if any(peer in line.samples for line in lines)]
    title = f"{name}: {_sizes(described)}" if name else _sizes(described)
    headings = ["direction", "algorithm", "ms", "spread", "GFLOP/s", "of peak", *(f"{peer} ms" for peer in timed)]
    peak = max(line.peak for line in lines)
    rows = []
    for line in lines:
        first, median, third = np.percentile(line.samples["fastconv"], (25, 50, 75))
        speed = described.operations / median
        row = [line.direction, described.explain(line.direction).algorithm, _milliseconds(median)]
        row += [f"{(third - first) / median:.0%}", f"{speed / 1e9:.1f}", f"{speed / peak:.0%}"]
        for peer in timed:
            theirs = float(np.median(line.samples[peer])) if peer in line.samples else None
            row.append("-" if theirs is None else f"{_milliseconds(theirs)} ({theirs / median:.2f}x)")
        rows.append(row)
    print_table(headings, rows, title=title, text=2)
    sys.stdout.flush()


def _sizes(described: Layer) -> str:
    """The arguments with which the command times this layer."""
    words = [_text(described.input), _text(described.filters)]
    for option, default in layer.DEFAULTS.items():
        value = getattr(described, option)
        if value != default:
            words.append(f"--{option.replace('_', '-')}")
            words += [] if value is True else [_text(value)]
    return " ".join(words)


def _text(value: Any) -> str:
    """A value as in the command's arguments."""
    if not isinstance(value, tuple):
        return str(value)
    pairs = isinstance(value[0], tuple)
    return ",".join(str(size) for pair in value for size in pair) if pairs else "x".join(map(str, value))


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g}" if seconds < 0.9995 else f"{seconds * 1e3:.0f}"


@contextlib.contextmanager
def _progress(text: str) -> Iterator[None]:
    """Show on a terminal what is being done."""
    shown = sys.stderr.isatty()
    if shown:
        print(f"\r{text} ...", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if shown:
            print("\r\033[K", end="", file=sys.stderr, flush=True)
