"""What a training run of `fastconv lenet` prints, computes and writes."""

from __future__ import annotations

import base64
import json
import os
import re
import struct
import subprocess
from math import ceil
from pathlib import Path

import lenet_runs
import numpy as np
import pytest
from fastconv.lenet import load_digits
from fastconv.lenet._quiet_import import _stderr_held_back
from lenet_runs import FILES, LAST_LINE, SHORT, fails_with_one_line, fastconv, history, python

digits, npz, trained = lenet_runs.digits, lenet_runs.npz, lenet_runs.trained  # fixtures


# ---- the first screen


def test_the_first_screen_has_no_log_lines_of_tensorflow(
    npz: Path, trained: tuple[subprocess.CompletedProcess[str], Path]
) -> None:
    process = trained[0]
    assert process.stderr == ""
    assert process.stdout.startswith(f"data: --data {npz}\n1,000 images for training")


@pytest.mark.slow
def test_users_see_what_tensorflow_logs_if_they_ask_for_it(npz: Path) -> None:
    process = fastconv("lenet", "--data", npz, "--limit", "60", "--epochs", "1", TF_CPP_MIN_LOG_LEVEL="0")
    assert re.search(r"^(I\d{4} |.*: I )", process.stderr, re.MULTILINE), process.stderr


def test_output_of_a_failed_import_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    with _stderr_held_back():
        os.write(2, b"log line\n")
    with pytest.raises(ImportError), _stderr_held_back():
        os.write(2, b"why it fails\n")
        raise ImportError
    assert capfd.readouterr().err == "why it fails\n"


# ---- one training run, and the files that it writes


