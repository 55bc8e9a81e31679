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
        Whether an image must give the same bits in a batch of any size. By default, the size may decide the algorithm
        of a convolution with many filters and few pixels, where that gains over a tenth of its time.

    Returns
    -------
    Network

    Raises
    ------
    TypeError
        If `path` is no path, or `batch_invariant` no boolean.
    OSError
        If the file cannot be read.
    ValueError
        If the file is no network, is damaged, or was written by a newer version.

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
