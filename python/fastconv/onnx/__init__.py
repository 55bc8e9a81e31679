"""Loads ONNX models as frozen networks. Needs the package ``onnx``."""

from __future__ import annotations

from fastconv._extras import how_to_install

try:
    import onnx as _onnx  # noqa: F401
except ImportError as error:
    raise ImportError(f"fastconv.onnx needs the package onnx ({error}); {how_to_install('onnx')}") from error

from fastconv.onnx.load import load

__all__ = ["load"]
