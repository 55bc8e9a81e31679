"""Where `fastconv lenet` takes its digits from, and files that do not hold MNIST."""

from __future__ import annotations

import gzip
import socket
import struct
from pathlib import Path
from typing import Any

import lenet_runs
import numpy as np
import pytest
from fastconv.lenet import load_digits, mnist_subset
from lenet_runs import LAST_LINE, fastconv

digits, npz = lenet_runs.digits, lenet_runs.npz  # fixtures


def write_idx(path: Path, array: np.ndarray) -> None:
    content = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)


def write_folder(folder: Path, digits: dict[str, np.ndarray], ending: str = "", dot: str = "-") -> Path:
    folder.mkdir()
    stems = {"x_train": "train-images", "y_train": "train-labels", "x_test": "t10k-images", "y_test": "t10k-labels"}
    for name, stem in stems.items():
        write_idx(folder / f"{stem}{dot}idx{digits[name].ndim}-ubyte{ending}", digits[name])
    return folder


# ---- where the digits come from


@pytest.mark.parametrize(("ending", "dot"), [("", "-"), (".gz", "-"), ("", "."), (".gz", ".")])
def test_folders_of_idx_files_are_read(ending: str, dot: str, digits: dict[str, np.ndarray], tmp_path: Path) -> None:
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


def test_the_cache_of_keras_is_read(
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
def test_the_packaged_digits_are_used_if_the_network_does_not_answer(tmp_path: Path) -> None:
    # The proxy accepts connections but never answers. Without a timeout, the process would hang.
    with socket.create_server(("127.0.0.1", 0)) as silent:
        proxy = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = fastconv(
            *("lenet", "--layers", "keras", "--limit", "600", "--epochs", "1", "--batch-size", "64"),
            **{"HOME": str(tmp_path), "KERAS_HOME": str(tmp_path), "https_proxy": proxy, "no_proxy": ""},
        )
    assert process.returncode == 0, process.stderr
    assert sum("come with fastconv" in line for line in process.stdout.splitlines()) == 1
    assert "500 images for training, 100 for validation, 1,000 for testing" in process.stdout
    assert "--out DIR saves" in process.stdout
    assert LAST_LINE.fullmatch(process.stdout.splitlines()[-1])
    assert not list(tmp_path.rglob("*.npz"))


def test_each_class_of_the_packaged_digits_is_split_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FASTCONV_MNIST", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as refused:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{refused.getsockname()[1]}")
    loaded = load_digits()
    np.testing.assert_array_equal(np.bincount(loaded.train_labels), [400] * 10)
    np.testing.assert_array_equal(np.bincount(loaded.test_labels), [100] * 10)
    everything = {image.tobytes() for image in mnist_subset()[0]}
    assert {image.tobytes() for part in (loaded.train_images, loaded.test_images) for image in part} == everything


# ---- files that do not hold MNIST


def bad_archives(digits: dict[str, np.ndarray]) -> dict[str, tuple[dict[str, Any], str]]:
    few = {name: array[:30] for name, array in digits.items()}
    return {
        "missing": ({k: few[k] for k in ("x_train", "y_train", "x_test")}, "but it lacks y_test"),
        "counts": ({**few, "y_train": few["y_train"][:29]}, "x_train must be as long as y_train, got 30 and 29"),
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
def test_archives_without_mnist_are_refused(kind: str, digits: dict[str, np.ndarray], tmp_path: Path) -> None:
    assert list(bad_archives(digits)) == KINDS
    arrays, message = bad_archives(digits)[kind]
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(ValueError, match=f"bad.npz.*{message}"):
        load_digits(tmp_path / "bad.npz")


def test_broken_archives_are_refused(npz: Path, digits: dict[str, np.ndarray], tmp_path: Path) -> None:
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


def test_broken_folders_are_refused(digits: dict[str, np.ndarray], tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mnist", {name: array[:30] for name, array in digits.items()}, ".gz")
    file = folder / "t10k-images-idx3-ubyte.gz"
    good = file.read_bytes()
    raw = gzip.decompress(good)
    for content, message in [
        (good[: len(good) // 2], "is broken"),
        (raw[:-1], r"is broken: shape \(30, 28, 28\) needs 23520 bytes, got 23519"),
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
