"""Reads the file of an ONNX model, and the files beside it that hold its weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import onnx
from onnx.external_data_helper import load_external_data_for_tensor, uses_external_data


def read_model(path: str | os.PathLike[str]) -> Any:
    """The model, with all weights and with the shapes that onnx can infer."""
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a path to a .onnx file, got {type(path).__name__}")
    file = Path(path)
    data = file.read_bytes()
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf raises its own types
        raise ValueError(f"{file} is not an ONNX model") from error
    if not model.graph.output or not model.opset_import:
        raise ValueError(f"{file} is not an ONNX model: it has no outputs or no operator set")
    for tensor in _tensors(model.graph):
        if uses_external_data(tensor):
            _check_location(tensor, file)
            try:
                load_external_data_for_tensor(tensor, str(file.parent.resolve()))
            except Exception as error:  # onnx raises several types
                raise ValueError(f"{file}: the weights of {tensor.name!r} cannot be read: {error}") from error
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]
    return model


def _tensors(graph: Any) -> Any:
    """All tensors of the main graph, of its initializers and its attributes."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors


def _check_location(tensor: Any, file: Path) -> None:
    """Refuse weights outside the folder of the model. A file from a stranger could name any file of the user."""
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    folder = file.parent.resolve()
    target = (folder / location).resolve()
    if not location:
        raise ValueError(f"{file}: the weights of {tensor.name!r} are in another file, but the model does not name it")
    if not target.is_relative_to(folder):
        raise ValueError(
            f"{file}: the weights of {tensor.name!r} are in {str(target)!r}, which is outside the folder of the model; "
            "move them into this folder"
        )
    if not target.is_file():
        raise ValueError(f"{file}: the file {location!r} with the weights of {tensor.name!r} is missing")
