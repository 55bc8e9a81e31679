"""Loads MNIST from a file, a folder, Keras's cache or the network, or else 5,000 of its digits."""

from __future__ import annotations

import gzip
import io
import os
import socket
import threading
import urllib.request
import zipfile
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from fastconv.lenet._quiet_import import import_keras

_URL = "https://storage.googleapis.com/tensorflow/tf-keras-datasets/mnist.npz"
_SUBSET = Path(__file__).parent / "mnist_subset.npz"
_CONNECT_SECONDS = 3.0
_STALL_SECONDS = 15.0

# For each array, the stem of its IDX file's name and its number of dimensions.
_IDX_FILES = {
    "x_train": ("train-images", 3),
    "y_train": ("train-labels", 1),
    "x_test": ("t10k-images", 3),
    "y_test": ("t10k-labels", 1),
}
# Errors of a broken file. zipfile raises NotImplementedError for an unknown compression, and RuntimeError for an
# encrypted archive.
_BROKEN = (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError)


class Digits(NamedTuple):
    """Images of digits and their labels.

    Attributes
    ----------
    train_images, test_images : ndarray of uint8, shape (N, 28, 28)
    train_labels, test_labels : ndarray of int64, shape (N,), 0 to 9
    source : str
        A description of their source, for the user.
    """

    train_images: npt.NDArray[np.uint8]
    train_labels: npt.NDArray[np.int64]
    test_images: npt.NDArray[np.uint8]
    test_labels: npt.NDArray[np.int64]
    source: str


def mnist_subset() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """The 5,000 digits of MNIST that come with fastconv.

    Returns
    -------
    images : ndarray of uint8, shape (5000, 28, 28)
    labels : ndarray of int64, shape (5000,)
        500 of each digit, in ascending order.

    Notes
    -----
    Yann LeCun and Corinna Cortes hold the copyright of MNIST. The license of these digits is `Creative Commons
    Attribution-ShareAlike 3.0 <https://creativecommons.org/licenses/by-sa/3.0/>`_.
    """
    with np.load(_SUBSET, allow_pickle=False) as archive:
        return archive["images"], archive["labels"].astype(np.int64)


def load_digits(path: str | os.PathLike[str] | None = None) -> Digits:
    """Load MNIST.

    Parameters
    ----------
    path : path-like, optional
        An ``.npz`` file in Keras's layout (arrays x_train, y_train, x_test, y_test), or a folder with MNIST's four IDX
        files, gzipped or not. By default, the first of these that exists: the path in the environment variable
        ``FASTCONV_MNIST``, Keras's cached or downloaded MNIST, or `mnist_subset`, 400 digits of each class for training
        and 100 for testing.

    Returns
    -------
    Digits

    Raises
    ------
    ValueError
        If the file does not exist, is broken or does not contain MNIST. The message names the file.
    """
    if path is not None:
        return _read(Path(path), f"--data {os.fspath(path)}")
    from_environment = os.environ.get("FASTCONV_MNIST")
    if from_environment:
        return _read(Path(from_environment), f"FASTCONV_MNIST={from_environment}")
    home = os.environ.get("KERAS_HOME")
    cached = (Path(home) if home else Path.home() / ".keras") / "datasets" / "mnist.npz"
    if cached.exists():
        return _read(cached, f"Keras's cached {cached}")
    if _network_answers():
        downloaded = _download()
        if downloaded is not None:
            return _read(downloaded, f"MNIST, downloaded by Keras to {downloaded}")
    return _digits_of_subset()


def _read(path: Path, origin: str) -> Digits:
    if not path.exists():
        raise ValueError(
            f"{origin}: there is no such file or folder; give an .npz file in Keras's layout, or a folder with MNIST's "
            "four IDX files"
        )
    arrays = _read_folder(path, origin) if path.is_dir() else _read_npz(path, origin)
    for name, array in arrays.items():
        _check(name, array, origin)
    for part in ("train", "test"):
        images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if len(images) != len(labels):
            raise ValueError(
                f"{origin} is not MNIST: x_{part} must be as long as y_{part}, got {len(images)} and {len(labels)}"
            )
    return Digits(
        arrays["x_train"].astype(np.uint8),
        arrays["y_train"].astype(np.int64),
        arrays["x_test"].astype(np.uint8),
        arrays["y_test"].astype(np.int64),
        origin,
    )


