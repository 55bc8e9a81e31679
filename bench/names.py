"""The names of contestants and of their versions, as the pages and pictures show them."""

from __future__ import annotations

import re
from typing import Any

SHOWN = {  # contestant -> its name
    "fastconv": "fastconv",
    "fused": "fastconv, accelerate(fuse=True)",
    "accelerated": "accelerated Keras",
    "stock": "stock Keras",
    "xla": "Keras + XLA",
    "tensorflow": "TensorFlow",
    "torch": "PyTorch",
    "jax": "JAX",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
    "litert": "LiteRT",
    "ncnn": "ncnn",
    "scipy": "SciPy",
    "opencv": "OpenCV",
    "numpy": "NumPy example",
    "floor": "floor: no convolution, no pooling",
}
# The library of a version number without a name, and the names that libraries give themselves.
_LIBRARIES = {
    **dict.fromkeys(("stock", "xla", "floor", "accelerated", "fused"), "TensorFlow"),
    **{"numpy": "NumPy", "keras": "Keras", "ai_edge_litert": "LiteRT"},
}
# A version number that may follow a name. Words such as "on" join two of them, and "+cpu" says how a library was built.
_VERSION = re.compile(r"(?:(?!with |on |in )\b([A-Za-z]\w*) )?\b(\d[\w.]*)")


def versions_text(versions: dict[str, str]) -> str:
    """The version of each library once, in a list such as "fastconv 0.1.0, TensorFlow 2.21.0"."""
    found: dict[str, None] = {}
    for contestant, text in versions.items():
        for name, number in _VERSION.findall(text):
            library = name or contestant
            found[f"{_LIBRARIES.get(library, SHOWN.get(library, library))} {number}"] = None
    return ", ".join(found)


def cpu_text(report: dict[str, Any]) -> str:
    """The CPU of a run, and the instructions that fastconv used: for example "AMD EPYC with AVX-512"."""
    cpu = re.sub(r" *[(](R|TM)[)]", "", report["machine"]["cpu"])
    isa = re.search(r"[(](\w+)[)]", report["versions"].get("fastconv", ""))
    vectors = {"avx2": " with AVX2", "avx512": " with AVX-512", "neon": " with NEON"}.get(isa[1] if isa else "", "")
    return cpu if vectors in cpu else cpu + vectors
