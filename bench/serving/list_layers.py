"""Writes layers.json: ``python -m bench.serving.list_layers``. It needs Keras."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import fastconv.keras
from fastconv.network import Graph

from bench.oracle import reference
from bench.serving import models
from bench.serving.layers import PATH

NETWORKS = ("LeNet", "ResNet50", "MobileNetV2", "EfficientNetB0", "VGG16", "DenseNet121")
UNET = "UNet"  # a small one, on images of 128 x 128


def layers_of(graph: Graph) -> list[dict[str, Any]]:
    """The distinct convolutions of a frozen network. Of equal layers, only the first is listed."""
    found: dict[str, dict[str, Any]] = {}
    for node in graph.nodes:
        if node.operation not in ("conv2d", "depthwise_conv2d", "conv2d_max_pool2d"):
            continue
        x, w = (graph.values[index or 0].shape for index in node.inputs[:2])
        strides = node.attributes.get("strides", [1, 1])
        padding = node.attributes.get("padding", "VALID")
        if isinstance(padding, str):
            pairs = reference.resolve_pads(padding.lower(), "NHWC", x[1:3], w[:2], strides, (1, 1))
            padding = [pad for pair in pairs for pad in pair]
        layer = {
            "size": list(x[1:3]),
            "channels": x[3],
            "filters": list(w),
            "strides": list(strides),
            "padding": list(padding),
            "depthwise": node.operation == "depthwise_conv2d",
            "activation": node.attributes.get("activation", ["linear"])[0],
        }
        found.setdefault(json.dumps(layer), {"name": node.name, **layer})
    return list(found.values())


def unet() -> Any:
    tests = Path(__file__).parents[2] / "tests"
    return runpy.run_path(str(tests / "frozen_models.py"))["unet"](16, 128)


def main() -> None:
    lists = []
    for network in (*NETWORKS, UNET):
        model = unet() if network == UNET else models.build(network)
        lines = [json.dumps(layer) for layer in layers_of(fastconv.keras.freeze(model)._graph)]
        lists.append(f'"{network}": [\n' + ",\n".join(lines) + "\n]")
    PATH.write_text("{\n" + ",\n".join(lists) + "\n}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
