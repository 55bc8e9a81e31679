"""The command line: ``python -m bench --help``."""

from __future__ import annotations

import importlib
import sys

COMMANDS = {  # name -> module with `main(arguments)`, and what it does
    "layers": ("bench.single_layers", "single layers, against frameworks, inference libraries, SciPy and OpenCV"),
    "serving": ("bench.serving.run", "single layers with packed filters, against ONNX Runtime, OpenVINO and ncnn"),
    "networks": ("bench.serving.networks", "whole networks at inference, against inference libraries and Keras"),
    "limits": ("bench.limits", "what keeps a layer from the peak of the CPU"),
    "cores": ("bench.cores", "how well many cores could share a layer, by counting its tasks"),
    "training": ("bench.training", "training and inference of LeNet-5 and a bigger CNN"),
    "profile": ("bench.profile", "the operations of LeNet-5's training step, one by one"),
    "accuracy": ("bench.accuracy", "the accuracy of a short training on stock Keras's layers and on fastconv's"),
    "applications": (
        "bench.applications.run",
        "networks of keras.applications and small ones, against stock Keras and PyTorch",
    ),
    "deployment": ("bench.deployment", "serving a network: installed size, import, memory and latency"),
    "memory": ("bench.memory", "the memory of frozen networks: parameters, packed filters, arenas"),
    "headline": ("bench.headline", "the figures on the README's first screen"),
    "pages": ("bench.pages", "write the results into the pages and pictures of docs/ and the README"),
}


def usage() -> str:
    lines = [f"  {name:14}{text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(["usage: python -m bench COMMAND [--help | options]", "", *lines])


def main() -> int:
    """Run a command. Returns its exit status."""
    name, *rest = sys.argv[1:] or ["--help"]
    if name not in COMMANDS:
        asked = name in ("-h", "--help")
        print(usage() if asked else f"there is no command {name!r}\n{usage()}", file=None if asked else sys.stderr)
        return 0 if asked else 2
    status: int = importlib.import_module(COMMANDS[name][0]).main(rest)
    return status


if __name__ == "__main__":
    sys.exit(main())
