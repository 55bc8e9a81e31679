"""Counts how well many cores could share a layer: a bound on parallel efficiency, from the plan's tasks.

Nothing is timed. The plan knows its phases, which run one after the other, and what each task multiplies and moves
(packs, transforms, copies or adds up). A phase takes as long as its tasks take if each thread that is free takes the
next one. The bound is the work of the plan for one thread, over threads times the length of all phases. It is below 1
where tasks are too few or uneven, where they repeat work, and where the calling thread works alone. Memory, caches and
the cost of waking threads are left out.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import heapq
import os
from collections.abc import Sequence
from typing import Any

from bench.cases import CONVOLUTION
from bench.command import Command, positive
from bench.layers import FORWARD_ONLY, Layer, find_layers, suites
from bench.table import Cell, Table

CORES = (4, 16, 64)
BATCHES = (1, 8)
LARGE = 20e6  # multiplications of a layer that many cores should share well
# A value that is moved takes as long as this many multiplications. Two vectors are multiplied per cycle; a load, a
# store and a few additions or permutations for each vector take about four cycles.
MOVED = 8


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of a call that ends before the next starts: the lengths of its tasks, and whether threads share them."""

    name: str
    parallel: bool
    lengths: Sequence[float]

    def length(self, threads: int) -> float:
        """How long it takes if each free thread takes the next task."""
        if not self.parallel or threads == 1:
            return sum(self.lengths)
        free = [0.0] * threads  # when each thread has finished its task
        for length in self.lengths:
            heapq.heapreplace(free, free[0] + length)
        return max(free)


def plan(layer: Layer, direction: str, dtype: str, threads: int) -> list[Phase]:
    """The phases of a layer's plan for a number of threads."""
    import fastconv
    from fastconv import _core

    before = fastconv.get_num_threads()
    fastconv.set_num_threads(threads)
    try:
        found = _core.count_tasks(
            layer.input_shape, layer.filter_shape, layer.stride, layer.pad, "NHWC", 1, "auto", dtype == "float64",
            direction.replace("-", " "), layer.depthwise,
        )  # fmt: skip
    finally:
        fastconv.set_num_threads(before)
    return [
        Phase(name, parallel, [multiplications + MOVED * moved for multiplications, moved in costs])
        for name, _, parallel, costs in found
    ]


def bound(layer: Layer, direction: str, dtype: str, cores: int) -> float:
    """The most that the parallel efficiency can be."""
    work = sum(phase.length(1) for phase in plan(layer, direction, dtype, 1))
    return work / cores / sum(phase.length(cores) for phase in plan(layer, direction, dtype, cores))


def summary(results: list[dict[str, Any]], direction: str, cores: str) -> dict[str, Any]:
    """The mean over all layers and batches, and the worst of the large layers."""
    chosen = [result for result in results if result["direction"] == direction]
    worst = min((r for r in chosen if r["multiplications"] > LARGE), key=lambda r: r["bound"][cores], default=None)
    return {
        "mean": sum(result["bound"][cores] for result in chosen) / len(chosen),
        "worst": worst and worst["bound"][cores],
        "worst_layer": worst and f"{worst['layer']}, batch {worst['batch']}",
    }


def tables(report: dict[str, Any]) -> list[Table]:
    """A table for each direction, and the means."""
    cores = [str(number) for number in report["options"]["cores"]]
    means = Table("parallel efficiency: at most", ["direction", *(f"mean, {n}" for n in cores), "worst large layer"])
    found = []
    for direction, entry in report["means"].items():
        table = Table(f"{direction}: most parallel efficiency", ["layer", "batch", "million multiplications", *cores])
        for result in report["results"]:
            if result["direction"] == direction:
                bounds = (Cell(f"{result['bound'][number]:.2f}") for number in cores)
                table.add(result["layer"], result["batch"], f"{result['multiplications'] / 1e6:.3g}", *bounds)
        found.append(table)
        worst = (f"{entry[n]['worst']:.2f} with {n}: {entry[n]['worst_layer']}" for n in cores if entry[n]["worst"])
        means.add(direction, *(f"{entry[number]['mean']:.3f}" for number in cores), "\n".join(worst))
    return [*found, means]


def command() -> Command:
    """All options."""
    result = Command("cores", __doc__, "--layer", timed=False)
    result.add_several("--suite", choices=suites())
    result.add_several("--direction", choices=CONVOLUTION)
    result.add_several("--batch", type=positive)
    result.add_several("--cores", type=positive)
    result.add("--isa", choices=("avx2", "avx512", "baseline", "neon"), help="count the plans for this instruction set")
    result.add("--dtype", "float32", choices=("float32", "float64"))
    result.parser.formatter_class = argparse.RawDescriptionHelpFormatter
    return result


def main(arguments: list[str] | None = None) -> int:
    """Run; 0."""
    run = command()
    options = run.start(arguments)
    options.cores = options.cores or list(CORES)
    if options.isa:
        os.environ["FASTCONV_ISA"] = options.isa  # read when fastconv is imported
    layers = [layer for layer in find_layers(options.suite or suites(), options.layer) if not layer.pool]
    if not layers:
        run.parser.error("no convolution fits these options")
    results = []
    for batch in options.batch or BATCHES:
        for layer in (dataclasses.replace(layer, n=batch) for layer in layers):
            for direction in options.direction or CONVOLUTION:
                if layer.suite in FORWARD_ONLY and direction != "forward":
                    continue
                count = functools.partial(bound, layer, direction, options.dtype)
                results.append(
                    {
                        "layer": f"{layer.suite} {layer.name}",
                        "sizes": str(layer),
                        "batch": batch,
                        "direction": direction,
                        "multiplications": layer.flops / 2,
                        "bound": {str(cores): count(cores) for cores in options.cores},
                    }
                )
    directions = dict.fromkeys(result["direction"] for result in results)
    means = {
        direction: {str(cores): summary(results, direction, str(cores)) for cores in options.cores}
        for direction in directions
    }
    report = run.report(means=means, results=results)
    run.finish(report, tables(report))
    return 0
