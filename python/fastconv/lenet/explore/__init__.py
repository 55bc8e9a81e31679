"""Writes ``explore.html``: one page that shows the trained network at work, without a network or a server.

The page's template, style and scripts are the files beside this one. The writer joins them, and adds the weights and
some test digits.
"""

from __future__ import annotations

import base64
import json
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

MOST_DIGITS = 100
# In this order: each file uses what the files before it define.
_SCRIPTS = ("dom.js", "network.js", "colours.js", "drawing.js", "maps.js", "detail.js", "main.js")


def write_page(
    path: Path,
    weights: dict[str, list[npt.NDArray[Any]]],
    images: npt.NDArray[np.uint8],
    labels: npt.NDArray[np.int64],
    facts: str,
) -> None:
    """Write the page.

    Parameters
    ----------
    path : Path
    weights : dict of str to list of arrays
        For each layer of `fastconv.lenet.model`, in order, its filters and bias. An empty list stands for a 2x2
        max-pooling.
    images : ndarray of uint8, shape (N, 28, 28)
        Test digits. The page shows a hundred of them, if possible ten of each class.
    labels : ndarray of int64, shape (N,)
    facts : str
        A sentence about the training, for the top of the page.
    """
    chosen = choose_digits(labels)
    content = {
        "facts": facts,
        "layers": [_layer(name, *arrays) for name, arrays in weights.items()],
        "images": _base64(images[chosen]),
        "labels": labels[chosen].tolist(),
    }
    # ReLU follows all dense layers but the last.
    content["layers"][-1]["relu"] = False
    page = _read("page.html")
    for mark, text in (
        ("@STYLE@", _read("style.css")),
        ("@SCRIPT@", "\n".join(map(_read, _SCRIPTS))),
        ("@DATA@", json.dumps(content).replace("<", "\\u003c")),
    ):
        page = page.replace(mark, text)
    path.write_text(page, encoding="utf-8")


def choose_digits(labels: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Places of at most a hundred digits, sorted by class: the first ten of each class, and others if these are few."""
    rank = np.zeros(len(labels), np.intp)  # how many of its class come before each digit
    for digit in np.unique(labels):
        of_class = np.flatnonzero(labels == digit)
        rank[of_class] = np.arange(len(of_class))
    first = np.argsort(rank, kind="stable")[:MOST_DIGITS]
    return first[np.lexsort((first, labels[first]))]


def _layer(name: str, *arrays: npt.NDArray[Any]) -> dict[str, Any]:
    if not arrays:
        return {"name": name, "kind": "pool", "size": 2}
    kernel, bias = arrays
    kind: dict[str, Any] = {"kind": "conv"} if kernel.ndim == 4 else {"kind": "dense", "relu": True}
    return {"name": name, **kind, "shape": kernel.shape, "kernel": _floats(kernel), "bias": _floats(bias)}


def _floats(array: npt.NDArray[Any]) -> str:
    return _base64(array.astype("<f4"))


def _base64(array: npt.NDArray[Any]) -> str:
    return base64.b64encode(array.tobytes()).decode("ascii")


def _read(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")
