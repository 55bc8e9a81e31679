"""Finds the function that converts a layer or an operation of Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras

from fastconv.keras._classes import stock_class

Converter = Callable[..., Any]


class Unfreezable(Exception):
    """Why one layer or operation cannot be frozen, and what to do."""


_layers: dict[type, Converter] = {}
_by_name: dict[tuple[str, str], Converter] = {}

# A subclass computes what its base class computes unless it overrides one of these.
_METHODS = ("__call__", "call", "convolution_op", "_merge_function")


def public_class(name: str) -> type | None:
    """A class of ``keras.layers``, or None if this version of Keras lacks it."""
    return getattr(keras.layers, name, None)


def converts(*classes: type | None) -> Callable[[Converter], Converter]:
    """Register a function for classes of layers. None stands for a class that this version of Keras lacks."""

    def register(function: Converter) -> Converter:
        _layers.update({cls: function for cls in classes if cls is not None})
        return function

    return register


def converts_named(module: str, *names: str) -> Callable[[Converter], Converter]:
    """Register a function for classes that are not public, by the start of their module's name and their own name."""

    def register(function: Converter) -> Converter:
        _by_name.update({(module, name): function for name in names})
        return function

    return register


def converter_of(operation: Any) -> Converter | None:
    """The function for a layer or an operation, or None if there is none."""
    cls = stock_class(type(operation))
    for (module, name), function in _by_name.items():
        if cls.__name__ == name and cls.__module__.startswith(module):
            return function
    for base in cls.__mro__:
        if base in _layers:
            same = all(getattr(cls, name, None) is getattr(base, name, None) for name in _METHODS)
            return _layers[base] if same else None
    return None
