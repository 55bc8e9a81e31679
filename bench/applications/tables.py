"""The tables of a run. Reading its results needs no TensorFlow."""

from __future__ import annotations

from typing import Any

from bench.measure import geometric_mean, ratio
from bench.table import Cell, Column, Table, ratio_cell, time_cell
from bench.training import ratios_of, task_table

KINDS = {"step": "training step (train_on_batch, SGD)", "predict": "inference (predict_on_batch)"}
RATIOS = (("stock", "fused"), ("stock", "accelerated"), ("torch", "fused"))


def means_of(results: list[dict[str, Any]], kind: str) -> dict[str, dict[str, Any]]:
    """For each size and batch, and for all results, the geometric mean and the smallest of each ratio."""
    results = [result for result in results if result["kind"] == kind]
    groups: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault(f"{result['size']}x{result['size']}, batch {result['batch']}", []).append(result)
    if len(groups) > 1:
        groups["all"] = results
    found: dict[str, dict[str, Any]] = {}
    for group, members in groups.items():
        for above, below in ratios_of(members, RATIOS):
            values = [value for one in members if (value := ratio(one["contestants"], above, below)) is not None]
            entry = {"mean": geometric_mean(values), "least": min(values, default=None), "count": len(values)}
            found.setdefault(group, {})[f"{above} / {below}"] = entry
    return found


def times_table(report: dict[str, Any], kind: str) -> Table:
    """The times, and below them the means of the ratios."""
    table = task_table(report, kind, KINDS[kind], RATIOS)
    for group, means in means_of(report["results"], kind).items():
        cells = [_mean_cell(means.get(heading)) for heading in table.head[1:]]
        table.add(f"geometric mean (least), {group}", *cells)
    return table


def _mean_cell(entry: dict[str, Any] | None) -> Cell:
    if entry is None or entry["mean"] is None:
        return Cell("")
    return Cell(f"{entry['mean']:.2f}x ({entry['least']:.2f}x)", good=entry["mean"] >= 1)


def _layer_times(name: str) -> list[Column]:
    return [
        (f"{name}: stock", lambda result: time_cell(result[name]["stock"])),
        ("fastconv", lambda result: time_cell(result[name]["fastconv"])),
        ("ratio", lambda result: ratio_cell(ratio(result[name], "stock", "fastconv"))),
    ]


def check_table(report: dict[str, Any]) -> Table:
    """The largest error of any output or gradient, and how many choices of ReLUs and max pools differ."""
    checks = [{**result, **result["float32"]} for result in report["results"]]
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
        *_layer_times("forward"),
        *_layer_times("with gradients"),
    ]
    return Table.of(f"{result['network']}, layer by layer, ms; the least gain first", result["layers"], columns, left=4)
