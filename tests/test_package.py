"""The package: what importing it loads, its names, its configuration, and the release of the GIL during a call."""

from __future__ import annotations

import contextlib
import importlib.metadata
import inspect
import io
import json
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import fastconv
import pytest
from arrays import random
from processes import TIMEOUT


def test_show_config_reports_what_is_in_use() -> None:
    config = fastconv.show_config(mode="dicts")
    assert config["version"] == fastconv.__version__
    assert config["isa"] in config["isa_available"]
    assert config["threads"] == fastconv.get_num_threads()
    assert config["threading"] in ("openmp", "pool")
    assert config["compiler"]
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert fastconv.show_config() is None
    text = printed.getvalue()
    for value in [config["version"], config["compiler"], config["isa"], *config["isa_available"], config["threading"]]:
        assert value in text
    assert f"threads    {config['threads']}\n" in text


def test_the_metadata_describe_the_package_that_is_imported() -> None:
    metadata = importlib.metadata.metadata("fastconv")
    assert metadata["Version"] == fastconv.__version__
    assert metadata["License-Expression"] == "MIT AND CC-BY-SA-3.0"
    files = [str(file) for file in importlib.metadata.files("fastconv") or []]
    for license in metadata.get_all("License-File") or []:
        assert any(file.endswith(f"licenses/{license}") for file in files), license
    assert "fastconv/py.typed" in files


def test_the_description_has_no_link_that_only_the_sources_can_follow() -> None:
    description = importlib.metadata.metadata("fastconv").json["description"]
    assert "## Install" in description
    assert [target for target in re.findall(r"\]\(([^)]*)\)", description) if not target.startswith("https://")] == []


def test_show_config_refuses_an_unknown_mode() -> None:
    for wrong in ("print", None, 1):
        with pytest.raises(ValueError, match=r"^mode must be 'stdout' or 'dicts', got "):
            fastconv.show_config(wrong)  # type: ignore[call-overload]


def run_python(code: str) -> Any:
    """The JSON output of the code, run in another Python process."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_loads_numpy_and_little_else() -> None:
    modules = run_python(
        "import numpy, sys, json; before = set(sys.modules); import fastconv\n"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    assert "fastconv._core" in modules
    assert {name.split(".")[0] for name in modules} <= {"fastconv", "numpy", "__future__"}
    assert [name for name in modules if name in ("fastconv.keras", "fastconv.tensorflow", "fastconv.lenet")] == []


def test_computing_does_not_import_tensorflow() -> None:
    assert run_python(
        "import numpy as np, sys, json, fastconv; from fastconv import *\n"
        "y = conv2d(np.ones((1, 4, 4, 1), np.float32), np.ones((3, 3, 1, 2), np.float32)).tolist()\n"
        "print(json.dumps([y, 'tensorflow' in sys.modules, 'keras' in sys.modules]))"
    ) == [[[[[9, 9], [9, 9]], [[9, 9], [9, 9]]]], False, False]


def test_submodules_are_listed_and_load_on_first_access() -> None:
    assert {"keras", "lenet", "tensorflow"} <= set(dir(fastconv))
    assert run_python(
        "import fastconv, sys, json; before = 'fastconv.lenet' in sys.modules; name = fastconv.lenet.__name__\n"
        "print(json.dumps([before, name, 'fastconv.lenet' in sys.modules]))"
    ) == [False, "fastconv.lenet", True]


def test_an_unknown_attribute_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'fastconv' has no attribute 'conv3d'$"):
        _ = fastconv.conv3d  # type: ignore[attr-defined]


def test_public_names_have_docstrings() -> None:
    for name in fastconv.__all__:
        if name != "__version__":
            text = getattr(fastconv, name).__doc__
            kind = "Attributes\n" if inspect.isclass(getattr(fastconv, name)) else "Returns\n"
            assert (text and kind in text) or name == "set_num_threads", name


@pytest.fixture
def no_forced_thread_switch() -> Iterator[None]:
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    yield
    sys.setswitchinterval(interval)


def test_other_python_threads_run_during_a_call(no_forced_thread_switch: None) -> None:
    """Forced thread switches are off, so the other thread runs only if a call releases the GIL."""
    x, filters = random(4, 64, 64, 32), random(3, 3, 32, 32)
    started, proceed, seen = threading.Event(), threading.Event(), threading.Event()

    def other() -> None:
        started.set()
        proceed.wait()
        seen.set()

    thread = threading.Thread(target=other)
    thread.start()
    started.wait()
    proceed.set()
    turns = 0
    while not seen.is_set() and turns < 1000:
        fastconv.conv2d(x, filters)
        turns += 1
    ran_during_a_call = seen.is_set()
    thread.join()
    assert ran_during_a_call
