"""The command line: ``python -m bench --help``."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from bench import machine, markdown
from bench.cases import DIRECTIONS, Case, cases
from bench.layers import EXTRA, read_suite, suites
from bench.measure import add_percent_of_peak, geometric_means, measure
from bench.peak import ISAS, Peak
from bench.report import print_report
from bench.workers import PEERS, Library, LibraryError

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
    "avx2": (
        "ONNX Runtime and ncnn have no switch for AVX2: they use all that the CPU has; "
        "of TensorFlow (Eigen) and JAX (Eigen, oneDNN), the parts that were compiled ahead are chosen by their own code"
    ),
    "baseline": "only fastconv is restricted to the baseline: the peers use all that the CPU has",
}


def parser() -> argparse.ArgumentParser:
    """All options."""
    result = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    result.add_argument("--suite", choices=suites(), action="append", help="may be repeated; default: all")
    result.add_argument("--direction", choices=DIRECTIONS, action="append", help="may be repeated; default: all")
    result.add_argument(
        "--peer", choices=[*PEERS, "none"], action="append", help="may be repeated; default: all installed"
    )
    result.add_argument("--layer", default="", help="only layers whose 'suite name' contains this")
    result.add_argument("--anchors", action="store_true", help="only the layers marked 'anchor'")
    result.add_argument("--rounds", type=int, default=15, help="samples of each contestant (default: %(default)s)")
    cpus = len(os.sched_getaffinity(0))
    result.add_argument("--threads", type=int, default=cpus, help="of everybody (default: the %(default)s CPUs)")
    result.add_argument("--isa", choices=sorted(RESTRICTIONS), help="restrict everybody who can be restricted")
    result.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    result.add_argument("--algorithm", default="auto", help="of fastconv (default: %(default)s)")
    result.add_argument("--json", metavar="PATH", help="write everything that was measured")
    result.add_argument("--markdown", metavar="PATH", help="write the tables as Markdown")
    result.add_argument("--plot", metavar="PATH", help="write a picture of the ratios")
    return result


def select(options: argparse.Namespace) -> list[Case]:
    """The cases that the options ask for."""
    layers = [layer for name in [*(options.suite or suites()), EXTRA] for layer in read_suite(name)]
    layers = [layer for layer in layers if options.layer in f"{layer.suite} {layer.name}"]
    if options.anchors:
        layers = [layer for layer in layers if layer.anchor or layer.suite == EXTRA]
    return cases(layers, options.direction or list(DIRECTIONS), options.dtype, options.algorithm)


def start_libraries(
    stack: contextlib.ExitStack, wanted: list[str], threads: int, cpus: list[int]
) -> tuple[list[Library], dict[str, str]]:
    """The processes of all that import, and why the others do not."""
    libraries, missing = [], {}
    for name in ["fastconv", *wanted]:
        try:
            libraries.append(stack.enter_context(Library(name, threads, cpus)))
        except LibraryError as error:
            missing[name] = str(error)
    return libraries, missing


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 if all went well, 1 if a result was wrong or the run is void."""
    options = parser().parse_args(arguments)
    allowed = sorted(os.sched_getaffinity(0))
    if not 1 <= options.threads <= len(allowed):
        parser().error(f"--threads must be 1 to {len(allowed)}, the CPUs that this process may use")
    if options.rounds < 1:
        parser().error("--rounds must be at least 1")
    chosen = select(options)
    if not chosen:
        parser().error("no layer fits these options")
    # Read when a library is loaded, which happens in processes that inherit them.
    os.environ.update(RESTRICTIONS.get(options.isa, {}))
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "FASTCONV_NUM_THREADS"), str(options.threads)))
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    console = Console(width=None if sys.stdout.isatty() else 220)
    warnings = machine.idle_warnings()
    if options.isa in CANNOT_RESTRICT:
        warnings.append(CANNOT_RESTRICT[options.isa])
    for warning in warnings:
        console.print(f"warning: {warning}", style="bold yellow")
    wanted = [name for name in options.peer or PEERS if name != "none"]
    cpus = allowed[: options.threads]
    results: list[dict[str, Any]] = []
    with contextlib.ExitStack() as stack:
        libraries, missing = start_libraries(stack, wanted, options.threads, cpus)
        for name, reason in missing.items():
            console.print(f"without {name}: {reason}", markup=False)
        if "fastconv" in missing:
            return 1
        isa = libraries[0].version.partition("(")[2].rstrip(")")
        peak = Peak(isa if isa in ISAS else "baseline", options.dtype, options.threads, cpus)
        stack.callback(peak.close)
        before = peak.measure()
        for case in track(chosen, "measuring", console=Console(stderr=True), transient=True):
            results.append(measure(case, libraries, options.rounds))
        after = peak.measure()
        versions = {library.library: library.version for library in libraries}
    if abs(after / before - 1) > 0.05:
        warnings.append(f"the FMA peak changed by {after / before - 1:+.0%} during the run: the clock is not steady")
    report = {
        "command": ["python", "-m", "bench", *(sys.argv[1:] if arguments is None else arguments)],
        "options": vars(options),
        "machine": machine.facts(),
        "versions": versions,
        "missing": missing,
        "peak": {"isa": isa, "before": before, "after": after},
        "void": add_percent_of_peak(results, max(before, after)),
        "warnings": warnings,
        "geometric_means": geometric_means(results),
        "results": results,
    }
    print_report(console, report)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        markdown.write(report, options.markdown)
    if options.plot:
        from bench.plot import plot  # matplotlib is loaded only if it is needed

        plot(report, options.plot)
    wrong = any(result["wrong"] for result in results)
    return 1 if wrong or report["void"] else 0


if __name__ == "__main__":
    sys.exit(main())
