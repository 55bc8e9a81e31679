"""The steps of ``fastconv lenet``."""

from __future__ import annotations

import argparse
import importlib.util
import platform
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

import fastconv
from fastconv._extras import how_to_install
from fastconv.lenet._quiet_import import import_keras, silence_tensorflow

if TYPE_CHECKING:
    from fastconv.lenet.train import Result, Split


def run(options: argparse.Namespace) -> None:
    """Train and test a model and write the results, following the options of ``fastconv lenet``.

    Raises
    ------
    ValueError, ImportError
        With a message for the user. If possible, errors are found before the training.
    """
    silence_tensorflow()
    _check_packages(options)
    # Importing TensorFlow takes seconds. Checks that do not need it come first.
    from fastconv.lenet.output import COMPARE_FILES, FILES, check_out

    if options.compare and (options.profile or options.layers == "keras"):
        raise ValueError("--compare trains on both kinds of layers; leave out --profile and --layers")
    if options.epochs is None:
        options.epochs = 3 if options.compare else 50
    if options.force and options.out is None:
        raise ValueError("--force overwrites the folder of --out, but --out is not given")
    if options.out is not None:
        check_out(options.out, options.force, COMPARE_FILES if options.compare else FILES)
    from fastconv.lenet.data import load_digits

    digits = load_digits(options.data)
    available = len(digits.train_images)
    if options.limit is not None and options.limit > available:
        raise ValueError(
            f"--limit must be at most {available}, the number of training images, got {options.limit}; "
            f"the data: {digits.source}"
        )
    if options.limit is None and available < 6:
        raise ValueError(f"at least 6 training images are needed, got {available}; the data: {digits.source}")
    print(f"data: {digits.source}")

    import_keras()
    from fastconv.lenet.model import build, compile_model
    from fastconv.lenet.train import ctrl_c_waits, fused, split_digits, train

    split = split_digits(digits, options.seed, options.limit)
    sizes = (
        f"{len(split.train[0]):,} images for training, {len(split.validation[0]):,} for validation, "
        f"{len(split.test[0]):,} for testing"
    )
    if options.compare:
        print(sizes)
        _compare(options, split)
        return
    with ctrl_c_waits():
        print(sizes)
        model = build(options.layers, options.seed)
        compile_model(model, options.learning_rate)
        model.summary()
    if options.profile:
        from fastconv.lenet.profile import print_costs, profile

        batch = split.train[0][: options.batch_size]
        print_costs(profile(model, batch), len(batch))
    with fused(model):
        result = train(model, split, epochs=options.epochs, batch_size=options.batch_size, seed=options.seed)
    if options.out is not None:
        _write(options, model, split, result)
        print(f"Model, history, metrics and pictures are in {options.out}.")
    else:
        print("The results were not saved. --out DIR saves the model, history, metrics and pictures.")
    print(f"test accuracy {result.test_accuracy:.4f}  loss {result.test_loss:.4f}")


def _compare(options: argparse.Namespace, split: Split) -> None:
    from fastconv.lenet.compare import compare, print_comparison, require_same_accuracy
    from fastconv.lenet.figures import draw_comparison
    from fastconv.lenet.output import write_all, write_metrics

    runs = compare(
        split,
        epochs=options.epochs,
        batch_size=options.batch_size,
        learning_rate=options.learning_rate,
        seed=options.seed,
    )
    if options.out is not None:
        metrics = {
            **{name: run.metrics() for name, run in runs.items()},
            "options": _shown(options),
            "versions": _versions(),
        }
        write_all(
            options.out,
            options.force,
            {
                "compare.png": lambda path: draw_comparison(path, runs),
                "compare.json": lambda path: write_metrics(path, metrics),
            },
        )
        print(f"The picture and the numbers are in {options.out}.")
    print_comparison(runs)
    require_same_accuracy(runs, len(split.test[0]))


def _shown(options: argparse.Namespace) -> dict[str, Any]:
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in vars(options).items()
        if name not in ("command", "compare", "force", "out", "profile")
    }


def _versions() -> dict[str, str]:
    return {
        "fastconv": fastconv.__version__,
        "isa": fastconv.show_config("dicts")["isa"],
        "python": platform.python_version(),
        **{name: version(name) for name in ("numpy", "keras", "tensorflow")},
    }


def _check_packages(options: argparse.Namespace) -> None:
    needed = ["tensorflow", "keras", "rich"]
    needed += ["matplotlib"] if options.out is not None else []
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"fastconv lenet needs {', '.join(missing)}; {how_to_install('lenet')}")


def _write(options: argparse.Namespace, model: Any, split: Split, result: Result) -> None:
    from fastconv.keras import freeze
    from fastconv.lenet.explore import write_page
    from fastconv.lenet.figures import draw_confusion, draw_curves, draw_features, draw_mistakes
    from fastconv.lenet.model import build, compile_model
    from fastconv.lenet.output import write_all, write_history, write_metrics

    stock = build("keras", options.seed)
    stock.set_weights(model.get_weights())
    compile_model(stock, options.learning_rate)
    # Keras warns when it loads the file of a compiled model whose optimizer has no state.
    for optimizer in (model.optimizer, stock.optimizer):
        optimizer.build(stock.trainable_variables)  # does nothing after a training
    for trained, variable in zip(model.optimizer.variables, stock.optimizer.variables, strict=True):
        variable.assign(trained)
    images, labels = split.test[0], split.test[1].argmax(axis=1)
    logits = model.predict(images, batch_size=options.batch_size, verbose=0)
    metrics = {
        "test_accuracy": result.test_accuracy,
        "test_loss": result.test_loss,
        "seconds_per_epoch": median(row["seconds"] for row in result.history),
        "parameters": model.count_params(),
        "epochs": len(result.history),
        "interrupted": result.interrupted,
        "options": _shown(options),
        "versions": _versions(),
    }
    write_all(
        options.out,
        options.force,
        {
            "model.keras": model.save,
            "model_stock.keras": stock.save,
            "model.fastconv": freeze(model).save,
            "history.csv": lambda path: write_history(path, result.history),
            "metrics.json": lambda path: write_metrics(path, metrics),
            "curves.png": lambda path: draw_curves(path, result.history),
            "features.png": lambda path: draw_features(path, model, images[0]),
            "confusion.png": lambda path: draw_confusion(path, labels, logits),
            "mistakes.png": lambda path: draw_mistakes(path, images, labels, logits),
            "explore.html": lambda path: write_page(
                path,
                {layer.name: layer.get_weights() for layer in model.layers if layer.name != "flatten"},
                np.rint(images[..., 0] * 255).astype(np.uint8),
                labels,
                f"It was trained on {len(split.train[0]):,} digits of MNIST, and classifies "
                f"{100 * result.test_accuracy:.2f} % of {len(images):,} others correctly.",
            ),
        },
    )
