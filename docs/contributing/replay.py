"""Checks the worked examples of CONTRIBUTING.md against the sources.

    python docs/contributing/replay.py [--check] [example ...]

Each example is a patch in this folder. It is applied to a copy of the sources. The copy is built, installed into a
folder of its own and tested with the tests in the patch. A patch may change at most three existing files, tests and
documentation not counted. With --check, nothing is built: the patch must apply and change few files.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
WORK = ROOT / "build" / "contributing"
MOST_TOUCHED = 3


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """The output of a command. If it fails, print it and end."""
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**os.environ, **environment}, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=1800,
    )  # fmt: skip
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}")
    return done.stdout


def copy_sources(to: Path) -> None:
    """Copy the files of the working tree that git does not ignore into a repository of their own."""
    shutil.rmtree(to, ignore_errors=True)
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    run("git", "init", "--quiet", cwd=to)
    run("git", "add", "--all", cwd=to)


def check(patch: Path) -> list[str]:
    """Check that the patch applies, changes few files and has tests; return the tests."""
    run("git", "apply", "--check", patch, cwd=ROOT)
    names = [line.split("\t")[2] for line in run("git", "apply", "--numstat", patch, cwd=ROOT).splitlines()]
    old = [name for name in names if (ROOT / name).exists() and not name.startswith(("tests/", "docs/"))]
    tests = [name for name in names if name.startswith("tests/test_")]
    print(f"{patch.stem}: touches {', '.join(old)}; brings {', '.join(sorted(set(names) - set(old)))}", flush=True)
    if len(old) > MOST_TOUCHED:
        sys.exit(f"{patch.stem} touches {len(old)} existing files; at most {MOST_TOUCHED} are allowed")
    if not tests:
        sys.exit(f"{patch.stem} brings no test")
    return tests


def replay(patch: Path) -> None:
    tests = check(patch)
    tree, site = WORK / patch.stem / "sources", WORK / patch.stem / "site"
    copy_sources(tree)
    run("git", "apply", "--index", patch, cwd=tree)
    shutil.rmtree(site, ignore_errors=True)
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--target", site, tree,
        "-C", f"build-dir={WORK / 'cmake'}", "-C", "cmake.define.FASTCONV_WERROR=ON", cwd=tree,
    )  # fmt: skip
    said = run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests, cwd=tree, PYTHONPATH=str(site))
    print(f"{patch.stem}: {said.strip().splitlines()[-1]}", flush=True)


def main() -> None:
    patches = {patch.stem: patch for patch in sorted(HERE.glob("*.patch"))}
    parser = argparse.ArgumentParser(description="Replays the worked examples of CONTRIBUTING.md.")
    parser.add_argument("examples", nargs="*", metavar="example", help=f"{', '.join(patches)} (default: all)")
    parser.add_argument("--check", action="store_true", help="only look at the patches, build nothing")
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.examples) - set(patches)):
        parser.error(f"no such example: {', '.join(unknown)}; there are {', '.join(patches)}")
    for name in arguments.examples or patches:
        (check if arguments.check else replay)(patches[name])


if __name__ == "__main__":
    main()
