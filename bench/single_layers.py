"""Single layers, forward and with their gradients: fastconv and its peers in turn, on the same arrays."""

from __future__ import annotations

import argparse
import contextlib
import os
from typing import Any

from bench.cases import DIRECTIONS, Case, cases, make_arrays
from bench.command import Command
from bench.contestants import INFERENCE_ONLY, SINGLE_CHANNELS
from bench.layers import EXTRA, FORWARD_ONLY, IMAGES, find_layers, suites
from bench.measure import geometric_mean, measure, not_measured
from bench.oracle import Array, error_in_eps, reference_and_bound
from bench.processes import Library
from bench.table import Table, ratio_cell, time_cell

OURS = "fastconv"
PEERS = ("tensorflow", "torch", "jax", "onnxruntime", "ncnn", "scipy", "opencv")
# fastconv's name of an ISA -> the environment variables that keep each library from newer instructions.
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
    "avx2": "ONNX Runtime, ncnn, SciPy, OpenCV and the precompiled parts of TensorFlow and JAX (Eigen) may use newer "
    "instructions",
    "baseline": "only fastconv is restricted to the baseline: the peers use all that the CPU has",
}
GROUPS = ("framework", "all")  # the fastest peer is chosen from the frameworks, and from all peers


def command() -> Command:
    """All options."""
    result = Command("layers", __doc__, "--rounds", "--layer", "--threads")
    result.add_several("--suite", choices=suites())
    result.add_several("--direction", choices=DIRECTIONS)
    result.add_several("--peer", choices=[*PEERS, "none"])
    result.add("--anchors", action="store_true", help="only the layers marked 'anchor'")
    result.add("--isa", choices=sorted(RESTRICTIONS), help="restrict all contestants that have a switch for it")
    result.add("--dtype", "float32", choices=("float32", "float64"))
    result.add("--algorithm", "auto", "fastconv's algorithm")
    return result


def select(options: argparse.Namespace) -> list[Case]:
    """The cases that the options ask for."""
    layers = find_layers([*(options.suite or suites()), EXTRA], options.layer)
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
        "task": str(case),
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
    """Whether a contestant does all multiplications of the direct algorithm.

    fastconv and ncnn know Winograd's algorithm. SciPy and OpenCV multiply Fourier transforms if that is faster.
    """
    if name in ("scipy", "opencv"):
        return False
    if case.layer.multiplies_directly or name not in (OURS, "ncnn"):
        return True
    return name == OURS and case.algorithm == "direct"


def ratios(contestants: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The fastest framework and the fastest peer, and their times over ours; None if one is missing."""
    times = {name: entry["median_us"] for name, entry in contestants.items()}
    found: dict[str, Any] = {}
    for key in GROUPS:
        group = [name for name in times if name != OURS and (key == "all" or contestants[name]["framework"])]
        best = min(group, key=lambda name: times[name], default=None)
        found[f"best_{key}"] = best
        found[f"ratio_{key}"] = times[best] / times[OURS] if best is not None and OURS in times else None
    return found


def geometric_means(results: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The means of each direction's ratios: over the layers of networks, those marked `anchor`, and image filters."""
    found: dict[str, dict[str, Any]] = {}
    for direction in dict.fromkeys(result["direction"] for result in results):
        every = [result for result in results if result["direction"] == direction]
        layers = [result for result in every if result["suite"] not in FORWARD_ONLY]
        groups = {
            "": layers,
            " (anchors)": [result for result in layers if result["anchor"]],
            " (images)": [result for result in every if result["suite"] == IMAGES],
        }
        for label, group in groups.items():
            entry: dict[str, Any] = {}
            for key in GROUPS:
                values = [result[f"ratio_{key}"] for result in group if result[f"ratio_{key}"] is not None]
                entry[key] = geometric_mean(values)
                entry[f"worst_{key}"] = min(values, default=None)
                entry[f"layers_{key}"] = len(values)
            if group:
                found[direction + label] = entry
    return found


def add_percent_of_peak(results: list[dict[str, Any]], peak: float) -> list[str]:
    """Set ``percent_of_peak``, and list the direct kernels above 105 % of `peak`, which make the run void.

    That limit does not count multiplications by padding, because a kernel may leave them out.
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

    def entry(result: dict[str, Any], name: str | None) -> Any:
        return result["contestants"].get(name)

    def peer(result: dict[str, Any], key: str) -> str:
        """The fastest peer. PyTorch's name is followed by the memory format."""
        best = result[f"best_{key}"]
        return f"{best} {entry(result, best)['variant']}" if best == "torch" else best or "-"

    def rate(ours: dict[str, Any] | None) -> str:
        if ours is None:
            return "-"
        percent = ours["percent_of_peak"]
        return f"{ours['gigabytes_per_s']:.1f} GB/s" if percent is None else f"{percent:.0f} %"

    def fastest(key: str) -> list[tuple[str, Any]]:
        return [
            ("best framework" if key == "framework" else "best of all", lambda result: peer(result, key)),
            ("us", lambda result: time_cell(entry(result, result[f"best_{key}"]), "us")),
            ("ratio", lambda result: ratio_cell(result[f"ratio_{key}"])),
        ]

    return Table.of(
        f"{direction}: median us ±(IQR/median) of {report['options']['rounds']} rounds",
        [result for result in report["results"] if result["direction"] == direction],
        [
            ("layer (* anchor)", lambda r: f"{r['suite']} {r['layer']}{' *' * r['anchor']}: {r['sizes']}"),
            ("fastconv us", lambda result: time_cell(entry(result, OURS), "us")),
            *fastest("framework"),
            *fastest("all"),
            ("of peak", lambda result: rate(entry(result, OURS))),
        ],
    )


def tables(report: dict[str, Any]) -> list[Table]:
    directions = dict.fromkeys(result["direction"] for result in report["results"])
    return [*(direction_table(report, direction) for direction in directions), means_table(report)]


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 1 if a result was wrong, the run is void or fastconv does not load, else 0."""
    run = command()
    options = run.start(arguments)
    chosen = select(options)
    if not chosen:
        run.parser.error("no layer fits --suite, --layer, --direction and --anchors")
    os.environ.update(RESTRICTIONS.get(options.isa, {}))  # inherited by the libraries' processes
    if options.isa in CANNOT_RESTRICT:
        run.warn(CANNOT_RESTRICT[options.isa])
    wanted = [name for name in options.peer or PEERS if name != "none"]
    with contextlib.ExitStack() as stack:
        libraries = run.libraries(stack, [OURS, *wanted])
        if OURS in run.missing:
            return 1
        isa, peak = run.peak(stack, options.dtype)
        before = peak()
        results = [measure_case(case, libraries, options.rounds) for case in run.track(chosen)]
        after = peak()
    void = add_percent_of_peak(results, max(before, after))
    report = run.report(
        peak=run.peaks(isa, before, after),
        void=void,
        geometric_means=geometric_means(results),
        results=results,
    )
    remarks = [
        *not_measured(results, INFERENCE_ONLY, SINGLE_CHANNELS),
        f"FMA peak: {before * 1e-9:.0f} GFLOP/s before, {after * 1e-9:.0f} after",
        *(f"VOID, above 105 % of the peak: {line}" for line in void),
    ]
    run.finish(report, tables(report), *remarks)
    return 1 if any(result["wrong"] for result in results) or void else 0
