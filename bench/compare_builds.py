"""Compares the results (``--bits``) or the speed (``--speed``) of two builds of fastconv.

    python -m bench.compare_builds BEFORE AFTER --bits 2000
    python -m bench.compare_builds BEFORE AFTER --speed

BEFORE and AFTER are folders into which ``pip install --target FOLDER .`` has installed a build. The exit status is 1 if
any result differs.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from bench.builds.bits import Renames, common_isas, compare_bits, compare_choices
from bench.builds.build import Build
from bench.builds.speed import choose, compare_speed, summary
from bench.cases import DIRECTIONS
from bench.layers import suites
from bench.machine import idle_warnings

MOST_PRINTED = 50
PROCESSES, ROUNDS, ROUNDS_OF_ONE_LAYER = 5, 5, 15


def pair(text: str) -> tuple[str, str]:
    """Split NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"must be two words with '=' between them, got {text!r}")
    return name, value


def parser() -> argparse.ArgumentParser:
    """The parser of all options."""
    result = argparse.ArgumentParser(
        prog="python -m bench.compare_builds", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    result.add_argument("before", type=Path, help="folder of the first build")
    result.add_argument("after", type=Path, help="folder of the second build")
    for side in ("before", "after"):
        result.add_argument(
            f"--env-{side}", metavar="NAME=VALUE", type=pair, action="append", default=[],
            help=f"environment variable of the build {side}; may be repeated",
        )  # fmt: skip
    bits = result.add_argument_group("bits")
    bits.add_argument("--bits", type=int, metavar="N", help="compare the results of N random problems")
    bits.add_argument("--seed", type=int, default=1, help="seed of the problems (default: %(default)s)")
    bits.add_argument("--only", type=int, action="append", metavar="INDEX", help="only this problem; may be repeated")
    bits.add_argument("--isa", action="append", help="only this instruction set; may be repeated")
    bits.add_argument(
        "--rename", metavar="OLD=NEW", type=pair, action="append", default=[],
        help="accept a new name of a kernel or algorithm; may be repeated, also for the same OLD",
    )  # fmt: skip
    cpus = len(os.sched_getaffinity(0))
    speed = result.add_argument_group("speed")
    speed.add_argument(
        "--speed", action="store_true", help="time both builds: the suites' anchors, depthwise layers and pools"
    )
    speed.add_argument("--all", action="store_true", help="every layer of the suites")
    speed.add_argument("--suite", choices=suites(), action="append", help="may be repeated; default: all")
    speed.add_argument("--layer", default="", help="all layers whose 'suite name' contains this, with more rounds")
    speed.add_argument("--direction", choices=DIRECTIONS, action="append", help="may be repeated; default: all")
    speed.add_argument(
        "--rounds", type=int, help=f"samples of each process (default: {ROUNDS}, with --layer {ROUNDS_OF_ONE_LAYER})"
    )
    speed.add_argument(
        "--processes", type=int, default=PROCESSES, help="processes of each build, in turn (default: %(default)s)"
    )
    speed.add_argument("--threads", type=int, default=cpus, help="default: one for each CPU, here %(default)s")
    speed.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    return result


def report_differences(options: argparse.Namespace, builds: tuple[Build, Build]) -> int:
    """Compare results and choices of kernels. Returns the number of differences."""
    renames: Renames = {}
    for old, new in options.rename:
        renames.setdefault(old, set()).add(new)
    isas = options.isa or common_isas(builds)
    indices = options.only or list(range(options.bits))
    start = time.monotonic()
    differences = compare_bits(builds, isas, options.seed, indices)
    seconds = time.monotonic() - start
    print(f"problems: {len(indices)}, with {', '.join(isas)}, in {seconds:.0f} s; differences: {len(differences)}")
    choices = compare_choices(builds, isas, renames)
    print(f"algorithms and kernels of the suites' layers; differences: {len(choices)}")
    found = differences + choices
    for text in found[:MOST_PRINTED]:
        print(text)
    if len(found) > MOST_PRINTED:
        print(f"... and {len(found) - MOST_PRINTED} more")
    return len(found)


def report_speed(options: argparse.Namespace, builds: tuple[Build, Build]) -> int:
    """Time both builds. Returns the number of layers whose results differ."""
    chosen = choose(options.suite, options.layer, options.direction, not (options.all or options.layer), options.dtype)
    if not chosen:
        parser().error("no layer fits --suite, --layer and --direction")
    for warning in idle_warnings():
        print(f"warning: {warning}")
    rounds = options.rounds or (ROUNDS_OF_ONE_LAYER if options.layer else ROUNDS)
    cpus = sorted(os.sched_getaffinity(0))[: options.threads]
    timings = compare_speed(builds, chosen, options.processes, rounds, options.threads, cpus)
    for direction in DIRECTIONS:
        group = [timing for timing in timings if timing.what.endswith(f", {direction}")]
        if group:
            print(f"{direction}: {summary(group)}")
    print(f"all: {summary(timings)}")
    return sum(not timing.same for timing in timings)


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 1 if any result differs, else 0."""
    options = parser().parse_args(arguments)
    wants_bits = options.bits is not None or options.only
    if not wants_bits and not options.speed:
        parser().error("nothing to compare: give --bits or --speed")
    if min(options.processes, options.rounds or 1) < 1:
        parser().error("--processes and --rounds must be at least 1")
    if not 1 <= options.threads <= len(os.sched_getaffinity(0)):
        parser().error(f"--threads must be from 1 to the number of CPUs, got {options.threads}")
    for folder in (options.before, options.after):
        if not (folder / "fastconv").is_dir():
            parser().error(f"{folder} holds no fastconv package: install one with pip install --target {folder}")
    builds = (
        Build("before", options.before, dict(options.env_before)),
        Build("after", options.after, dict(options.env_after)),
    )
    differences = report_differences(options, builds) if wants_bits else 0
    if options.speed:
        differences += report_speed(options, builds)
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
