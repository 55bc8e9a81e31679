"""Loads frozen networks from files."""

from __future__ import annotations

import os

from fastconv.network._file import read_graph
from fastconv.network._network import Network


def load(path: str | os.PathLike[str], *, batch_invariant: bool = False) -> Network:
    """Load a frozen network that `Network.save` wrote.

    Parameters
    ----------
    path : str or path
        The file.
    batch_invariant : bool, optional
        Whether an image must give the same bits in a batch of any size. By default, the batch size may decide which
        algorithm computes a convolution with many filters and few pixels.

    Returns
    -------
    Network

    Raises
    ------
    TypeError
        If `path` is not a path, or `batch_invariant` is not a boolean.
    OSError
        If the file cannot be read.
    ValueError
        If the file is not a network, is damaged, or was written by a newer version.

    Notes
    -----
    The file is a zip archive of JSON and ``.npy`` members. Files from strangers are safe to load: nothing in them is
    executed or unpickled.
    """
    graph = read_graph(path)
    try:
        return Network(graph, batch_invariant=batch_invariant)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)} is not a network that fastconv can load: {error}") from error