def test_output_has_summary_progress_and_result(trained: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    text = trained[0].stdout
    shapes = ["26, 26, 6", "13, 13, 6", "11, 11, 16", "5, 5, 16", "400", "120", "84", "10"]
    assert re.findall(r"\(None, ([\d, ]+)\)", text) == shapes
    assert re.findall(r"\(None, [\d, ]+\) +│ +([\d,]+)", text) == [
        "60",
        "0",
        "880",
        "0",
        "0",
        "48,120",
        "10,164",
        "850",
    ]
    assert "1,000 images for training, 200 for validation, 1,000 for testing" in text
    epochs = re.findall(r"^Epoch (\d/3)  loss \d+\.\d{4}, accuracy 0\.\d{4}  \(validation ", text, re.MULTILINE)
    assert epochs == ["1/3", "2/3", "3/3"]
    last = text.splitlines()[-1]
    assert LAST_LINE.fullmatch(last), last
    assert text.endswith(last + "\n")


def test_the_files_agree_with_the_output(trained: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    process, out = trained
    assert {path.name for path in out.iterdir()} == FILES
    metrics = json.loads((out / "metrics.json").read_text())
    last = process.stdout.splitlines()[-1]
    assert last == f"test accuracy {metrics['test_accuracy']:.4f}  loss {metrics['test_loss']:.4f}"
    assert metrics["test_accuracy"] > 0.6  # chance is 0.1; a thousand images, three epochs
    assert metrics["parameters"] == 60 + 880 + 48120 + 10164 + 850
    assert metrics["seconds_per_epoch"] > 0
    assert {"fastconv", "numpy", "keras", "tensorflow", "python"} <= set(metrics["versions"])
    rows = history(out)
    assert [row["epoch"] for row in rows] == [1, 2, 3]
    assert set(rows[0]) == {"epoch", "accuracy", "loss", "val_accuracy", "val_loss", "seconds"}
    assert rows[-1]["loss"] < rows[0]["loss"]
    for name in ("curves.png", "features.png", "confusion.png", "mistakes.png"):
        content = (out / name).read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", content[16:24])
        assert width > 500 and height > 300


def test_the_page_holds_the_weights_and_a_hundred_digits(
    npz: Path, digits: dict[str, np.ndarray], trained: tuple[subprocess.CompletedProcess[str], Path]
) -> None:
    """`test_explore_page.py` looks at the page in a browser."""
    import keras

    page = (trained[1] / "explore.html").read_text(encoding="utf-8")
    assert len(page.encode()) < 1_500_000
    assert not re.search(r"@[A-Z]+@|https?:|\b(src|href)=\"(?!data:)|@import|url\(", page)
    match = re.search(r'<script type="application/json" id="data">(.*?)</script>', page)
    assert match is not None
    data = json.loads(match[1])
    model = keras.saving.load_model(trained[1] / "model_stock.keras")
    assert [layer["name"] for layer in data["layers"]] == [la.name for la in model.layers if la.name != "flatten"]
    for layer in data["layers"]:
        weights = model.get_layer(layer["name"]).get_weights()
        assert layer["kind"] == ("pool" if not weights else "conv" if weights[0].ndim == 4 else "dense")
        for name, array in zip(("kernel", "bias"), weights, strict=bool(weights)):
            found = np.frombuffer(base64.b64decode(layer[name]), "<f4")
            np.testing.assert_array_equal(found, array.ravel())
    images = np.frombuffer(base64.b64decode(data["images"]), np.uint8).reshape(-1, 28, 28)
    assert data["labels"] == sorted([*range(10)] * 10)
    for digit in range(10):  # the first ten of each class
        expected = digits["x_test"][digits["y_test"] == digit][:10]
        np.testing.assert_array_equal(images[10 * digit :][:10], expected)


def test_few_digits_or_classes_are_all_shown() -> None:
    from fastconv.lenet.explore import choose_digits

    np.testing.assert_array_equal(choose_digits(np.array([3, 1, 3])), [1, 0, 2])
    labels = np.array([7] * 200 + [2] * 4)
    np.testing.assert_array_equal(choose_digits(labels), [*range(200, 204), *range(96)])


EVALUATE = """
import json, sys
if sys.argv[3] == "without":
    sys.modules["fastconv"] = None  # importing fastconv fails now
else:
    import fastconv.keras
import keras, numpy as np
model = keras.saving.load_model(sys.argv[1])
with np.load(sys.argv[2]) as data:
    images, labels = data["x_test"][..., None] / np.float32(255), np.eye(10)[data["y_test"]]
loss, accuracy = model.evaluate(images, labels, batch_size=128, verbose=0)
kinds = [type(layer).__module__.split(".")[0] for layer in model.layers]
steps = int(model.optimizer.iterations)
print(json.dumps([loss, accuracy, kinds, steps]))
"""


@pytest.mark.parametrize(("name", "how"), [("model.keras", "with"), ("model_stock.keras", "without")])
def test_models_load_with_and_without_fastconv(
    name: str, how: str, npz: Path, trained: tuple[subprocess.CompletedProcess[str], Path]
) -> None:
    out = trained[1]
    process = python(EVALUATE, out / name, npz, how)
    assert process.returncode == 0, process.stderr
    assert "Warning" not in process.stderr
    loss, accuracy, kinds, steps = json.loads(process.stdout.splitlines()[-1])
    assert steps == 3 * ceil(1000 / 128)  # the optimizer has its last state, so training can go on
    metrics = json.loads((out / "metrics.json").read_text())
    assert accuracy == pytest.approx(
        metrics["test_accuracy"], abs=0.0021
    )  # two of a thousand images may be borderline cases
    assert loss == pytest.approx(metrics["test_loss"], rel=1e-4)
    ours = "fastconv" if how == "with" else "keras"
    assert kinds == [ours] * 4 + ["keras"] * 4


FROZEN = """
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = None  # importing either fails now
import fastconv, numpy as np
net = fastconv.load(sys.argv[1])
with np.load(sys.argv[2]) as data:
    np.save(sys.argv[3], net.predict(data["x_test"][..., None] / np.float32(255), batch_size=100))
"""


def test_the_frozen_network_computes_what_the_model_does(
    npz: Path, digits: dict[str, np.ndarray], trained: tuple[subprocess.CompletedProcess[str], Path], tmp_path: Path
) -> None:
    import keras

    def probabilities(logits: np.ndarray) -> np.ndarray:
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    out = trained[1]
    process = python(FROZEN, out / "model.fastconv", npz, tmp_path / "logits.npy")
    assert process.returncode == 0, process.stderr
    ours = np.load(tmp_path / "logits.npy")
    model = keras.saving.load_model(out / "model_stock.keras")
    expected = model.predict(digits["x_test"][..., None] / np.float32(255), verbose=0)
    np.testing.assert_allclose(probabilities(ours), probabilities(expected), rtol=0, atol=1e-5)
    accuracy = float((ours.argmax(axis=1) == digits["y_test"]).mean())
    metrics = json.loads((out / "metrics.json").read_text())
    assert accuracy == pytest.approx(metrics["test_accuracy"], abs=0.0021)


@pytest.mark.slow
def test_pictures_of_digits_are_classified_by_all_models(
    digits: dict[str, np.ndarray], trained: tuple[subprocess.CompletedProcess[str], Path], tmp_path: Path
) -> None:
    """`test_predict_command.py` tests the command without TensorFlow."""
    import keras
    from PIL import Image

    out, paths = trained[1], [tmp_path / f"{i}.png" for i in range(0, 1000, 50)]
    for i, path in zip(range(0, 1000, 50), paths, strict=True):
        Image.fromarray(255 - digits["x_test"][i]).resize((140, 140)).save(path)
    printed = []
    for name in ("model.fastconv", "model.keras", "model_stock.keras"):
        process = fastconv("predict", out / name, *paths, "--top", "1")
        assert process.returncode == 0 and process.stderr == "", process.stderr
        printed.append([line.split("│")[1:4] for line in process.stdout.splitlines() if ".png" in line])
    assert printed[0] == printed[1] == printed[2]
    guesses = np.array([int(row[1]) for row in printed[0]])
    assert np.mean(guesses == digits["y_test"][::50]) >= 0.5  # chance is 0.1; a thousand images, three epochs

    other = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Flatten(), keras.layers.Dense(5)])
    other.save(tmp_path / "other.keras")
    fails_with_one_line(
        fastconv("predict", tmp_path / "other.keras", paths[0]),
        "MODEL must map images of shape (N, 28, 28, 1) to (N, 10)",
        "maps (N, 32, 32, 3) to (N, 5)",
    )
    (tmp_path / "broken.keras").write_bytes(b"broken")
    fails_with_one_line(
        fastconv("predict", tmp_path / "broken.keras", paths[0]), "broken.keras cannot be loaded as a Keras model"
    )


