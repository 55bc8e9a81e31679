"""Shows what keeps a layer from the FMA peak.

The forward pass of fastconv's direct algorithm is measured in percent of the peak, on the suite's batch and on one
image, whose data stay in the caches. Both are measured with filters packed in every call and with filters packed once.
If one image is faster, memory is the limit. If packed filters are faster, packing is the limit.

With --batch-norm, batch normalisation and ReLU of 8x56x56x256 are measured instead, forward and backward in training:
Keras's layers, fastconv's, PyTorch's, and fastconv's NumPy functions. The functions are compared with the time in which
the memory moves the tensor eight times: three times forward (read twice, written once), five times backward (input and
gradient read twice each, one gradient written).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import fastconv
import numpy as np

from bench.command import Command
from bench.layers import NETWORKS, Layer, find_layers
from bench.measure import in_turn, not_measured, ratio
from bench.oracle import Array
from bench.peak import fma_peak
from bench.processes import quiet
from bench.table import Table, ratio_cell, time_cell
from bench.tasks import OTHER_TASK
from bench.training import measure_task

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


LAYER = (8, 56, 56, 256)
TRAVERSALS = 8
CONTESTANTS = ("stock", "fused", "torch", "fastconv")
NORM_RATIOS = (("stock", "fused"), ("torch", "fused"), ("fastconv", "traversals"))


def apart_in_norm(found: Array, expected: Array) -> float:
    """The norm of the difference, relative to that of the expected result; infinite if the shapes differ."""
    if found.shape != expected.shape:
        return float("inf")
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def batch_norm(run: Command, bandwidth: float) -> dict[str, Any]:
    """The result of --batch-norm."""
    with quiet():  # TensorFlow logs while it loads
        from bench.applications.networks import BATCH_NORM, build, describe
        from bench.applications.task import Application

        model = build(BATCH_NORM, LAYER[1])
    random = np.random.default_rng(0)
    x = random.standard_normal(LAYER, np.float32) + 1
    # The terms of the gradient that come from the statistics count only if the gradient depends on the input.
    arrays = {"x": x, "y": random.standard_normal(LAYER, np.float32) + x}
    arrays |= {f"w{number}": weight for number, weight in enumerate(model.get_weights())}
    task = Application("gradients", BATCH_NORM, LAYER[1], LAYER[0], describe(model))
    with contextlib.ExitStack() as stack:
        libraries = run.libraries(stack, CONTESTANTS)
        result = measure_task(task, arrays, libraries, run.options.rounds, apart_in_norm)
    return {**result, "traversals": {"median_us": TRAVERSALS * x.nbytes / bandwidth * 1e6}}


def batch_norm_table(result: dict[str, Any]) -> Table:
    times = {**result["contestants"], "traversals": result["traversals"]}
    pairs = [pair for pair in NORM_RATIOS if set(pair) <= set(times)]
    sizes = "x".join(map(str, LAYER))
    found = Table(f"{result['network']} of {sizes}, forward and backward", [*times, *map(" / ".join, pairs)], left=0)
    cells = [ratio_cell(ratio(times, *pair), "traversals" not in pair) for pair in pairs]
    found.add(*(f"{time_cell(entry).text} ms" for entry in times.values()), *cells)
    return found


def main(arguments: list[str] | None = None) -> int:
    run = Command("limits", __doc__, "--rounds", "--layer", "--threads")
    run.add("--suite", "resnet50", choices=NETWORKS)
    run.add("--batch-norm", action="store_true", help="only measure batch normalisation, against its memory traffic")
    options = run.start(arguments)
    fastconv.set_num_threads(options.threads)
    layers = [one for one in find_layers([options.suite], options.layer) if not one.pool and not one.depthwise]
    if not layers:
        run.parser.error(f"no convolution of {options.suite} has '{options.layer}' in its name")
    isa = fastconv.show_config("dicts")["isa"]
    with fma_peak(isa, "float32", run.cpus) as peak:
        most, bandwidth = peak(), peak("bandwidth")
    remarks = [
        f"FMA peak: {most * 1e-9:.0f} GFLOP/s, {options.threads} threads",
        f"memory: {bandwidth * 1e-9:.1f} GB/s, three streams read and one written by {options.threads} threads",
    ]
    rates = {"isa": isa, "before": most, "bandwidth": bandwidth}
    if options.batch_norm:
        result = batch_norm(run, bandwidth)
        report = run.report(peak=rates, results=[result])
        run.finish(report, [batch_norm_table(result)], *remarks, *not_measured([result], OTHER_TASK))
        return 1 if result["wrong"] else 0
    results = []
    for layer in layers:
        percent = {name: 100 * rate / most for name, rate in limits(layer, options.rounds).items()}
        results.append({"suite": layer.suite, "layer": layer.name, "percent": percent})
    report = run.report(peak=rates, results=results)
    run.finish(report, [table(report)], *remarks)
    return 0
