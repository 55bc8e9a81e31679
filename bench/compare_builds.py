"""Compares two builds of fastconv: ``python -m bench.compare_builds BEFORE AFTER --bits 2000``.

BEFORE and AFTER are folders with the package, as ``pip install --target FOLDER .`` makes them. The exit status is 1 if
anything differs.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from bench.builds.bits import Renames, common_isas, compare_bits, compare_choices
from bench.builds.build import Build

MOST_PRINTED = 50


def pair(text: str) -> tuple[str, str]:
    """NAME=VALUE."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return name, value


def parser() -> argparse.ArgumentParser:
    """All options."""
    result = argparse.ArgumentParser(prog="python -m bench.compare_builds", description=__doc__)
    result.add_argument("before", type=Path, help="folder of the first build")
    result.add_argument("after", type=Path, help="folder of the second build")
    for side in ("before", "after"):
        result.add_argument(
            f"--env-{side}", metavar="NAME=VALUE", type=pair, action="append", default=[],
            help=f"environment variable of the build {side}; may be repeated",
        )  # fmt: skip
    bits = result.add_argument_group("bits")
    bits.add_argument("--bits", type=int, metavar="N", help="compare the results of N random problems")
    bits.add_argument("--seed", type=int, default=1, help="of the problems (default: %(default)s)")
    bits.add_argument("--only", type=int, action="append", metavar="INDEX", help="only this problem; may be repeated")
    bits.add_argument("--isa", action="append", help="only this instruction set; may be repeated")
    bits.add_argument(
        "--rename", metavar="OLD=NEW", type=pair, action="append", default=[],
        help="a kernel or an algorithm that has a new name; may be repeated, for one old name too",
    )  # fmt: skip
    return result


def report_differences(options: argparse.Namespace, builds: tuple[Build, Build]) -> int:
    """Compare results and choices of kernels; the number of differences."""
    renames: Renames = {}
    for old, new in options.rename:
        renames.setdefault(old, set()).add(new)
    isas = options.isa or common_isas(builds)
    indices = options.only or list(range(options.bits))
    start = time.monotonic()
    differences = compare_bits(builds, isas, options.seed, indices)
    seconds = time.monotonic() - start
    print(f"{len(indices)} problems with {', '.join(isas)}: {len(differences)} differences ({seconds:.0f} s)")
    choices = compare_choices(builds, isas, renames)
    print(f"algorithms and kernels of the suites' layers: {len(choices)} differences")
    found = differences + choices
    for text in found[:MOST_PRINTED]:
        print(text)
    if len(found) > MOST_PRINTED:
        print(f"... and {len(found) - MOST_PRINTED} more")
    return len(found)


def main(arguments: list[str] | None = None) -> int:
    """Run; 1 if anything differs."""
    options = parser().parse_args(arguments)
    if options.bits is None and not options.only:
        parser().error("nothing to compare: give --bits")
    for folder in (options.before, options.after):
        if not (folder / "fastconv").is_dir():
            parser().error(f"{folder} holds no fastconv package")
    builds = (
        Build("before", options.before, dict(options.env_before)),
        Build("after", options.after, dict(options.env_after)),
    )
    return 1 if report_differences(options, builds) else 0


if __name__ == "__main__":
    sys.exit(main())
