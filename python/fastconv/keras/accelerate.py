"""Models of stock layers to models of ours and back."""

from __future__ import annotations

from typing import Any

import keras


def accelerate(model: Any, *, inplace: bool = False, verbose: bool = False, fuse: bool = False) -> Any:
    """A model with the same weights in which each layer that fastconv serves is fastconv's.

    Parameters
    ----------
    model : keras.Model
        Functional, sequential or subclassed, with models and layers inside. It may be compiled, and need not be built.
    inplace : bool
        Whether to change the layers of the very model, which keeps all its objects, instead of a copy. A model whose
        config does not say how to make it again, as of many a subclassed model, can only be changed in place.
    verbose : bool
        Whether to print what became of each layer, and why.
    fuse : bool
        Whether, in graphs (`predict`, `fit`, ``tf.function``), a `Conv2D` without activation also does the work of a
        ``ReLU()`` or ``Activation("relu")`` right after it. Both layers stay in the model with their own outputs.

    Returns
    -------
    keras.Model
        A copy, compiled if `model` is, of the same state of optimizer and weights; with `inplace`, `model`.

    Raises
    ------
    TypeError
        If `model` is not a Keras model.
    ValueError
        If it cannot be copied.
    ImportError
        If Keras is a version whose models fastconv cannot change.

    Notes
    -----
    A layer is replaced if it is of a class of ``keras.layers`` that `fastconv.keras.LAYERS` names: layers of your own
    subclasses of them stay, but the layers inside your layers and models are replaced, as are those in a
    `TimeDistributed`. Global pools stay: TensorFlow's reductions are as fast. Some layers in bfloat16 are replaced, but
    call TensorFlow's ops, where these are faster on the CPU at hand; `verbose` tells which. Names, configs and the
    order of layers and weights stay the same. XLA cannot compile the layers: a model compiled with
    ``jit_compile=True`` warns and goes on without.

    On two cores of an AVX-512 CPU, fusing made the pair of layers 1.02 to 1.3 times as fast in inference (six shapes,
    1.11 in the geometric mean) and 1.04 times in training. Convolution and pooling are not fused: after a 3 x 3
    convolution of 32 channels or more, all of the pool took less than 10 % of the time. Nor is batch normalisation
    folded into convolutions: that would be another model to train.

    `restore` is the way back.
    """
    _check_model(model)
    from fastconv.keras import _conversion  # here, as it needs private names of Keras

    return _conversion.accelerate(model, inplace, verbose, fuse)


def restore(model: Any) -> Any:
    """A model with the same weights in Keras's own layers, for processes without fastconv.

    Parameters
    ----------
    model : keras.Model
        Any that has fastconv's layers, also if `accelerate` did not make it.

    Returns
    -------
    keras.Model
        A copy, compiled as `model` is; `model` itself if it was accelerated in place.

    Raises
    ------
    TypeError
        If `model` is not a Keras model.
    ValueError
        If it cannot be copied.
    ImportError
        If Keras is a version whose models fastconv cannot change.
    """
    _check_model(model)
    from fastconv.keras import _conversion  # here, as it needs private names of Keras

    return _conversion.restore(model)


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        hint = "; put the layer into a keras.Sequential" if isinstance(model, keras.Layer) else ""
        raise TypeError(f"model must be a keras.Model, got {type(model).__name__}{hint}")
