"""Options of the suite, its distribution over processes, tests that need other packages, and the final summary."""

from __future__ import annotations

import ast
import gc
import os
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hypothesis
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the helpers beside the tests: reference, problems, ...

# By default, waiting OpenMP threads spin and take the CPU from tests in other processes.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

from workers import ISAS, worker

PROBLEMS, SLOW_PROBLEMS = 100, 6000
SLOW_TIMEOUT = 3600  # seconds for one test
MOST_WORKERS = 8  # TensorFlow takes half a gigabyte in each

HAS_TENSORFLOW = find_spec("tensorflow") is not None
NEED_TENSORFLOW = {
    "tensorflow", "keras", "keras_models", "lenet_runs", "fastconv.keras", "fastconv.tensorflow", "fastconv.lenet",
    "test_bench",
}  # fmt: skip
HAS_ONNX = find_spec("onnx") is not None
NEED_ONNX = {"onnx", "onnx_models", "fastconv.onnx"}

# By default, a worker runs a whole file, so that the file's fixtures are made once. The tests in these files are
# distributed one by one.
SPLIT = {
    "test_against_reference",
    "test_applications",
    "test_bench",
    "test_docs",
    "test_memory_bounds",
    "test_same_bits",
}
# The slowest files start first, so that all workers end at about the same time.
FIRST = (
    "test_threads", "test_bench", "test_lenet", "test_fork", "test_distributed", "test_lenet_interrupted",
    "test_keras_own_tests", "test_training_agrees",
)  # fmt: skip

TALLY = pytest.StashKey[dict[str, tuple[int, float]]]()
NOT_RUN = pytest.StashKey[set[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastconv")
    group.addoption("--slow", action="store_true", help=f"run slow tests, too, and {SLOW_PROBLEMS} random problems")
    group.addoption("--problems", type=int, help=f"random problems for each function and dtype (default: {PROBLEMS})")
    group.addoption("--seed", type=int, default=1, help="seed of the random problems (default: %(default)s)")


def problem_count(config: pytest.Config) -> int:
    chosen: int | None = config.getoption("problems")
    return chosen if chosen is not None else SLOW_PROBLEMS if config.getoption("slow") else PROBLEMS


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    slow = bool(config.getoption("slow"))
    if slow and config.getoption("timeout") is None:
        config.option.timeout = SLOW_TIMEOUT
    hypothesis.settings.register_profile(
        "fastconv",
        max_examples=2000 if slow else 100,
        deadline=None,
        derandomize=not slow,
        database=None,
        print_blob=True,
        suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.filter_too_much],
    )
    hypothesis.settings.load_profile("fastconv")
    config.stash[TALLY], config.stash[NOT_RUN] = {}, set()


def pytest_report_header(config: pytest.Config) -> str:
    return f"random problems: {problem_count(config)} for each function and dtype, seed {config.getoption('seed')}"


# ---- Several processes ----------------------------------------------------------------------------------------------


def file_of(nodeid: str) -> str:
    return Path(nodeid.split("::")[0]).stem


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """No workers for a single file, so that it starts sooner and its output is visible."""
    if len({file_of(argument) for argument in config.args}) == 1 and not Path(config.args[0]).is_dir():
        return 0
    return min(len(os.sched_getaffinity(0)), MOST_WORKERS)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return nodeid if file_of(nodeid) in SPLIT else file_of(nodeid)

    return ByFile(config, log)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Collect a worker's part of the summary."""
    said = getattr(node, "workeroutput", {})
    node.config.stash[TALLY].update({what: tuple(values) for what, values in said.get("tally", {}).items()})
    node.config.stash[NOT_RUN].update(said.get("not_run", []))


def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    if hasattr(config, "workeroutput"):
        config.workeroutput["tally"] = config.stash[TALLY]
        config.workeroutput["not_run"] = sorted(config.stash[NOT_RUN])


# ---- TensorFlow and ONNX --------------------------------------------------------------------------------------------


def imports_any(path: Path, modules: set[str]) -> bool:
    """Whether the file imports one of the modules at module level."""
    found = set()
    for statement in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.Import):
            found |= {alias.name for alias in statement.names}
        elif isinstance(statement, ast.ImportFrom):
            found.add(statement.module)
    return not found.isdisjoint(modules)


def imports_tensorflow(path: Path) -> bool:
    return imports_any(path, NEED_TENSORFLOW)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore files that import a package that is not installed.

    Also ignore files that import TensorFlow if its tests are deselected, because the import takes seconds.
    """
    if not collection_path.name.startswith("test_") or collection_path.suffix != ".py":
        return None
    if not HAS_ONNX and imports_any(collection_path, NEED_ONNX):
        config.stash[NOT_RUN].add(f"{collection_path.name}: onnx is not installed")
        return True
    not_wanted = config.getoption("markexpr") == "not tensorflow"
    if (HAS_TENSORFLOW and not not_wanted) or not imports_tensorflow(collection_path):
        return None
    if not not_wanted:
        config.stash[NOT_RUN].add(f"{collection_path.name}: TensorFlow is not installed")
    return True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for path in {item.path for item in items}:
        if imports_tensorflow(path):
            for item in items:
                if item.path == path:
                    item.add_marker("tensorflow")
    if not HAS_TENSORFLOW:
        for item in items:
            if item.get_closest_marker("tensorflow"):
                item.add_marker(pytest.mark.skip(reason="TensorFlow is not installed"))
    if not config.getoption("slow"):
        wide = [item for item in items if item.get_closest_marker("slow")]
        if wide:
            config.hook.pytest_deselected(items=wide)
            items[:] = [item for item in items if item not in wide]
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: FIRST.index(item.path.stem) if item.path.stem in FIRST else len(FIRST))


def pytest_collection_finish() -> None:
    """Exclude TensorFlow's million objects from garbage collection: they stay alive, and scanning them is slow."""
    gc.collect()
    gc.freeze()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for what, (count, worst) in sorted(config.stash[TALLY].items()):
        terminalreporter.write_line(f"{what}: random problems: {count}, largest error: {worst:.3f} times the bound")
    not_run = sorted(config.stash[NOT_RUN])
    if not_run:
        terminalreporter.write_sep("!", "promises that this run did not test", yellow=True, bold=True)
        for what in not_run:
            terminalreporter.write_line(what, yellow=True)


@pytest.fixture(scope="session")
def isa_workers() -> Iterator[dict[str, ProcessPoolExecutor]]:
    """A process for each instruction set."""
    with ExitStack() as stack:
        yield {isa: stack.enter_context(worker(FASTCONV_ISA=isa)) for isa in ISAS}


@pytest.fixture(params=ISAS)
def isa_worker(request: pytest.FixtureRequest, isa_workers: dict[str, ProcessPoolExecutor]) -> ProcessPoolExecutor:
    return isa_workers[request.param]


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("seed"))


@pytest.fixture(scope="session")
def count(pytestconfig: pytest.Config) -> int:
    return problem_count(pytestconfig)


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> dict[str, tuple[int, float]]:
    """For the summary: the number of problems and the largest error of each function and dtype."""
    return pytestconfig.stash[TALLY]


@pytest.fixture(scope="session")
def not_run(pytestconfig: pytest.Config) -> set[str]:
    """For the summary: promises that this run cannot test."""
    return pytestconfig.stash[NOT_RUN]
