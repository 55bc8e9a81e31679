"""``fastconv predict``: classifies pictures of digits with a trained model."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import fastconv
from fastconv._commands import arguments
from fastconv._extras import how_to_install

Floats = npt.NDArray[np.floating[Any]]
_SHAPE = (28, 28, 1)


def add_parser(commands: Any) -> None:
    """Add the command to the parser's commands."""
    parser = commands.add_parser(
        "predict",
        help="say which digit a picture shows",
        description="Say which digit each picture shows, with the probabilities, and how the picture was turned into "
        "28 x 28 pixels. A .fastconv model needs no TensorFlow.",
        epilog=arguments.examples(
            "fastconv predict lenet-out/model.fastconv seven.png",
            "fastconv predict lenet-out/model.keras photos/*.jpg",
            "fastconv predict lenet-out/model.fastconv seven.png --show --top 10",
        ),
        formatter_class=arguments.Formatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "model", type=arguments.path, metavar="MODEL", help="a .fastconv or .keras file, as fastconv lenet --out writes"
    )
    parser.add_argument(
        "images", type=arguments.path, metavar="IMAGE", nargs="+", help="a PNG or JPEG file that shows one digit"
    )
    parser.add_argument(
        "--top",
        type=arguments.integer(1, 10),
        metavar="N",
        default=3,
        help="how many probabilities to print (default: %(default)s)",
    )
    parser.add_argument("--show", action="store_true", help="print the 28 x 28 pixels, too")


def run(options: argparse.Namespace) -> None:
    """Print what the model says about each image.

    Raises
    ------
    ValueError, ImportError
        With a message for the user. All images are read before the model.
    """
    if importlib.util.find_spec("PIL") is None:
        raise ImportError(f"fastconv predict needs pillow; {how_to_install('predict')}")
    from fastconv._commands.digit_image import as_text, read_digit

    _check_model(options.model)
    images = [read_digit(path) for path in options.images]
    batch = np.stack([image.pixels for image in images])[..., None]
    probabilities = _probabilities(_load(options.model)(batch))
    if len(images) > 1 and not options.show and importlib.util.find_spec("rich") is not None:
        _print_table(options, [image.steps for image in images], probabilities)
        return
    for path, image, shares in zip(options.images, images, probabilities, strict=True):
        print(f"{path}: {int(shares.argmax())}")
        print(f"  probabilities: {_largest(shares, options.top)}")
        print(f"  image: {'; '.join(image.steps)}")
        if options.show:
            print("\n".join(f"  |{line}|" for line in as_text(image.pixels).splitlines()))


def _check_model(path: Path) -> None:
    """Find errors that need no framework."""
    if path.suffix not in (".fastconv", ".keras"):
        raise ValueError(f"MODEL must be a .fastconv or .keras file, got {path}")
    if not path.exists():
        raise ValueError(f"{path}: there is no such file; fastconv lenet --out DIR writes DIR/model{path.suffix}")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the model's file")
    missing = [name for name in ("tensorflow", "keras") if importlib.util.find_spec(name) is None]
    if path.suffix == ".keras" and missing:
        raise ImportError(
            f"{path} needs {' and '.join(missing)}; {how_to_install('tensorflow')}, or give a .fastconv model"
        )


def _load(path: Path) -> Callable[[Floats], Floats]:
    """The model as a function from images (N, 28, 28, 1) to (N, 10)."""
    if path.suffix == ".keras":
        return _load_keras(path)
    net = fastconv.load(path)
    _check_shapes(path, [tensor.shape for tensor in net.inputs], [tensor.shape for tensor in net.outputs])
    return lambda images: np.asarray(net(images.astype(net.dtype)))


def _load_keras(path: Path) -> Callable[[Floats], Floats]:
    from fastconv.lenet._quiet_import import import_keras, silence_tensorflow

    silence_tensorflow()
    keras = import_keras()
    importlib.import_module("fastconv.keras")  # registers the layers

    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # of many kinds: of zip files, of h5py, of Keras, of layers
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(f"{path} cannot be loaded as a Keras model: {reason}") from error
    _check_shapes(path, [value.shape for value in model.inputs], [value.shape for value in model.outputs])
    return lambda images: np.asarray(model.predict(images, verbose=0))


def _check_shapes(path: Path, inputs: Sequence[Sequence[Any]], outputs: Sequence[Sequence[Any]]) -> None:
    fits = (
        len(inputs) == len(outputs) == 1
        and len(inputs[0]) == 4
        and all(size in (None, wanted) for size, wanted in zip(inputs[0][1:], _SHAPE, strict=True))
        and tuple(outputs[0][1:]) == (10,)
    )
    if not fits:

        def text(shapes: Sequence[Sequence[Any]]) -> str:
            return " and ".join(f"({', '.join('N' if n is None else str(n) for n in shape)})" for shape in shapes)

        raise ValueError(
            f"MODEL must map images of shape (N, 28, 28, 1) to (N, 10); {path} maps {text(inputs)} to {text(outputs)}"
        )


def _probabilities(outputs: Floats) -> Floats:
    """Softmax of logits. What already are probabilities stays as it is."""
    if outputs.min() >= 0 and np.allclose(outputs.sum(axis=1), 1, atol=1e-3):
        return outputs
    powers = np.exp(outputs - outputs.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def _largest(shares: Floats, count: int) -> str:
    order = np.argsort(-shares, kind="stable")[:count]
    return ", ".join(f"{digit} {100 * shares[digit]:.1f} %" for digit in order)


def _print_table(options: argparse.Namespace, steps: list[list[str]], probabilities: Floats) -> None:
    from fastconv._console import print_table

    print_table(
        ["image", "digit", "probabilities", "how it became 28 x 28"],
        [
            [str(path), str(int(shares.argmax())), _largest(shares, options.top), "; ".join(done)]
            for path, done, shares in zip(options.images, steps, probabilities, strict=True)
        ],
        text=4,
    )
