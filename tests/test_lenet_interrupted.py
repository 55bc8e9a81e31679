"""`fastconv lenet` after Ctrl-C, and after a training that diverged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import lenet_runs
import numpy as np
import pytest
from lenet_runs import FILES, environment, history
from processes import TIMEOUT

digits, npz = lenet_runs.digits, lenet_runs.npz  # fixtures


def interrupt_at(sign: str, *arguments: str | Path, **more: str) -> tuple[int, str, str]:
    """Start the command, send SIGINT once its output holds `sign`, and return exit code, output and errors."""
    command = [sys.executable, "-m", "fastconv", "lenet", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(**more)) as process:
        assert process.stdout is not None
        text = b""
        while sign.encode() not in text:
            piece = os.read(process.stdout.fileno(), 65536)
            assert piece, f"ended before {sign!r}: {text.decode()}"
            text += piece
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=TIMEOUT)
    return process.returncode, (text + rest).decode(), errors.decode()


def test_ctrl_c_keeps_the_best_weights(npz: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    # With so small a learning rate, the validation loss falls slowly and steadily. Only Ctrl-C ends this training.
    slow = ["--epochs", "100000", "--learning-rate", "1e-5", "--limit", "1200"]
    code, text, errors = interrupt_at("Epoch 3/", "--data", npz, *slow, "--out", out)
    assert code == 0, errors
    assert {path.name for path in out.iterdir()} == FILES
    rows = history(out)
    assert len(rows) >= 2
    assert f"Ctrl-C: keeping the best weights of {len(rows)} epochs" in text
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["interrupted"] is True and metrics["epochs"] == len(rows)
    assert text.splitlines()[-1] == f"test accuracy {metrics['test_accuracy']:.4f}  loss {metrics['test_loss']:.4f}"


@pytest.mark.parametrize("sign", ["images for training", pytest.param("Epoch 1/", marks=pytest.mark.slow)])
def test_ctrl_c_before_the_first_epoch_ends(sign: str, npz: Path, tmp_path: Path) -> None:
    arguments = ("--data", npz, "--batch-size", "1", "--out", tmp_path / "out")
    # TensorFlow's warnings are on. It would warn if an iterator outlived Python.
    code, text, errors = interrupt_at(sign, *arguments, TF_CPP_MIN_LOG_LEVEL="1")
    assert code == 130, errors
    assert errors.splitlines()[-1] == "fastconv: interrupted", errors
    assert "Traceback" not in errors and "test accuracy" not in text
    assert not (tmp_path / "out").exists()


def test_a_diverged_training_is_saved_too(tmp_path: Path) -> None:
    from fastconv.lenet.figures import draw_curves, draw_features
    from fastconv.lenet.model import build
    from fastconv.lenet.output import write_metrics

    write_metrics(tmp_path / "metrics.json", {"test_accuracy": 0.1, "test_loss": float("nan"), "epochs": 1})
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"test_accuracy": 0.1, "test_loss": None, "epochs": 1}
    row = dict.fromkeys(("loss", "accuracy", "val_loss", "val_accuracy"), float("nan"))
    draw_curves(tmp_path / "curves.png", [{"epoch": 1, **row}, {"epoch": 2, **row}])
    model = build("keras", 1)
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    draw_features(tmp_path / "features.png", model, np.zeros((28, 28, 1), np.float32))
    assert all((tmp_path / name).stat().st_size > 10_000 for name in ("curves.png", "features.png"))
