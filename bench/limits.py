"""Shows what keeps a layer from the FMA peak.

The forward pass of fastconv's direct algorithm is measured in percent of the peak, on the suite's batch and on one
image, whose data stay in the caches. Both are measured with filters packed in every call and with filters packed once.
If one image is faster, memory is the limit. If packed filters are faster, packing is the limit.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import fastconv
import numpy as np

from bench.command import Command
from bench.layers import NETWORKS, Layer, find_layers
from bench.measure import in_turn
from bench.peak import fma_peak
from bench.table import Table

VARIANTS = ("the batch", "the batch, packed", "one image", "one image, packed")


def limits(layer: Layer, rounds: int) -> dict[str, float]:
    """Operations per second of each variant, measured in turn; medians."""
    calls: dict[str, Callable[[], Any]] = {}
    flops = {}
    random = np.random.default_rng(0)
    for name in VARIANTS:
        part = dataclasses.replace(layer, n=1) if "one" in name else layer
        x = random.standard_normal(part.input_shape, np.float32)
        w: Any = random.standard_normal(part.filter_shape, np.float32)
        if "packed" in name:
            w = fastconv.PackedFilters(w)
        direct = functools.partial(fastconv.conv2d, algorithm="direct", out=np.empty(part.output_shape, np.float32))
        # Two calls. The time of the first is not used: it brings the data of this variant into the caches.
        calls[f"{name}, before"] = calls[name] = functools.partial(direct, x, w, layer.stride, layer.pad)
        flops[name] = part.flops
    times = in_turn(calls, rounds)
    return {name: 1e6 * flops[name] / times[name]["median_us"] for name in VARIANTS}


def table(report: dict[str, Any]) -> Table:
    found = Table("forward pass, in percent of the FMA peak", ["layer", *VARIANTS])
    for result in report["results"]:
        found.add(result["layer"], *(f"{result['percent'][name]:.0f} %" for name in VARIANTS))
    return found


def main(arguments: list[str] | None = None) -> int:
    run = Command("limits", __doc__, "--rounds", "--layer", "--threads")
    run.add("--suite", "resnet50", choices=NETWORKS)
    options = run.start(arguments)
    fastconv.set_num_threads(options.threads)
    layers = [one for one in find_layers([options.suite], options.layer) if not one.pool and not one.depthwise]
    if not layers:
        run.parser.error(f"no convolution of {options.suite} has '{options.layer}' in its name")
    isa = fastconv.show_config("dicts")["isa"]
    with fma_peak(isa, "float32", run.cpus) as peak:
        most = peak()
    results = []
    for layer in layers:
        percent = {name: 100 * rate / most for name, rate in limits(layer, options.rounds).items()}
        results.append({"suite": layer.suite, "layer": layer.name, "percent": percent})
    report = run.report(peak={"isa": isa, "before": most}, results=results)
    run.finish(report, [table(report)], f"FMA peak: {most * 1e-9:.0f} GFLOP/s, {options.threads} threads")
    return 0
