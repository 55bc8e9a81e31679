"""Replaces the layers of a model by fastconv's, and back."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np


def accelerate(model: Any, *, inplace: bool = False, verbose: bool = False, fuse: bool = False) -> Any:
    """Replace the layers of a model by fastconv's, with the same weights.

    Parameters
    ----------
    model : keras.Model
        A functional, sequential or subclassed model. It may contain other models, may be compiled, and need not be
        built.
    inplace : bool
        Whether to change the layers of `model` itself instead of making a copy. Some models, among them many subclassed
        ones, cannot be copied, because their config is incomplete.
    verbose : bool
        Whether to print a table that says for each layer whether it was replaced, and if not, why. With ``fuse=True``,
        the table also shows which layers are fused.
    fuse : bool
        Whether one op computes several layers in graphs (`predict`, `fit`, ``tf.function``): a batch normalisation and
        the `Add` and the activation right after it, a `Conv2D` and a ReLU, a small `Conv2D` and a `MaxPooling2D`, or,
        in `predict`, a convolution and a batch normalisation. All layers stay in the model with their own outputs.

    Returns
    -------
    keras.Model
        A copy with the same weights. If `model` is compiled, so is the copy, and its optimizer is in the same state.
        With ``inplace=True``, `model` itself.

    Raises
    ------
    TypeError
        If `model` is not a Keras model, or another argument is neither True nor False.
    ValueError
        If `model` cannot be copied.
    ImportError
        If fastconv cannot change models of this version of Keras.

    See Also
    --------
    restore : Puts Keras's own layers back.

    Notes
    -----
    A layer is replaced if its class is a key of `fastconv.keras.LAYERS`. Instances of your own subclasses of these
    classes are not replaced. Layers inside your own layers and models are replaced, as are those in a
    `TimeDistributed`. Global pools, `Add`, `ReLU` and activations other than GELU and SiLU are not replaced, because
    TensorFlow's ops are as fast, nor is a `BatchNormalization` that `fastconv.keras.BatchNormalization` leaves to
    Keras. Some layers in bfloat16 are replaced but call TensorFlow's ops, if these are faster on the CPU;
    ``verbose=True`` shows which. Names, configs and the order of layers and weights do not change. XLA cannot compile
    the layers. For a model compiled with ``jit_compile=True``, Keras warns and continues without XLA.

    With ``fuse=True``, a layer is fused into the layer before it only if nothing else in the model uses the output of
    the layer before. The activations are `ReLU`, `LeakyReLU`, and `Activation` with the functions that
    `fastconv.keras.Activation` computes. Results round differently than without fusing. Large convolutions
    and pooling are not fused: after a 3 x 3 convolution of 32 channels or more, the pooling took less than 10 % of the
    time.
    """
    _check_model(model)
    for name, value in (("inplace", inplace), ("verbose", verbose), ("fuse", fuse)):
        _check_flag(name, value)
    from fastconv.keras import _conversion  # not at the top, because it needs private names of Keras

    return _conversion.accelerate(model, inplace, verbose, fuse)


def restore(model: Any) -> Any:
    """Replace fastconv's layers by Keras's own, with the same weights. Processes without fastconv can use the result.

    Parameters
    ----------
    model : keras.Model
        Any model with fastconv's layers, whether `accelerate` has made it or not.

    Returns
    -------
    keras.Model
        A copy, compiled if `model` is. If `model` was accelerated in place, `model` itself.

    Raises
    ------
    TypeError
        If `model` is not a Keras model.
    ValueError
        If `model` cannot be copied.
    ImportError
        If fastconv cannot change models of this version of Keras.
    """
    _check_model(model)
    from fastconv.keras import _conversion  # not at the top, because it needs private names of Keras

    return _conversion.restore(model)


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        hint = "; put the layer into a keras.Sequential" if isinstance(model, keras.Layer) else ""
        raise TypeError(f"model must be a keras.Model, got {type(model).__name__}{hint}")


def _check_flag(name: str, value: Any) -> None:
    # Keras's own `verbose` is 0 or 1.
    if not (isinstance(value, (bool, int, np.bool_)) and value in (0, 1)):
        raise TypeError(f"{name} must be True or False, got {value!r}")
