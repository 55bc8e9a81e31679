"""The table on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.measure import OURS


def _time(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "-"
    spread = (entry["q3_us"] - entry["q1_us"]) / entry["median_us"]
    return f"{entry['median_us']:.{1 if entry['median_us'] < 100 else 0}f} [dim]±{spread:.0%}[/dim]"


def _ratio(value: float | None, best: str | None = None) -> str:
    if value is None:
        return "-"
    style = "green" if value >= 1 else "red"
    return f"[{style}]{value:.2f}x[/{style}]" + (f" {best}" if best else "")


def _rate(result: dict[str, Any]) -> str:
    entry = result["contestants"].get(OURS)
    if entry is None:
        return "-"
    if entry["percent_of_peak"] is None:
        return f"{entry['gigabytes_per_s']:.1f} GB/s"
    return f"{entry['percent_of_peak']:.0f} %"


def print_report(console: Console, report: dict[str, Any]) -> None:
    """All results, one table for each direction, then the geometric means and what went wrong."""
    results = report["results"]
    for direction in dict.fromkeys(result["direction"] for result in results):
        chosen = [result for result in results if result["direction"] == direction]
        names = list(dict.fromkeys(name for result in chosen for name in result["contestants"]))
        title = f"{direction}: median us ±(IQR/median) of {report['options']['rounds']} rounds"
        table = Table(title=title, title_justify="left")
        table.add_column("layer (* anchor)")
        for name in names:
            table.add_column(name, justify="right")
        for heading in ("best framework", "best of all", "of FMA peak"):
            table.add_column(heading, justify="right")
        for result in chosen:
            table.add_row(
                f"{result['suite']} {result['layer']}{'*' if result['anchor'] else ''}\n[dim]{result['sizes']}[/dim]",
                *[_time(result["contestants"].get(name)) for name in names],
                _ratio(result["ratio_framework"], result["best_framework"]),
                _ratio(result["ratio_all"], result["best_all"]),
                _rate(result),
            )
        console.print(table)
    means = Table(title="geometric means of ours against", title_justify="left")
    for heading in ("direction", "best framework", "worst", "best of all", "worst", "layers"):
        means.add_column(heading, justify="left" if heading == "direction" else "right")
    for direction, entry in report["geometric_means"].items():
        cells = [_ratio(entry[key]) for key in ("framework", "worst_framework", "all", "worst_all")]
        means.add_row(direction, *cells, str(entry["layers_all"]))
    console.print(means)
    for result in results:
        for name, reason in result["refused"].items():
            if name in result["wrong"] or reason != "inference only":
                where = f"{result['suite']} {result['layer']} {result['direction']}"
                console.print(
                    f"not measured: {name}, {where}: {escape(reason)}", style="red" if name in result["wrong"] else ""
                )
    before, after = report["peak"]["before"], report["peak"]["after"]
    console.print(f"FMA peak: {before * 1e-9:.0f} GFLOP/s before, {after * 1e-9:.0f} after ({report['peak']['isa']})")
    for warning in report["warnings"]:
        console.print(f"warning: {escape(warning)}", style="bold yellow")
    if report["void"]:
        console.print("VOID: direct kernels above 105 % of the measured peak:", style="bold red")
        for line in report["void"]:
            console.print(f"  {line}")
