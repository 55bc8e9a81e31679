"""Changes the class of a layer, from Keras's to fastconv's and back."""

from __future__ import annotations

from typing import Any

import fastconv.keras
from fastconv.keras._folded import FOLDED
from fastconv.keras._fused import FUSED


def stock_class(cls: type) -> type:
    """The class of Keras that a class of fastconv replaces. Any other class is returned unchanged."""
    for mapping in (fastconv.keras.LAYERS, FUSED, FOLDED):
        for stock, ours in mapping.items():
            if cls is ours:
                return stock
    return cls


def change_class(layer: Any, cls: type) -> None:
    """Change the class of a layer in place. This is safe, because fastconv's classes add no state to Keras's."""
    object.__setattr__(layer, "__class__", cls)
