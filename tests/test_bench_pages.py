"""The benchmark's tables and pictures, and the pages that show the results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from test_bench import ROOT  # this import also puts the repository on the path

from bench import figures, headline, pages
from bench.table import Cell, Table, ratio_cell, time_cell


def test_a_table_prints_the_same_cells_to_terminal_and_markdown(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("times", ["layer", "us"])
    entry = {"median_us": 12.34, "q1_us": 12.0, "q3_us": 14.468}
    table.add("conv[1]", time_cell(entry, "us"))
    table.add("conv2", Cell("-"))
    assert table.markdown() == "| layer | us |\n| --- | ---: |\n| conv[1] | 12.3 |\n| conv2 | - |"
    table.print(Console(width=80))
    printed = capsys.readouterr().out
    assert "conv[1]" in printed and "12.3 ±20%" in printed and "times" in printed
    assert time_cell({"median_us": 12345.0}).text == "12.35" and time_cell(None).text == "-"
    assert time_cell({"median_us": 16.13e6}).text == "16130"
    assert ratio_cell(0.5) == Cell("0.50x", good=False) and ratio_cell(None) == Cell("-")


def test_pages_show_the_committed_results() -> None:
    """Run `python -m bench pages` after a change of bench/results/."""
    found = dict(pages.blocks())
    marked = []
    for page in pages.PAGES:
        text = (ROOT / page).read_text(encoding="utf-8")
        assert pages.render(text, found) == text, page
        marked += [match[2] for match in pages.BLOCK.finditer(text)]
    assert sorted(marked) == sorted(found)  # every result is shown exactly once
    for picture, (name, _) in pages.PICTURES.items():
        assert figures.digest(pages.load(name)).encode() in (ROOT / picture).read_bytes(), picture


def test_generated_parts_are_replaced() -> None:
    text = "a\n<!-- results: x y -->\nold\n<!-- end of results -->\nb\n"
    assert pages.render(text, {"x y": "new"}) == "a\n<!-- results: x y -->\n\nnew\n\n<!-- end of results -->\nb\n"


def test_the_source_of_figures_is_told_in_sentences() -> None:
    report = {
        "command": "python -m bench training --rounds 25 --json '/some where/a.json' --threads 2",
        "options": {"threads": 2},
        "machine": {"cpu": "Some(R) CPU"},
        "versions": {
            "fastconv": "0.1.0 (avx512)",
            "fused": "fastconv 0.1.0 on 2.21.0, Keras 3.15.1",
            "stock": "2.21.0, Keras 3.15.1",
            "torch": "2.13.0+cpu",
            "numpy": "2.4.6 with fastconv 0.1.0",
        },
        "warnings": ["the machine was busy"],
    }
    assert pages.provenance(report) == (
        "Measured with 2 threads on Some CPU with AVX-512. Command: `python -m bench training --rounds 25 --threads 2`."
        " Versions: fastconv 0.1.0, TensorFlow 2.21.0, Keras 3.15.1, PyTorch 2.13.0, NumPy 2.4.6."
        "\n\n*The machine was busy.*"
    )


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_the_headline_picture_names_its_results(tmp_path: Path, ending: str) -> None:
    report = pages.load("headline")
    path = tmp_path / f"headline.{ending}"
    figures.headline(report, path)
    assert figures.digest(report).encode() in path.read_bytes()
    report["results"][0]["contestants"]["stock"]["ratio"] += 1
    assert figures.digest(report).encode() not in path.read_bytes()


def headline_run(after: float, ratio: float) -> dict[str, Any]:
    entries = {"fastconv": {"ratio": 1.0}, "stock": {"ratio": ratio}}
    return {"peak": {"before": 100.0, "after": after}, "results": [{"title": "a step", "contestants": entries}]}


def test_headline_keeps_the_quietest_run_and_tells_the_spread() -> None:
    runs = [headline_run(110.0, 3.0), headline_run(95.0, 4.0), headline_run(80.0, 2.5)]
    assert headline.quietest(runs) is runs[1]
    assert headline.change(runs[1]["peak"]) == pytest.approx(0.05)
    assert headline.spread(runs) == [{"stock": [2.5, 4.0]}]
    report = {
        **runs[1],
        "quiet": False,
        "runs": 3,
        "spread": headline.spread(runs),
        "options": {"threads": 2, "rounds": 15},
        "machine": {"cpu": "CPU"},
        "versions": {"fastconv": "0.1.0 (avx2)"},
    }
    text = pages.headline_text(report)
    assert "2 threads, CPU: CPU with AVX2, float32, medians of 15 rounds." in text
    assert "quietest run of 3." in text and "changed by 5.0%" in text and "a step, stock Keras 2.5x to 4x" in text
    assert "stock Keras 4x" in text.partition("](")[0]  # the alternative text


def test_headline_means_are_over_layers_that_all_computed() -> None:
    def entries(**times: float) -> dict[str, Any]:
        return {"contestants": {name: {"median_us": time} for name, time in times.items()}}

    found = headline.layers_result([entries(fastconv=1, jax=2), entries(fastconv=1, jax=8), entries(fastconv=1)])
    assert found["layers"] == 2
    assert found["contestants"]["jax"]["ratio"] == pytest.approx(4.0)


def test_the_headline_shows_the_libraries_of_each_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def result(title: str, *names: str) -> dict[str, Any]:
        return {"title": title, "contestants": {name: {"ratio": float(i + 1)} for i, name in enumerate(names)}}

    training = [result(f"step {i}", *headline.TRAINING) for i in range(3)]
    report = {**headline_run(100.0, 2.0), "results": [*training, result("ResNet50", *headline.INFERENCE)]}
    headline.table(report).print(Console(width=200))
    printed = capsys.readouterr().out
    assert [line.count(" -") for line in printed.splitlines() if "step" in line or "ResNet50" in line] == [2, 2, 2, 3]
    figures.headline(report, tmp_path / "headline.png")
    assert (tmp_path / "headline.png").read_bytes().startswith(b"\x89PNG")
    more = {"quiet": True, "options": {"threads": 2, "rounds": 15}, "machine": {"cpu": "CPU"}, "versions": {}}
    text = pages.headline_text({**report, **more})
    assert "ResNet50: stock Keras 2x, ONNX Runtime 3x, OpenVINO 4x." in text
    assert text.count("Keras + XLA 3x") == 3 and "Keras + XLA is stock Keras with `jit_compile=True`." in text
