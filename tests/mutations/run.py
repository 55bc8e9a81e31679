"""Proves that the suite detects broken sources: applies one mutation after another and expects the tests to fail.

    python tests/mutations/run.py [name ...]

Works on a copy of the sources in build/mutations, never on the sources themselves. The tests run with a copy of the
installed fastconv package, whose library is replaced. First the tests must pass with the unchanged sources. Each
mutation in `mutations.json` replaces a text in `file`: `search`, which must occur once, becomes `replace`. Then `tests`
must fail. Needs CMake.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import fastconv

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "mutations"
TREE, BUILD, SITE = WORK / "tree", WORK / "cmake", WORK / "site"
LIBRARY = "libfastconv.so"
TESTS_FAILED = 1  # pytest's exit status; any other status is an error of the script, not a failed test


def update_tree() -> None:
    """Copies only files that differ, so that the build recompiles nothing else."""
    for path in [ROOT / "CMakeLists.txt", *(p for p in (ROOT / "cpp").rglob("*") if p.is_file())]:
        copy = TREE / path.relative_to(ROOT)
        if not copy.exists() or copy.read_bytes() != path.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())


def build() -> None:
    with (WORK / "build.log").open("w") as log:
        if not (BUILD / "CMakeCache.txt").exists():
            subprocess.run(
                ["cmake", "-S", str(TREE), "-B", str(BUILD), "-DCMAKE_BUILD_TYPE=Release"],
                check=True, stdout=log, stderr=log,
            )  # fmt: skip
        command = ["cmake", "--build", str(BUILD), "--target", "fastconv", "-j", "2"]
        if subprocess.run(command, stdout=log, stderr=log, check=False).returncode != 0:
            raise SystemExit(f"the build failed, see {log.name}")
    shutil.copy(BUILD / LIBRARY, SITE / "fastconv" / LIBRARY)


def run_tests(tests: list[str]) -> int:
    environment = {**os.environ, "PYTHONPATH": str(SITE), "PYTHONDONTWRITEBYTECODE": "1"}
    # In one process, which stops at the first failure.
    options = ["-n0", "-x", "-q", "-p", "no:cacheprovider", "--problems", "100"]
    command = [sys.executable, "-m", "pytest", *options, *tests]
    with (WORK / "tests.log").open("w") as log:
        return subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False).returncode


def main() -> int:
    mutations = json.loads(Path(__file__).with_name("mutations.json").read_text())
    wanted = sys.argv[1:]
    unknown = set(wanted) - {mutation["name"] for mutation in mutations}
    if unknown:
        raise SystemExit(f"not in mutations.json: {', '.join(sorted(unknown))}")
    mutations = [m for m in mutations if not wanted or m["name"] in wanted]

    WORK.mkdir(parents=True, exist_ok=True)
    update_tree()
    for mutation in mutations:
        count = (TREE / mutation["file"]).read_text().count(mutation["search"])
        if count != 1:
            raise SystemExit(f"{mutation['name']}: `search` must occur once in {mutation['file']}, not {count} times")
    package = Path(fastconv.__file__).parent
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.copytree(package, SITE / "fastconv", ignore=shutil.ignore_patterns("__pycache__"))
    build()
    everything = sorted({test for mutation in mutations for test in mutation["tests"]})
    if run_tests(everything) != 0:
        raise SystemExit(f"the tests fail without any mutation, see {WORK / 'tests.log'}")
    print(f"the unchanged sources pass {' '.join(everything)}", flush=True)

    survived = []
    for mutation in mutations:
        started = time.monotonic()
        path = TREE / mutation["file"]
        path.write_text(path.read_text().replace(mutation["search"], mutation["replace"]))
        try:
            build()
            status = run_tests(mutation["tests"])
        finally:
            update_tree()
        if status not in (0, TESTS_FAILED):
            raise SystemExit(f"{mutation['name']}: pytest ended with status {status}, see {WORK / 'tests.log'}")
        seen = status == TESTS_FAILED
        if not seen:
            survived.append(mutation["name"])
        verdict = "detected" if seen else "SURVIVED"
        print(f"{verdict:8}  {mutation['name']}  ({time.monotonic() - started:.0f} s)", flush=True)
    print(f"{len(mutations) - len(survived)} of {len(mutations)} mutations detected")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
