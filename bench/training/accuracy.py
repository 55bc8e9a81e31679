"""The test accuracy that a short training reaches, with several seeds, on fastconv's layers and on Keras's.

python -m bench.training.accuracy [--seeds 5] [--epochs 3] [--data mnist.npz] [--json PATH]
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

KINDS = ("keras", "fastconv")


def same(stock: list[float], ours: list[float]) -> bool:
    """Whether the mean of each lies within the spread (from the least to the largest) of the other."""
    means = [sum(values) / len(values) for values in (stock, ours)]
    return all(min(values) <= mean <= max(values) for values, mean in ((stock, means[1]), (ours, means[0])))


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 if both reach the same accuracy, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.training.accuracy", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--seeds", type=int, default=5, help="how many, from 1 (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--batch-size", type=int, default=128, help="default: %(default)s")
    parser.add_argument("--limit", type=int, help="use so many of the training images (default: all)")
    parser.add_argument("--data", help="the digits: an .npz or a folder (default: as fastconv lenet)")
    parser.add_argument("--json", metavar="PATH", help="write the accuracies")
    options = parser.parse_args(arguments)
    if min(options.seeds, options.epochs, options.batch_size) < 1:
        parser.error("--seeds, --epochs and --batch-size must be at least 1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from fastconv.lenet import load_digits
    from fastconv.lenet.compare import compare
    from fastconv.lenet.train import split_digits

    digits = load_digits(options.data)
    print(f"data: {digits.source}")
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for seed in range(1, options.seeds + 1):
        split = split_digits(digits, seed, options.limit)
        runs = compare(split, epochs=options.epochs, batch_size=options.batch_size, learning_rate=0.001, seed=seed)
        for kind in KINDS:
            found[kind].append(runs[kind].test_accuracy)
    table = Table(title=f"test accuracy after {options.epochs} epochs", title_justify="left")
    for heading in ("layers", *(f"seed {seed}" for seed in range(1, options.seeds + 1)), "mean", "least", "largest"):
        table.add_column(heading)
    for kind, values in found.items():
        table.add_row(
            kind, *[f"{value:.4f}" for value in (*values, sum(values) / len(values), min(values), max(values))]
        )
    Console(width=None if sys.stdout.isatty() else 160).print(table)
    agree = same(found["keras"], found["fastconv"])
    print(f"the mean of each is {'' if agree else 'NOT '}within the spread of the other")
    if options.json:
        report = {"epochs": options.epochs, "data": digits.source, "accuracy": found, "same": agree}
        Path(options.json).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())
