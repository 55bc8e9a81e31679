"""Single layers as a server runs them, filters packed once: fastconv, ONNX Runtime, OpenVINO and ncnn in turn."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import Any

from bench.command import Command
from bench.measure import measure, not_measured
from bench.oracle import Array, error_in_eps
from bench.processes import Library
from bench.serving.layers import ServedLayer, find_layers, graph_of, make_arrays, read_layers, result_and_bound
from bench.serving.task import OTHER_FORM, OURS, Served, best_of, means_of, write_network
from bench.single_layers import RESTRICTIONS
from bench.table import Column, Table, ratio_cell, time_cell

PEERS = ("onnxruntime", "openvino", "ncnn")
BATCHES = (1, 8)
NETWORKS = tuple(dict.fromkeys(layer.network for layer in read_layers()))
NOT_RESTRICTED = "ONNX Runtime and ncnn have no switch for the instruction set: they use all that the CPU has"


def measure_layer(layer: ServedLayer, batch: int, libraries: list[Library], rounds: int) -> dict[str, Any]:
    """One result of the JSON file."""
    arrays = make_arrays(layer, batch)
    expected, bound = result_and_bound(layer, arrays)

    def error(name: str, result: Array) -> float:
        return error_in_eps(result, expected, bound)

    with tempfile.TemporaryDirectory() as folder:
        task = Served(layer.network, batch, folder, layer)
        write_network(task, graph_of(layer, arrays))
        found = measure(task, arrays, error, libraries, rounds)
    flops = layer.flops(batch)
    for entry in found["contestants"].values():
        entry["gflops"] = flops / entry["median_us"] * 1e-3
    return {
        "task": str(task),
        "network": layer.network,
        "layer": layer.name,
        "sizes": str(layer),
        "batch": batch,
        "gflop": flops * 1e-9,
        **found,
        **best_of(found["contestants"], PEERS),
    }


def layers_table(report: dict[str, Any], batch: int) -> Table:
    """All times, the ratio of the fastest peer to ours, and ours in percent of the peak."""
    peak = max(report["peak"]["before"], report["peak"]["after"])

    def time(name: str) -> Column:
        return f"{name} us", lambda result: time_cell(result["contestants"].get(name), "us")

    def of_peak(result: dict[str, Any]) -> str:
        ours = result["contestants"].get(OURS)
        return f"{1e11 * ours['gflops'] / peak:.0f} %" if ours else "-"

    columns: list[Column] = [
        ("layer", lambda result: f"{result['network']} {result['layer']}: {result['sizes']}"),
        *map(time, (OURS, *PEERS)),
        ("best peer", lambda result: result["best"] or "-"),
        ("ratio", lambda result: ratio_cell(result["ratio"])),
        ("of peak", of_peak),
    ]
    results = [result for result in report["results"] if result["batch"] == batch]
    return Table.of(f"batch {batch}: median us ±(IQR/median), ratio of the best peer to fastconv", results, columns)


def means_table(means: dict[str, dict[str, Any]]) -> Table:
    columns: list[Column] = [
        ("ratios of", lambda item: item[0]),
        ("count", lambda item: item[1]["count"]),
        ("geometric mean", lambda item: ratio_cell(item[1]["mean"])),
        ("least", lambda item: ratio_cell(item[1]["least"])),
        ("below 0.9", lambda item: item[1]["below"]),
    ]
    return Table.of("geometric means", means.items(), columns)


def geometric_means(results: list[dict[str, Any]], batches: list[int]) -> dict[str, dict[str, Any]]:
    """The mean ratios of each network and of all networks, at each batch size. The last is the mean of everything."""
    groups = {}
    for network in (*dict.fromkeys(result["network"] for result in results), None):
        for batch in (*batches, None) if network is None else batches:
            chosen = [r for r in results if network in (None, r["network"]) and batch in (None, r["batch"])]
            groups[f"{network or 'all'}{f', batch {batch}' if batch else ''}"] = means_of(chosen, "ratio")
    return groups


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 1 if a result was wrong or fastconv was not measured, else 0."""
    run = Command("serving", __doc__, "--rounds", "--threads", "--layer")
    run.add_several("--network", choices=NETWORKS)
    run.add_several("--batch", type=int)
    run.add_several("--peer", choices=[*PEERS, "none"])
    run.add("--isa", choices=sorted(RESTRICTIONS), help="restrict fastconv and, to avx2, OpenVINO")
    options = run.start(arguments)
    layers = find_layers(options.network or NETWORKS, options.layer)
    if not layers:
        run.parser.error("no layer fits --network and --layer")
    if min(options.batch or [1]) < 1:
        run.parser.error("--batch must be at least 1")
    os.environ.update(RESTRICTIONS.get(options.isa, {}))  # inherited by the libraries' processes
    if options.isa:
        run.warn(NOT_RESTRICTED)
    batches = options.batch or list(BATCHES)
    with contextlib.ExitStack() as stack:
        libraries = run.libraries(stack, [OURS, *(name for name in options.peer or PEERS if name != "none")])
        if OURS in run.missing:
            return 1
        isa, peak = run.peak(stack)
        before = peak()
        tasks = run.track([(layer, batch) for batch in batches for layer in layers])
        results = [measure_layer(layer, batch, libraries, options.rounds) for layer, batch in tasks]
        after = peak()
    means = geometric_means(results, batches)
    report = run.report(peak=run.peaks(isa, before, after), geometric_means=means, results=results)
    tables = [*(layers_table(report, batch) for batch in batches), means_table(means)]
    peaks = f"FMA peak: {before * 1e-9:.0f} GFLOP/s before, {after * 1e-9:.0f} after"
    run.finish(report, tables, *not_measured(results, OTHER_FORM), peaks)
    return 1 if any(OURS not in result["contestants"] or result["wrong"] for result in results) else 0
