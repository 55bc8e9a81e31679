"""The tables as Markdown, for the documentation."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from bench.measure import OURS


def _time(entry: dict[str, Any] | None) -> str:
    return f"{entry['median_us']:.{1 if entry['median_us'] < 100 else 0}f}" if entry else "-"


def _against(result: dict[str, Any], which: str) -> list[str]:
    """The peer, its time, and how much faster ours is."""
    best, ratio = result[f"best_{which}"], result[f"ratio_{which}"]
    if best is None or ratio is None:
        return ["-", "-", "-"]
    return [best, _time(result["contestants"][best]), f"{ratio:.2f}x"]


def _rate(entry: dict[str, Any] | None) -> str:
    if entry is None:
        return "-"
    if entry["percent_of_peak"] is None:
        return f"{entry['gigabytes_per_s']:.1f} GB/s"
    return f"{entry['percent_of_peak']:.0f} %"


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a table; the first column is text, numbers stand to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return ["| " + " | ".join(cells) + " |" for cells in lines]


def write(report: dict[str, Any], path: str) -> None:
    """Write one table for each direction, and the geometric means, to `path`."""
    machine, peak, options = report["machine"], report["peak"], report["options"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    lines = [
        f"Printed by `{shlex.join(report['command'])}` on {machine['cpu']}, {options['threads']} threads, "
        f"{machine['system']}; {versions}. FMA peak {peak['before'] * 1e-9:.0f} GFLOP/s before the run, "
        f"{peak['after'] * 1e-9:.0f} after ({peak['isa']}, {options['dtype']}).",
        "",
    ]
    lines += [f"*{warning[0].upper()}{warning[1:]}.*\n" for warning in report["warnings"]]
    lines += [f"*Void: {what} of the peak.*\n" for what in report["void"]]
    rows = [
        [direction, *(f"{entry[key]:.2f}x" if entry[key] else "-" for key in ("framework", "worst_framework", "all"))]
        for direction, entry in report["geometric_means"].items()
    ]
    lines += [*table(["geometric mean against", "best framework", "worst layer", "best of all"], rows), ""]
    head = ["layer (* anchor)", "fastconv us", "best framework", "us", "ratio", "best of all", "us", "ratio", "of peak"]
    for direction in dict.fromkeys(result["direction"] for result in report["results"]):
        rows = []
        for result in report["results"]:
            if result["direction"] == direction:
                name = f"{result['suite']} {result['layer']}{' *' if result['anchor'] else ''}: {result['sizes']}"
                ours = result["contestants"].get(OURS)
                rows.append([name, _time(ours), *_against(result, "framework"), *_against(result, "all"), _rate(ours)])
        lines += [f"## {direction}", "", *table(head, rows), ""]
    Path(path).write_text("\n".join(lines), encoding="utf-8")
