"""Pictures stand upright, whichever of the eight orientations their file states."""

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from microlens.media.covers import decode_picture
from microlens.media.orientation import Orientation, exif_orientation, matrix_orientation
from microlens.media.reading import ClipSettings, read_clip, read_cover
from tests.videos import HEIGHT, WIDTH, encode, mux_film

# What must be done to the stored picture, by the EXIF standard's words for the places of its first row and column.
UPRIGHT = {
    1: lambda stored: stored,  # row 0 is the top, column 0 the left side
    2: np.fliplr,  # top, right side
    3: lambda stored: np.rot90(stored, 2),  # bottom, right side
    4: np.flipud,  # bottom, left side
    5: lambda stored: stored.swapaxes(0, 1),  # left side, top
    6: lambda stored: np.rot90(stored, -1),  # right side, top
    7: lambda stored: np.rot90(stored, 2).swapaxes(0, 1),  # right side, bottom
    8: lambda stored: np.rot90(stored, 1),  # left side, bottom
}


def test_each_corner_of_the_eight_orientations_is_where_the_standard_says():
    stored = np.arange(6).reshape(2, 3)
    first_row_and_column = {
        1: ([0, 1, 2], [0, 3]),
        2: ([2, 1, 0], [2, 5]),
        3: ([5, 4, 3], [5, 2]),
        4: ([3, 4, 5], [3, 0]),
        5: ([0, 3], [0, 1, 2]),
        6: ([3, 0], [3, 4, 5]),
        7: ([5, 2], [5, 4, 3]),
        8: ([2, 5], [2, 1, 0]),
    }
    for value, (row, column) in first_row_and_column.items():
        tag = Image.Exif()
        tag[274] = value
        upright = exif_orientation(tag.tobytes()).upright(stored)
        assert (upright[0].tolist(), upright[:, 0].tolist()) == (row, column), value
        np.testing.assert_array_equal(upright, UPRIGHT[value](stored))


# By the formula x' = a x + c y, y' = b x + d y: a matrix for each orientation, as phones and editors write them.
MATRICES = {
    1: (1, 0, 0, 1),
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}


def display_matrix(a: float, b: float, c: float, d: float) -> np.ndarray:
    unit = 1 << 16
    return np.array([a * unit, b * unit, 0, c * unit, d * unit, 0, WIDTH * unit, HEIGHT * unit, 1 << 30], np.int32)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return encode(tmp_path_factory.mktemp("plain") / "plain.mp4", count=12)


@pytest.mark.parametrize("crop", ["squash", "center"])
@pytest.mark.parametrize("value", MATRICES)
def test_a_video_is_turned_and_mirrored_by_its_display_matrix(tmp_path, plain, value, crop):
    path = tmp_path / "turned.mp4"
    with av.open(str(plain)) as source, av.open(str(path), "w") as output:
        copy = output.add_stream_from_template(source.streams.video[0])
        copy.set_display_matrix(display_matrix(*MATRICES[value]))
        for packet in (packet for packet in source.demux(video=0) if packet.size):
            packet.stream = copy
            output.mux(packet)
    settings = ClipSettings(size=64, crop=crop)
    stored, turned = read_clip(plain, settings), read_clip(path, settings)
    for before, after in zip(stored.frames, turned.frames, strict=True):
        np.testing.assert_array_equal(after, UPRIGHT[value](before))
    assert (turned.info.width, turned.info.height) == ((HEIGHT, WIDTH) if value >= 5 else (WIDTH, HEIGHT))


