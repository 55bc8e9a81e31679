"""Turns a Keras model into a `fastconv.Network`."""

from __future__ import annotations

from typing import Any

import keras

from fastconv.network import Network
from fastconv.network.passes import simplify


def freeze(model: Any, *, batch_invariant: bool = False) -> Network:
    """Make a frozen network from a Keras model. The network needs only NumPy to run.

    Parameters
    ----------
    model : keras.Model
        A built functional or sequential model. It may contain other models, and fastconv's layers as well as Keras's.
    batch_invariant : bool, optional
        Whether an image must give the same bits in a batch of any size. By default, the batch size may decide which
        algorithm computes a convolution with many filters and few pixels.

    Returns
    -------
    fastconv.Network
        Computes what ``model(x, training=False)`` computes, in float32, or in float64 if this is the model's dtype.
        The network holds copies of the weights: training the model further does not change the network.

    Raises
    ------
    TypeError
        If `model` is not a Keras model, or `batch_invariant` is not a boolean.
    ValueError
        If the model is not built, or contains layers that cannot be frozen. The message lists all of them.

    See Also
    --------
    fastconv.load : Loads a network that was saved by `Network.save`.

    Notes
    -----
    Batch normalisation, `Normalization` and `Rescaling` are folded into the convolutions and dense layers next to them.
    Activations, additions and padding become part of the convolution before or after them. Layers that do something in
    training only are left out. The results differ from those of the model by rounding errors.

    Examples
    --------
    >>> import fastconv.keras
    >>> net = fastconv.keras.freeze(model)  # doctest: +SKIP
    >>> net.save("digits.fastconv")  # doctest: +SKIP
    """
    if not isinstance(model, keras.Model):
        raise TypeError(f"model must be a keras.Model, got {type(model).__name__}")
    from fastconv.keras import _walk  # not at the top, because it needs private names of Keras

    graph = _walk.graph_of(model)
    simplify(graph)
    return Network(graph, batch_invariant=batch_invariant)
