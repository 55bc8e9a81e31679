"""`fastconv predict` without TensorFlow: how pictures become 28 x 28, what is printed, and errors of one line."""

from __future__ import annotations

import os
import re
import sys
import zipfile
from pathlib import Path

import fastconv
import numpy as np
import pytest
from fastconv._commands.digit_image import as_text, read_digit
from fastconv.lenet import load_digits, mnist_subset
from network_graphs import lenet
from PIL import Image
from processes import run_python


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """Ten of each class, sorted by class."""
    images, labels = load_digits()[:2] if os.environ.get("FASTCONV_MNIST") else mnist_subset()
    return np.concatenate([images[labels == digit][:10] for digit in range(10)])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.fastconv"
    fastconv.Network(lenet()).save(path)
    return path


def predict(*arguments: str | Path) -> int:
    from fastconv.__main__ import main

    return main(["predict", *map(str, arguments)])


def save(image: Image.Image, path: Path, **options: int) -> Path:
    image.save(path, **options)
    return path


# ---- Pictures


def test_digits_of_mnist_stay_as_they_are(digits: np.ndarray, tmp_path: Path) -> None:
    differences = []
    for digit in digits:
        found = read_digit(save(Image.fromarray(digit), tmp_path / "digit.png"))
        assert found.pixels.shape == (28, 28) and found.pixels.dtype == np.float32
        assert found.steps[0] == "28 x 28 pixels" and not any("inverted" in step for step in found.steps)
        differences.append(np.abs(found.pixels - digit / np.float32(255)).max())
    assert np.mean(np.array(differences) < 1e-6) > 0.5  # others have a faint edge or a maximum below 255
    assert np.mean(np.array(differences) < 0.1) > 0.95


def test_a_digit_on_bright_paper_is_found_wherever_it_is(digits: np.ndarray, tmp_path: Path) -> None:
    for digit, place in zip(digits[::7], [(5, 5), (150, 30), (30, 140)] * 5, strict=True):
        large = Image.fromarray(255 - digit).resize((280, 280), Image.Resampling.BICUBIC)
        paper = Image.new("RGB", (440, 430), "white")
        paper.paste(large.convert("RGB"), place)
        found = read_digit(save(paper, tmp_path / "photo.jpg", quality=85))
        assert found.steps[:3] == ["440 x 430 pixels", "made grey", "inverted (bright background)"]
        assert re.fullmatch(r"cropped to the ink, \d+ x \d+", found.steps[3])
        assert re.fullmatch(r"scaled to (20 x \d+|\d+ x 20)", found.steps[4])
        rows, columns = (np.flatnonzero((found.pixels > 0).any(axis=axis)) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) + 1 == 20
        for axis in (0, 1):
            centre = (found.pixels.sum(axis=1 - axis) * np.arange(28)).sum() / found.pixels.sum()
            assert abs(centre - 14) <= 0.5 + 1e-5
        assert np.corrcoef(found.pixels.ravel(), digit.ravel())[0, 1] > 0.8


@pytest.mark.parametrize("ink", [0, 255])
def test_transparent_and_turned_pictures_and_16_bits(ink: int, digits: np.ndarray, tmp_path: Path) -> None:
    digit = digits[70]
    expected = read_digit(save(Image.fromarray(digit), tmp_path / "plain.png")).pixels
    layers = np.full((28, 28, 4), ink, np.uint8)
    layers[..., 3] = digit
    transparent = read_digit(save(Image.fromarray(layers), tmp_path / "transparent.png"))
    assert f"transparent parts made {'white' if ink == 0 else 'black'}" in transparent.steps
    np.testing.assert_allclose(transparent.pixels, expected, atol=0.02)
    wide = digit.astype(np.uint16) * 257
    deep = read_digit(save(Image.fromarray(wide if ink else 65535 - wide), tmp_path / "deep.png"))
    np.testing.assert_allclose(deep.pixels, expected, atol=1e-3)
    turned = Image.fromarray(digit).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_allclose(read_digit(tmp_path / "turned.png").pixels, expected, atol=1e-6)


def test_a_thin_line_is_not_faint_and_is_shown_as_text(tmp_path: Path) -> None:
    paper = np.full((400, 400), 255, np.uint8)
    paper[50:350, 200:203] = 60
    found = read_digit(save(Image.fromarray(paper), tmp_path / "one.png"))
    assert found.pixels.max() == 1
    lines = as_text(found.pixels).splitlines()
    assert len(lines) == 14 and {len(line) for line in lines} == {28}
    assert sum(line.count("\N{FULL BLOCK}") for line in lines) >= 9


# ---- What is printed


