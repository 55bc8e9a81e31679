"""Runs `fastconv lenet` in real processes, on the digits that come with fastconv."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fastconv.lenet import mnist_subset
from processes import TIMEOUT

FILES = {
    "model.keras",
    "model_stock.keras",
    "model.fastconv",
    "history.csv",
    "metrics.json",
    "curves.png",
    "features.png",
    "confusion.png",
    "mistakes.png",
    "explore.html",
}
LAST_LINE = re.compile(r"test accuracy (\d\.\d{4})  loss (\d+\.\d{4})")
SHORT = ["--limit", "1200", "--epochs", "3", "--seed", "7"]


def environment(**more: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k not in ("FASTCONV_MNIST", "TF_CPP_MIN_LOG_LEVEL")}
    return {**kept, "PYTHONUNBUFFERED": "1", "COLUMNS": "130", **more}


def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", env=environment(**more), timeout=TIMEOUT
    )


def fastconv(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
    return run("-m", "fastconv", *map(str, arguments), **more)


def python(code: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run("-c", code, *map(str, arguments))


@pytest.fixture(scope="session")
def digits() -> dict[str, np.ndarray]:
    images, labels = mnist_subset()
    labels = labels.astype(np.uint8)
    testing = np.arange(len(labels)) % 5 == 0
    return {
        "x_train": images[~testing],
        "y_train": labels[~testing],
        "x_test": images[testing],
        "y_test": labels[testing],
    }


@pytest.fixture(scope="session")
def npz(digits: dict[str, np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez_compressed(path, **digits)
    return path


@pytest.fixture(scope="session")
def trained(npz: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    out = tmp_path_factory.mktemp("out")  # an existing, empty folder
    process = fastconv("lenet", "--data", npz, *SHORT, "--out", out)
    assert process.returncode == 0, process.stderr
    return process, out


def history(out: Path) -> list[dict[str, float]]:
    with (out / "history.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def fails_with_one_line(process: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert process.returncode == 1, process.stderr
    assert process.stderr.startswith("fastconv: ") and len(process.stderr.splitlines()) == 1, process.stderr
    for part in parts:
        assert part in process.stderr
