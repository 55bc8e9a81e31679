"""The project's tasks, as sessions of nox. ``nox -l`` lists them. Options follow ``--``, as in
``nox -s test -- tests/test_isa.py``.

Each session has a virtual environment in .nox, which later runs reuse. With ``--no-venv``, a session uses the packages
of the interpreter that runs nox, and builds fastconv into build/nox. Only `develop` installs fastconv then. If the
environment variable FASTCONV_TEST_INSTALLED is set as well, the sessions that call `install_fastconv` build nothing and
use the installed fastconv.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path

import nox

nox.needs_version = ">=2025.2.9"
nox.options.sessions = ["lint", "test"]
nox.options.reuse_existing_virtualenvs = True

ROOT = Path(__file__).parent
BUILD = ROOT / "build" / "nox"
PROJECT = nox.project.load_toml(ROOT / "pyproject.toml")
BUILD_REQUIRES: list[str] = [*PROJECT["build-system"]["requires"], "cmake", "ninja"]
# No server listens there. Whatever asks for a package or a file fails.
OFFLINE = {"PIP_NO_INDEX": "1", "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "no_proxy": ""}
WORKFLOWS = [str(path.relative_to(ROOT)) for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))]
MOST_BYTES_OF_A_WHEEL = 4_000_000
GLIBC = "2.28"  # the oldest that the wheels for an index run with
OLD_TENSORFLOW = "2.16.2"
REFERENCE_TESTS = ("against_reference", "drawn_geometries", "finite_differences", "conv_max_pool")
CPP = [
    str(path.relative_to(ROOT))
    for folder in ("cpp", "bench")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".cpp", ".h")
]


def extra(name: str) -> list[str]:
    """The packages of an extra. An extra may include another extra, as fastconv[other]."""
    found = []
    for package in PROJECT["project"]["optional-dependencies"][name]:
        other = package.removeprefix("fastconv[").removesuffix("]")
        found += [package] if other == package else extra(other)
    return found


def group(*names: str) -> tuple[str, ...]:
    """The packages of dependency groups."""
    return nox.project.dependency_groups(PROJECT, *names)


def install(session: nox.Session, *packages: str) -> None:
    """Install packages, but only if the session has its own environment."""
    if session.venv_backend != "none":
        session.install(*packages)


def build(session: nox.Session, sources: Path, folder: Path, *options: str) -> None:
    """Install fastconv into `folder`, without its dependencies. Unchanged sources are not compiled again."""
    session.run(
        "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--upgrade",
        "--target", str(folder), str(sources), "-C", f"build-dir={folder}-cmake", *options,
    )  # fmt: skip


def build_wheel(session: nox.Session) -> Path:
    """Build the source archive, and from it the wheel, offline and with the default compiler. Warnings are errors."""
    install(session, *BUILD_REQUIRES, *group("dist"))
    folder = BUILD / "wheel"
    shutil.rmtree(folder, ignore_errors=True)
    session.run(
        "python", "-m", "build", "--no-isolation", "--outdir", str(folder), "-C", "cmake.define.FASTCONV_WERROR=ON",
        env=OFFLINE,
    )  # fmt: skip
    session.run("twine", "check", "--strict", *map(str, folder.iterdir()))
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_size(session: nox.Session, wheel: Path) -> None:
    size = wheel.stat().st_size
    session.log(f"{wheel}: {size / 1e6:.2f} MB")
    if size >= MOST_BYTES_OF_A_WHEEL:
        session.error(f"a wheel must have less than {MOST_BYTES_OF_A_WHEEL / 1e6:.1f} MB, got {size / 1e6:.2f} MB")


def install_fastconv(session: nox.Session, name: str) -> dict[str, str]:
    """Install fastconv, with an extra if the session has an environment of its own (see above).

    Returns the environment variables that Python needs to find fastconv.
    """
    if session.venv_backend != "none":
        session.install(f".[{name}]")
        return {}
    if os.environ.get("FASTCONV_TEST_INSTALLED"):
        return {}
    build(session, ROOT, BUILD / "site")
    return {"PYTHONPATH": str(BUILD / "site")}


@nox.session
def develop(session: nox.Session) -> None:
    """Install the working tree and all that its tests need. Run it again after each change."""
    install(session, "numpy", *BUILD_REQUIRES, *extra("test"))
    session.run(
        "python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", ".",
        "-C", f"build-dir={BUILD / 'develop-cmake'}",
    )  # fmt: skip
    python = session.run("python", "-c", "import sys; print(sys.executable)", silent=True)
    session.log(f"Test with: {str(python).strip()} -m pytest tests/test_against_reference.py --problems 50")


@nox.session
def tools(session: nox.Session) -> None:
    """Install what the other sessions need with --no-venv, besides the extra `test`. PyTorch is left out."""
    groups = group("lint", "dist", "docs", "notebook", "browser", "keras-exporter")
    session.run("python", "-m", "pip", "install", "--quiet", *BUILD_REQUIRES, *extra("serve"), *groups)


@nox.session
def test(session: nox.Session) -> None:
    """Install the package and run its tests. Options are passed to pytest."""
    environment = install_fastconv(session, "test")
    session.run("python", "-m", "pytest", *session.posargs, env=environment)


@nox.session
def test_numpy(session: nox.Session) -> None:
    """Install the package without TensorFlow, and run the tests that need none."""
    environment = install_fastconv(session, "test-numpy")
    session.run("python", "-m", "pytest", "-m", "not tensorflow", *session.posargs, env=environment)


@nox.session
def slow(session: nox.Session) -> None:
    """Run all tests, including the slow ones, with sixty times as many random problems."""
    environment = install_fastconv(session, "test")
    install(session, *extra("serve"), *group("exporters", "browser", "notebook"))
    session.run("python", "-m", "pytest", "--slow", *session.posargs, env=environment)


@nox.session
def pool(session: nox.Session) -> None:
    """Test the NumPy functions on the thread pool. By default, only the TensorFlow ops use it."""
    environment = install_fastconv(session, "test") | {"FASTCONV_THREADING": "pool"}
    tests = (f"tests/test_{test}.py" for test in ("same_bits", *REFERENCE_TESTS))
    session.run("python", "-m", "pytest", *tests, *session.posargs, env=environment)


@nox.session
def clang(session: nox.Session) -> None:
    """Build with the Clang in CXX, or an installed one, and test the kernels. Warnings are errors."""
    install(session, "numpy", *BUILD_REQUIRES, *extra("test"))
    names = ["clang++", *(f"clang++-{version}" for version in range(30, 10, -1))]
    compiler = os.environ.get("CXX") or next(filter(shutil.which, names), None)
    if compiler is None or "clang" not in compiler:
        session.error(f"CXX must name a clang++, got {compiler}: install Clang, or set CXX")
    options = [f"cmake.define.CMAKE_CXX_COMPILER={compiler}", "cmake.define.FASTCONV_WERROR=ON"]
    build(session, ROOT, BUILD / "clang", *(part for option in options for part in ("-C", option)))
    tests = (*REFERENCE_TESTS, "special_values", "same_bits", "memory_bounds")
    environment = {"PYTHONPATH": str(BUILD / "clang")}
    session.run(
        "python", "-m", "pytest", *(f"tests/test_{test}.py" for test in tests), *session.posargs, env=environment
    )


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the source archive and its wheel into build/nox/wheel, and check the wheel's size."""
    check_size(session, build_wheel(session))


