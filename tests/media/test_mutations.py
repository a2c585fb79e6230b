"""Damaged at random, a video or a cover still gives pixels of the right shape or one named fault: nothing else."""

import random

import numpy as np
import pytest

from microlens.media.reading import ClipSettings, MediaFault, read_clip, read_cover
from tests.media.test_covers import JPEGS, LOSSLESS, PICTURE, encoded
from tests.videos import mux_film

MUTATIONS_EACH = 12
COVERS = JPEGS | LOSSLESS | {kind: encoded(kind, PICTURE.quantize(96)) for kind in ("GIF",)} | {"AVIF": encoded("AVIF")}
FILMS = {
    "mp4": {"sound": ("aac", 0.8)},
    "mkv": {"sound": ("aac", 0.8)},
    "webm": {"codec": "libvpx"},
    "flv": {"codec": "flv"},
    "ts": {},
    "mpg": {"codec": "mpeg1video", "rate": 25},
    "avi": {"codec": "mpeg4"},
    "wmv": {"codec": "wmv2"},
}


def mutated(data: bytes, random: random.Random) -> bytes:
    """One of: cut short, bytes changed anywhere or in the header, a piece removed, put in, or written over another."""
    changed = bytearray(data)
    place, length = random.randrange(len(data)), random.randrange(1, 400)
    match random.randrange(6):
        case 0:
            del changed[max(1, place) :]
        case 1:
            for _ in range(random.choice((1, 5, 50))):
                changed[random.randrange(len(data))] = random.randrange(256)
        case 2:
            for _ in range(random.choice((1, 5))):
                changed[random.randrange(min(200, len(data)))] = random.choice((0, 127, 128, 255))
        case 3:
            del changed[place : place + length]
        case 4:
            changed[place:place] = random.randbytes(length)
        case _:
            source = random.randrange(len(data))
            changed[place : place + length] = data[source : source + length]
    return bytes(changed) or b"\0"


@pytest.mark.parametrize("kind", COVERS)
def test_covers(tmp_path, kind):
    chance = random.Random(f"cover {kind}")
    path = tmp_path / "cover"
    for _ in range(MUTATIONS_EACH):
        path.write_bytes(mutated(COVERS[kind], chance))
        try:
            cover = read_cover(path, 32, chance.choice(("squash", "center")))
        except MediaFault as fault:
            assert_plain(fault)
        else:
            assert (cover.pixels.shape, cover.pixels.dtype) == ((32, 32, 3), np.uint8)


@pytest.mark.parametrize("kind", FILMS)
def test_films(tmp_path, kind):
    chance = random.Random(f"film {kind}")
    path = mux_film(tmp_path / f"film.{kind}", count=8, **FILMS[kind])
    data = path.read_bytes()
    for number in range(MUTATIONS_EACH):
        path.write_bytes(mutated(data, chance))
        frames = ("spread", "middle", "keyframes")[number % 3]
        try:
            clip = read_clip(
                path, ClipSettings(size=32, num_frames=3, frames=frames, crop=chance.choice(("squash", "center")))
            )
        except MediaFault as fault:
            assert_plain(fault)
        else:
            assert (clip.frames.shape, clip.frames.dtype) == ((3, 32, 32, 3), np.uint8)
            assert clip.info.duration >= 0


def assert_plain(fault: MediaFault) -> None:
    """One short line that blames no part of the program."""
    assert str(fault)
    assert "\n" not in str(fault)
    assert "it cannot be read" not in str(fault)
