"""The tables as Markdown, for the documentation."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from bench.markdown import table
from bench.training.marks import ratio
from bench.training.report import RATIOS, TITLES


def _time(entry: dict[str, Any] | None) -> str:
    return f"{entry['median_ms']:.4g}" if entry else "-"


def _tasks(report: dict[str, Any], kind: str) -> list[str]:
    results = [result for result in report["results"] if result["kind"] == kind]
    names = list(dict.fromkeys(name for result in results for name in result["contestants"]))
    pairs = [pair for pair in RATIOS if set(pair) <= set(names)]
    rows = []
    for result in results:
        times = [_time(result["contestants"].get(name)) for name in names]
        values = [ratio(result["task"], *pair)(report) for pair in pairs]
        ratios = ["-" if value is None else f"{value:.2f}x" for value in values]
        rows.append([f"{result['network']}, batch {result['batch']}", *times, *ratios])
    return table(["ms", *names, *(f"{above} / {below}" for above, below in pairs)], rows)


def _neighbours(report: dict[str, Any]) -> list[str]:
    rows = []
    for result in report["neighbours"]:
        cells = []
        for name in ("after", "beside"):
            stock, ours = result[name]["stock"], result[name]["fastconv"]
            cells += [_time(stock), _time(ours), f"{ours['median_ms'] / stock['median_ms']:.2f}x"]
        rows.append(
            [f"inter_op {result['inter_op']}", *cells, *(str(result["threads"][w]) for w in ("stock", "fastconv"))]
        )
    heads = [f"{name}: {whose}" for name in ("after", "beside") for whose in ("stock", "fastconv", "ratio")]
    return table(["ms", *heads, "threads: stock", "fastconv"], rows)


def _marks(report: dict[str, Any]) -> list[str]:
    rows = []
    for mark in report["marks"]:
        if mark["value"] is not None:
            digits, unit, sign = (2 if mark["unit"] else 0), mark["unit"], "at most" if mark["at_most"] else "at least"
            value, met = f"{mark['value']:.{digits}f}{unit}", "yes" if mark["met"] else "**no**"
            rows.append([mark["what"], value, f"{sign} {mark['limit']:g}{unit}", met])
    return table(["mark", "measured", "needed", "met"], rows)


def write(report: dict[str, Any], path: str) -> None:
    """Write a table for each kind of task, one of the neighbours and one of the marks to `path`."""
    machine, options = report["machine"], report["options"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    lines = [
        f"Printed by `{shlex.join(report['command'])}` on {machine['cpu']}, {options['threads']} threads, "
        f"{machine['system']}; {versions}.",
        "",
    ]
    lines += [f"*{warning[0].upper()}{warning[1:]}.*\n" for warning in report["warnings"]]
    if report["marks"]:
        lines += [*_marks(report), ""]
    for kind in dict.fromkeys(result["kind"] for result in report["results"]):
        lines += [f"## {TITLES[kind].split(',')[0]}", "", *_tasks(report, kind), ""]
    if report["neighbours"]:
        lines += ["## a matmul of 512x512 after and beside a convolution", "", *_neighbours(report), ""]
    Path(path).write_text("\n".join(lines), encoding="utf-8")