def test_one_picture_gives_a_few_lines(
    model: Path, digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = save(Image.fromarray(digits[33]), tmp_path / "digit.png")
    expected = fastconv.load(model)(read_digit(path).pixels[None, ..., None])[0]
    assert predict(model, path, "--top", "2") == 0
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == f"{path}: {expected.argmax()}"
    order = np.argsort(-expected)[:2]
    assert second == "  probabilities: " + ", ".join(f"{digit} {100 * expected[digit]:.1f} %" for digit in order)
    assert third.startswith("  image: 28 x 28 pixels; cropped to the ink") and third.endswith(
        "centred by mass in 28 x 28"
    )
    assert predict(model, path, "--show") == 0
    assert capsys.readouterr().out.count("\n  |") == 14


def test_several_pictures_give_a_table(
    model: Path, digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rich")
    paths = [save(Image.fromarray(digits[i]), tmp_path / f"{i}.png") for i in range(0, 100, 25)]
    expected = fastconv.load(model)(np.stack([read_digit(path).pixels for path in paths])[..., None]).argmax(axis=1)
    assert predict(model, *paths) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if ".png" in line]
    assert [line.split("│")[1].strip() for line in rows] == [str(path) for path in paths]
    assert [int(line.split("│")[2]) for line in rows] == expected.tolist()


def test_logits_become_probabilities() -> None:
    from fastconv._commands.predict import _probabilities

    logits = np.array([[1000.0, 999.0, *[0] * 8]])
    np.testing.assert_allclose(_probabilities(logits)[0, :2], [np.e / (1 + np.e), 1 / (1 + np.e)])
    shares = np.full((3, 10), np.float32(0.1))
    assert _probabilities(shares) is shares


def test_a_frozen_model_needs_no_tensorflow(model: Path, digits: np.ndarray, tmp_path: Path) -> None:
    path = save(Image.fromarray(digits[3]), tmp_path / "digit.png")
    printed = run_python(
        """
        import sys
        sys.modules["tensorflow"] = sys.modules["keras"] = sys.modules["rich"] = None  # importing them fails now
        from fastconv.__main__ import main
        sys.exit(main(["predict", *sys.argv[1:]]))
        """,
        str(model), str(path), str(path),
    )  # fmt: skip
    assert printed.count("probabilities:") == 2


# ---- Errors


def test_errors_are_one_line(
    model: Path, digits: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = save(Image.fromarray(digits[0]), tmp_path / "digit.png")
    cut = tmp_path / "cut.png"
    cut.write_bytes(image.read_bytes()[:-60])
    blank = save(Image.new("L", (50, 50), 200), tmp_path / "blank.png")
    text = tmp_path / "text.png"
    text.write_text("no image")
    with zipfile.ZipFile(tmp_path / "broken.fastconv", "w") as archive:
        archive.writestr("network.json", "{}")
    other = tmp_path / "other.fastconv"
    fastconv.Network(lenet(size=None)).save(other)  # takes images of any size

    def fails(*arguments: Path, says: str) -> None:
        assert predict(*arguments) == 1
        error = capsys.readouterr().err
        assert error.startswith("fastconv: ") and len(error.splitlines()) == 1, error
        assert says in error

    fails(model, tmp_path / "no.png", says="no.png: there is no such file; give a PNG or JPEG image")
    fails(model, tmp_path, says="is a folder; give a PNG or JPEG image")
    fails(model, image, text, says="text.png is neither a PNG nor a JPEG image")
    fails(model, cut, says="cut.png cannot be read as an image")
    fails(model, blank, says="blank.png shows no digit")
    fails(tmp_path / "no.fastconv", image, says="no.fastconv: there is no such file; fastconv lenet --out DIR writes")
    fails(image, image, says="MODEL must be a .fastconv or .keras file, got")
    fails(tmp_path / "broken.fastconv", image, says="broken.fastconv is not a network that fastconv can load")
    assert predict(other, image) == 0
    wrong = tmp_path / "wrong.fastconv"
    fastconv.Network(five_classes()).save(wrong)
    capsys.readouterr()
    fails(wrong, image, says="MODEL must map images of shape (N, 28, 28, 1) to (N, 10); ")
    (tmp_path / "model.keras").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    fails(
        tmp_path / "model.keras",
        image,
        says="model.keras needs tensorflow; run pip install 'tensorflow>=2.16', or give",
    )
    monkeypatch.setitem(sys.modules, "PIL", None)
    fails(model, image, says="fastconv predict needs pillow; run pip install 'pillow>=10' 'rich>=13'")


def five_classes() -> fastconv.network.Graph:
    graph = fastconv.network.Graph(np.dtype(np.float32))
    x = graph.input("images", (None, 32, 32, 1))
    x = graph.add("reshape", [x], (), "flatten", shape=[0, -1])
    graph.outputs.append(
        (
            "scores",
            graph.add("dense", [x, graph.constant(np.ones((1024, 5), np.float32)), None, None], (None, 5), "dense"),
        )
    )
    return graph
