"""Recognition of text in pictures by rapidocr-onnxruntime, whose package holds the networks' weights.

The networks are PP-OCRv4 of PaddleOCR, which read Chinese and English: Du et al., "PP-OCR: A Practical Ultra
Lightweight OCR System", arXiv 2009.09941.
"""

import unicodedata
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microlens.errors import InputError
from microlens.media.packing import unpack_images
from microlens.media.pictures import Pixels
from microlens.media.reading import MediaFault, read_picture
from microlens.media.store import Store

_SCRIPTS = {"CJK": "Han", "LATIN": "Latin"}


@dataclass(frozen=True, kw_only=True)
class TextLine:
    """A line of text in a picture, and how probable the recogniser finds it.

    ``height`` is that of its letters, ``left`` and ``top`` the corner of its box, as fractions of the picture's size.
    """

    text: str
    confidence: float
    height: float
    left: float
    top: float

    @property
    def script(self) -> str | None:
        """The script of most of its letters: "Han" or "Latin", None if it has no letters of these."""
        names = (unicodedata.name(character, "").partition(" ")[0] for character in self.text)
        found = Counter(_SCRIPTS[name] for name in names if name in _SCRIPTS)
        return found.most_common(1)[0][0] if found else None


@dataclass(frozen=True, kw_only=True)
class ItemTexts:
    """The lines in each picture of an item, largest letters first; ``fault`` says why its pictures cannot be read."""

    key: int
    pictures: list[list[TextLine]]
    fault: str | None = None


@dataclass(frozen=True)
class TextTask:
    """An item and where its pictures are: a store of a dataset, or the file of one picture."""

    key: int
    path: Path


def require_recogniser() -> None:
    """Raise InputError if the library is not installed."""
    if find_spec("rapidocr_onnxruntime") is None:
        raise InputError(
            "text in pictures is read by rapidocr-onnxruntime; install it with: pip install 'microlens[ocr]'"
        )


def read_stored_texts(task: TextTask) -> ItemTexts:
    """Read the texts in the pictures of an item in a store of covers or clips."""
    try:
        value = Store.open(task.path).get(task.key)
        pictures = () if value is None else unpack_images(value)
    except InputError as error:
        return ItemTexts(key=task.key, pictures=[], fault=str(error))
    return ItemTexts(key=task.key, pictures=[recognise(pixels) for pixels in pictures])


def read_file_texts(task: TextTask) -> ItemTexts:
    """Read the texts in the picture in a file, in its own size."""
    try:
        return ItemTexts(key=task.key, pictures=[recognise(read_picture(task.path).pixels)])
    except MediaFault as fault:
        return ItemTexts(key=task.key, pictures=[], fault=str(fault))


def recognise(pixels: Pixels) -> list[TextLine]:
    """The lines of text in a picture (H, W, 3) uint8 RGB, those with the largest letters first."""
    height, width, _ = pixels.shape
    found, _ = _recogniser()(np.ascontiguousarray(pixels[..., ::-1]))
    lines = [_line(np.array(box), text, confidence, height, width) for box, text, confidence in found or []]
    return sorted(lines, key=lambda line: -line.height)


def _line(box: NDArray[np.float64], text: str, confidence: float, height: int, width: int) -> TextLine:
    """A line from the corners (4, 2) of its box, clockwise; the shorter side is the height of the letters."""
    sides = np.linalg.norm(box - np.roll(box, -1, axis=0), axis=1).reshape(2, 2).mean(0)
    left, top = box.min(0)
    return TextLine(
        text=text,
        confidence=round(float(confidence), 3),
        height=round(float(sides.min()) / height, 4),
        left=round(float(left) / width, 4),
        top=round(float(top) / height, 4),
    )


@cache
def _recogniser() -> Any:
    """The recogniser, on one thread, because there is one process per core."""
    import cv2
    from rapidocr_onnxruntime import RapidOCR

    cv2.setNumThreads(1)
    return RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)