def _check(name: str, array: npt.NDArray[Any], origin: str) -> None:
    if array.dtype.kind not in "iu":
        raise ValueError(f"{origin} is not MNIST: {name} must hold integers, but holds {array.dtype}")
    if name.startswith("x"):
        expected, largest = "(N, 28, 28)", 255
        right = array.ndim == 3 and array.shape[1:] == (28, 28)
    else:
        expected, largest = "(N,)", 9
        right = array.ndim == 1
    if not right or not len(array):
        raise ValueError(f"{origin} is not MNIST: {name} must have shape {expected} with N > 0, but has {array.shape}")
    if array.min() < 0 or array.max() > largest:
        raise ValueError(
            f"{origin} is not MNIST: {name} must hold values from 0 to {largest}, "
            f"but holds {array.min()} to {array.max()}"
        )


def _read_npz(path: Path, origin: str) -> dict[str, npt.NDArray[Any]]:
    try:
        # The archive is read into memory, because np.load leaves the file of a broken archive open.
        content = io.BytesIO(path.read_bytes())
        if not zipfile.is_zipfile(content):  # np.load would treat it as a pickle, and advise to allow pickles
            raise ValueError("it is not a zip file")
        content.seek(0)
        archive = np.load(content, allow_pickle=False)
        missing = [name for name in _IDX_FILES if name not in archive.files]
        if not missing:
            return {name: archive[name] for name in _IDX_FILES}
    except _BROKEN as error:
        raise ValueError(
            f"{origin} cannot be read as an .npz archive: {_one_line(error)}; it may be damaged or of another kind"
        ) from error
    raise ValueError(
        f"{origin} is not MNIST in Keras's layout: it must contain the arrays {', '.join(_IDX_FILES)}, "
        f"but it lacks {'all of them' if len(missing) == len(_IDX_FILES) else ', '.join(missing)}"
    )


def _read_folder(path: Path, origin: str) -> dict[str, npt.NDArray[Any]]:
    found: dict[str, Path] = {}
    for name, (stem, rank) in _IDX_FILES.items():
        names = [f"{stem}{dot}idx{rank}-ubyte{gz}" for dot in "-." for gz in ("", ".gz")]
        present = [path / candidate for candidate in names if (path / candidate).is_file()]
        if not present:
            raise ValueError(f"{origin} is not MNIST: the folder has neither {stem}-idx{rank}-ubyte nor {names[1]}")
        found[name] = present[0]
    return {name: _read_idx(file, _IDX_FILES[name][1]) for name, file in found.items()}


def _read_idx(path: Path, rank: int) -> npt.NDArray[Any]:
    try:
        content = path.read_bytes()
        if content[:2] == b"\x1f\x8b":
            content = gzip.decompress(content)
    except _BROKEN as error:
        raise ValueError(f"{path} is broken: {_one_line(error)}") from error
    # IDX: two zero bytes, 8 for unsigned bytes, the number of dimensions, each size as a 32-bit integer, the data.
    head = 4 + 4 * rank
    if content[:4] != bytes([0, 0, 8, rank]) or len(content) < head:
        raise ValueError(f"{path} is not an IDX file of unsigned bytes with {rank} dimension{'s' if rank > 1 else ''}")
    shape = [int(n) for n in np.frombuffer(content, ">u4", rank, 4)]
    size = 1
    for n in shape:
        size *= n
    if len(content) - head != size:
        raise ValueError(f"{path} is broken: shape {tuple(shape)} needs {size} bytes, got {len(content) - head}")
    return np.frombuffer(content, np.uint8, offset=head).reshape(shape)


def _network_answers() -> bool:
    """Whether the server answers soon. A thread asks it, because looking up its name has no time-out."""
    answered = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(_URL, method="HEAD"), timeout=_CONNECT_SECONDS):
                answered.set()
        except (OSError, ValueError):
            pass

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_CONNECT_SECONDS)
    return answered.is_set()


def _download() -> Path | None:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_STALL_SECONDS)
    try:
        keras = import_keras()  # not at the top, because the NumPy example needs no framework
        return Path(keras.utils.get_file("mnist.npz", origin=_URL))
    except Exception as error:  # errors of urllib, some of which Keras wraps in a bare Exception
        print(f"MNIST could not be downloaded: {_one_line(error)}")
        return None
    finally:
        socket.setdefaulttimeout(before)


def _digits_of_subset() -> Digits:
    images, labels = mnist_subset()
    testing = np.zeros(len(labels), bool)
    for digit in range(10):
        of_class = np.flatnonzero(labels == digit)
        testing[of_class[len(of_class) * 4 // 5 :]] = True
    return Digits(
        images[~testing],
        labels[~testing],
        images[testing],
        labels[testing],
        "5,000 digits of MNIST that come with fastconv, 4,000 of them for training, because the whole MNIST was not "
        "found and cannot be downloaded. Give its path with --data or FASTCONV_MNIST.",
    )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
