"""Options of the suite, and what it says about its random problems."""

from __future__ import annotations

import sys
from pathlib import Path

import hypothesis
import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the helpers beside the tests: reference, problems, ...

TALLY = pytest.StashKey[dict[str, tuple[int, float]]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fastconv")
    group.addoption("--slow", action="store_true", help="the wider run: ten times as many random problems")
    group.addoption("--problems", type=int, help="random problems of each function and dtype (default: 600)")
    group.addoption("--seed", type=int, default=1, help="seed of the random problems (default: %(default)s)")


def problem_count(config: pytest.Config) -> int:
    chosen: int | None = config.getoption("problems")
    return chosen if chosen is not None else 6000 if config.getoption("slow") else 600


def pytest_configure(config: pytest.Config) -> None:
    slow = bool(config.getoption("slow"))
    hypothesis.settings.register_profile(
        "fastconv",
        max_examples=2000 if slow else 150,
        deadline=None,
        derandomize=not slow,
        database=None,
        print_blob=True,
        suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.filter_too_much],
    )
    hypothesis.settings.load_profile("fastconv")
    config.stash[TALLY] = {}


def pytest_report_header(config: pytest.Config) -> str:
    return f"random problems: {problem_count(config)} of each function and dtype, seed {config.getoption('seed')}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("slow"):
        wide = [item for item in items if item.get_closest_marker("slow")]
        if wide:
            config.hook.pytest_deselected(items=wide)
            items[:] = [item for item in items if item not in wide]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for what, (count, worst) in sorted(config.stash[TALLY].items()):
        terminalreporter.write_line(f"{what}: {count} random problems, largest error {worst:.3f} of the bound")


@pytest.fixture(scope="session")
def seed(pytestconfig: pytest.Config) -> int:
    return int(pytestconfig.getoption("seed"))


@pytest.fixture(scope="session")
def count(pytestconfig: pytest.Config) -> int:
    return problem_count(pytestconfig)


@pytest.fixture(scope="session")
def tally(pytestconfig: pytest.Config) -> dict[str, tuple[int, float]]:
    """What was compared: number of problems and largest error, for the summary."""
    return pytestconfig.stash[TALLY]
