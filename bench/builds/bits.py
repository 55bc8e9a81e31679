"""Compares two builds: the bits and errors of random problems, and the chosen algorithms and kernels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.builds.build import Build, BuildError
from bench.builds.problems import draw

# The name of a kernel or algorithm -> its possible names in the second build.
Renames = dict[str, set[str]]


def _collect(build: Build, command: str, arguments: Sequence[object], isa: str) -> tuple[list[Any], str]:
    """All answers of one process, and a text if the process died."""
    found: list[Any] = []
    # Several processes share the CPUs and none is timed, so waiting threads should sleep.
    try:
        found.extend(build.answers(command, *arguments, FASTCONV_ISA=isa, OMP_WAIT_POLICY="passive"))
    except BuildError as error:
        return found, f"{isa}: {error}; answers before that: {len(found)}"
    return found, ""


def _collect_all(
    builds: tuple[Build, Build], isas: Sequence[str], command: str, arguments: Sequence[object]
) -> tuple[dict[str, list[list[Any]]], list[str]]:
    """The answers of both builds for each instruction set, and the processes that died."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        running = {isa: [pool.submit(_collect, build, command, arguments, isa) for build in builds] for isa in isas}
        done = {isa: [future.result() for future in pair] for isa, pair in running.items()}
    answers = {isa: [found for found, _ in pair] for isa, pair in done.items()}
    return answers, [trouble for pair in done.values() for _, trouble in pair if trouble]


def common_isas(builds: tuple[Build, Build]) -> list[str]:
    """The instruction sets that both builds can use."""
    before, after = (build.isas() for build in builds)
    return [isa for isa in before if isa in after]


def compare_bits(builds: tuple[Build, Build], isas: Sequence[str], seed: int, indices: Sequence[int]) -> list[str]:
    """One text for each problem whose results differ, and for each process that died."""
    answers, differences = _collect_all(builds, isas, "bits", [seed, *indices])
    for isa, (before, after) in answers.items():
        results = dict(after)
        for index, expected in before:
            if index in results and results[index] != expected:
                differences.append(f"{isa}, {draw(seed, index)}{_difference(expected, results[index])}")
    return differences


def _difference(before: dict[str, str], after: dict[str, str]) -> str:
    """Lines for the variants of one problem that differ."""
    return "".join(
        f"\n    {variant}: {before.get(variant)} became {after.get(variant)}"
        for variant in dict.fromkeys([*before, *after])
        if before.get(variant) != after.get(variant)
    )


def same_name(before: str, after: str, renames: Renames) -> bool:
    return before == after or after in renames.get(before, ())


def compare_choices(builds: tuple[Build, Build], isas: Sequence[str], renames: Renames) -> list[str]:
    """One text for each layer of the suites whose algorithm or kernel differs, and for each process that died."""
    answers, differences = _collect_all(builds, isas, "explain", [])
    for isa, (before, after) in answers.items():
        found = {what: names for what, *names in after}
        for what, *expected in before:
            names = found.get(what, ["nothing", ""])
            if not all(same_name(*pair, renames) for pair in zip(expected, names, strict=True)):
                (algorithm, kernel), (new_algorithm, new_kernel) = expected, names
                differences.append(f"{isa}, {what}: {algorithm} ({kernel}) became {new_algorithm} ({new_kernel})")
    return differences
