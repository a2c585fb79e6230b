"""Pictures as squares: extreme shapes and sizes, and what is refused before memory is taken for it."""

import tracemalloc

import av
import numpy as np
import pytest

from microlens.media.faults import MediaFault
from microlens.media.orientation import Orientation
from microlens.media.pictures import MAX_PIXELS, limit_size, square
from microlens.media.reading import ClipSettings, read_clip
from tests.videos import mux_film

UPRIGHT = Orientation()
TURNED = Orientation(transposed=True)


def striped(width: int, height: int) -> av.VideoFrame:
    """A picture in three stripes across its long side: red, the middle one green, blue; green is square."""
    pixels = np.zeros((height, width, 3), np.uint8)
    long, short = max(width, height), min(width, height)
    along = np.arange(long)
    place = np.where(along < (long - short) / 2, 0, np.where(along < (long + short) / 2, 1, 2))
    colours = np.eye(3, dtype=np.uint8)[place] * 200
    pixels[:] = colours[None, :] if width >= height else colours[:, None]
    return av.VideoFrame.from_ndarray(pixels, format="rgb24")


@pytest.mark.parametrize("shape", [(4000, 2), (2, 4000), (60000, 10), (10, 60000), (900, 100), (100, 900), (700, 100)])
@pytest.mark.parametrize("orientation", [UPRIGHT, TURNED])
def test_the_middle_of_extreme_shapes(shape, orientation):
    seen = square(striped(*shape), 32, "center", orientation)
    assert seen.shape == (32, 32, 3)
    inner = seen[4:-4, 4:-4].reshape(-1, 3)  # the neighbours bleed into the rim
    np.testing.assert_allclose(inner, np.tile([0, 200, 0], (len(inner), 1)), atol=1)


@pytest.mark.parametrize("shape", [(65500, 1), (1, 65500), (4000, 2), (2, 4000), (1, 1), (3, 2), (1_000_000, 3)])
@pytest.mark.parametrize("size", [8, 224])
def test_squashed_extreme_shapes_have_every_colour_in_its_place(shape, size):
    seen = square(striped(*shape), size, "squash", UPRIGHT).astype(int)
    assert seen.shape == (size, size, 3)
    if max(shape) > 1000:
        along = seen[size // 2] if shape[0] > shape[1] else seen[:, size // 2]
        assert along[: size // 2 - 1, 0].min() > 180
        assert along[size // 2 + 1 :, 2].min() > 180


@pytest.mark.parametrize("ratio", [0.001, 1000.0])
def test_pixels_that_are_far_from_square(ratio):
    pixels = np.full((40, 60, 3), 90, np.uint8)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    np.testing.assert_array_equal(square(frame, 16, "center", UPRIGHT, ratio), np.full((16, 16, 3), 90))


def test_an_extreme_shape_takes_little_memory():
    frame = striped(4000, 2)
    tracemalloc.start()
    square(frame, 224, "center", UPRIGHT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000  # scaled whole it would be 448,000 x 224 pixels


@pytest.mark.parametrize("shape", [(640, 360), (360, 640), (96, 64), (801, 101), (64, 64)])
def test_ordinary_shapes_are_scaled_whole_and_then_cut(shape):
    """What is stored for healthy files must not move by a bit."""
    width, height = shape
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    scale = 48 / min(shape)
    whole = frame.reformat(
        width=round(width * scale), height=round(height * scale), format="rgb24", interpolation="BILINEAR"
    )
    top, left = (whole.height - 48) // 2, (whole.width - 48) // 2
    expected = whole.to_ndarray()[top : top + 48, left : left + 48]
    np.testing.assert_array_equal(square(frame, 48, "center", UPRIGHT), expected)


def test_the_limit_is_stated():
    limit_size(8192, 8192)
    with pytest.raises(MediaFault, match=f"^its pictures have 8193 x 8192 pixels; accepted are up to {MAX_PIXELS:,}$"):
        limit_size(8193, 8192)


def test_a_video_whose_header_claims_too_many_pixels(tmp_path):
    path = mux_film(tmp_path / "film.avi", count=3, codec="ffv1", options={"level": "3"})
    data = path.read_bytes()
    width = data.index(b"strf") + 12
    assert data[width : width + 8] == b"\x60\0\0\0\x40\0\0\0"
    path.write_bytes(data[:width] + b"\x10\x27\0\0\x10\x27\0\0" + data[width + 8 :])
    with pytest.raises(MediaFault, match=f"accepted are pictures of up to {MAX_PIXELS:,} pixels$"):
        read_clip(path, ClipSettings(size=32))


def test_a_video_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    path = mux_film(tmp_path / "film.ts", count=3)
    monkeypatch.setattr("microlens.media.pictures.MAX_PIXELS", 1000)
    monkeypatch.delattr("microlens.media.reading.FrameDecoder")
    with pytest.raises(MediaFault, match=r"^its pictures have 96 x 64 pixels; accepted are up to 1,000$"):
        read_clip(path, ClipSettings(size=32))


def test_frames_larger_than_the_header_says_are_refused_by_the_decoder(tmp_path, monkeypatch):
    """The second half of a transport stream is larger than the limit, here one of few pixels."""
    small, large = mux_film(tmp_path / "small.ts"), mux_film(tmp_path / "large.ts", first=100, size=(192, 128))
    path = tmp_path / "both.ts"
    path.write_bytes(small.read_bytes() + large.read_bytes())
    monkeypatch.setattr("microlens.media.reading.MAX_PIXELS", 100 * 100)
    clip = read_clip(path, ClipSettings(size=64))
    assert any("damaged packet" in fault for fault in clip.faults)
    assert clip.frames.shape == (5, 64, 64, 3)
