"""Encoders with random weights, by name, and random items for them."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from microlens.building import build, pick
from microlens.data.batches import ItemBatch
from microlens.encoders import CONTENT_ENCODERS
from microlens.encoders.content import ContentEncoder
from microlens.encoders.e5 import e5_trunk
from microlens.encoders.text import LONGEST_TITLE, TextEncoder, bert_small_trunk
from microlens.encoders.tuning import Tuning
from microlens.media.sound import SoundSettings

ClipShape = tuple[int, int]  # F frames, and their height and width

DIM = 512  # the paper's size of item vectors
# Built without their tokenizers, one of which would have to be downloaded and one takes seconds to build.
_TEXT_TRUNKS = {"bert_small": bert_small_trunk, "e5": e5_trunk}
_TOKEN = 5  # any that is no padding


def build_tower(
    name: str, tuning: Tuning, clip_shape: ClipShape, options: Mapping[str, Any] | None = None
) -> ContentEncoder:
    """Build the encoder ``name`` with random weights on the default device; text encoders get one title of full length.

    Raises:
        InputError: a required library is not installed, the encoder does not accept such clips, or it needs an option.
    """
    if name in _TEXT_TRUNKS:
        tokens = torch.full((2, LONGEST_TITLE), _TOKEN, dtype=torch.int32)
        return TextEncoder(_TEXT_TRUNKS[name](), tokens, DIM, tuning=tuning)
    given = {
        "dim": DIM,
        "tuning": tuning,
        "clip_shape": clip_shape,
        "cover_size": clip_shape[1],
        "titles": [" ".join(["video"] * LONGEST_TITLE)],
        "weights": "random",
    }
    with _without_warnings():
        tower = build(pick(CONTENT_ENCODERS, name, "encoder"), options or {}, given, "encoder")
    assert isinstance(tower, ContentEncoder)
    return tower


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Suppress warnings about clip shapes, which do not affect the costs."""
    logger = logging.getLogger("microlens")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def random_items(tower: ContentEncoder, clip_shape: ClipShape, number: int) -> ItemBatch:
    """Create ``number`` items with random content of the kinds that ``tower`` reads."""
    frames, size = clip_shape
    shapes = {
        "clips": (frames, size, size, 3),
        "covers": (1, size, size, 3),
        "sound": SoundSettings().shape,
    }
    content = {kind: torch.randint(256, (number, *shapes[kind]), dtype=torch.uint8) for kind in tower.needs}
    return ItemBatch(items=torch.ones(number, dtype=torch.long), content=content)
