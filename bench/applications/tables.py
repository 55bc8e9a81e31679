"""The tables of a run. Reading its results needs no TensorFlow."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from bench.table import Column, Table, ratio_cell, time_cell


def _times(names: Iterable[str], of: str | None = None) -> list[Column]:
    """Both times and their ratio, for each name, from the part `of` of a result."""

    def columns(name: str) -> list[Column]:
        def times(result: dict[str, Any]) -> dict[str, Any]:
            found: dict[str, Any] = (result[of] if of else result)[name]
            return found

        return [
            (f"{name}: stock", lambda result: time_cell(times(result)["stock"])),
            ("fastconv", lambda result: time_cell(times(result)["fastconv"])),
            ("ratio", lambda result: ratio_cell(times(result)["ratio"])),
        ]

    return [column for name in names for column in columns(name)]


def times_table(report: dict[str, Any]) -> Table:
    means = report["geometric_means"]
    columns: list[Column] = [
        ("network", lambda result: result["network"]),
        ("layers", lambda result: f"{result['layers_served']} of {result['layers_of_all']}"),
        *_times(means, "tasks"),
    ]
    table = Table.of("ms: median ±(IQR/median); stock / fastconv", report["results"], columns)
    table.add("geometric mean", "", *(cell for mean in means.values() for cell in ("", "", ratio_cell(mean))))
    return table


def check_table(report: dict[str, Any]) -> Table:
    """The largest error of any output or gradient, and how many choices of ReLUs and max pools differ."""
    checks = [{**result["check"], **result["check"]["float32"], **result} for result in report["results"]]
    columns: list[Column] = [
        ("network", lambda check: check["network"]),
        ("difference in float64", lambda check: f"{check['float64_error']:.1e}"),
        ("float32: stock", lambda check: f"{check['theirs']:.1e}"),
        ("fastconv", lambda check: f"{check['ours']:.1e}"),
        ("times stock's, above 1e-5", lambda check: f"{check['times_stock']:.2f}" if check["times_stock"] else "none"),
        ("choices unlike float64's: stock", lambda check: check["other_choices"][0]),
        ("fastconv", lambda check: check["other_choices"][1]),
    ]
    return Table.of("outputs and gradients: the largest errors of a tensor", checks, columns)


def layers_table(result: dict[str, Any]) -> Table:
    columns: list[Column] = [
        ("layer", lambda entry: entry["layer"]),
        ("kind", lambda entry: entry["kind"]),
        ("shape", lambda entry: entry["shape"]),
        ("times", lambda entry: entry["count"]),
        *_times(("forward", "with gradients")),
    ]
    return Table.of(f"{result['network']}, layer by layer, ms; the least gain first", result["layers"], columns, left=4)
