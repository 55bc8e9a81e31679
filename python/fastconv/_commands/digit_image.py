"""Turns a picture of a digit into 28 x 28 values, as MNIST's images were made. It needs Pillow."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

Floats = npt.NDArray[np.float32]

_SIDE, _BOX = 28, 20
_MIDDLE = 14  # the row and the column of the centre of mass, counted from 0
_LEAST_CONTRAST = 16  # of 255
_FAINT = 0.1  # ink below this share is taken for paper
_LARGEST = 50_000_000  # pixels


class DigitImage(NamedTuple):
    """A digit as the network takes it.

    Attributes
    ----------
    pixels : ndarray of float32, shape (28, 28)
        From 0 (paper) to 1 (ink).
    steps : list of str
        What was done to the picture.
    """

    pixels: Floats
    steps: list[str]


def read_digit(path: Path) -> DigitImage:
    """Read a PNG or JPEG file.

    Raises
    ------
    ValueError
        If there is no such file, if it is no such image, or if nothing is on it. The message names the file.
    """
    picture = _open(path)
    steps = [f"{picture.width} x {picture.height} pixels"]
    grey = _grey(picture, steps)
    edge = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    paper = float(np.median(edge))
    if paper > 127:
        steps.append("inverted (bright background)")
        grey, paper = 255 - grey, 255 - paper
    contrast = float(grey.max()) - paper
    if contrast < _LEAST_CONTRAST:
        raise ValueError(f"{path} shows no digit: nothing on it stands out from its background")
    ink = np.clip((grey - paper) / contrast, 0, 1).astype(np.float32)
    return DigitImage(_normalised(ink, steps), steps)


def _open(path: Path) -> Image.Image:
    if not path.exists():
        raise ValueError(f"{path}: there is no such file; give a PNG or JPEG image")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give a PNG or JPEG image")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the limit below is lower
            with Image.open(path, formats=("PNG", "JPEG")) as picture:
                if picture.width * picture.height > _LARGEST:
                    raise ValueError(f"it has more than {_LARGEST:,} pixels")
                picture.load()
                return ImageOps.exif_transpose(picture)
    except Image.UnidentifiedImageError as error:
        raise ValueError(f"{path} is neither a PNG nor a JPEG image") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error


def _grey(picture: Image.Image, steps: list[str]) -> Floats:
    """Brightness from 0 to 255."""
    if picture.mode.startswith("I"):  # 16 bits
        steps.append("16 bits reduced to 8")
        return np.asarray(picture, np.float32) / np.float32(257)
    if picture.has_transparency_data:
        layers = np.asarray(picture.convert("RGBA").convert("LA"), np.float32)
        brightness, opacity = layers[..., 0], layers[..., 1] / 255
        if opacity.min() < 1:
            # Paper that the ink stands out from.
            seen = float((brightness * opacity).sum() / max(float(opacity.sum()), 1e-9))
            paper = 255 if seen < 128 else 0
            steps.append(f"transparent parts made {'white' if paper else 'black'}")
            brightness = np.asarray(brightness * opacity + paper * (1 - opacity), np.float32)
        steps.append("made grey")
        return brightness
    if picture.mode != "L":
        steps.append("made grey")
    return np.asarray(picture.convert("L"), np.float32)


def _normalised(ink: Floats, steps: list[str]) -> Floats:
    """Crop to the ink, scale to 20 x 20 and move the centre of mass to the middle of 28 x 28."""
    rows, columns = (np.flatnonzero((ink > _FAINT).any(axis=axis)) for axis in (1, 0))
    cropped = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = cropped.shape
    scale = _BOX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    how = Image.Resampling.BOX if scale <= 1 else Image.Resampling.BILINEAR
    small = np.asarray(Image.fromarray(np.ascontiguousarray(cropped)).resize(size, how), np.float32)
    small = np.clip(small / small.max(), 0, 1)  # thin lines would be faint otherwise
    mass = float(small.sum())
    centre = (float((small.sum(axis=1 - axis) * np.arange(small.shape[axis])).sum()) / mass for axis in (0, 1))
    top, left = (round(_MIDDLE - place) for place in centre)
    steps.append(f"cropped to the ink, {width} x {height}")
    steps.append(f"scaled to {size[0]} x {size[1]}")
    steps.append("centred by mass in 28 x 28")
    # A margin on all sides takes what lies outside. Only a centre of mass far from the middle needs it.
    sheet = np.zeros((_SIDE + 2 * _BOX, _SIDE + 2 * _BOX), np.float32)
    sheet[_BOX + top :, _BOX + left :][: size[1], : size[0]] = small
    return sheet[_BOX : _BOX + _SIDE, _BOX : _BOX + _SIDE].copy()


def as_text(pixels: Floats) -> str:
    """The image as lines of text, two rows of pixels in each."""
    ink = pixels > 0.35
    signs = np.array([[" ", "\N{LOWER HALF BLOCK}"], ["\N{UPPER HALF BLOCK}", "\N{FULL BLOCK}"]])
    lines = signs[ink[::2].astype(int), ink[1::2].astype(int)]
    return "\n".join("".join(line) for line in lines)