@nox.session(python=nox.project.python_versions(PROJECT))
@nox.parametrize("cpu", ["x86_64", "aarch64"])
def wheels(session: nox.Session, cpu: str) -> None:
    """Build the wheels for an index into dist, one for each CPU and each Python that is installed.

    Two builds of a commit give the same bytes.
    """
    if session.venv_backend == "none":
        session.error("wheels needs an environment of each Python: leave out --no-venv")
    session.install(*BUILD_REQUIRES, *group("wheels"))
    folder = BUILD / "wheels" / f"{cpu}-{session.python}"
    shutil.rmtree(folder, ignore_errors=True)
    minor = str(session.python).replace(".", "")
    committed = session.run("git", "log", "-1", "--format=%ct", silent=True, external=True)
    environment = {
        "SOURCE_DATE_EPOCH": str(committed).strip(),
        # The names of the platform and of the extension, as Python itself has them on the other CPU.
        "_PYTHON_HOST_PLATFORM": f"linux-{cpu}",
        "SETUPTOOLS_EXT_SUFFIX": f".cpython-{minor}-{cpu}-linux-gnu.so",
    }
    options = (
        # One folder for all Pythons, whose wheels so share all but the extension. CMake must forget the last Python.
        f"build-dir=build/nox/wheels/{cpu}-cmake",
        "cmake.args=-U_Python*;-UPYTHON_*",
        "cmake.toolchain-file=cpp/toolchains/manylinux.cmake",
        f"cmake.define.FASTCONV_CPU={cpu}",
        f"cmake.define.FASTCONV_GLIBC={GLIBC}",
        "cmake.define.FASTCONV_WERROR=ON",
    )
    session.run(
        "python", "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), ".",
        *(part for option in options for part in ("-C", option)), env=environment,
    )  # fmt: skip
    (wheel,) = folder.glob("*.whl")
    name = wheel.name.split("-linux")[0]
    for older in (ROOT / "dist").glob(f"{name}-*{cpu}.whl"):
        older.unlink()
    # It names the wheel after the oldest glibc that has all symbols.
    session.run("auditwheel", "repair", "--only-plat", "--wheel-dir", "dist", str(wheel), env=environment)
    (repaired,) = (ROOT / "dist").glob(f"{name}-manylinux_*{cpu}.whl")
    check_size(session, repaired)


@nox.session
def wheels_macos(session: nox.Session) -> None:
    """Build the wheels for macOS into dist. This needs macOS and its compiler."""
    session.install(*group("wheels-macos"))
    session.run("cibuildwheel", "--platform", "macos", "--output-dir", "dist")


