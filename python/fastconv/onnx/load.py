"""The function that loads an ONNX model."""

from __future__ import annotations

import os

from fastconv.network import Network
from fastconv.network.passes import simplify
from fastconv.onnx import _convolutions, _elementwise, _normalization, _pooling, _shapes  # noqa: F401
from fastconv.onnx._file import read_model
from fastconv.onnx._importer import graph_of


def load(path: str | os.PathLike[str], *, batch_invariant: bool = False) -> Network:
    """Load an ONNX model as a frozen network. The network needs only NumPy to run.

    Parameters
    ----------
    path : str or path
        A ``.onnx`` file. Weights in other files are read only from the folder of this file.
    batch_invariant : bool, optional
        Whether an image must give the same bits in a batch of any size. By default, the batch size may decide which
        algorithm computes a convolution with many filters and few pixels.

    Returns
    -------
    fastconv.Network
        Computes in float32 or float64, the type of the model's inputs. Inputs and outputs have the model's order of
        dimensions, such as (N, C, H, W).

    Raises
    ------
    TypeError
        If `path` is not a path, or `batch_invariant` is not a boolean.
    OSError
        If the file cannot be read.
    ValueError
        If the file is not an ONNX model, or if it contains nodes that cannot be converted. The message lists all of
        them.

    See Also
    --------
    fastconv.keras.freeze : Makes a network from a Keras model.

    Notes
    -----
    Images are converted to NHWC once, at the inputs of the network, and stay in this order until its outputs. Weights
    must be initializers, and shapes must follow from the shapes of the inputs. Control flow and integer tensors are not
    supported. PyTorch users export with ``torch.onnx.export``, Keras users with ``model.export("model.onnx",
    format="onnx")``. The batch size may be dynamic. Image sizes may be dynamic, too, unless the model resizes to the
    size of another tensor.

    Examples
    --------
    >>> import fastconv.onnx
    >>> net = fastconv.onnx.load("model.onnx")  # doctest: +SKIP
    >>> net(images).shape  # doctest: +SKIP
    (8, 1000)
    """
    graph = graph_of(read_model(path))
    simplify(graph)
    return Network(graph, batch_invariant=batch_invariant)
