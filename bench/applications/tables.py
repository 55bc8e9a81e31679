"""The tables of a run."""

from __future__ import annotations

from typing import Any

from bench.table import Cell, Table, ratio_cell, time_cell


def _times(times: dict[str, Any]) -> list[Cell]:
    return [time_cell(times["stock"]), time_cell(times["fastconv"]), ratio_cell(times["ratio"])]


def _heads(names: Any) -> list[str]:
    return [heading for name in names for heading in (f"{name}: stock", "fastconv", "ratio")]


def times_table(report: dict[str, Any]) -> Table:
    means = report["geometric_means"]
    table = Table("ms: median ±(IQR/median); stock / fastconv", ["network", "layers", *_heads(means)])
    for result in report["results"]:
        cells = [cell for times in result["tasks"].values() for cell in _times(times)]
        table.add(result["network"], f"{result['layers_served']} of {result['layers_of_all']}", *cells)
    table.add("geometric mean", "", *(cell for mean in means.values() for cell in ("", "", ratio_cell(mean))))
    return table


def check_table(report: dict[str, Any]) -> Table:
    """The largest errors of a tensor among outputs and gradients, and choices of ReLUs and max-pools."""
    single = ["float32: stock", "fastconv", "times stock's, above 1e-5", "choices unlike float64's: stock", "fastconv"]
    head = ["network", "difference in float64", *single]
    table = Table("outputs and gradients: the largest errors of a tensor", head)
    for result in report["results"]:
        check = result["check"]
        rounding = check["float32"]
        errors = [f"{value:.1e}" for value in (check["float64_error"], rounding["theirs"], rounding["ours"])]
        times = f"{rounding['times_stock']:.2f}" if rounding["times_stock"] else "none"
        table.add(result["network"], *errors, times, *map(str, rounding["other_choices"]))
    return table


def layers_table(result: dict[str, Any]) -> Table:
    directions = ("forward", "with gradients")
    head = ["layer", "kind", "shape", "times", *_heads(directions)]
    table = Table(f"{result['network']}, layer by layer, ms; the least gain first", head, left=4)
    for entry in result["layers"]:
        cells = [cell for direction in directions for cell in _times(entry[direction])]
        table.add(entry["layer"], entry["kind"], entry["shape"], str(entry["count"]), *cells)
    return table
