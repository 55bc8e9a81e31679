"""What keeps a layer from the FMA peak: ``python -m bench.limits --help``.

The forward pass on fastconv's direct algorithm, in percent of the peak: for the suite's batch; for one image, whose
data stay in the caches, where more means that memory is the limit; and with filters that were packed before, where
more means that packing is.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import fastconv
import numpy as np
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.layers import NETWORKS, Layer, read_suite
from bench.peak import Peak

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


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.limits", description=(__doc__ or "").partition("\n\n")[2])
    parser.add_argument("--suite", choices=NETWORKS, default="resnet50", help="default: %(default)s")
    parser.add_argument("--layer", default="", help="only layers whose name contains this")
    parser.add_argument("--rounds", type=int, default=25, help="default: %(default)s")
    options = parser.parse_args(arguments)
    layers = [layer for layer in read_suite(options.suite) if not layer.pool and not layer.depthwise]
    layers = [layer for layer in layers if options.layer in layer.name]
    if not layers:
        parser.error(f"no convolution of {options.suite} has '{options.layer}' in its name")
    config = fastconv.show_config("dicts")
    peak = Peak(config["isa"], "float32", config["threads"], sorted(os.sched_getaffinity(0)))
    try:
        most = peak.measure()
    finally:
        peak.close()
    table = Table("layer", *VARIANTS, title=f"percent of {most / 1e9:.0f} GFLOP/s, {config['threads']} threads")
    warnings = machine.idle_warnings()
    for layer in layers:
        found = limits(layer, options.rounds)
        table.add_row(layer.name, *(f"{found[name] / most:.0%}" for name in VARIANTS))
    console = Console()
    console.print(table)
    for warning in warnings:
        console.print(f"warning: {warning}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
