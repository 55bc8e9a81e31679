"""What it costs to serve a network: size of the installation, time of the import, memory and latency.

Each library runs in new processes of its own. The networks have random weights.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

from bench.machine import facts, idle_warnings

# Name of the library -> the package to install, the module to import, and the ending of its network files.
LIBRARIES = {
    "fastconv": ("fastconv", "fastconv", ".fastconv"),
    "ONNX Runtime": ("onnxruntime", "onnxruntime", ".onnx"),
    "TensorFlow": ("tensorflow", "tensorflow", ".keras"),
}
NETWORKS = {"LeNet": (28, 28, 1), "MobileNetV2": (224, 224, 3)}

EXPORT = """
import sys
from pathlib import Path
import keras
import fastconv.keras
from fastconv.lenet.model import build
folder = Path(sys.argv[1])
for name, model in {"LeNet": build("keras"), "MobileNetV2": keras.applications.MobileNetV2(weights=None)}.items():
    model.save(folder / f"{name}.keras")
    fastconv.keras.freeze(model).save(folder / f"{name}.fastconv")
    model.predict(keras.random.uniform((1, *model.input_shape[1:])), verbose=0)
    model.export(folder / f"{name}.onnx", format="onnx", verbose=False)
"""
IMPORT = """
import sys, time
import numpy
start = time.perf_counter()
__import__(sys.argv[1])
print(time.perf_counter() - start)
"""


def installed_bytes(package: str) -> int:
    """Bytes of the files of a package and of all packages that it requires."""
    found: dict[str, int] = {}
    waiting = [package]
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            package_files = distribution(name)
        except PackageNotFoundError:  # a package for other systems
            continue
        files = [Path(str(file.locate())) for file in package_files.files or []]
        found[name] = sum(file.stat().st_size for file in files if file.suffix != ".pyc" and file.is_file())
        for requirement in package_files.requires or []:
            if "extra ==" not in requirement:
                waiting.append(re.split(r"[^\w.-]", requirement, maxsplit=1)[0])
    return sum(found.values())


def runner(library: str, path: str, threads: int) -> Any:
    """A function that runs the network on a batch."""
    if library == "fastconv":
        import fastconv

        fastconv.set_num_threads(threads)
        return fastconv.load(path)
    if library == "ONNX Runtime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        name = session.get_inputs()[0].name
        return lambda images: session.run(None, {name: images})[0]
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    return tf.keras.models.load_model(path, compile=False).predict_on_batch


def serve(library: str, network: str, path: str, threads: int) -> None:
    """Load and run a network in this process. Prints the seconds and bytes that this takes."""
    import numpy as np

    start = time.perf_counter()
    run = runner(library, path, threads)
    images = np.random.default_rng(0).random((1, *NETWORKS[network]), np.float32)
    run(images)
    first = time.perf_counter() - start
    seconds = []
    end = time.perf_counter() + 3
    while time.perf_counter() < end or len(seconds) < 20:
        start = time.perf_counter()
        run(images)
        seconds.append(time.perf_counter() - start)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"first": first, "latency": statistics.median(seconds), "memory": memory}))


def in_new_process(*arguments: str) -> str:
    """Run Python with these arguments. Returns the last line that it prints."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=900)
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-4000:])
    return done.stdout.splitlines()[-1] if done.stdout else ""


def measure(folder: str, threads: int, rounds: int) -> dict[str, dict[str, Any]]:
    """The figures of each library: bytes, seconds of the import, and for each network the figures of `serve`."""
    results: dict[str, dict[str, Any]] = {}
    for library, (package, module, _) in LIBRARIES.items():
        seconds = [float(in_new_process("-c", IMPORT, module)) for _ in range(1 + rounds)]
        results[library] = {"bytes": installed_bytes(package), "import": min(seconds)}
    for network in NETWORKS:
        served: dict[str, list[dict[str, float]]] = {library: [] for library in LIBRARIES}
        for _ in range(rounds):
            for library, (_, _, ending) in LIBRARIES.items():
                arguments = ("serve", library, network, str(Path(folder, network + ending)), str(threads))
                served[library].append(json.loads(in_new_process("-m", "bench.deployment", *arguments)))
        for library, runs in served.items():
            results[library][network] = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
    return results


def table(results: dict[str, dict[str, Any]]) -> str:
    """The figures as a table in Markdown."""
    heads = ["library", "installed", "import"]
    heads += [f"{network}: {what}" for network in NETWORKS for what in ("first result", "memory", "latency")]
    rows = []
    for library, figures in results.items():
        row = [library, f"{figures['bytes'] / 1e6:.0f} MB", f"{figures['import']:.3f} s"]
        for network in NETWORKS:
            found = figures[network]
            row += [f"{found['first']:.2f} s", f"{found['memory'] / 1e6:.0f} MB", f"{found['latency'] * 1e3:.3g} ms"]
        rows.append(row)
    lines = [heads, ["---", *["---:"] * (len(heads) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: list[str]) -> int:
    """Measure all libraries and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench deployment", description=__doc__)
    parser.add_argument("--threads", type=int, default=facts()["cpus"], help="default: all CPUs, here %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="processes of each kind (default: %(default)s)")
    options = parser.parse_args(arguments)
    for warning in idle_warnings():
        print(warning, file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        in_new_process("-c", EXPORT, folder)
        results = measure(folder, options.threads, options.rounds)
    print(table(results))
    print(f"\nThreads: {options.threads}. CPU: {facts()['cpu']}. Batch 1. Processes of each median: {options.rounds}.")
    return 0


if __name__ == "__main__":
    serve(*sys.argv[2:5], int(sys.argv[5]))
