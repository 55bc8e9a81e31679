"""The examples of the README and of docs/ run unchanged, and print what the pages show."""

from __future__ import annotations

import ast
import os
import re
import shutil
import struct
import subprocess
import sys
import textwrap
from importlib.util import find_spec
from pathlib import Path

import fastconv
import pytest
from processes import TIMEOUT

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GUIDE = ROOT / "CONTRIBUTING.md"
PATCHES = ROOT / "docs" / "contributing"
COMING_FROM = ROOT / "docs" / "coming_from.md"
RUNNABLE = [page for page in PAGES[1:] if "\n```python\n" in page.read_text(encoding="utf-8") and page != COMING_FROM]
MOST_BYTES_OF_A_PICTURE = 150_000
# By default, another test runs the blocks of serving.md.
SLOW_PAGES = {
    "distributed.md",
    "learn.md",
    "lenet.md",
    "serving.md",
    "tensorflow.md",
    "troubleshooting.md",
}


def blocks_of(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    return blocks_of(page.read_text(encoding="utf-8"), language)


def without_code(page: Path) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What links to the headings of a page end with, on a code host and on the site."""
    headings = re.findall(r"^#+ (.+)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def run(arguments: list[str], folder: Path) -> str:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "MPLCONFIGDIR": str(folder / "matplotlib")}
    # Without FASTCONV_MNIST, the examples use the digits of the package. The proxy does not exist, so they cannot reach
    # the network. They do not find the user's cache either.
    environment.update(KERAS_HOME=str(folder / "keras"), https_proxy="http://127.0.0.1:9", no_proxy="")
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.tensorflow
def test_each_python_block_of_the_readme_runs_alone(tmp_path: Path) -> None:
    """Readers copy a single block. The blocks run in one process, each with its own names."""
    examples = blocks(ROOT / "README.md", "python")
    assert len(examples) == 4
    script = tmp_path / "examples.py"
    script.write_text(f"for example in {examples!r}:\n    exec(example, {{}})\n", encoding="utf-8")
    run([str(script)], tmp_path)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] if page.name in SLOW_PAGES else []) for page in RUNNABLE],
    ids=lambda page: page.name,
)
def test_the_python_blocks_of_a_page_run_one_after_the_other(page: Path, tmp_path: Path) -> None:
    examples = blocks(page, "python")
    if any("lenet-out/" in example for example in examples):
        # An earlier command on the page makes this folder for the reader. Here it is made from fewer images.
        run(["-m", "fastconv", "lenet", "--limit", "600", "--epochs", "1", "--out", "lenet-out"], tmp_path)
    script = tmp_path / "examples.py"
    script.write_text("\n".join(examples), encoding="utf-8")
    run(["-W", "error::SyntaxWarning", str(script)], tmp_path)


@pytest.mark.parametrize(
    "library",
    [
        "scipy",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("cv2", "jax", "torch")),
        pytest.param("tensorflow", marks=[pytest.mark.slow, pytest.mark.tensorflow]),
    ],
)
def test_the_calls_of_another_library_agree_with_ours(library: str, tmp_path: Path) -> None:
    """The blocks compare the results themselves."""
    if find_spec(library) is None:  # importorskip would import it into this process
        pytest.skip(f"{library} is not installed")
    shared, *sections = COMING_FROM.read_text(encoding="utf-8").split("\n## ")
    imports = re.compile(rf"^(?:import|from) {library}\b", re.MULTILINE)
    (section,) = [section for section in sections if imports.search(section)]
    run(["-c", "\n".join(blocks_of(shared, "python") + blocks_of(section, "python"))], tmp_path)


@pytest.mark.tensorflow
def test_the_page_about_serving_serves_without_a_framework(tmp_path: Path) -> None:
    """The first block trains. The other blocks run in another process, and one of these prints the page's table."""
    page = ROOT / "docs" / "serving.md"
    train, *serve = blocks(page, "python")
    run(["-c", train], tmp_path)
    code = "import sys\nsys.modules['tensorflow'] = sys.modules['keras'] = None  # importing either fails now\n"
    printed = run(["-c", code + "\n".join(serve)], tmp_path)
    shown = next(block for block in blocks(page, "text") if block.startswith("operation"))
    assert "".join(printed.split()).startswith("".join(shown.split()))
    assert "damaged.fastconv" in printed.splitlines()[-1]


def test_the_page_shows_what_explain_prints(tmp_path: Path) -> None:
    """Numbers of tasks and bytes may depend on the CPU."""
    if fastconv.show_config("dicts")["isa"] != "avx512":
        pytest.skip("the page shows the output on a CPU with AVX-512")
    (shown,) = blocks(ROOT / "docs" / "functions.md", "text")
    call = next(
        line
        for block in blocks(ROOT / "docs" / "functions.md", "python")
        for line in block.splitlines()
        if "explain(" in line
    )
    printed = run(["-c", f"import fastconv\nfastconv.set_num_threads(2)\n{call}"], tmp_path)
    changing = r"\d+(?= tasks)|[\d.]+ [KM]iB"
    assert re.sub(changing, "", printed).split() == re.sub(changing, "", shown).split()


def test_the_numbers_and_the_picture_of_the_learn_page_come_from_its_script(tmp_path: Path) -> None:
    printed = run([str(ROOT / "docs" / "make_edges.py"), str(tmp_path)], tmp_path)
    assert blocks(ROOT / "docs" / "learn.md", "text") == [printed]
    assert_same_size("edges.png", tmp_path)


def assert_same_size(name: str, drawn: Path) -> None:
    """Text, and therefore the size of a PNG, changes slightly with matplotlib's version."""
    pictures = [(folder / name).read_bytes() for folder in (ROOT / "docs", drawn)]
    kept, new = (struct.unpack(">2I", picture[16:24]) for picture in pictures)
    assert pictures[0][:8] == pictures[1][:8] == b"\x89PNG\r\n\x1a\n"
    assert kept == pytest.approx(new, rel=0.05)
    assert len(pictures[0]) < MOST_BYTES_OF_A_PICTURE


@pytest.mark.slow
@pytest.mark.tensorflow
def test_the_other_pictures_of_the_learn_page_come_from_their_scripts(tmp_path: Path) -> None:
    run([str(ROOT / "docs" / "make_learn.py"), str(tmp_path)], tmp_path)
    short = ["--limit", "1000", "--epochs", "3", "--seeds", "2"]
    printed = run([str(ROOT / "docs" / "make_trained.py"), str(tmp_path), *short], tmp_path)
    page = (ROOT / "docs" / "learn.md").read_text(encoding="utf-8")
    assert next(line for line in printed.splitlines() if line.startswith("| after")) in page.splitlines()
    shown = re.findall(r"^!\[.+\]\((.+)\)$", page, re.MULTILINE)
    drawn = {path.name for path in tmp_path.iterdir() if path.suffix in (".png", ".gif")}
    assert drawn == {*shown} - {"edges.png"}
    for name in drawn - {"sliding.gif"}:
        assert_same_size(name, tmp_path)
    animations = [(folder / "sliding.gif").read_bytes() for folder in (ROOT / "docs", tmp_path)]
    assert [animation[:10] for animation in animations] == [animations[0][:10]] * 2  # GIF89a and the size
    assert len(animations[0]) < MOST_BYTES_OF_A_PICTURE


def test_the_picture_of_the_explore_page_loads_fast() -> None:
    picture = (ROOT / "docs" / "explore.png").read_bytes()
    assert picture[:8] == b"\x89PNG\r\n\x1a\n" and len(picture) < MOST_BYTES_OF_A_PICTURE


def test_the_notebook_is_the_learn_page(tmp_path: Path) -> None:
    run([str(ROOT / "docs" / "make_notebook.py"), str(tmp_path)], tmp_path)
    new = (tmp_path / "learn.ipynb").read_text(encoding="utf-8")
    assert new == (ROOT / "docs" / "learn.ipynb").read_text(encoding="utf-8"), "run docs/make_notebook.py"


@pytest.mark.slow
def test_the_notebook_runs(tmp_path: Path) -> None:
    for package in ("nbclient", "ipykernel"):
        pytest.importorskip(package)
    shutil.copy(ROOT / "docs" / "learn.ipynb", tmp_path)
    # In a process of its own: pytest makes errors of all warnings, those of Jupyter included.
    code = f"""
        import nbclient, nbformat
        notebook = nbformat.read("learn.ipynb", 4)
        nbclient.NotebookClient(notebook, timeout={TIMEOUT}).execute()
        print(sum(cell.cell_type == "code" for cell in notebook.cells))
    """
    printed = run(["-c", textwrap.dedent(code)], tmp_path)
    assert int(printed) == len(blocks(ROOT / "docs" / "learn.md", "python"))


@pytest.mark.parametrize("page", [*PAGES, GUIDE], ids=lambda page: page.name)
def test_every_link_into_the_repository_has_a_target(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", without_code(page)):
        if not target.startswith("https://"):
            path = page.parent / target if target else page
            assert path.exists(), target
            assert not anchor or anchor in anchors(path), f"{target}#{anchor}"


@pytest.mark.parametrize("page", [*PAGES, GUIDE], ids=lambda page: page.name)
def test_a_link_to_a_page_shows_its_title(page: Path) -> None:
    """Not the name of its file, apart from the pages that stand in for a file elsewhere."""
    text = without_code(page)
    if "\nThis page is [" not in text:
        assert re.findall(r"\[[^]]+\.md\]\(", text) == []


@pytest.mark.parametrize(
    "module", ["fastconv", "fastconv.keras", "fastconv.lenet", "fastconv.onnx", "fastconv.tensorflow"]
)
def test_the_api_page_lists_every_public_name(module: str) -> None:
    sections = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").split("\n## ")
    (section,) = [section for section in sections if section.startswith(f"{module}\n")]
    listed = re.findall(r"^   ([\w.]+)$", section, re.MULTILINE)
    source = Path(fastconv.__file__).parents[1].joinpath(*module.split("."), "__init__.py").read_text(encoding="utf-8")
    assigned = {
        target.id: node.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    aliases = {name for name, value in assigned.items() if isinstance(value, ast.Name)}
    public = {*ast.literal_eval(assigned["__all__"])} - aliases - {"__version__"}
    assert {name for name in listed if "." not in name} == public
    assert len(listed) == len(set(listed))


def test_the_worked_examples_apply_and_touch_few_files(tmp_path: Path) -> None:
    """`nox -s contributing` also builds and tests each."""
    printed = run([str(PATCHES / "replay.py"), "--check"], tmp_path)
    assert [line.split(":")[0] for line in printed.splitlines()] == sorted(
        path.stem for path in PATCHES.glob("*.patch")
    )


def test_the_guide_quotes_the_worked_examples() -> None:
    sections = GUIDE.read_text(encoding="utf-8").split("\n## ")
    found = []
    for section in sections:
        for name in re.findall(r"\[patch\]\(docs/contributing/(\w+)\.patch\)", section):
            found.append(name)
            patch = (PATCHES / f"{name}.patch").read_text(encoding="utf-8").splitlines()
            quoted = re.findall(r"^ *```diff\n(.*?)^ *```$", section, re.DOTALL | re.MULTILINE)
            lines = textwrap.dedent("".join(quoted)).splitlines()
            assert len(lines) > 3
            assert [line for line in lines if line not in (*patch, "...")] == []
            assert f"nox -s contributing -- {name}`" in section
    assert sorted(found) == sorted(path.stem for path in PATCHES.glob("*.patch"))
