"""The implementation of `accelerate` and `restore`."""

from __future__ import annotations

import warnings
import weakref
from collections import Counter
from typing import Any

import keras

import fastconv.keras
from fastconv._console import print_table
from fastconv.keras._classes import change_class, stock_class
from fastconv.keras._copying import copy_model
from fastconv.keras._folded import FOLDED
from fastconv.keras._fused import FUSED
from fastconv.keras._fusible import fusible, is_fusible_kind
from fastconv.keras._keras_internals import compile_arguments, flatten_layers, keeps_compile_arguments
from fastconv.keras._serving import OnCPU, why_stock
from fastconv.keras.elementwise import Activation, Add, ReLU, gains
from fastconv.keras.normalization import BatchNormalization, why_keras

_changed_in_place: weakref.WeakSet[Any] = weakref.WeakSet()


def accelerate(model: Any, inplace: bool, verbose: bool, fuse: bool) -> Any:
    if not inplace:
        model = copy_model(model, "use accelerate(model, inplace=True), which makes no copy")
    fates = _fates(model)
    fused = fusible(model) if fuse else {}
    for layer, before in fused.items():
        stock = stock_class(type(layer))
        cls = FOLDED.get(stock, FUSED[stock]) if before else FUSED[stock]
        fates[layer] = None if type(layer) is cls else cls, _text_of_fused(layer, before)
    for layer, (ours, _) in fates.items():
        if ours:
            change_class(layer, ours)
    _compile_functions_anew(model)
    if inplace:
        _changed_in_place.add(model)
    if verbose:
        _print_report(model, fates)
        if fuse:
            kinds = [layer for layer in fates if is_fusible_kind(layer)]
            count = sum(layer in fused for layer in kinds)
            print(f"{model.name}: {count} of {len(kinds)} activations and additions are fused into the layer before")
    return model


def restore(model: Any) -> Any:
    if model not in _changed_in_place:
        model = copy_model(model)
    _changed_in_place.discard(model)
    for layer in flatten_layers(model):
        cls = type(layer)
        stock = stock_class(cls)
        if stock is not cls:
            change_class(layer, stock)
        elif issubclass(cls, tuple(fastconv.keras.LAYERS.values())):
            warnings.warn(
                f"fastconv.keras.restore: layer {layer.name!r} is not replaced, because its class {cls.__name__} "
                "derives from a layer of fastconv",
                stacklevel=3,
            )
    _compile_functions_anew(model)
    return model


def _fates(model: Any) -> dict[Any, tuple[type | None, str]]:
    """For each layer: the class that it gets, or None to keep its own, and the text for the report."""
    return {layer: _fate(layer) for layer in flatten_layers(model, include_self=False)}


def _fate(layer: Any) -> tuple[type | None, str]:
    ours = fastconv.keras.LAYERS.get(type(layer))
    if ours is None:
        if stock_class(type(layer)) is not type(layer):
            return None, f"already fastconv's{_stock_op(layer)}"
        for stock in fastconv.keras.LAYERS:
            if isinstance(layer, stock):
                return None, f"not replaced: a subclass of {stock.__name__}"
        return None, ""
    if not issubclass(ours, OnCPU):
        return None, "not replaced: TensorFlow's reduction is as fast"
    if ours in (Activation, Add, ReLU) and not gains(layer):
        return None, ""
    if ours is BatchNormalization and (argument := why_keras(layer)):
        return None, f"not replaced: {argument} is left to Keras"
    return ours, f"replaced{_stock_op(layer)}"


def _text_of_fused(layer: Any, before: list[Any]) -> str:
    into = f"fused into {' and '.join(one.name for one in before)}"
    if not isinstance(layer, keras.layers.BatchNormalization):
        return into
    return f"replaced, in inference {into}" if before else "replaced"


def _stock_op(layer: Any) -> str:
    why = why_stock(layer)
    return f", but calls TensorFlow's own op: {why}" if why else ""


def _print_report(model: Any, fates: dict[Any, tuple[type | None, str]]) -> None:
    rows = [(layer.name, type(layer).__name__, fate) for layer, (_, fate) in fates.items() if fate]
    if rows:
        print_table(["Layer", "Type", "Result"], rows, text=3)
    others = Counter(type(layer).__name__ for layer, (_, fate) in fates.items() if not fate)
    if others:
        kinds = ", ".join(f"{count} {name}" for name, count in others.most_common())
        print(f"other layers, not replaced: {kinds}")
    served = sum(stock_class(type(layer)) is not type(layer) for layer in fates)
    print(f"{model.name}: {served} of {len(fates)} layers are fastconv's")


def _compile_functions_anew(model: Any) -> None:
    """Drop functions that were traced with the former layers, and decide again whether XLA compiles the model."""
    for part in flatten_layers(model):
        if isinstance(part, keras.Model):
            part.train_function = part.test_function = part.predict_function = None
            if part.compiled and keeps_compile_arguments(part):
                part.jit_compile = None  # TensorFlow skips the setter below if the value does not change
                part.jit_compile = compile_arguments(part)["jit_compile"]
