"""Writes learn.ipynb: the page learn.md as a notebook, with a cell for each Python block and without outputs.

Run: ``python docs/make_notebook.py [folder for learn.ipynb]``
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ABOUT = "[learn.ipynb](learn.ipynb) is this page as a notebook."


def cell(kind: str, index: int, text: str) -> dict[str, Any]:
    found: dict[str, Any] = {"cell_type": kind, "id": f"{kind}-{index}", "metadata": {}}
    if kind == "code":
        found |= {"execution_count": None, "outputs": []}
    return found | {"source": text.strip("\n").splitlines(keepends=True)}


def notebook(page: str) -> dict[str, Any]:
    """The notebook of a page in Markdown. Its pictures stay links to files beside it."""
    parts = BLOCK.split(page.replace(f"\n{ABOUT}", ""))  # text and code in turn
    cells = [cell("code" if i % 2 else "markdown", i, part) for i, part in enumerate(parts) if part.strip()]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def main(folder: Path) -> None:
    page = (DOCS / "learn.md").read_text(encoding="utf-8")
    text = json.dumps(notebook(page), indent=1, ensure_ascii=False) + "\n"
    (folder / "learn.ipynb").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS)
