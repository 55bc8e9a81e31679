"""The test accuracy that a short training reaches, with several seeds, on fastconv's layers and on Keras's."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from bench.command import Command
from bench.table import Table

KINDS = ("keras", "fastconv")


def same(stock: list[float], ours: list[float]) -> bool:
    """Whether the mean of each list lies between the least and the largest value of the other."""
    return all(min(one) <= fmean(other) <= max(one) for one, other in ((stock, ours), (ours, stock)))


def table(report: dict[str, Any]) -> Table:
    accuracy = report["accuracy"]
    seeds = [f"seed {seed + 1}" for seed in range(len(accuracy["keras"]))]
    head = ["layers", *seeds, "mean", "least", "largest"]
    found = Table(f"test accuracy after {report['options']['epochs']} epochs", head)
    for kind, values in accuracy.items():
        found.add(kind, *(f"{value:.4f}" for value in (*values, fmean(values), min(values), max(values))))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the command. Returns 0 if both kinds of layers reach the same accuracy, else 1."""
    run = Command("accuracy", __doc__, "--data")
    run.add("--seeds", 5, "number of seeds: 1, 2, ...")
    run.add("--epochs", 3)
    run.add("--batch-size", 128)
    run.add("--limit", type=int, help="number of training images; by default all")
    options = run.start(arguments)
    from fastconv.lenet import load_digits
    from fastconv.lenet.compare import compare
    from fastconv.lenet.train import split_digits

    digits = load_digits(options.data)
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for seed in range(1, options.seeds + 1):
        split = split_digits(digits, seed, options.limit)
        runs = compare(split, epochs=options.epochs, batch_size=options.batch_size, learning_rate=0.001, seed=seed)
        for kind in KINDS:
            found[kind].append(runs[kind].test_accuracy)
    agree = same(found["keras"], found["fastconv"])
    report = run.report(data=digits.source, accuracy=found, same=agree)
    verdict = f"the mean of each is {'' if agree else 'NOT '}within the spread of the other"
    run.finish(report, [table(report)], f"data: {digits.source}", verdict)
    return 0 if agree else 1