@nox.session
def sdist(session: nox.Session) -> None:
    """Build the source archive into dist."""
    install(session, *BUILD_REQUIRES, *group("dist"))
    session.run("python", "-m", "build", "--no-isolation", "--sdist", "--outdir", "dist")


@nox.session
def test_wheel(session: nox.Session) -> None:
    """Install the wheel in dist that is for this machine and this Python, and run some tests."""
    if session.venv_backend == "none":
        session.error("test_wheel needs an environment of its own: leave out --no-venv")
    session.install("--no-index", "--no-deps", "--find-links", "dist", "--only-binary", ":all:", "fastconv")
    session.install(*PROJECT["project"]["dependencies"], *extra("test-numpy"))
    tests = (f"tests/test_{test}.py" for test in (*REFERENCE_TESTS, "package", "network", "network_file"))
    session.run("python", "-m", "pytest", *tests, *session.posargs)


@nox.session
def tf216(session: nox.Session) -> None:
    """Test the wheel with the oldest TensorFlow that fastconv supports. This needs Python 3.10 to 3.12."""
    if session.venv_backend == "none":
        session.error("tf216 needs an environment of its own: leave out --no-venv")
    path = build_wheel(session)
    others = [package for package in extra("test") if not package.startswith("tensorflow")]
    session.install(str(path), f"tensorflow=={OLD_TENSORFLOW}", *others)
    parts = (
        "keras_*", "tensorflow_*", "training_ops", "training_kernels", "conv_max_pool_gradients", "xla", "saving",
        "accelerate*", "fusing", "distributed",
    )  # fmt: skip
    tests = [str(path.relative_to(ROOT)) for part in parts for path in (ROOT / "tests").glob(f"test_{part}.py")]
    session.run("python", "-m", "pytest", *sorted(tests), *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the site into build/docs. Run the examples of README, docs/ and examples/; check links and numbers."""
    environment = install_fastconv(session, "test")
    install(session, *group("docs"))
    # Pages of functions that no longer exist would stay.
    for folder in (ROOT / "docs" / "api", ROOT / "build" / "docs"):
        shutil.rmtree(folder, ignore_errors=True)
    options = ("-q", "-W", "--keep-going", "-n", "-d", "build/doctrees")
    session.run(
        "python", "-m", "sphinx", *options, "docs", "build/docs", env=environment | {"TF_CPP_MIN_LOG_LEVEL": "2"}
    )
    session.run(
        "python", "-m", "pytest", "tests/test_docs.py", "tests/test_examples.py", *session.posargs, env=environment
    )


@nox.session
def lint(session: nox.Session) -> None:
    """Check style, format and types."""
    install(session, *group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("clang-format", "--dry-run", "--Werror", *CPP)
    session.run("zizmor", "--offline", "--quiet", "--min-severity", "medium", ".github")
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *WORKFLOWS)


@nox.session
def sanitize(session: nox.Session) -> None:
    """Run the tests of the kernels under AddressSanitizer and UndefinedBehaviorSanitizer."""
    install(session, "numpy", *BUILD_REQUIRES, *extra("test"))
    session.run("bash", "tests/sanitize.sh", *session.posargs, env={"PYTHON": "python"}, external=True)


@nox.session
def emulate(session: nox.Session) -> None:
    """Test the kernels on a CPU that QEMU emulates: aarch64, Nehalem (no AVX) or Haswell (no AVX-512).

    Example: nox -s emulate -- Haswell tests/test_isa.py. The default is aarch64. Needs Debian's packages qemu-user
    and g++-aarch64-linux-gnu.
    """
    cpu, *options = session.posargs or ["aarch64"]
    environment = {}
    if cpu == "aarch64":
        install(session, "numpy", *BUILD_REQUIRES)
    else:
        environment = install_fastconv(session, "test-numpy")
    session.run("python", "tests/emulation/run.py", cpu, *options, env=environment)


@nox.session
def mutate(session: nox.Session) -> None:
    """Break the sources on purpose, in one place at a time, and check that the tests fail."""
    install(session, *BUILD_REQUIRES)
    environment = install_fastconv(session, "test")
    session.run("python", "tests/mutations/run.py", *session.posargs, env=environment)


@nox.session
def bench(session: nox.Session) -> None:
    """Run the benchmark against the libraries that are installed. Options are passed to python -m bench."""
    environment = install_fastconv(session, "bench")
    session.run("python", "-m", "bench", *(session.posargs or ["layers"]), env=environment)


@nox.session
def same_bits(session: nox.Session) -> None:
    """Compare the working tree with a revision, by default HEAD. Further options are passed to bench.compare_builds."""
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
    install(session, "numpy", *BUILD_REQUIRES, *extra("test"))
    session.run("python", "docs/contributing/replay.py", *session.posargs)


@nox.session
def nightly(session: nox.Session) -> None:
    """Run the sessions that take too long for each change: slow, mutate, contributing, tf216."""
    if session.posargs:  # options mean something else in each session
        session.error("nightly takes no options: run its sessions one by one to pass options")
    for name in ("slow", "mutate", "contributing", "tf216"):
        session.notify(name)
