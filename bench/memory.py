"""The memory of frozen networks: parameters, packed filters and arenas, each network in a new process without Keras."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.applications.networks import NETWORKS
from bench.command import Command
from bench.table import Column, Table

BATCHES = (1, 8)


def resident() -> int:
    """Bytes of this process in memory."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:"))


def measure(path: str) -> dict[str, Any]:
    """Bytes of the parameters, of loading them, of the first call without its arena, and of the arenas."""
    import fastconv
    import numpy as np

    before = resident()
    net = fastconv.load(path)
    loaded = resident()
    size = net.inputs[0].shape[1:]
    arenas = {batch: net._program.arena_bytes([[batch, *size]]) for batch in BATCHES}
    net(np.ones((1, *size), np.float32))
    constants = [value.array.nbytes for value in net._graph.values if value.array is not None]
    return {
        "parameters": sum(constants),
        "loading": loaded - before,
        "packed": resident() - loaded - arenas[1],
        "arenas": arenas,
    }


def write_networks(networks: list[str], folder: str) -> None:
    """Freeze the networks into `folder`."""
    import fastconv.keras

    from bench.serving import models

    for network in networks:
        fastconv.keras.freeze(models.build(network)).save(Path(folder, f"{network}.fastconv"))


def in_new_process(*arguments: str) -> str:
    return subprocess.run(
        [sys.executable, "-m", "bench.memory", *arguments], check=True, stdout=subprocess.PIPE, text=True, timeout=900
    ).stdout


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 if all went well."""
    run = Command("memory", __doc__, "--threads")
    run.add_several("--network", choices=NETWORKS)
    networks = run.start(arguments).network or list(NETWORKS)
    with tempfile.TemporaryDirectory() as folder:
        in_new_process("write", folder, *networks)  # in a process of its own, which TensorFlow makes large
        results = [
            {"network": network, **json.loads(in_new_process("measure", str(Path(folder, f"{network}.fastconv"))))}
            for network in run.track(networks)
        ]

    def megabytes(*keys: str) -> Column:
        def cell(result: Any) -> str:
            for key in keys:
                result = result[key]
            return f"{result / 1e6:.0f}"

        return " ".join(keys).replace("arenas", "arena, batch"), cell

    columns = [
        ("network", lambda result: result["network"]),
        *(megabytes(key) for key in ("parameters", "loading", "packed")),
        *(megabytes("arenas", str(batch)) for batch in BATCHES),
    ]
    table = Table.of("MB of frozen networks at 224 x 224, float32; packed: filters and workspaces", results, columns)
    run.finish(run.report(results=results), [table])
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write_networks(sys.argv[3:], sys.argv[2])
    else:
        print(json.dumps(measure(sys.argv[2])))
