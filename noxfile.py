"""The project's tasks: ``nox -l`` lists them, ``nox -s test -- tests/test_isa.py`` runs one with options of its own.

Each session has a virtual environment in .nox, which is used again. With ``--no-venv`` it takes the packages of the
interpreter that runs nox and builds fastconv into build/nox; only `develop` installs it then, too.
"""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import nox

nox.needs_version = ">=2024.4.15"
nox.options.sessions = ["lint", "test"]
nox.options.reuse_existing_virtualenvs = True

ROOT = Path(__file__).parent
BUILD = ROOT / "build" / "nox"
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
BUILD_REQUIRES: list[str] = [*PROJECT["build-system"]["requires"], "cmake", "ninja"]
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
CPP = [
    str(path.relative_to(ROOT))
    for folder in ("cpp", "bench")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".cpp", ".h")
]


def install(session: nox.Session, *packages: str) -> None:
    """Into the session's own environment only."""
    if session.venv_backend != "none":
        session.install(*packages)


def build(session: nox.Session, sources: Path, folder: Path) -> None:
    """Install fastconv alone into `folder`; what is there already is compiled again only if it has changed."""
    session.run(
        "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--upgrade",
        "--target", str(folder), str(sources), "-C", f"build-dir={folder}-cmake",
    )  # fmt: skip


def install_fastconv(session: nox.Session, extra: str) -> dict[str, str]:
    """Install fastconv with an extra; the environment variables with which Python finds it."""
    if session.venv_backend != "none":
        session.install(f".[{extra}]")
        return {}
    build(session, ROOT, BUILD / "site")
    return {"PYTHONPATH": str(BUILD / "site")}


@nox.session
def develop(session: nox.Session) -> None:
    """Install the working tree with all that its tests need; run it again after a change."""
    install(session, "numpy", *BUILD_REQUIRES, *EXTRAS["test"])
    session.run(
        "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", ".",
        "-C", f"build-dir={BUILD / 'develop-cmake'}",
    )  # fmt: skip
    python = session.run("python", "-c", "import sys; print(sys.executable)", silent=True)
    session.log(f"Test with: {str(python).strip()} -m pytest tests/test_against_reference.py --problems 50")


@nox.session
def test(session: nox.Session) -> None:
    """Install the package and run its tests; options go to pytest."""
    environment = install_fastconv(session, "test")
    session.run("python", "-m", "pytest", *session.posargs, env=environment)


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests with ten times as many random problems and the slow ones."""
    environment = install_fastconv(session, "test")
    session.run("python", "-m", "pytest", "--slow", *session.posargs, env=environment)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format and types."""
    tools = ("ruff", "mypy", "clang-format")
    install(session, "numpy", *(package for package in EXTRAS["test"] if package.startswith(tools)))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("clang-format", "--dry-run", "--Werror", *CPP)


@nox.session
def sanitize(session: nox.Session) -> None:
    """Run the tests of the kernels under AddressSanitizer and UndefinedBehaviorSanitizer."""
    install(session, "numpy", *BUILD_REQUIRES, *EXTRAS["test"])
    session.run("bash", "tests/sanitize.sh", *session.posargs, env={"PYTHON": "python"}, external=True)


@nox.session
def mutate(session: nox.Session) -> None:
    """Break the sources on purpose, one place after the other, and check that the tests see it."""
    install(session, *BUILD_REQUIRES)
    environment = install_fastconv(session, "test")
    session.run("python", "tests/mutations/run.py", *session.posargs, env=environment)


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmark against the peers that are installed; options go to python -m bench."""
    environment = install_fastconv(session, "bench")
    session.run("python", "-m", "bench", *session.posargs, env=environment)


@nox.session
def same_bits(session: nox.Session) -> None:
    """Compare the working tree with a revision, HEAD by default; options after it go to bench.compare_builds."""
    install(session, "numpy", *BUILD_REQUIRES)
    revision, *options = session.posargs or ["HEAD"]
    commit = session.run("git", "rev-parse", "--verify", f"{revision}^{{commit}}", silent=True, external=True)
    folder = BUILD / "revisions" / str(commit).strip()
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        session.run("git", "archive", "--output", str(folder / "sources.tar"), revision, external=True)
        with tarfile.open(folder / "sources.tar") as archive:
            archive.extractall(folder / "sources", filter="data")
        build(session, folder / "sources", folder / "site")
        (folder / "done").touch()
    build(session, ROOT, BUILD / "site")
    session.run(
        "python",
        "-m",
        "bench.compare_builds",
        str(folder / "site"),
        str(BUILD / "site"),
        *(options or ["--bits", "2000"]),
    )


@nox.session
def contributing(session: nox.Session) -> None:
    """Replay the worked examples of CONTRIBUTING.md on copies of the sources."""
    install(session, "numpy", *BUILD_REQUIRES, *EXTRAS["test"])
    session.run("python", "docs/contributing/replay.py", *session.posargs)
