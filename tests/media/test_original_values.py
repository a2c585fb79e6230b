"""Values of the original code's LMDB files, against its own steps with the real pickle."""

import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from microlens.errors import InputError
from microlens.media.original_values import SIZE, Kind, pack_original, unpack_original
from tests.reference.original_lmdb import LMDB_VIDEO, LMDB_Image, cover_value, folded_frames, frames_value, read_value

BYTES = SIZE * SIZE * 3


def pictures(number: int, seed: int = 0) -> NDArray[np.uint8]:
    """Random pictures that contain every value in every colour."""
    images = np.random.default_rng(seed).integers(0, 256, (number, SIZE, SIZE, 3), np.uint8)
    images[:, 0, :, :] = np.arange(SIZE, dtype=np.uint8)[:, None]
    images[:, 1, :, :] = 255 - images[:, 0]
    return images


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_what_the_original_wrote_is_read_to_the_pixel(protocol: int) -> None:
    images = pictures(5)
    cover = unpack_original(pickle.dumps(cover_value(images[0]), protocol), "cover")
    assert (cover.kind, cover.folded) == ("covers", False)
    np.testing.assert_array_equal(cover.images, images[:1])
    clip = unpack_original(pickle.dumps(frames_value(images), protocol), "clip")
    assert (clip.kind, clip.folded) == ("clips", False)
    np.testing.assert_array_equal(clip.images, images)


@pytest.mark.parametrize("kind", ["clips", "covers"])
def test_what_is_packed_is_read_by_the_original_code(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures(3 if kind == "clips" else 1)
    value = pack_original(kind, images)
    for written in (LMDB_Image, LMDB_VIDEO):
        monkeypatch.setattr(sys.modules["__main__"], written.__name__, written, raising=False)
    record = pickle.loads(value)
    pixels = read_value(record)
    expected = frames_value(images) if kind == "clips" else cover_value(images[0])
    assert type(record) is type(expected)
    np.testing.assert_allclose(pixels, read_value(expected), atol=1e-6)
    assert list(vars(record)) == list(vars(expected))
    np.testing.assert_array_equal(unpack_original(value, "value").images, images)


def test_frames_that_were_normalised_twice_are_told_from_good_ones() -> None:
    ramp = np.broadcast_to(np.arange(SIZE, dtype=np.uint8)[None, None, :, None], (2, SIZE, SIZE, 3))
    found = unpack_original(pickle.dumps(frames_value(folded_frames(ramp))), "clip")
    assert found.folded
    assert found.images[0, 0, [0, 32, 64, 96, 125, 128, 160, 192], 0].tolist() == [1, 65, 130, 194, 252, 1, 65, 129]
    almost = folded_frames(ramp)
    almost[0, 0, 0, 0] = 2  # no value is folded to 2
    assert not unpack_original(pickle.dumps(frames_value(almost)), "clip").folded


def test_covers_as_bytes_with_their_size_are_read_too() -> None:
    image = np.random.default_rng(1).integers(0, 256, (7, 9, 3), np.uint8)
    record = LMDB_Image(image)
    record.channels, record.size, record.id = 3, (7, 9), "12"  # type: ignore[attr-defined]
    found = unpack_original(pickle.dumps(record), "cover")
    np.testing.assert_array_equal(found.images, image[None])
    for sizes in ((9, 9), (7,), (7, "9"), (0, 0), (7.0, 9)):
        record.size = sizes  # type: ignore[attr-defined]
        with pytest.raises(InputError, match="189 bytes that are no pixels"):
            unpack_original(pickle.dumps(record), "cover")


class Call:
    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.function, self.arguments


def explode(mark: str) -> None:
    Path(mark).touch()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("hide", [lambda call: call, lambda call: [call], lambda call: hidden_in_record(call)])
def test_code_is_refused_in_a_sentence_and_does_not_run(
    tmp_path: Path, protocol: int, hide: Callable[[Call], object]
) -> None:
    mark = tmp_path / "exploded"
    value = pickle.dumps(hide(Call(explode, str(mark))), protocol)
    with pytest.raises(
        InputError, match=r"^item 3 names \S+, which is not run; accepted are pickles of plain values\.$"
    ):
        unpack_original(value, "item 3")
    assert not mark.exists()
    pickle.loads(value)
    assert mark.exists()  # the pickle does run


def hidden_in_record(call: Call) -> object:
    record = LMDB_VIDEO(np.zeros(3))
    record.other = call  # type: ignore[attr-defined]
    return record


@pytest.mark.parametrize(
    "program",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"c__main__\nLMDB_VIDEO\n(S'true'\ntR.",  # the class is called with an argument
        b"\x80\x03c__main__\nLMDB_VIDEO\n}X\x05\x00\x00\x00videoC\x01asb.",  # attributes of the class itself
        b"\x80\x03c__main__\nLMDB_VIDEO\n)\x81K\x01b.",  # attributes that are a number
        b"\x80\x03c__main__\nLMDB_VIDEO\n.",
        b"\x80\x03}.",
        b"\x80\x03X\x05\x00\x00\x00videoP0\n.",
    ],
)
def test_odd_programs_are_refused(program: bytes) -> None:
    with pytest.raises(InputError, match=r"^item 3 "):
        unpack_original(program, "item 3")


def test_a_value_cut_anywhere_is_refused() -> None:
    value = pickle.dumps(cover_value(pictures(1)[0]))
    for length in (*range(120), len(value) // 2, *range(len(value) - 20, len(value))):
        with pytest.raises(InputError, match=r"^item 3 "):
            unpack_original(value[:length], "item 3")


def no_pixels() -> list[Any]:
    half = cover_value(pictures(1)[0])
    half.image = half.image[: len(half.image) // 2]
    empty = LMDB_VIDEO(np.zeros(0, np.float32))
    between = LMDB_Image(np.full((3, SIZE, SIZE), 0.3, np.float32))
    infinite = LMDB_Image(np.full((3, SIZE, SIZE), np.inf, np.float32))
    not_a_number = LMDB_Image(np.full((3, SIZE, SIZE), np.nan, np.float32))
    return [half, empty, between, infinite, not_a_number]


@pytest.mark.parametrize("record", no_pixels(), ids=["half", "empty", "between", "infinite", "nan"])
def test_numbers_that_are_no_pixels_are_refused(record: object) -> None:
    with pytest.raises(InputError, match=r"item 3 holds [0-9,]+ bytes that are no pixels"):
        unpack_original(pickle.dumps(record), "item 3")


def test_a_record_without_pictures_is_refused() -> None:
    record = LMDB_VIDEO(np.zeros(1))
    record.video = [1, 2]  # type: ignore[assignment]
    with pytest.raises(InputError, match="none of the attributes image, video"):
        unpack_original(pickle.dumps(record), "item 3")
