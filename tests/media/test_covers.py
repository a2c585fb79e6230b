"""Covers of every common kind, whatever their suffix says: right pixels, or one plain reason."""

import io
import struct
import zlib
from contextlib import suppress

import av
import numpy as np
import pytest
import simplejpeg
from PIL import Image, features

from microlens.media import covers as covers_module
from microlens.media.covers import decode_picture
from microlens.media.pictures import MAX_PIXELS
from microlens.media.reading import MediaFault, read_cover
from tests.videos import mux_film

BLOCKS = np.kron(np.random.default_rng(0).integers(0, 256, (8, 12, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
PICTURE = Image.fromarray(BLOCKS)  # 96 x 64
GREY = Image.fromarray(np.arange(96 * 64, dtype=np.uint16).reshape(64, 96) * 10)


def encoded(kind: str, picture: Image.Image = PICTURE, **options) -> bytes:
    file = io.BytesIO()
    picture.save(file, kind, **options)
    return file.getvalue()


JPEGS = {
    "baseline": encoded("JPEG", quality=90),
    "progressive": encoded("JPEG", quality=90, progressive=True),
    "with restarts": encoded("JPEG", quality=90, restart_marker_rows=1),
    "grey": encoded("JPEG", PICTURE.convert("L"), quality=90),
    "CMYK": encoded("JPEG", PICTURE.convert("CMYK"), quality=90),
}
END = b"\xff\xd9"


@pytest.mark.parametrize("kind", JPEGS)
def test_jpegs_are_decoded_exactly(tmp_path, kind):
    data = JPEGS[kind]
    (tmp_path / "cover.jpg").write_bytes(data)
    pixels = simplejpeg.decode_jpeg(data)
    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    cover = read_cover(tmp_path / "cover.jpg", 32, "squash")
    expected = frame.reformat(width=32, height=32, format="rgb24", interpolation="BILINEAR").to_ndarray()
    np.testing.assert_array_equal(cover.pixels, expected)
    assert cover.faults == ()


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize(
    "junk",
    [
        bytes(16),
        bytes(5000),
        b"text of a camera" * 20,
        np.random.default_rng(1).bytes(4000),
        b"\xff\xe1\0\x7fmore",
        b"\xff\0" * 9,
        b"ab" * 20 + b"\xff\xfe\0\4xy" + b"cd" * 20,
    ],
    ids=["zeros", "many zeros", "text", "noise", "half a segment", "stuffing", "a comment between"],
)
def test_a_jpeg_with_junk_before_its_end_marker_keeps_its_pixels(kind, junk):
    data = JPEGS[kind]
    picture = decode_picture(data[:-2] + junk + END)
    np.testing.assert_array_equal(picture.pixels, simplejpeg.decode_jpeg(data))
    assert picture.faults in [(), ("junk before the end marker",)]


def test_junk_before_the_end_marker_is_named():
    assert decode_picture(JPEGS["baseline"][:-2] + bytes(16) + END).faults == ("junk before the end marker",)


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("tail", [b"", b"\xff", bytes(30)])
def test_a_jpeg_without_its_end_marker_has_all_of_its_pixels(kind, tail):
    data = JPEGS[kind]
    picture = decode_picture(data[:-2] + tail)
    np.testing.assert_array_equal(picture.pixels, simplejpeg.decode_jpeg(data))
    assert picture.faults == ("the end marker is missing",)


@pytest.mark.parametrize("kind", JPEGS)
def test_a_jpeg_of_which_pixels_are_missing_is_refused(kind):
    data = JPEGS[kind]
    whole = simplejpeg.decode_jpeg(data)
    scans = [i for i in range(len(data)) if data[i : i + 2] == b"\xff\xda"]
    cuts = [len(data) - 3, len(data) - 20, len(data) // 2, scans[0], scans[0] + 4, scans[-1], scans[-1] + 4, 3]
    for cut in cuts:
        with pytest.raises(MediaFault, match="incomplete or damaged JPEG picture"):
            decode_picture(data[:cut])
        with suppress(MediaFault):  # whole by its markers, if it is progressive and only its finest scan was cut off
            seen = decode_picture(data[:cut] + END).pixels
            assert kind == "progressive"
            assert cut == scans[-1]
            np.testing.assert_allclose(seen, whole, atol=4)


def test_damage_within_the_scan_of_a_jpeg_is_refused():
    data = bytearray(JPEGS["with restarts"])
    scan = data.index(b"\xff\xda")
    data[scan + 60 : scan + 200] = b"\x55" * 140
    with pytest.raises(MediaFault, match="incomplete or damaged JPEG picture"):
        decode_picture(bytes(data))


LOSSLESS = {
    "PNG": encoded("PNG"),
    "interlaced APNG": encoded("PNG", save_all=True, append_images=[PICTURE.rotate(180)], duration=100),
    "WebP": encoded("WEBP", lossless=True),
    "animated WebP": encoded("WEBP", lossless=True, save_all=True, append_images=[PICTURE.rotate(180)], duration=100),
    "BMP": encoded("BMP"),
    "opaque PNG": encoded("PNG", PICTURE.convert("RGBA")),
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_kinds_give_their_first_picture_exactly(kind):
    picture = decode_picture(LOSSLESS[kind])
    np.testing.assert_array_equal(picture.pixels, BLOCKS)
    assert picture.faults == ()


def test_a_gif_gives_its_first_picture():
    few = PICTURE.quantize(96)
    data = encoded("GIF", few, save_all=True, append_images=[few.rotate(180)])
    np.testing.assert_array_equal(decode_picture(data).pixels, np.asarray(few.convert("RGB")))


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_lossy_kinds(kind):
    smooth = Image.fromarray(np.kron(BLOCKS[::16, ::16], np.ones((16, 16, 1), np.uint8)))
    picture = decode_picture(encoded(kind, smooth, quality=95))
    assert np.abs(picture.pixels.astype(int) - np.asarray(smooth)).mean() < 6


def test_depths_and_palettes():
    grey = decode_picture(encoded("PNG", GREY)).pixels
    np.testing.assert_array_equal(grey, np.repeat((np.asarray(GREY) >> 8)[..., None], 3, axis=2))
    for mode in ("1", "L", "P"):
        converted = PICTURE.convert(mode)
        np.testing.assert_array_equal(decode_picture(encoded("PNG", converted)).pixels, converted.convert("RGB"))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB", "L"])
def test_transparent_pixels_lie_on_white(mode):
    colour = {"RGBA": (200, 0, 0, 255), "LA": (80, 255), "P": 1, "RGB": (200, 0, 0), "L": 80}[mode]
    hole = {"RGBA": (0, 0, 0, 0), "LA": (0, 0), "P": 0, "RGB": (0, 0, 0), "L": 0}[mode]
    image = Image.new(mode, (16, 8), colour)
    if mode == "P":
        image.putpalette([0, 0, 0, 200, 0, 0])
    image.paste(hole, (8, 0, 16, 8))
    options = {} if mode in ("RGBA", "LA") else {"transparency": hole}
    pixels = decode_picture(encoded("PNG", image, **options)).pixels
    np.testing.assert_array_equal(pixels[:, :8], np.full((8, 8, 3), 80 if mode in ("LA", "L") else (200, 0, 0)))
    np.testing.assert_array_equal(pixels[:, 8:], np.full((8, 8, 3), 255))
    if mode == "RGBA":
        np.testing.assert_array_equal(decode_picture(encoded("WEBP", image, lossless=True)).pixels, pixels)


def test_half_transparent_pixels_are_mixed_with_white():
    image = Image.new("RGBA", (4, 4), (100, 0, 0, 128))
    expected = np.rint(np.array([100, 0, 0]) * 128 / 255 + 255 * 127 / 255)
    assert np.abs(decode_picture(encoded("PNG", image)).pixels - expected).max() <= 1


def chunk(name: bytes, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + name + payload + struct.pack(">I", zlib.crc32(name + payload))


def test_a_png_is_read_despite_odd_chunks_beside_its_pixels():
    data = LOSSLESS["PNG"]
    header, end = 33, -12
    odd = {
        "text of 3 MB": data[:header] + chunk(b"zTXt", b"note\0\0" + zlib.compress(bytes(3 << 20))) + data[header:],
        "wrong checksum of a text": data[:header] + chunk(b"tEXt", b"a\0b")[:-1] + b"\0" + data[header:],
        "animation without frames": data[:header] + chunk(b"acTL", b"") + data[header:],
        "no end": data[:end],
        "junk before the end": data[:end] + b"junk and more junk" + data[end:],
        "junk after the end": data + bytes(40),
    }
    for what, changed in odd.items():
        np.testing.assert_array_equal(decode_picture(changed).pixels, BLOCKS, err_msg=what)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "AVIF"])
def test_half_a_picture_is_refused(kind):
    data = encoded(kind, PICTURE.quantize(96) if kind == "GIF" else PICTURE)
    with pytest.raises(MediaFault, match=f"(?i)incomplete or damaged {kind} picture"):
        decode_picture(data[: len(data) // 2])


def with_size(kind: str, width: int, height: int) -> bytes:
    """A small picture whose header claims another size."""
    if kind == "JPEG":
        data = bytearray(JPEGS["baseline"])
        place = data.index(b"\xff\xc0") + 5
        data[place : place + 4] = struct.pack(">HH", height, width)
    elif kind == "PNG":
        data = bytearray(LOSSLESS["PNG"])
        data[8:33] = chunk(b"IHDR", struct.pack(">II", width, height) + data[24:29])
    elif kind == "GIF":
        data = bytearray(encoded("GIF", PICTURE.quantize(96)))
        data[6:10] = struct.pack("<HH", width, height)
    elif kind == "BMP":
        data = bytearray(LOSSLESS["BMP"])
        data[18:26] = struct.pack("<ii", width, height)
    elif kind == "lossless WebP":
        data = bytearray(encoded("WEBP", lossless=True))
        data[21:25] = struct.pack("<I", (width - 1) | (height - 1) << 14 | (data[24] >> 4) << 28)
    elif kind == "lossy WebP":
        data = bytearray(encoded("WEBP"))
        data[26:30] = struct.pack("<HH", width, height)
    else:
        data = bytearray(LOSSLESS["animated WebP"])
        data[24:30] = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return bytes(data)


@pytest.mark.parametrize(
    ("kind", "width", "height"),
    [
        ("JPEG", 65500, 65500),
        ("JPEG", 8192, 8193),
        ("PNG", 65500, 65500),
        ("PNG", 2**31 - 1, 2**31 - 1),
        ("PNG", 12000, 8000),
        ("GIF", 65500, 65500),
        ("BMP", 65500, 65500),
        ("lossless WebP", 16383, 16383),
        ("lossy WebP", 16383, 16383),
        ("animated WebP", 65500, 65500),
    ],
)
def test_pictures_that_claim_too_many_pixels_are_refused_before_room_is_made_for_them(tmp_path, kind, width, height):
    (tmp_path / "cover").write_bytes(with_size(kind, width, height))
    with pytest.raises(MediaFault) as fault:
        read_cover(tmp_path / "cover", 32, "squash")
    assert str(fault.value) == f"its pictures have {width} x {height} pixels; accepted are up to {MAX_PIXELS:,}"


def test_a_file_too_large_for_a_cover_is_not_read(tmp_path):
    with (tmp_path / "cover.jpg").open("wb") as file:
        file.write(JPEGS["baseline"])
        file.truncate(1 << 40)  # without taking room on the disk
    with pytest.raises(MediaFault, match=r"too large for a cover; accepted are up to 256 MiB"):
        read_cover(tmp_path / "cover.jpg", 32, "squash")


@pytest.mark.parametrize(
    ("kind", "start"),
    [
        ("HEIC", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic"),
        ("HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
        ("JPEG XL", b"\0\0\0\x0cJXL \r\n\x87\n"),
        ("JPEG 2000", b"\0\0\0\x0cjP  \r\n\x87\n"),
        ("SVG", b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>'),
    ],
)
def test_kinds_that_are_not_read_are_named(kind, start):
    with pytest.raises(MediaFault, match=rf"^a picture of the kind {kind}; accepted covers are JPEG, PNG, .*TIFF$"):
        decode_picture(start + bytes(100))


def test_avif_is_named_where_pillow_cannot_read_it(monkeypatch):
    assert features.check("avif")
    monkeypatch.setattr(covers_module.features, "check", lambda name: False)
    with pytest.raises(MediaFault, match="a picture of the kind AVIF, which the installed Pillow was built without"):
        decode_picture(encoded("AVIF"))


@pytest.mark.parametrize(
    "data",
    [b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"P6 2 2 255\n" + bytes(12), b"\0\0\x01\0\x01\0", b"hello"],
)
def test_nothing_else_is_opened(data):
    """PostScript, above all: Pillow would run another program for it."""
    with pytest.raises(MediaFault, match=r"^not a media file of a known kind; accepted covers are"):
        decode_picture(data)


def test_a_video_is_no_cover(tmp_path):
    with pytest.raises(MediaFault, match="not a media file of a known kind"):
        read_cover(mux_film(tmp_path / "cover.jpg.mp4", count=2), 64, "squash")
