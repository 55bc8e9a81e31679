"""The machine of a benchmark, and whether it is idle."""

from __future__ import annotations

import os
import platform
import re
import time
from pathlib import Path
from typing import Any

# Above these limits, the medians of two threads on two CPUs begin to change.
BUSY_LIMIT = 0.05
LOAD_LIMIT = 0.5
STEAL_LIMIT = 0.01  # of a whole run


def facts() -> dict[str, Any]:
    """Processor, number of CPUs that this process may use, kernel and Python."""
    name = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return {
        "cpu": name[1] if name else platform.machine(),
        "cpus": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _fields() -> list[int]:
    """The clock ticks of all CPUs so far. The fourth and fifth are idle; the eighth the host gave to others."""
    return [int(field) for field in Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()[1:9]]


def _ticks() -> tuple[int, int]:
    """All clock ticks of all CPUs so far, and the busy ticks. Ticks that the host gave to others count as busy."""
    fields = _fields()
    idle = fields[3] + fields[4]
    return sum(fields), sum(fields) - idle


def steal() -> tuple[int, int]:
    """All clock ticks of all CPUs so far, and those that the host gave to others."""
    fields = _fields()
    return sum(fields), fields[7]


def steal_since(start: tuple[int, int]) -> float:
    """The share of the CPUs' time that the host gave to others since `start = steal()`."""
    total, stolen = (now - then for now, then in zip(steal(), start, strict=True))
    return stolen / max(1, total)


def idle_warnings(seconds: float = 1.0) -> list[str]:
    """Reasons to doubt figures measured now, one text each; none on an idle machine."""
    total, busy = _ticks()
    time.sleep(seconds)
    total_then, busy_then = _ticks()
    share = (busy_then - busy) / max(1, total_then - total)
    load = os.getloadavg()[0]
    found = []
    if share > BUSY_LIMIT:
        found.append(f"the machine is not idle: its CPUs were busy {share:.0%} of the last {seconds:g} s")
    if load > LOAD_LIMIT:
        found.append(f"the machine was not idle: load average {load:.2f} in the last minute")
    return found
