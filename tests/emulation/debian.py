"""Unpacks Debian's packages for another CPU into a folder, without installing them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path


def unpack(folder: Path, architecture: str, *packages: str) -> None:
    """Unpack the packages, and those on which they depend, unless that has been done before."""
    done = folder / "unpacked"
    if done.exists() and done.read_text(encoding="utf-8").split() == list(packages):
        return
    shutil.rmtree(folder, ignore_errors=True)
    apt = folder.with_name(f"{folder.name}-apt")
    for part in ("state/lists/partial", "cache/archives/partial"):
        (apt / part).mkdir(parents=True, exist_ok=True)
    (apt / "status").touch()  # no package is installed
    # The folders of apt's own state are not those of this computer, so that nothing is changed there.
    settings = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "",
        "Dir::State": apt / "state",
        "Dir::State::status": apt / "status",
        "Dir::Cache": apt / "cache",
    }
    options = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
    _run("apt-get", *options, "--quiet", "update")
    _run("apt-get", *options, "--quiet", "--yes", "--download-only", "install", *packages)
    for package in sorted((apt / "cache" / "archives").glob("*.deb")):
        _run("dpkg-deb", "--extract", package, folder)
    done.write_text(" ".join(packages), encoding="utf-8")


def _run(*command: str | Path) -> None:
    """Run a command. If it fails, print what it said and end."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
