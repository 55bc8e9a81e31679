"""Writes the results in bench/results/ into the pages and pictures.

A page marks a generated part with two comments, ``<!-- results: NAME -->`` and ``<!-- end of results -->``. The
text between them is replaced by the block of that name.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import accuracy, figures, headline, limits, profile, single_layers, training
from bench.applications import tables as applications
from bench.names import SHOWN, cpu_text, versions_text
from bench.serving import networks as served
from bench.table import Column, Table, ratio_cell

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/benchmarks.md", "docs/training.md", "docs/accelerate.md", "docs/serving.md")
PICTURES: dict[str, tuple[str, Callable[[dict[str, Any], Path], None]]] = {  # path -> results, and what draws them
    "docs/benchmarks.png": ("layers", figures.layers),
    "docs/training.png": ("training", figures.training),
    "docs/headline.svg": ("headline", figures.headline),
}
BLOCK = re.compile(r"(<!-- results: ([\w -]+) -->\n).*?(<!-- end of results -->)", re.DOTALL)


def load(name: str) -> dict[str, Any]:
    """The content of a file in bench/results/."""
    found: dict[str, Any] = json.loads((ROOT / "bench" / "results" / f"{name}.json").read_text(encoding="utf-8"))
    return found


def shown_command(command: str) -> str:
    """A command without the file that it wrote."""
    return re.sub(r" --json[ =](?:'[^']*'|\S+)", "", command)


def provenance(report: dict[str, Any]) -> str:
    """Machine, command and versions of a measurement, and all reasons to doubt it."""
    peak = report.get("peak", {})
    sentences = [f"Measured with {report['options']['threads']} threads on {cpu_text(report)}."]
    sentences += [f"Command: `{shown_command(report['command'])}`.", f"Versions: {versions_text(report['versions'])}."]
    if "after" in peak:
        before, after = (peak[when] * 1e-9 for when in ("before", "after"))
        sentences.append(f"The FMA peak was {before:.0f} GFLOP/s before the run and {after:.0f} after it.")
    remarks = [*report["warnings"], *(f"void: {what} of the peak" for what in report.get("void", ()))]
    return "\n\n".join([" ".join(sentences), *(f"*{remark[0].upper()}{remark[1:]}.*" for remark in remarks)])


def headline_text(report: dict[str, Any]) -> str:
    """The picture, with its figures as alternative text, and notes on the run."""
    parts = []
    for result in report["results"]:
        entries = result["contestants"]
        shown = [f"{SHOWN[name]} {entries[name]['ratio']:.3g}x" for name in figures.order(entries)[1:]]
        parts.append(f"{result['title']}: {', '.join(shown)}")
    quality = report.get("remark", "")
    if "peak" in report:
        moved = f"{headline.change(report['peak']):.1%}"
        quality = f"The peak of the CPU changed by {moved} during the run."
        if not report["quiet"]:
            spreads = [
                f"{result['title']}, {SHOWN[name]} {least:.3g}x to {most:.3g}x"
                for result, spread in zip(report["results"], report["spread"], strict=True)
                for name, (least, most) in spread.items()
            ]
            quality = f"The quietest run of {report['runs']}. {quality} All runs: {'; '.join(spreads)}."
    where = f"{report['options']['threads']} threads, CPU: {cpu_text(report)}"
    rounds = f"float32, medians of {report['options']['rounds']} rounds. {quality}".rstrip()
    if any("xla" in result["contestants"] for result in report["results"]):
        rounds += f" {SHOWN['xla']} is stock Keras with `jit_compile=True`."
    picture = f"![Time relative to fastconv. {'. '.join(parts)}.](docs/headline.svg)"
    return f"{picture}\n\n{where}, {rounds} To repeat it: `python -m bench headline`."


def blocks() -> Iterator[tuple[str, str]]:
    """Name and text of each generated part."""
    layers, trained, networks, profiled = (load(name) for name in ("layers", "training", "applications", "profile"))
    yield "headline", headline_text(load("headline"))
    yield "layers run", provenance(layers)
    yield "layers means", single_layers.means_table(layers).markdown()
    for direction in dict.fromkeys(result["direction"] for result in layers["results"]):
        yield f"layers {direction}", single_layers.direction_table(layers, direction).markdown()
    yield "limits", limits.table(load("limits")).markdown()
    yield "training run", provenance(trained)
    for kind in training.KINDS:
        yield f"training {kind}", training.task_table(trained, kind).markdown()
    yield "training neighbours", training.neighbours_table(trained).markdown()
    columns: list[Column] = [("ratio of the times", lambda one: one[0]), ("", lambda one: ratio_cell(one[1]))]
    yield "training earlier", Table.of("ratios", load("training_avx512")["ratios"].items(), columns).markdown()
    for kind in profiled["results"]:
        step = f"{kind}: a step takes {profiled['results'][kind]['step_us'] / 1000:.3g} ms."
        yield f"profile {kind}", f"{step}\n\n{profile.table(profiled, kind).markdown()}"
    yield "accuracy", accuracy.table(load("accuracy")).markdown()
    yield "applications run", provenance(networks)
    for kind in applications.KINDS:
        yield f"applications {kind}", applications.times_table(networks, kind).markdown()
    yield "applications check", applications.check_table(load("applications_check")).markdown()
    yield "networks run", provenance(load("networks"))
    yield "networks times", served.times_table(load("networks")).markdown()


def render(text: str, found: dict[str, str]) -> str:
    """A page with its generated parts replaced."""
    return BLOCK.sub(lambda match: f"{match[1]}\n{found[match[2]]}\n\n{match[3]}", text)


def main(arguments: list[str] | None = None) -> int:
    """Write all pages and pictures; with ``--check``, only say which are out of date."""
    parser = argparse.ArgumentParser(prog="python -m bench pages", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; the exit status is 1 if any is stale")
    check = parser.parse_args(arguments).check
    found, stale = dict(blocks()), []
    for page in PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        new = render(text, found)
        if new != text:
            stale.append(page)
        if not check:
            (ROOT / page).write_text(new, encoding="utf-8")
    for picture, (name, draw) in PICTURES.items():
        report, path = load(name), ROOT / picture
        if not path.exists() or figures.digest(report).encode() not in path.read_bytes():
            stale.append(picture)
            if not check:
                draw(report, path)
    print("\n".join(f"{'stale' if check else 'written'}: {path}" for path in stale) or "all pages are up to date")
    return 1 if check and stale else 0
