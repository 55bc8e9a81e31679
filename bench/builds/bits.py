"""Whether two builds give the same bits and the same errors for random problems, and choose the same kernels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.builds.build import Build, BuildError
from bench.builds.problems import draw

# A kernel's or an algorithm's name -> what it may be called in the second build.
Renames = dict[str, set[str]]


def _collect(build: Build, command: str, arguments: Sequence[object], isa: str) -> tuple[list[Any], str]:
    """All answers of one process, and what went wrong with it."""
    found: list[Any] = []
    # Several processes share the CPUs, and none of them is timed: threads that wait had better sleep.
    try:
        found.extend(build.answers(command, *arguments, FASTCONV_ISA=isa, OMP_WAIT_POLICY="passive"))
    except BuildError as error:
        return found, f"{isa}: {error} after {len(found)} answers"
    return found, ""


def _collect_all(
    builds: tuple[Build, Build], isas: Sequence[str], command: str, arguments: Sequence[object]
) -> tuple[dict[str, list[list[Any]]], list[str]]:
    """The answers of both builds for each instruction set, and the processes that died."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        running = {
            isa: [pool.submit(_collect, build, command, arguments, isa) for build in builds] for isa in isas
        }  # fmt: skip
        done = {isa: [future.result() for future in pair] for isa, pair in running.items()}
    answers = {isa: [found for found, _ in pair] for isa, pair in done.items()}
    return answers, [trouble for pair in done.values() for _, trouble in pair if trouble]


def common_isas(builds: tuple[Build, Build]) -> list[str]:
    """The instruction sets that both builds can use."""
    before, after = (build.isas() for build in builds)
    return [isa for isa in before if isa in after]


def compare_bits(builds: tuple[Build, Build], isas: Sequence[str], seed: int, indices: Sequence[int]) -> list[str]:
    """One text for each problem and instruction set whose results differ."""
    answers, differences = _collect_all(builds, isas, "bits", [seed, *indices])
    for isa, (before, after) in answers.items():
        results = dict(after)
        for index, expected in before:
            found = results.get(index, {})
            for variant in expected.keys() | found.keys():
                if index in results and expected.get(variant) != found.get(variant):
                    differences.append(
                        f"{isa}, {variant}, {draw(seed, index)}\n"
                        f"    before: {expected.get(variant)}\n    after:  {found.get(variant)}"
                    )
    return differences


def compare_choices(builds: tuple[Build, Build], isas: Sequence[str], renames: Renames) -> list[str]:
    """One text for each layer of the suites whose algorithm or kernel differs."""

    def same(before: str, after: str) -> bool:
        return before == after or after in renames.get(before, ())

    answers, differences = _collect_all(builds, isas, "explain", [])
    for isa, (before, after) in answers.items():
        found = {what: names for what, *names in after}
        for what, *expected in before:
            names = found.get(what, ["nothing", ""])
            if not all(same(*pair) for pair in zip(expected, names, strict=True)):
                differences.append(f"{isa}, {what}: {' '.join(expected)} became {' '.join(names)}")
    return differences