@pytest.mark.slow
def test_the_same_seed_gives_the_same_numbers_also_with_profile(
    npz: Path, trained: tuple[subprocess.CompletedProcess[str], Path], tmp_path: Path
) -> None:
    out = tmp_path / "new" / "folder"
    process = fastconv("lenet", "--data", npz, *SHORT, "--out", out, "--profile")
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines()[-1] == trained[0].stdout.splitlines()[-1]
    first, second = (
        [{k: v for k, v in row.items() if k != "seconds"} for row in history(o)] for o in (trained[1], out)
    )
    assert first == second
    table = re.findall(
        r"│ (\w+) +│ (.+?) +│ +([\d,]+) │ +([\d.]+) │ +([\d.-]+) │ +([\d.]+) │ +([\d.-]+) │", process.stdout
    )
    assert [row[0] for row in table] == ["conv1", "pool1", "conv2", "pool2", "flatten", "dense1", "dense2", "logits"]
    assert [row[1] for row in table] == [
        "(26, 26, 6): floor((28 + 0 - 3) / 1) + 1 = 26",
        "(13, 13, 6): floor((26 + 0 - 2) / 2) + 1 = 13",
        "(11, 11, 16): floor((13 + 0 - 3) / 1) + 1 = 11",
        "(5, 5, 16): floor((11 + 0 - 2) / 2) + 1 = 5",
        "5 x 5 x 16 = 400",
        "120",
        "84",
        "10",
    ]
    assert [row[2] for row in table] == ["60", "0", "880", "0", "0", "48,120", "10,164", "850"]
    # GFLOP/s times milliseconds is the work, whatever the machine: 2 x multiplications x 128 images.
    for row in table:
        work = {"conv1": 9 * 26 * 26 * 6, "conv2": 54 * 11 * 11 * 16, "dense1": 48000, "dense2": 10080, "logits": 840}
        if row[0] in work:
            million = 2 * 128 * work[row[0]] / 1e6
            assert float(row[3]) * float(row[4]) == pytest.approx(million, rel=0.05, abs=0.02)
            assert float(row[5]) * float(row[6]) == pytest.approx(
                million * (1 if row[0] == "conv1" else 2), rel=0.05, abs=0.02
            )
        else:
            assert row[4] == row[6] == "-"


def test_both_kinds_of_layers_start_from_the_same_weights() -> None:
    from fastconv.lenet.model import build

    ours, stock, other = build("fastconv", 3), build("keras", 3), build("keras", 4)
    for a, b, c in zip(ours.get_weights(), stock.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
        assert a.ndim == 1 or not np.array_equal(a, c)  # biases start at zero
    assert [layer.name for layer in ours.layers] == [layer.name for layer in stock.layers]
    with pytest.raises(ValueError, match="layers must be 'fastconv' or 'keras', got 'torch'"):
        build("torch")  # type: ignore[arg-type]


def test_split_uses_every_image_once(npz: Path) -> None:
    from fastconv.lenet.train import split_digits

    digits = load_digits(npz)
    split = split_digits(digits, 5)
    assert len(split.train[0]) == 3334 and len(split.validation[0]) == 666 and len(split.test[0]) == 1000
    together = np.concatenate([split.train[0], split.validation[0]])[..., 0] * 255
    assert sorted(image.tobytes() for image in together.round().astype(np.uint8)) == sorted(
        image.tobytes() for image in digits.train_images
    )
    assert together.min() == 0 and together.max() == 255
    np.testing.assert_array_equal(split.test[1].argmax(1), digits.test_labels)
    assert len(split_digits(digits, 5, 60).train[0]) == 50 and len(split_digits(digits, 5, 60).validation[0]) == 10
