"""What keeps a layer from the FMA peak.

The forward pass on fastconv's direct algorithm, in percent of the peak: for the suite's batch, for one image, whose
data stay in the caches, and both with filters that are packed once. If one image is faster, memory is the limit; if
packed filters are, packing is.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import fastconv
import numpy as np

from bench.command import Command
from bench.layers import NETWORKS, Layer, read_suite
from bench.peak import Peak
from bench.table import Table

VARIANTS = ("the batch", "the batch, packed", "one image", "one image, packed")


def _seconds(call: Callable[[], Any]) -> float:
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def limits(layer: Layer, rounds: int) -> dict[str, float]:
    """Operations per second of each variant, measured in turn; medians."""
    calls: dict[str, tuple[Callable[[], Any], int]] = {}
    random = np.random.default_rng(0)
    for name in VARIANTS:
        part = dataclasses.replace(layer, n=1) if "one" in name else layer
        x = random.standard_normal(part.input_shape, np.float32)
        w: Any = random.standard_normal(part.filter_shape, np.float32)
        if "packed" in name:
            w = fastconv.PackedFilters(w)
        out = np.empty(part.output_shape, np.float32)

        def call(x: Any = x, w: Any = w, out: Any = out) -> Any:
            return fastconv.conv2d(x, w, layer.stride, layer.pad, algorithm="direct", out=out)

        calls[name] = call, part.flops
    samples: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, (call, _) in calls.items():
            samples[name].append(_seconds(call))
    return {name: flops / statistics.median(samples[name]) for name, (_, flops) in calls.items()}


def table(report: dict[str, Any]) -> Table:
    found = Table("forward pass, in percent of the FMA peak", ["layer", *VARIANTS])
    for result in report["results"]:
        found.add(result["layer"], *(f"{result['percent'][name]:.0f} %" for name in VARIANTS))
    return found


def main(arguments: list[str] | None = None) -> int:
    run = Command("limits", __doc__, rounds=25)
    run.add("--suite", choices=NETWORKS, default="resnet50", help="default: %(default)s")
    run.add("--layer", default="", help="only layers whose name contains this")
    run.add_threads()
    options = run.start(arguments)
    fastconv.set_num_threads(options.threads)
    layers = [layer for layer in read_suite(options.suite) if not layer.pool and not layer.depthwise]
    layers = [layer for layer in layers if options.layer in layer.name]
    if not layers:
        run.parser.error(f"no convolution of {options.suite} has '{options.layer}' in its name")
    isa = fastconv.show_config("dicts")["isa"]
    with Peak(isa, "float32", options.threads, run.cpus) as peak:
        most = peak.measure()
    results = []
    for layer in layers:
        percent = {name: 100 * rate / most for name, rate in limits(layer, options.rounds).items()}
        results.append({"suite": layer.suite, "layer": layer.name, "percent": percent})
    report = run.report(peak={"isa": isa, "before": most}, results=results)
    table(report).print(run.console)
    run.console.print(f"FMA peak: {most * 1e-9:.0f} GFLOP/s, {options.threads} threads")
    run.write(report)
    return 0