@pytest.mark.parametrize("degrees", range(-180, 181, 15))
def test_odd_angles_go_to_the_nearest_quarter_turn(degrees):
    """A matrix of a clockwise turn; those half-way between two quarters may go either way."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    found = matrix_orientation(display_matrix(cosine, sine, -sine, cosine).tobytes())
    clockwise = {
        0: Orientation(),
        1: Orientation(True, True, False),
        2: Orientation(False, True, True),
        3: Orientation(True, False, True),
    }
    nearest = {round(degrees / 90 + shift) % 4 for shift in (-0.001, 0.001)}
    assert found in {clockwise[turns] for turns in nearest}


@pytest.mark.parametrize("matrix", [(0, 0, 0, 0), (0, 0, 0, 1), (2, 0, 0, 0.5)])
def test_degenerate_matrices_leave_the_picture_as_it_is(matrix):
    assert matrix_orientation(display_matrix(*matrix).tobytes()) == Orientation()


def corners(kind: str, **options) -> bytes:
    """A picture of 96 x 64 with a green corner at the top left and a blue one at the top right, on red."""
    pixels = np.full((64, 96, 3), (200, 30, 30), np.uint8)
    pixels[:32, :48], pixels[:16, 80:] = (30, 200, 30), (30, 30, 200)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF"])
@pytest.mark.parametrize("value", range(1, 9))
def test_covers_are_turned_and_mirrored_by_exif(tmp_path, kind, value):
    exif = Image.Exif()
    exif[274], exif[271] = value, "a camera"
    stored, turned = tmp_path / "stored", tmp_path / "turned"
    stored.write_bytes(corners(kind, quality=90))
    turned.write_bytes(corners(kind, quality=90, exif=exif))
    for crop in ("squash", "center"):
        expected = UPRIGHT[value](read_cover(stored, 64, crop).pixels)
        np.testing.assert_array_equal(read_cover(turned, 64, crop).pixels, expected)


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"Exif\0\0",
        b"Exif\0\0MM\0\x2a\xff\xff\xff\xff",
        b"Exif\0\0II\x2a\0\x08\0\0\0\xff\xff" + b"\x12\x01" * 40,
        b"Exif\0\0" + bytes(range(256)),
        b"Exif\0\0II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x09\0\0\0\0\0\0\0",  # orientation 9
        b"Exif\0\0II\x2a\0\x08\0\0\0\x01\0\x12\x01\x02\0\x02\0\0\0\x36\0\0\0\0\0\0\0",  # orientation "6"
    ],
)
def test_unreadable_exif_leaves_a_good_cover_as_it_is(record):
    plain = corners("JPEG", quality=90)
    segment = b"\xff\xe1" + (len(record) + 2).to_bytes(2) + record
    picture = decode_picture(plain[:2] + segment + plain[2:])
    assert picture.orientation == Orientation()
    np.testing.assert_array_equal(picture.pixels, decode_picture(plain).pixels)


def test_exif_that_is_damaged_behind_the_orientation_is_followed_in_silence():
    """Here a text is said to lie outside of the record, of which Pillow would warn."""
    entries = b"\x0f\x01\x02\0\x40\0\0\0\xff\xff\0\0" + b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
    record = b"Exif\0\0II\x2a\0\x08\0\0\0\x02\0" + entries + bytes(4)
    assert exif_orientation(record) == Orientation(transposed=True, mirrored=True)


def test_motion_jpeg_with_exif_in_its_frames(tmp_path):
    """PyAV has no name for what the decoder then puts beside the display matrix."""
    exif = Image.Exif()
    exif[274] = 6
    path = mux_film(tmp_path / "film.mov", count=3, codec="mjpeg", options={"strict": "-1"})
    turned = tmp_path / "turned.mov"
    with av.open(str(path)) as source, av.open(str(turned), "w") as output:
        copy = output.add_stream_from_template(source.streams.video[0])
        for number in range(3):
            packet = av.Packet(corners("JPEG", exif=exif))
            packet.stream, packet.pts, packet.dts, packet.duration = copy, number, number, 1
            packet.time_base, packet.is_keyframe = Fraction(1, 10), True
            output.mux(packet)
    shown = read_clip(turned, ClipSettings(size=64)).frames[0]
    assert shown[8, 56, 1] > 150 > shown[8, 8, 1]  # green has gone from the top left to the top right
