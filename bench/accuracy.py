"""The test accuracy that a short training reaches, with several seeds, on fastconv's layers and on Keras's."""

from __future__ import annotations

from typing import Any

from bench.command import Command
from bench.table import Table

KINDS = ("keras", "fastconv")


def same(stock: list[float], ours: list[float]) -> bool:
    """Whether the mean of each lies within the spread (from the least to the largest) of the other."""
    means = [sum(values) / len(values) for values in (stock, ours)]
    return all(min(values) <= mean <= max(values) for values, mean in ((stock, means[1]), (ours, means[0])))


def table(report: dict[str, Any]) -> Table:
    accuracy = report["accuracy"]
    seeds = [f"seed {seed + 1}" for seed in range(len(accuracy["keras"]))]
    head = ["layers", *seeds, "mean", "least", "largest"]
    found = Table(f"test accuracy after {report['options']['epochs']} epochs", head)
    for kind, values in accuracy.items():
        shown = (*values, sum(values) / len(values), min(values), max(values))
        found.add(kind, *(f"{value:.4f}" for value in shown))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run; 0 if both reach the same accuracy, else 1."""
    run = Command("accuracy", __doc__, rounds=None)
    run.add("--seeds", type=int, default=5, help="number of seeds, from 1 (default: %(default)s)")
    run.add("--epochs", type=int, default=3, help="default: %(default)s")
    run.add("--batch-size", type=int, default=128, help="default: %(default)s")
    run.add("--limit", type=int, help="number of training images (default: all)")
    run.add_data()
    options = run.start(arguments, "seeds", "epochs", "batch_size")
    from fastconv.lenet import load_digits
    from fastconv.lenet.compare import compare
    from fastconv.lenet.train import split_digits

    digits = load_digits(options.data)
    run.console.print(f"data: {digits.source}", markup=False)
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for seed in range(1, options.seeds + 1):
        split = split_digits(digits, seed, options.limit)
        runs = compare(split, epochs=options.epochs, batch_size=options.batch_size, learning_rate=0.001, seed=seed)
        for kind in KINDS:
            found[kind].append(runs[kind].test_accuracy)
    agree = same(found["keras"], found["fastconv"])
    report = run.report(data=digits.source, accuracy=found, same=agree)
    table(report).print(run.console)
    run.console.print(f"the mean of each is {'' if agree else 'NOT '}within the spread of the other")
    run.write(report)
    return 0 if agree else 1
