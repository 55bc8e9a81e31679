"""`fastconv lenet --compare` trains LeNet on Keras's layers and on fastconv's, epoch by epoch in turn."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import lenet_runs
import pytest
from lenet_runs import SHORT, fastconv, history

digits, npz, trained = lenet_runs.digits, lenet_runs.npz, lenet_runs.trained  # fixtures


@pytest.mark.slow
def test_compare_reports_both_kinds_of_layers(npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "compared"
    process = fastconv("lenet", "--data", npz, *SHORT, "--compare", "--out", out)
    assert process.returncode == 0, process.stderr
    lines = process.stdout.splitlines()
    began = [line for line in lines if line.startswith("epoch ")]
    both = ("Keras's layers", "fastconv's layers")
    assert [(line.split()[1], title in line) for line, title in zip(began, both * 3, strict=False)] == [
        (f"{epoch}/3", True) for epoch in (1, 2, 3) for _ in both
    ]
    assert lines[-1].startswith("the same accuracy: ") and lines[-1].endswith(" allowed")
    table = {line.split("  ")[0].strip("│ "): line.rstrip("│ ") for line in lines if line.startswith("│")}
    assert set(table) == {"step", "epoch", "test loss", "test accuracy"}
    figures = json.loads((out / "compare.json").read_text())
    stock, ours = figures["keras"], figures["fastconv"]
    ratio = float(table["step"].split()[-1].rstrip("x"))
    assert ratio == pytest.approx(stock["ms_per_step"] / ours["ms_per_step"], abs=0.006)
    assert f"{stock['ms_per_step']:.3f} ms" in table["step"] and f"{ours['ms_per_step']:.3f} ms" in table["step"]
    # Same weights, same batches: only rounding errors differ.
    for a, b in zip(stock["epochs"], ours["epochs"], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)
    assert stock["test_loss"] == pytest.approx(ours["test_loss"], rel=1e-2)
    assert figures["options"]["epochs"] == 3
    assert {path.name for path in out.iterdir()} == {"compare.png", "compare.json"}
    assert (out / "compare.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_compare_starts_as_the_training_does(
    npz: Path, trained: tuple[subprocess.CompletedProcess[str], Path], tmp_path: Path
) -> None:
    """With the same seed, the first epoch on fastconv's layers has the same loss as without --compare."""
    process = fastconv("lenet", "--data", npz, *SHORT, "--compare", "--epochs", "1")
    assert process.returncode == 0, process.stderr
    (line,) = [line for line in process.stdout.splitlines() if line.startswith("epoch 1/1  fastconv")]
    assert f"loss {history(trained[1])[0]['loss']:.4f}" in line


def test_accuracies_that_differ_are_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    from fastconv.lenet.compare import Run, require_same_accuracy

    def runs(stock: float, ours: float) -> dict[str, Run]:
        return {"keras": Run("a", test_accuracy=stock), "fastconv": Run("b", test_accuracy=ours)}

    require_same_accuracy(runs(0.990, 0.9925), 10_000)
    assert "the same accuracy: 0.25 points apart, 0.30 allowed" in capsys.readouterr().out
    require_same_accuracy(runs(0.80, 0.82), 1000)  # within the noise of so few images
    for ours in (0.986, 0.994, float("nan")):
        with pytest.raises(ValueError, match="the accuracies differ: "):
            require_same_accuracy(runs(0.990, ours), 10_000)
