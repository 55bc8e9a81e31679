"""Models of stock layers to models of ours and back."""

from __future__ import annotations

import warnings
import weakref
from collections import Counter
from typing import Any

import keras

import fastconv.keras
from fastconv.keras._classes import change_class, stock_class
from fastconv.keras._copying import copy_model
from fastconv.keras._fused import FUSED, fusible
from fastconv.keras._serving import OnCPU, why_stock

_changed_in_place: weakref.WeakSet[Any] = weakref.WeakSet()


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
        Whether a `Conv2D` without activation also does the work of a ``ReLU()`` or ``Activation("relu")`` right after
        it, if nobody else uses what is between them. Both layers stay in the model, with their names, but the output
        of the first is then that of the second.

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

    Notes
    -----
    A layer is replaced if it is of a class of ``keras.layers`` that `fastconv.keras.LAYERS` names: layers of your own
    subclasses of them stay, but the layers inside your layers and models are replaced. Global pools stay, which are
    reductions that TensorFlow computes as fast, and so do layers in a `TimeDistributed`, which maps over time in a way
    open to TensorFlow's own ops alone. Some layers in bfloat16 are replaced, but call TensorFlow's ops, where these are
    faster on the CPU at hand; `verbose` tells which. Names, configs and the order of layers and weights stay the same.
    XLA cannot compile the layers: a model compiled with ``jit_compile=True`` warns and goes on without.

    On two cores of an AVX-512 CPU, fusing made the pair of layers 1.02 to 1.3 times as fast in inference (six shapes,
    1.11 in the geometric mean) and 1.04 times in training. Convolution and pooling are not fused: after a 3 x 3
    convolution of 32 channels or more, all of the pool took less than 10 % of the time. Nor is batch normalisation
    folded into convolutions: that would be another model to train.

    `restore` is the way back.
    """
    _check_model(model)
    if not inplace:
        model = copy_model(model)
    fates = _fates(model)
    for conv, relu in fusible(model) if fuse else ():
        if fates[conv][0] or type(conv) is fastconv.keras.Conv2D:
            fates[conv] = FUSED[keras.layers.Conv2D], f"is fastconv's now, and computes {relu.name}"
            fates[relu] = FUSED[type(relu)], f"is computed by {conv.name}"
    for layer, (ours, _) in fates.items():
        if ours:
            change_class(layer, ours)
    _compile_functions_anew(model)
    if inplace:
        _changed_in_place.add(model)
    if verbose:
        print(_report(model, fates))
    return model


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
    """
    _check_model(model)
    if model not in _changed_in_place:
        model = copy_model(model)
    _changed_in_place.discard(model)
    for layer in model._flatten_layers():
        cls = type(layer)
        stock = stock_class(cls)
        if stock is not cls:
            change_class(layer, stock)
        elif issubclass(cls, tuple(fastconv.keras.LAYERS.values())):
            warnings.warn(
                f"fastconv.keras.restore: layer {layer.name!r} stays, as {cls.__name__} is a subclass of a "
                "layer of fastconv",
                stacklevel=2,
            )
    _compile_functions_anew(model)
    return model


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        hint = "; put the layer into a keras.Sequential" if isinstance(model, keras.Layer) else ""
        raise TypeError(f"model must be a keras.Model, got {type(model).__name__}{hint}")


def _fates(model: Any) -> dict[Any, tuple[type | None, str]]:
    """What each layer becomes, if anything, and why."""
    layers = model._flatten_layers(include_self=False)
    mapped_over_time = {
        inner
        for layer in layers
        if isinstance(layer, keras.layers.TimeDistributed)
        for inner in layer.layer._flatten_layers()
    }
    return {layer: _fate(layer, layer in mapped_over_time) for layer in layers}


def _fate(layer: Any, mapped_over_time: bool) -> tuple[type | None, str]:
    ours = fastconv.keras.LAYERS.get(type(layer))
    if ours is None:
        if stock_class(type(layer)) is not type(layer):
            return None, f"is fastconv's already{_stock_op(layer)}"
        for stock in fastconv.keras.LAYERS:
            if isinstance(layer, stock):
                return None, f"stays: a subclass of {stock.__name__}"
        return None, ""
    if not issubclass(ours, OnCPU):
        return None, "stays: TensorFlow reduces as fast"
    if mapped_over_time:
        return None, "stays: inside of a TimeDistributed"
    return ours, f"is fastconv's now{_stock_op(layer)}"


def _stock_op(layer: Any) -> str:
    why = why_stock(layer)
    return f", but calls TensorFlow's own op: {why}" if why else ""


def _report(model: Any, fates: dict[Any, tuple[type | None, str]]) -> str:
    told = [(layer.name, type(layer).__name__, why) for layer, (_, why) in fates.items() if why]
    names, classes = (max((len(row[i]) for row in told), default=0) for i in (0, 1))
    lines = [f"{name:{names}}  {cls:{classes}}  {why}" for name, cls, why in told]
    others = Counter(type(layer).__name__ for layer, (_, why) in fates.items() if not why)
    if others:
        kinds = ", ".join(f"{count} {name}" for name, count in others.most_common())
        lines.append(f"not of a kind that fastconv has: {kinds}")
    served = sum(stock_class(type(layer)) is not type(layer) for layer in fates)
    return "\n".join([*lines, f"{model.name}: {served} of {len(fates)} layers are fastconv's"])


def _compile_functions_anew(model: Any) -> None:
    """Forget functions traced with other layers, and whether XLA compiles them."""
    for part in model._flatten_layers():
        if isinstance(part, keras.Model):
            part.train_function = part.test_function = part.predict_function = None
            if part.compiled and hasattr(part, "_compile_config"):
                part.jit_compile = None  # TensorFlow skips the setter for a value that is there already
                part.jit_compile = part._compile_config.config["jit_compile"]
