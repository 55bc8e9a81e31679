"""Sphinx builds the site from the Markdown pages of this folder: ``nox -s docs``, or ``sphinx-build docs build/docs``.

The pages are plain Markdown and readable on a code host as well. Therefore two things happen only here: some pages
stand in for a file in another folder, and the sidebar follows the sections and links of ``index.md``.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import fastconv
from sphinx.application import Sphinx

DOCS = Path(__file__).parent.resolve()
ROOT = DOCS.parent
STAND_INS = {"contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md", "benchmarking": "bench/README.md"}

project = "fastconv"
version = release = fastconv.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc", "sphinx_copybutton"]
exclude_patterns = ["_templates"]
templates_path = ["_templates"]
nitpicky = True

myst_heading_anchors = 4
default_role = "autolink"  # `name` in a docstring is a link if there is such an object, and else emphasised
autosummary_generate = True
autosummary_imported_members = False
autodoc_typehints = "none"  # the docstrings name the types
numpydoc_show_class_members = False
numpydoc_class_members_toctree = False
# Docstrings also mark names of other libraries, and methods that a subclass inherits from Keras.
nitpick_ignore = [("py:obj", name) for name in ("threadpoolctl", "call", "convolution_op")]

html_theme = "furo"
pygments_dark_style = "github-dark"
html_title = f"fastconv {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_copyright = False

FENCES = re.compile(r"(^ *```.*?^ *```$)", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(#[^)\s]*)?\)")


def site_link(target: str, folder: Path) -> str:
    """The address that a link in a file of `folder` has on the site."""
    path = (folder / target).resolve()
    for page, file in STAND_INS.items():
        if path == ROOT / file:
            return f"{page}.md"
    return "index.md" if path == DOCS else Path(os.path.relpath(path, DOCS)).as_posix()


def with_site_links(text: str, folder: Path) -> str:
    """A page with the links that it has on the site. Code stays as it is."""
    parts = FENCES.split(text)
    for i in range(0, len(parts), 2):
        parts[i] = LINK.sub(lambda link: f"]({site_link(link[1], folder)}{link[2] or ''})", parts[i])
    return "".join(parts)


def toctrees(index: str) -> str:
    """A hidden table of contents for each section of index.md that lists pages."""
    found = []
    for section in index.split("\n## ")[1:]:
        entries = [f"{title} <{page}>" for title, page in re.findall(r"^- \[([^]]+)\]\((\w+)\.md\)", section, re.M)]
        if entries:
            caption = section.splitlines()[0]
            found.append("\n".join(["```{toctree}", ":hidden:", f":caption: {caption}", "", *entries, "```"]))
    return "\n\n".join(["", *found, ""])


def read_page(app: Sphinx, page: str, source: list[str]) -> None:
    folder = DOCS
    if page in STAND_INS:
        file = ROOT / STAND_INS[page]
        app.env.note_dependency(str(file))
        source[0], folder = file.read_text(encoding="utf-8"), file.parent
    if page.startswith("api/"):
        return
    source[0] = with_site_links(source[0], folder)
    if page == "index":
        source[0] += toctrees(source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", read_page)
    return {"parallel_read_safe": True}
