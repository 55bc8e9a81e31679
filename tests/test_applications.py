"""Networks of keras.applications: accelerated, they compute what they did."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # the benchmark is run from the repository, it is not installed

from bench.applications.check import disagreements_in_float32, disagreements_in_float64, errors  # noqa: E402
from bench.applications.networks import NETWORKS  # noqa: E402

QUICK = ("MobileNetV2", "DenseNet121")


@pytest.mark.parametrize(
    "network", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NETWORKS]
)
def test_outputs_and_gradients_in_float64(network: str) -> None:
    largest, wrong = disagreements_in_float64(network, 64, 2)
    assert not wrong
    assert 0 < largest  # other kernels did compute


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_outputs_and_gradients_in_float32(network: str) -> None:
    assert not disagreements_in_float32(network, 64, 2)[1]


def test_errors_are_relative_to_norms() -> None:
    """But for gradients that are zero up to rounding."""
    one = np.ones(4)
    expected = {"outputs": 1e-9 * one, "kernel": one, "bias": 1e-15 * one}
    found = {"outputs": 1.1e-9 * one, "kernel": 1.2 * one, "bias": 2e-15 * one}
    apart = errors(found, expected)
    assert apart == pytest.approx({"outputs": 0.1, "kernel": 0.2, "bias": 1e-11})


def test_run(tmp_path: Path) -> None:
    options = ["--network", "MobileNetV2", "--size", "32", "--rounds", "1", "--task", "predict 1", "--no-check"]
    command = [sys.executable, "-m", "bench.applications", *options, "--json", str(tmp_path / "r.json")]
    paths = os.pathsep.join([str(ROOT), *sys.path])
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    (result,) = report["results"]
    assert result["layers_served"] == 52  # all convolutions, 17 of them depthwise
    times = result["tasks"]["predict 1"]
    assert times["ratio"] == pytest.approx(times["stock"]["median_ms"] / times["fastconv"]["median_ms"])
    assert report["geometric_means"] == {"predict 1": pytest.approx(times["ratio"])}
    assert "MobileNetV2" in done.stdout and "52/" in done.stdout
