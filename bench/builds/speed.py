"""The speed of two builds, in processes of their own, in turn. Each process is stopped while the other is timed.

The location of a process's memory may change a time by half. So the processes are started several times, and the
result is the median over these pairs of processes.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from dataclasses import dataclass, field

import numpy as np

from bench.builds.build import ROOT, Build
from bench.cases import DIRECTIONS, Case, cases, make_arrays
from bench.layers import EXTRA, read_suite, suites
from bench.processes import Library

IMPORT = "import numpy, time; start = time.perf_counter(); import fastconv; print(time.perf_counter() - start)"
HEADER = f"{'':52} {'before, us':>12} {'after, us':>12} {'ratio':>8}"


@dataclass
class Timing:
    """Median seconds of both builds in each pair of processes, and whether all results had the same bits."""

    what: str
    before: list[float] = field(default_factory=list)
    after: list[float] = field(default_factory=list)
    same: bool = True

    def add(self, before: list[float], after: list[float]) -> None:
        """The samples of one pair of processes."""
        self.before.append(float(np.median(before)))
        self.after.append(float(np.median(after)))

    @property
    def ratios(self) -> list[float]:
        return [before / after for before, after in zip(self.before, self.after, strict=True)]

    @property
    def ratio(self) -> float:
        """Above 1 where the second build is faster."""
        return float(np.median(self.ratios))

    def __str__(self) -> str:
        q1, q3 = np.percentile(self.ratios, [25, 75])
        before, after = (float(np.median(medians)) * 1e6 for medians in (self.before, self.after))
        note = "" if self.same else "  DIFFERENT RESULTS"
        return f"{self.what:52} {before:12.1f} {after:12.1f} {self.ratio:8.3f} ±{(q3 - q1) / 2:.3f}{note}"


def choose(suite: list[str] | None, layer: str, directions: list[str] | None, anchors: bool, dtype: str) -> list[Case]:
    """The cases whose names contain `layer`. With `anchors`, only those of anchors, depthwise layers and pools."""
    layers = [one for name in [*(suite or suites()), EXTRA] for one in read_suite(name)]
    layers = [one for one in layers if layer in f"{one.suite} {one.name}"]
    if anchors:
        layers = [one for one in layers if one.anchor or one.depthwise or one.pool or one.suite == EXTRA]
    return cases(layers, directions or list(DIRECTIONS), dtype, "auto")


def start(build: Build, threads: int, cpus: list[int]) -> Library:
    """Start the process that times a build."""
    environment = {**dict.fromkeys(("OMP_NUM_THREADS", "FASTCONV_NUM_THREADS"), str(threads)), **build.environment}
    return Library(build.name, threads, cpus, "bench.builds.contestant", build.folder.resolve(), environment)


def time_case(case: Case, pair: tuple[Library, Library], rounds: int, timing: Timing) -> None:
    arrays = make_arrays(case)
    results = []
    for library in pair:
        (result,) = library.command("prepare", case, arrays)["results"].values()
        results.append(result.tobytes())
    samples = [[library.command("sample") for library in pair] for _ in range(rounds)]
    for library in pair:
        library.command("forget")
    before, after = (list(column) for column in zip(*samples, strict=True))
    timing.add(before, after)
    timing.same = timing.same and results[0] == results[1]


def time_import(builds: tuple[Build, Build], rounds: int) -> Timing:
    def seconds(build: Build) -> float:
        command = [sys.executable, "-c", IMPORT]
        return float(subprocess.check_output(command, cwd=ROOT, env=build.variables(), text=True))

    for build in builds:  # the first import reads the files into memory
        seconds(build)
    timing = Timing("import fastconv, after NumPy")
    for _ in range(rounds):
        before, after = (seconds(build) for build in builds)
        timing.add([before], [after])
    return timing


def summary(timings: list[Timing]) -> str:
    """The geometric mean of the ratios, and the layer with the smallest."""
    worst = min(timings, key=lambda timing: timing.ratio)
    mean = float(np.exp(np.mean([np.log(timing.ratio) for timing in timings])))
    return f"geometric mean {mean:.3f} of {len(timings)}; worst {worst.ratio:.3f}, {worst.what}"


def compare_speed(
    builds: tuple[Build, Build], chosen: list[Case], processes: int, rounds: int, threads: int, cpus: list[int]
) -> list[Timing]:
    """Time and print all cases, the smallest call and the import. Each pair of processes times everything once."""
    timings = [Timing(f"{case.layer.suite} {case.layer.name}, {case.direction}") for case in chosen]
    tiny = Timing("the smallest call, the best of many")
    for turn in range(processes):
        print(f"pair of processes {turn + 1} of {processes}", file=sys.stderr, flush=True)
        with contextlib.ExitStack() as stack:
            before, after = (stack.enter_context(start(build, threads, cpus)) for build in builds)
            for case, timing in zip(chosen, timings, strict=True):
                time_case(case, (before, after), rounds, timing)
            tiny.add([before.command("tiny")], [after.command("tiny")])
    print(HEADER)
    for timing in (*timings, tiny, time_import(builds, processes * rounds)):
        print(timing)
    return timings
