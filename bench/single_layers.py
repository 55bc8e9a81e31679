"""Single layers, forward and with their gradients: fastconv and its peers in turn, on the same arrays."""

from __future__ import annotations

import argparse
import contextlib
import os
from typing import Any

from rich.progress import track

from bench.cases import DIRECTIONS, Case, cases, make_arrays
from bench.command import Command
from bench.layers import EXTRA, read_suite, suites
from bench.measure import geometric_mean, measure
from bench.oracle import Array, error_in_eps, reference_and_bound
from bench.peak import ISAS, Peak
from bench.processes import Library
from bench.table import Cell, Table, ratio_cell, time_cell

OURS = "fastconv"
PEERS = ("tensorflow", "torch", "jax", "onnxruntime", "ncnn")
# How each library is kept from newer instructions. fastconv's names of ISAs -> environment.
RESTRICTIONS: dict[str, dict[str, str]] = {
    "avx2": {
        "FASTCONV_ISA": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",  # TensorFlow's and PyTorch's oneDNN
        "ATEN_CPU_CAPABILITY": "avx2",  # PyTorch's own kernels
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",  # PyTorch's matrix products
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",  # JAX
    },
    "avx512": {"FASTCONV_ISA": "avx512"},
    "baseline": {"FASTCONV_ISA": "baseline"},
}
CANNOT_RESTRICT = {
    "avx2": "ONNX Runtime, ncnn and the precompiled parts of TensorFlow and JAX (Eigen) may use newer instructions",
    "baseline": "only fastconv is restricted to the baseline: the peers use all that the CPU has",
}


def command() -> Command:
    """All options."""
    result = Command("layers", __doc__)
    result.add_choices("--suite", suites())
    result.add_choices("--direction", DIRECTIONS)
    result.add("--peer", choices=[*PEERS, "none"], action="append", help="may be repeated; default: all installed")
    result.add("--layer", default="", help="only layers whose 'suite name' contains this")
    result.add("--anchors", action="store_true", help="only the layers marked 'anchor'")
    result.add_threads()
    result.add("--isa", choices=sorted(RESTRICTIONS), help="restrict all contestants that have a switch for it")
    result.add("--dtype", choices=("float32", "float64"), default="float32")
    result.add("--algorithm", default="auto", help="of fastconv (default: %(default)s)")
    return result


def select(options: argparse.Namespace) -> list[Case]:
    """The cases that the options ask for."""
    layers = [layer for name in [*(options.suite or suites()), EXTRA] for layer in read_suite(name)]
    layers = [layer for layer in layers if options.layer in f"{layer.suite} {layer.name}"]
    if options.anchors:
        layers = [layer for layer in layers if layer.anchor or layer.suite == EXTRA]
    return cases(layers, options.direction or list(DIRECTIONS), options.dtype, options.algorithm)


def measure_case(case: Case, libraries: list[Library], rounds: int) -> dict[str, Any]:
    """One result of the JSON file; see README.md for its fields."""
    arrays = make_arrays(case)
    expected, bound = reference_and_bound(case.layer, case.direction, arrays)

    def error(name: str, result: Array) -> float:
        return error_in_eps(result, expected, bound)

    layer = case.layer
    found = measure(case, arrays, error, libraries, rounds)
    for name, entry in found["contestants"].items():
        microseconds = entry["median_us"]
        entry["direct"] = multiplies_directly(case, name)
        entry["gflops"] = layer.flops / microseconds * 1e-3
        entry["gigabytes_per_s"] = case.bytes_moved / microseconds * 1e-3
    return {
        "suite": layer.suite,
        "layer": layer.name,
        "sizes": str(layer),
        "direction": case.direction,
        "anchor": layer.anchor,
        "gflop": layer.flops * 1e-9,
        "least_gflop": layer.least_flops * 1e-9,
        **found,
        **ratios(found["contestants"]),
    }


def multiplies_directly(case: Case, name: str) -> bool:
    """Whether a contestant does all multiplications of the direct algorithm: only ours and ncnn know Winograd's."""
    if case.layer.multiplies_directly or name not in (OURS, "ncnn"):
        return True
    return name == OURS and case.algorithm == "direct"


