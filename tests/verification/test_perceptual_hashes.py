"""Perceptual hashes: copies are found whatever their size and quality, and candidates are all that there are."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from microlens.verification.decoding import decode_video
from microlens.verification.duplicates import find_duplicates
from microlens.verification.media_files import CheckedFile
from microlens.verification.perceptual_hashes import FLAT, picture_hashes
from microlens.verification.similar_pairs import similar_pairs
from tests.videos import mux_film


def slow_pairs(hashes: list[list[str]], limit: int) -> set[tuple[int, int]]:
    """All pairs whose P hashes differ in fewer than ``limit`` bits for each."""
    values = [[int(text, 16) for text in own] for own in hashes]
    limit *= len(values[0])
    return {
        (i, j)
        for j in range(len(values))
        for i in range(j)
        if sum((a ^ b).bit_count() for a, b in zip(values[i], values[j], strict=True)) < limit
    }


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_close_pairs_are_found_and_no_far_ones(data: st.DataObject) -> None:
    pictures = data.draw(st.integers(1, 3))
    base = data.draw(st.lists(st.lists(st.integers(1, 2**64 - 1), min_size=pictures, max_size=pictures), min_size=1))
    flips = st.lists(st.integers(0, 64 * pictures - 1), max_size=14)
    hashes = []
    for own in base:
        for changed in [[], *data.draw(st.lists(flips, max_size=2))]:
            copy = list(own)
            for bit in changed:
                copy[bit // 64] ^= 1 << bit % 64
            hashes.append([f"{value:016x}" for value in copy])
    hashes = list(map(list, dict.fromkeys(map(tuple, hashes))))
    found = {(i, j) for i, j, _ in similar_pairs(hashes)}
    assert slow_pairs(hashes, 4) <= found <= slow_pairs(hashes, 8)
    repeated = [*hashes, *hashes]
    again = {(i, j) for i, j, bits in similar_pairs(repeated) if not bits}
    assert again == {(index, index + len(hashes)) for index in range(len(hashes))}


@pytest.mark.parametrize("equal", range(8))
def test_one_equal_band_is_enough(equal: int) -> None:
    value = 0x0123456789ABCDEF_FEDCBA9876543210
    other = value
    for band in set(range(8)) - {equal}:
        other ^= 1 << 16 * band
    hashes = [[f"{one >> 64:016x}", f"{one & 2**64 - 1:016x}"] for one in (value, other)]
    assert similar_pairs(hashes) == [(0, 1, 7)]


def test_flat_pictures_have_no_hash() -> None:
    black, noise = np.zeros((32, 32), np.uint8), np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
    assert picture_hashes(np.stack([black, noise]))[0] == FLAT
    assert similar_pairs([[FLAT, FLAT], [FLAT, FLAT], [], []]) == []
    half = [FLAT, picture_hashes(noise[None])[0]]
    assert similar_pairs([half, half, [half[1], FLAT]]) == [(0, 1, 0)]


def checked(name: str, path: Path) -> CheckedFile:
    hashes = picture_hashes(decode_video(path).pictures)
    return CheckedFile(kind="clips", name=name, bytes=1, mtime_ns=0, sha256=name, faults=[], info={}, hashes=hashes)


def landscape(number: int) -> np.ndarray:
    """A smooth picture (64, 96, 3), another one after 100."""
    coarse = np.random.default_rng(number // 100).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((96, 64), Image.Resampling.BICUBIC))


def test_a_video_encoded_again_looks_like_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.videos.picture", landscape)
    films = {
        "original": {},
        "small": {"size": (48, 32), "codec": "mpeg4", "options": {"q": "8"}},
        "other": {"first": 100},
    }
    files = [
        (number, checked(name, mux_film(tmp_path / f"{name}.mp4", count=40, **settings)))
        for number, (name, settings) in enumerate(films.items())
    ]
    (alike,) = find_duplicates("clips", files)
    assert not alike.is_fault
    assert [(case.item, case.file, case.beside) for case in alike.cases] == [(1, "small", "original")]


def test_equal_content_is_a_fault_and_damaged_files_are_not_compared_by_look() -> None:
    def file(name: str, digest: str, faults: list[str]) -> CheckedFile:
        return CheckedFile(
            kind="covers", name=name, bytes=1, mtime_ns=0, sha256=digest, faults=faults, info={}, hashes=["f" * 16]
        )

    files = [file("1", "a", []), file("2", "a", []), file("3", "b", ["damaged"]), file("4", "", ["gone"])]
    (found,) = find_duplicates("covers", list(enumerate(files, 1)))
    assert found.is_fault
    assert [(case.item, case.why) for case in found.cases] == [(2, "the same bytes as 1")]
