"""The front end loads only the TensorFlow functions that it calls: if one is missing, the front end does not load."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "cpp" / "frontends" / "tensorflow"


def test_every_declared_function_is_called() -> None:
    declared = set(re.findall(r"^ +F\((TF_\w+),", (FOLDER / "c_api.h").read_text(), re.MULTILINE))
    sources = "".join(path.read_text() for path in FOLDER.iterdir() if path.name not in ("c_api.h", "c_api.cpp"))
    assert len(declared) > 30
    assert declared - set(re.findall(r"\b(TF_\w+)\(", sources)) == set()
