"""The command line ``fastconv``, also as ``python -m fastconv``: its commands are listed in `_parser`."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any

import fastconv
from fastconv._commands import arguments, bench, explain, predict


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        The arguments. Default: those of the process.

    Returns
    -------
    int
        0 if all went well, 1 after an error, or 130 after Ctrl-C. An error prints one line to standard error. Wrong
        arguments raise ``SystemExit(2)``, as argparse does.
    """
    parser = _parser()
    if "_ARGCOMPLETE" in os.environ:  # a shell asks for completions
        import argcomplete

        argcomplete.autocomplete(parser)
    options = parser.parse_args(argv)
    try:
        if options.command == "config":
            fastconv.show_config()
        elif options.command == "explain":
            explain.run(options)
        elif options.command == "bench":
            bench.run(options)
        elif options.command == "predict":
            predict.run(options)
        else:
            from fastconv.lenet import command

            command.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt as interrupt:
        # The frames of an interrupted training hold an iterator over a Python generator. TensorFlow warns if this
        # iterator still exists when Python exits, so it is destroyed here.
        traceback.clear_frames(interrupt.__traceback__)
        gc.collect()
        print("\nfastconv: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of the output has closed the pipe, as "| head" does. Python flushes standard output again at exit,
        # which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, ImportError, OSError, MemoryError) as error:
        print(f"fastconv: {' '.join(str(error).split()) or type(error).__name__}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fastconv",
        description="Fast 2-D convolution and pooling on CPUs.",
        epilog=arguments.examples(
            "fastconv lenet --out lenet-out",
            "fastconv predict lenet-out/model.fastconv seven.png",
            "fastconv explain 8x56x56x64 3x3x64x128 --padding SAME",
            "fastconv bench",
            "fastconv COMMAND --help",
        ),
        formatter_class=arguments.Formatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"fastconv {fastconv.__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{lenet,predict,explain,bench,config}")
    _add_lenet(commands)
    predict.add_parser(commands)
    explain.add_parser(commands)
    bench.add_parser(commands)
    commands.add_parser(
        "config",
        help="show version, compiler, instruction sets and threads",
        description="Show version, compiler, instruction sets and threads.",
        epilog=arguments.examples("fastconv config", "FASTCONV_NUM_THREADS=1 fastconv config"),
        formatter_class=arguments.Formatter,
    )
    return parser


def _add_lenet(commands: Any) -> None:
    lenet = commands.add_parser(
        "lenet",
        help="train LeNet-5 on MNIST",
        description="Train LeNet-5 on MNIST with fastconv's layers and test it. Ctrl-C keeps the best weights so far.",
        epilog=arguments.examples(
            "fastconv lenet",
            "fastconv lenet --out lenet-out",
            "fastconv lenet --limit 3000 --epochs 2 --profile",
            "fastconv lenet --compare",
        ),
        formatter_class=arguments.Formatter,
        allow_abbrev=False,
    )
    add = lenet.add_argument
    add(
        "--data",
        type=arguments.path,
        metavar="PATH",
        help="an .npz file in Keras's layout, or a folder with MNIST's four IDX files, gzipped or not (default: the "
        "path in FASTCONV_MNIST, else Keras's cached or downloaded MNIST, else 5,000 of its digits)",
    )
    add(
        "--epochs",
        type=arguments.integer(1, 100_000),
        metavar="N",
        help="train for at most N epochs (default: 50); with --compare, for exactly N (default: 3)",
    )
    add(
        "--batch-size",
        type=arguments.integer(1, 1_000_000),
        metavar="N",
        default=128,
        help="number of images in a training step (default: %(default)s)",
    )
    add(
        "--learning-rate",
        type=arguments.learning_rate,
        metavar="RATE",
        default=0.001,
        help="of Adam (default: %(default)s)",
    )
    add(
        "--seed",
        type=arguments.integer(0, 2**32 - 1),
        metavar="N",
        default=1,
        help="seed of the initial weights and of the order of the images (default: %(default)s)",
    )
    add(
        "--layers",
        choices=("fastconv", "keras"),
        default="fastconv",
        help="use the convolution and pooling layers of fastconv or of Keras (default: %(default)s)",
    )
    add(
        "--limit",
        type=arguments.integer(6, 2**31),
        metavar="N",
        help="use only N of the training images, split 5:1 into training and validation (default: all)",
    )
    add(
        "--compare",
        action="store_true",
        help="train one model on Keras's own layers and one on fastconv's, epoch by epoch in turn and on the same "
        "batches, and compare times and accuracy; --out then gets compare.png and compare.json",
    )
    add("--profile", action="store_true", help="first show time, GFLOP/s, output shape and parameters of each layer")
    add(
        "--out",
        type=arguments.path,
        metavar="DIR",
        help="write model, history, metrics and pictures into this folder, which must be empty or not exist yet "
        "(default: write nothing)",
    )
    add("--force", action="store_true", help="overwrite the results in the folder of --out")


if __name__ == "__main__":
    sys.exit(main())
