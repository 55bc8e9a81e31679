"""Layers that change their class: from Keras's to ours and back."""

from __future__ import annotations

from typing import Any

import fastconv.keras
from fastconv.keras._fused import FUSED


def stock_class(cls: type) -> type:
    """The class of Keras that one of ours stands for; any other itself."""
    for mapping in (fastconv.keras.LAYERS, FUSED):
        for stock, ours in mapping.items():
            if cls is ours:
                return stock
    return cls


def change_class(layer: Any, cls: type) -> None:
    """Our layers add no state to Keras's. The object and its variables therefore stay the same."""
    object.__setattr__(layer, "__class__", cls)