def ratios(contestants: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The fastest framework and the fastest peer, and their times over ours; None if one is missing."""
    peers = {name: entry["median_us"] for name, entry in contestants.items() if name != OURS}
    frameworks = {name: time for name, time in peers.items() if contestants[name]["framework"]}
    found: dict[str, Any] = {}
    for key, group in (("framework", frameworks), ("all", peers)):
        best = min(group, key=lambda name: group[name]) if group else None
        known = best is not None and OURS in contestants
        found[f"best_{key}"] = best
        found[f"ratio_{key}"] = group[best] / contestants[OURS]["median_us"] if best is not None and known else None
    return found


def geometric_means(results: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of the ratios of each direction: over all layers of the run, and over those marked `anchor`."""
    found: dict[str, dict[str, Any]] = {}
    for direction in dict.fromkeys(result["direction"] for result in results):
        chosen = [result for result in results if result["direction"] == direction and result["suite"] != EXTRA]
        for label, group in (("", chosen), (" (anchors)", [result for result in chosen if result["anchor"]])):
            entry: dict[str, Any] = {}
            for key in ("framework", "all"):
                values = [result[f"ratio_{key}"] for result in group if result[f"ratio_{key}"] is not None]
                entry[key] = geometric_mean(values)
                entry[f"worst_{key}"] = min(values, default=None)
                entry[f"layers_{key}"] = len(values)
            if group:
                found[direction + label] = entry
    return found


def add_percent_of_peak(results: list[dict[str, Any]], peak: float) -> list[str]:
    """Set ``percent_of_peak``, and list the direct kernels above 105 % of `peak`, which make the run void.

    For that limit, multiplications that meet padding do not count: a kernel may leave them out.
    """
    void = []
    for result in results:
        for name, entry in result["contestants"].items():
            percent = 1e11 * entry["gflops"] / peak if result["gflop"] else None
            entry["percent_of_peak"] = percent
            if percent is None or not entry["direct"]:
                continue
            percent *= result["least_gflop"] / result["gflop"]
            if percent > 105:
                void.append(f"{name}, {result['suite']} {result['layer']} {result['direction']}: {percent:.0f} %")
    return void


def means_table(report: dict[str, Any]) -> Table:
    table = Table("geometric means", ["geometric mean against", "best framework", "worst layer", "best of all"])
    for direction, entry in report["geometric_means"].items():
        table.add(direction, *(ratio_cell(entry[key]) for key in ("framework", "worst_framework", "all")))
    return table


def direction_table(report: dict[str, Any], direction: str) -> Table:
    """The results of a direction: our times, those of the best framework and of the best of all, and the ratios."""
    results = [result for result in report["results"] if result["direction"] == direction]
    head = ["layer (* anchor)", "fastconv us", "best framework", "us", "ratio", "best of all", "us", "ratio", "of peak"]
    table = Table(f"{direction}: median us ±(IQR/median) of {report['options']['rounds']} rounds", head)
    for result in results:
        contestants = result["contestants"]
        ours = contestants.get(OURS)
        name = f"{result['suite']} {result['layer']}{' *' if result['anchor'] else ''}: {result['sizes']}"
        cells: list[Cell | str] = [name, time_cell(ours, "us")]
        for key in ("framework", "all"):
            best = result[f"best_{key}"]
            cells += [_name(best, contestants), time_cell(contestants.get(best), "us")]
            cells.append(ratio_cell(result[f"ratio_{key}"]))
        table.add(*cells, _rate(ours))
    return table


def _name(best: str | None, contestants: dict[str, Any]) -> str:
    """The peer, and for PyTorch the memory format."""
    if best is None:
        return "-"
    return f"{best} {contestants[best]['variant']}" if best == "torch" else best


def _rate(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "-"
    percent = entry["percent_of_peak"]
    return f"{entry['gigabytes_per_s']:.1f} GB/s" if percent is None else f"{percent:.0f} %"


def tables(report: dict[str, Any]) -> list[Table]:
    directions = dict.fromkeys(result["direction"] for result in report["results"])
    return [*(direction_table(report, direction) for direction in directions), means_table(report)]


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 if all went well, 1 if a result was wrong or the run is void."""
    run = command()
    options = run.start(arguments)
    chosen = select(options)
    if not chosen:
        run.parser.error("no layer fits these options")
    os.environ.update(RESTRICTIONS.get(options.isa, {}))  # inherited by the libraries' processes
    if options.isa in CANNOT_RESTRICT:
        run.warnings.append(CANNOT_RESTRICT[options.isa])
        run.warn(CANNOT_RESTRICT[options.isa])
    wanted = [name for name in options.peer or PEERS if name != "none"]
    with contextlib.ExitStack() as stack:
        libraries = run.libraries(stack, [OURS, *wanted])
        if OURS in run.missing:
            return 1
        isa = libraries[0].version.partition("(")[2].rstrip(")")
        peak = stack.enter_context(Peak(isa if isa in ISAS else "baseline", options.dtype, options.threads, run.cpus))
        before = peak.measure()
        results = [
            measure_case(case, libraries, options.rounds)
            for case in track(chosen, "measuring", console=run.progress, transient=True)
        ]
        after = peak.measure()
    if abs(after / before - 1) > 0.05:
        run.warnings.append(f"the FMA peak changed by {after / before - 1:+.0%} during the run")
    report = run.report(
        peak={"isa": isa, "before": before, "after": after},
        void=add_percent_of_peak(results, max(before, after)),
        geometric_means=geometric_means(results),
        results=results,
    )
    for table in tables(report):
        table.print(run.console)
    _print_remarks(run, report)
    run.write(report)
    return 1 if any(result["wrong"] for result in results) or report["void"] else 0


def _print_remarks(run: Command, report: dict[str, Any]) -> None:
    """Contestants that were not measured, the peak, and all that makes the figures doubtful."""
    for result in report["results"]:
        for name, reason in result["refused"].items():
            if name in result["wrong"] or reason != "inference only":
                where = f"{result['suite']} {result['layer']} {result['direction']}"
                run.console.print(f"not measured: {name}, {where}: {reason}", markup=False)
    peak = report["peak"]
    run.console.print(f"FMA peak: {peak['before'] * 1e-9:.0f} GFLOP/s before, {peak['after'] * 1e-9:.0f} after")
    for warning in report["warnings"]:
        run.warn(warning)
    for line in report["void"]:
        run.console.print(f"VOID, above 105 % of the peak: {line}", style="bold red")
