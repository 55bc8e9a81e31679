"""Finds channel shuffles, which models write as several nodes: split the channels into groups, transpose, and join."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx

from fastconv.onnx._constants import Constants


def find_channel_shuffles(makers: Mapping[str, Any], constants: Constants) -> dict[str, Any]:
    """For each value that is the channel shuffle of another value: a node that computes it."""
    found = {}
    for output, joined in makers.items():
        turned = makers.get(joined.input[0]) if joined.op_type == "Reshape" else None
        split = makers.get(turned.input[0]) if turned is not None and turned.op_type == "Transpose" else None
        if turned is None or split is None or split.op_type != "Reshape":
            continue
        order = next((list(attribute.ints) for attribute in turned.attribute if attribute.name == "perm"), None)
        before, apart, after = (_sizes(constants, name) for name in (split.input[0], split.output[0], output))
        if order != [0, 2, 1, 3, 4] or len(before) != 4 or len(apart) != 5 or before != after:
            continue
        if [apart[0], *apart[3:]] == [before[0], *before[2:]] and isinstance(apart[1], int):
            found[output] = onnx.helper.make_node(
                "ChannelShuffle", [split.input[0]], [output], name=joined.name, group=apart[1]
            )
    return found


def _sizes(constants: Constants, name: str) -> list[int | str]:
    """The sizes of a tensor, or their names. Empty if some dimension has neither size nor name."""
    symbols = constants.symbols.get(name, [])
    sizes = [size or symbol for size, symbol in zip(constants.shapes.get(name, ()), symbols, strict=True)]
    return sizes if all(sizes) else []
