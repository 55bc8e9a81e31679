"""How fast one build is beside another: both in processes of their own, in turn, each stopped in the other's turn."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import dataclass

import numpy as np

from bench.builds.build import ROOT, Build
from bench.cases import DIRECTIONS, Case, cases, make_arrays
from bench.layers import EXTRA, read_suite, suites
from bench.measure import OURS, shared_arrays
from bench.workers import Library

IMPORT = "import numpy, time; start = time.perf_counter(); import fastconv; print(time.perf_counter() - start)"


@dataclass(frozen=True)
class Timing:
    """Seconds of both builds, round by round, and whether their results had the same bits."""

    what: str
    before: list[float]
    after: list[float]
    same: bool = True

    @property
    def ratios(self) -> list[float]:
        return [before / after for before, after in zip(self.before, self.after, strict=True)]

    @property
    def ratio(self) -> float:
        """Above 1 where the second build is faster."""
        return float(np.median(self.ratios))

    def __str__(self) -> str:
        q1, q3 = np.percentile(self.ratios, [25, 75])
        before, after = (float(np.median(samples)) * 1e6 for samples in (self.before, self.after))
        note = "" if self.same else "  DIFFERENT RESULTS"
        return f"{self.what:52} {before:12.1f} {after:12.1f} {self.ratio:8.3f} ±{(q3 - q1) / 2:.3f}{note}"


HEADER = f"{'':52} {'before, us':>12} {'after, us':>12} {'ratio':>8}"


def choose(suite: list[str] | None, layer: str, directions: list[str] | None, anchors: bool, dtype: str) -> list[Case]:
    """All cases of the suites in which `layer` occurs; of `anchors`, those marked so, depthwise layers and pools."""
    layers = [one for name in [*(suite or suites()), EXTRA] for one in read_suite(name)]
    layers = [one for one in layers if layer in f"{one.suite} {one.name}"]
    if anchors:
        layers = [one for one in layers if one.anchor or one.depthwise or one.pool or one.suite == EXTRA]
    return cases(layers, directions or list(DIRECTIONS), dtype, "auto")


def start(build: Build, threads: int, cpus: list[int]) -> Library:
    """The process that times a build."""
    environment = {**dict.fromkeys(("OMP_NUM_THREADS", "FASTCONV_NUM_THREADS"), str(threads)), **build.environment}
    return Library(build.name, threads, cpus, "bench.builds.contestant", build.folder.resolve(), environment)


def time_case(case: Case, libraries: tuple[Library, Library], rounds: int) -> Timing:
    results: list[bytes] = []
    samples: tuple[list[float], list[float]] = [], []
    with shared_arrays(case, make_arrays(case)) as (handles, result):
        for library in libraries:
            result.array.fill(np.nan)
            library.command("prepare", OURS, case, handles, result.handle)
            results.append(result.array.tobytes())
        for _ in range(rounds):
            for library, seconds in zip(libraries, samples, strict=True):
                seconds.append(library.command("sample", OURS))
        for library in libraries:
            library.command("forget")
    what = f"{case.layer.suite} {case.layer.name}, {case.direction}"
    return Timing(what, *samples, same=results[0] == results[1])


def time_tiny_call(libraries: tuple[Library, Library], rounds: int) -> Timing:
    samples = [[library.command("tiny") for library in libraries] for _ in range(rounds)]
    before, after = (list(column) for column in zip(*samples, strict=True))
    return Timing("the smallest call, the best of many", before, after)


def time_import(builds: tuple[Build, Build], rounds: int) -> Timing:
    def seconds(build: Build) -> float:
        command = [sys.executable, "-c", IMPORT]
        return float(subprocess.check_output(command, cwd=ROOT, env=build.variables(), text=True))

    for build in builds:  # whose files are then in memory
        seconds(build)
    samples = [[seconds(build) for build in builds] for _ in range(rounds)]
    before, after = (list(column) for column in zip(*samples, strict=True))
    return Timing("import fastconv, after NumPy", before, after)


def summary(timings: list[Timing]) -> str:
    """The geometric mean of the ratios, and the layer that lost most."""
    worst = min(timings, key=lambda timing: timing.ratio)
    mean = float(np.exp(np.mean([np.log(timing.ratio) for timing in timings])))
    return f"geometric mean {mean:.3f} of {len(timings)}; worst {worst.ratio:.3f}, {worst.what}"


def compare_speed(
    builds: tuple[Build, Build], chosen: list[Case], rounds: int, threads: int, cpus: list[int]
) -> list[Timing]:
    """Time all cases, the smallest call and the import, and print each when it is done."""
    print(HEADER)
    timings = []
    with contextlib.ExitStack() as stack:
        before, after = (stack.enter_context(start(build, threads, cpus)) for build in builds)
        for case in chosen:
            timings.append(time_case(case, (before, after), rounds))
            print(timings[-1], flush=True)
        print(time_tiny_call((before, after), rounds), flush=True)
    print(time_import(builds, rounds))
    return timings
