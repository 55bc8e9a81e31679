"""The tables on the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.training.marks import ratio
from bench.training.tasks import OTHER_TASK

TITLES = {
    "step": "bare training step, ms: median ±(IQR/median)",
    "epoch": "an epoch of fit, ms: median ±(IQR/median)",
    "predict": "inference (predict_on_batch), ms: median ±(IQR/median)",
}
RATIOS = (
    ("stock", "fastconv"),
    ("torch", "fastconv"),
    ("jax", "fastconv"),
    ("fastconv", "floor"),
    ("torch", "numpy"),
)


def _time(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "-"
    spread = (entry["q3_ms"] - entry["q1_ms"]) / entry["median_ms"]
    return f"{entry['median_ms']:.4g} [dim]±{spread:.0%}[/dim]"


def print_report(console: Console, report: dict[str, Any]) -> None:
    """A table for each kind of task, one of the neighbours, the marks, and what went wrong."""
    for kind in dict.fromkeys(result["kind"] for result in report["results"]):
        _print_tasks(console, report, kind)
    if report["neighbours"]:
        _print_neighbours(console, report["neighbours"])
    _print_marks(console, report["marks"])
    for result in report["results"]:
        for name, reason in result["refused"].items():
            if name in result["wrong"] or reason != OTHER_TASK:
                style = "red" if name in result["wrong"] else ""
                console.print(f"not measured: {name}, {result['task']}: {escape(reason)}", style=style)
        for name, entry in result["contestants"].items():
            for label, reason in entry["failed"].items():
                console.print(f"failed: {name} {label}, {result['task']}: {escape(reason)}")
    for warning in report["warnings"]:
        console.print(f"warning: {escape(warning)}", style="bold yellow")


def _print_tasks(console: Console, report: dict[str, Any], kind: str) -> None:
    results = [result for result in report["results"] if result["kind"] == kind]
    names = list(dict.fromkeys(name for result in results for name in result["contestants"]))
    pairs = [pair for pair in RATIOS if set(pair) <= set(names)]
    table = Table(title=TITLES[kind], title_justify="left")
    table.add_column("network, batch")
    for name in names:
        table.add_column(name, justify="right")
    for above, below in pairs:
        table.add_column(f"{above} / {below}", justify="right")
    for result in results:
        cells = []
        for name in names:
            entry = result["contestants"].get(name)
            several = entry is not None and len(entry["variants"]) + len(entry["failed"]) > 1
            cells.append(_time(entry) + (f"\n[dim]{entry['variant']}[/dim]" if entry and several else ""))
        values = [ratio(result["task"], *pair)(report) for pair in pairs]
        shown = ["-" if value is None else f"{value:.2f}x" for value in values]
        table.add_row(f"{result['network']} {result['batch']}", *cells, *shown)
    console.print(table)


def _print_neighbours(console: Console, neighbours: list[dict[str, Any]]) -> None:
    table = Table(title="a matmul of 512x512 after and beside a convolution, ms", title_justify="left")
    table.add_column("inter_op", justify="right")
    for name in ("after", "beside"):
        for whose in ("stock", "fastconv"):
            table.add_column(f"{name}: {whose}", justify="right")
        table.add_column("fastconv / stock", justify="right")
    table.add_column("threads: stock", justify="right")
    table.add_column("fastconv", justify="right")
    for result in neighbours:
        cells = []
        for name in ("after", "beside"):
            stock, ours = (result[name][whose] for whose in ("stock", "fastconv"))
            cells += [_time(stock), _time(ours), f"{ours['median_ms'] / stock['median_ms']:.3f}x"]
        threads = result["threads"]
        table.add_row(str(result["inter_op"]), *cells, str(threads["stock"]), str(threads["fastconv"]))
    console.print(table)


def _print_marks(console: Console, marks: list[dict[str, Any]]) -> None:
    table = Table(title="the marks", title_justify="left")
    for heading in ("what", "measured", "needed", "goal"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for mark in marks:
        if mark["value"] is None:
            continue
        style = "green" if mark["goal_met"] else "" if mark["met"] else "red"
        sign, unit = "<=" if mark["at_most"] else ">=", mark["unit"]
        measured = f"{mark['value']:.{2 if unit else 0}f}{unit}"
        limits = [f"{sign} {mark[key]:g}{unit}" for key in ("limit", "goal")]
        table.add_row(mark["what"], f"[{style}]{measured}[/{style}]" if style else measured, *limits)
    if table.row_count:
        console.print(table)
