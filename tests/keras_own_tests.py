"""Runs the tests that come with Keras for convolution, pooling and batch normalisation, on fastconv's layers.

``python tests/keras_own_tests.py`` exits with 0 if only the tests in `NOT_OURS` fail, all of those still fail, Keras
skips tests only for the reasons in `SKIPPED`, and fastconv's ops computed the results. It exits with 3 if this Keras
came without its tests (3.15's wheel has them).
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

import fastconv.keras
import fastconv.tensorflow
import keras
import pytest

# A part of the name of each test that fastconv's layers cannot pass, and why.
NOT_OURS: dict[str, str] = {}
# A part of each reason for which Keras skips tests, and what it means for fastconv's layers.
SKIPPED: dict[str, str] = {
    "`output_padding` greater than `strides`": "no layer accepts this combination of the test's parameters",
    "`output_padding` must be less than `strides`": "no layer accepts this combination of the test's parameters",
    "channels_first unsupported on CPU with TF": (
        "one test of Conv2DTranspose; ours supports it, see test_channels_first in test_keras_family.py"
    ),
    "Masking not supported": "Keras's Dot, which is not ours",
}
# The functions that the layers call.
FUNCTIONS = (
    "conv2d",
    "depthwise_conv2d",
    "conv2d_transpose",
    "max_pool2d",
    "avg_pool2d",
    "batch_norm",
    "batch_norm_inference",
    "activate",
    "add",
)
TESTS = (
    "convolutional/*",
    "pooling/*",
    "normalization/batch_normalization",
    "activations/activation",
    "activations/relu",
    "merging/merging",
)
FEWEST_CALLS = 250  # of these functions
FEWEST_TESTS = 300


class Record:
    """Collects the outcomes of the tests."""

    def __init__(self) -> None:
        self.passed: list[str] = []
        self.skipped: Counter[str] = Counter()  # by the reason that Keras's test gives
        self.failed: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed[report.nodeid] = report.longreprtext
        elif report.skipped:
            # (file, line, "Skipped: reason")
            self.skipped[report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)] += 1
        elif report.when == "call":
            self.passed.append(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed[report.nodeid] = report.longreprtext


def count_calls() -> Counter[str]:
    """Starts counting the calls of fastconv's functions."""
    calls: Counter[str] = Counter()

    def counted(name: str, function: Any) -> Any:
        def call(*arguments: Any, **keywords: Any) -> Any:
            result = function(*arguments, **keywords)
            calls[name] += 1
            return result

        return call

    for name in FUNCTIONS:
        setattr(fastconv.tensorflow, name, counted(name, getattr(fastconv.tensorflow, name)))
    return calls


def main() -> int:
    source = Path(keras.src.__file__).parent / "layers"
    files = sorted(file for name in TESTS for file in source.glob(f"{name}_test.py"))
    if not files:
        print(f"Keras {keras.__version__} came without its tests: no *_test.py below {source}")
        return 3
    for stock, ours in fastconv.keras.LAYERS.items():
        for module in (keras.layers, keras.src.layers):
            for name in [name for name, value in vars(module).items() if value is stock]:
                setattr(module, name, ours)
    calls = count_calls()
    record = Record()
    options = ["-q", "--tb=no", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", str(source), "-W", "ignore"]
    code = pytest.main([*options, *map(str, files)], plugins=[record])

    wrong = []
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        wrong.append(f"pytest ended with {code!r}")
    for test, why in record.failed.items():
        if not any(part in test for part in NOT_OURS):
            wrong.append(f"{test} failed:\n{why}")
    for part, reason in NOT_OURS.items():
        if not any(part in test for test in record.failed):
            wrong.append(f"NOT_OURS is out of date: no test named {part} failed (listed because: {reason})")
    for reason, count in record.skipped.items():
        if not any(part in reason for part in SKIPPED):
            wrong.append(f"skipped for a reason that is not in SKIPPED (tests: {count}): {reason}")
    if len(record.passed) < FEWEST_TESTS:
        wrong.append(f"tests that passed: {len(record.passed)}, expected at least {FEWEST_TESTS}")
    if sum(calls.values()) < FEWEST_CALLS or len(calls) < len(FUNCTIONS):
        wrong.append(f"expected at least {FEWEST_CALLS} calls of {', '.join(FUNCTIONS)}, got {dict(calls)}")
    for reason, count in record.skipped.most_common():
        meaning = next((meaning for part, meaning in SKIPPED.items() if part in reason), "not in SKIPPED")
        print(f"{count} {reason[0].lower()}{reason[1:]} ({meaning})")
    print(*wrong, sep="\n")
    print(
        f"Keras {keras.__version__}: {len(record.passed)} tests of {len(files)} files passed on fastconv's layers, "
        f"{record.skipped.total()} skipped, {len(record.failed)} failed; calls of fastconv's ops: {dict(calls)}"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
