"""How each layer of Keras becomes operations of a frozen network. There is one file for each kind of layer."""

from fastconv.keras._freezing import activations, convolutions, merging, normalization, operations, pooling, reshaping
from fastconv.keras._freezing.registry import Unfreezable, converter_of

__all__ = [
    "Unfreezable",
    "activations",
    "converter_of",
    "convolutions",
    "merging",
    "normalization",
    "operations",
    "pooling",
    "reshaping",
]
