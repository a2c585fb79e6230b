"""Which stream of a file is the film, where it ends, and in what order its parts are played."""

import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from microlens.media.reading import ClipSettings, MediaFault, read_clip
from tests.videos import FASTSTART, HEIGHT, WIDTH, mux_film, numbers, picture, remux

SETTINGS = ClipSettings(size=64)
FIVE_OF_40 = [4, 12, 20, 28, 36]


def without_lengths_of_tracks(path: Path) -> Path:
    """A Matroska file that tells the length of the whole only, as many writers leave it."""
    data = path.read_bytes()
    assert data.count(b"DURATION") >= 1
    path.write_bytes(data.replace(b"DURATION", b"REMARKED"))
    return path


@pytest.mark.parametrize("beyond", [0.6, 8.0])
@pytest.mark.parametrize(
    ("suffix", "codec", "sound"),
    [
        ("mkv", "libx264", "aac"),
        ("webm", "libvpx", "libopus"),
        ("flv", "flv", "aac"),
        ("wmv", "wmv2", "wmav2"),
        ("ts", "libx264", "aac"),
        ("mpg", "mpeg1video", "mp2"),
        ("mp4", "libx264", "aac"),
    ],
)
def test_sound_may_outlast_the_picture(tmp_path, suffix, codec, sound, beyond):
    rate = 25 if suffix == "mpg" else 10
    path = mux_film(tmp_path / f"film.{suffix}", codec=codec, rate=rate, sound=(sound, 40 / rate + beyond))
    clip = read_clip(path, SETTINGS)
    assert numbers(clip.frames) == FIVE_OF_40
    assert clip.faults == ()
    assert clip.info.duration == pytest.approx(40 / rate, abs=0.02)
    assert clip.info.num_frames == 40


@pytest.mark.parametrize("tracks", ["told", "not told"])
@pytest.mark.parametrize("companion", [{"sound": ("aac", 9.0)}, {"subtitle_end": 9.0}, {"subtitle_end": 4.7}])
def test_sound_and_subtitles_in_matroska_with_and_without_lengths_of_tracks(tmp_path, tracks, companion):
    path = mux_film(tmp_path / "film.mkv", **companion)
    if tracks == "not told":
        without_lengths_of_tracks(path)
    clip = read_clip(path, SETTINGS)
    assert (numbers(clip.frames), clip.faults) == (FIVE_OF_40, ())


@pytest.mark.parametrize("tracks", ["told", "not told"])
@pytest.mark.parametrize("companion", [{}, {"sound": ("aac", 4.0)}])
def test_a_truncated_matroska_file_is_named_and_keeps_its_places(tmp_path, tracks, companion):
    path = mux_film(tmp_path / "film.mkv", **companion)
    if tracks == "not told":
        without_lengths_of_tracks(path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    clip = read_clip(path, SETTINGS)
    assert "of 40 frames; the last good frame repeated" in clip.faults[0]
    shown = numbers(clip.frames)
    assert shown[:2] == [4, 12]
    assert shown[3] == shown[4] < 28


def test_a_truncated_flash_video_is_named_though_it_has_sound(tmp_path):
    path = mux_film(tmp_path / "film.flv", codec="flv", sound=("aac", 4.0))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    clip = read_clip(path, SETTINGS)
    assert clip.faults[0].startswith("truncated: read ")
    assert numbers(clip.frames)[:2] == [4, 12]


def test_a_film_cut_off_in_sound_that_goes_on_is_whole(tmp_path):
    path = mux_film(tmp_path / "film.flv", codec="flv", sound=("aac", 12.0))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 8 // 10])
    clip = read_clip(path, SETTINGS)
    assert (numbers(clip.frames), clip.faults) == (FIVE_OF_40, ())


def test_a_film_cut_off_before_sound_that_goes_on_keeps_its_places(tmp_path):
    path = mux_film(tmp_path / "film.mkv", sound=("aac", 9.0))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 10])
    clip = read_clip(path, SETTINGS)
    assert re.fullmatch(r"truncated: read \d\d of 40 frames; the last good frame repeated", clip.faults[0])
    assert numbers(clip.frames)[:2] == [4, 12]
    assert clip.info.duration == pytest.approx(4, abs=0.05)


def test_a_raw_stream_is_as_long_as_its_pictures_whatever_its_bit_rate_would_make_of_its_size(tmp_path):
    path = mux_film(tmp_path / "film.mpg", codec="mpeg1video", rate=25, container_format="mpeg1video")
    data = bytearray(path.read_bytes())
    assert data[:4] == b"\0\0\1\xb3"
    data[8:11] = b"\0\x20" + bytes([data[10] & 0x3F])  # 51,200 bits a second
    path.write_bytes(data)
    clip = read_clip(path, SETTINGS)
    assert clip.faults == ()
    assert clip.info.num_frames == 40
    assert clip.info.duration == pytest.approx(1.6, abs=0.05)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A film of 40 frames, a picture of one, a preview of three, and a longer film numbered from 100."""
    folder = tmp_path_factory.mktemp("films")
    return {
        "film": mux_film(folder / "film.mp4", container=FASTSTART),
        "picture": mux_film(folder / "picture.mp4", count=1, first=200, codec="mjpeg", options={"strict": "-1"}),
        "preview": mux_film(folder / "preview.mp4", count=3, first=210, codec="mjpeg", options={"strict": "-1"}),
        "long film": mux_film(folder / "long.mp4", count=60, first=100),
    }


@pytest.mark.parametrize("suffix", ["mov", "mkv", "mp4"])
@pytest.mark.parametrize("still", ["picture", "preview"])
@pytest.mark.parametrize(
    "dispositions",
    [(0, Disposition.default), (0, 0), (Disposition.default, 0), (Disposition.attached_pic, 0)],
    ids=["film is default", "no flags", "picture is default", "picture is attached"],
)
def test_the_film_is_read_not_the_picture_before_it(tmp_path, films, suffix, still, dispositions):
    path = remux(tmp_path / f"film.{suffix}", [films[still], films["film"]], dispositions)
    clip = read_clip(path, SETTINGS)
    assert (numbers(clip.frames), clip.faults, clip.info.codec) == (FIVE_OF_40, (), "h264")


def test_of_two_films_the_default_one_is_read_and_else_the_longer_one(tmp_path, films):
    two = [films["film"], films["long film"]]
    first = remux(tmp_path / "first.mkv", two, [Disposition.default, 0])
    assert numbers(read_clip(first, SETTINGS).frames) == FIVE_OF_40
    second = remux(tmp_path / "second.mkv", two, [0, Disposition.default])
    assert numbers(read_clip(second, SETTINGS).frames) == [106, 118, 130, 142, 154]
    neither = remux(tmp_path / "neither.mkv", two, [0, 0])
    assert numbers(read_clip(neither, SETTINGS).frames) == [106, 118, 130, 142, 154]
    alike = remux(tmp_path / "alike.mkv", [films["film"], films["film"]], [0, 0])
    assert numbers(read_clip(alike, SETTINGS).frames) == FIVE_OF_40


def without_decoder(path: Path) -> Path:
    data = path.read_bytes()
    assert b"avc1" in data
    path.write_bytes(data.replace(b"avc1", b"drmi"))
    return path


def test_a_codec_without_a_decoder_is_named(tmp_path):
    with pytest.raises(MediaFault, match=r"^there is no decoder for its video codec \(drmi / 0x[0-9A-F]{8}\)$"):
        read_clip(without_decoder(mux_film(tmp_path / "film.mp4", count=3)), SETTINGS)
    assert av.logging.get_level() == av.logging.PANIC


def test_a_film_without_a_decoder_does_not_give_way_to_a_picture(tmp_path, films):
    path = remux(tmp_path / "film.mov", [films["picture"], films["film"]])
    with pytest.raises(MediaFault, match="no decoder"):
        read_clip(without_decoder(path), SETTINGS)


def joined(path: Path, *parts: Path) -> Path:
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


@pytest.mark.parametrize(("suffix", "codec"), [("ts", "libx264"), ("mpg", "mpeg2video")])
def test_joined_files_are_played_in_file_order(tmp_path, suffix, codec):
    rate = 25 if suffix == "mpg" else 10
    one = mux_film(tmp_path / f"one.{suffix}", codec=codec, rate=rate)
    two = mux_film(tmp_path / f"two.{suffix}", codec=codec, rate=rate, first=100, size=(192, 128))
    clip = read_clip(joined(tmp_path / f"both.{suffix}", one, two), SETTINGS)
    assert numbers(clip.frames) == [8, 24, 100, 116, 132]
    assert (clip.info.num_frames, clip.faults) == (80, ())
    assert clip.info.duration == pytest.approx(80 / rate, abs=0.2)
    middle = read_clip(tmp_path / f"both.{suffix}", ClipSettings(size=64, frames="middle"))
    assert numbers(middle.frames) == [38, 39, 100, 101, 102]
    thrice = read_clip(joined(tmp_path / f"thrice.{suffix}", one, two, one), SETTINGS)
    assert numbers(thrice.frames) == [12, 36, 120, 4, 28]


def with_continuous_counters(stream: bytes) -> bytes:
    """A transport stream of which no packet seems to be lost where it was joined."""
    packets = bytearray(stream)
    counts: dict[int, int] = {}
    for start in range(0, len(packets), 188):
        identifier = int.from_bytes(packets[start + 1 : start + 3]) & 0x1FFF
        packets[start + 3] = packets[start + 3] & 0xF0 | counts.get(identifier, 0) % 16
        counts[identifier] = counts.get(identifier, 0) + (packets[start + 3] >> 4 & 1)
    return bytes(packets)


def test_a_part_that_begins_within_a_group_shows_nothing_of_the_part_before(tmp_path):
    options = {"g": "20", "bf": "0"}
    one = mux_film(tmp_path / "one.ts", options=options)
    two = mux_film(tmp_path / "two.ts", options=options, first=100)
    with av.open(str(two)) as container:
        cut = [packet.pos for packet in container.demux(video=0) if packet.size][3] // 188 * 188
    two.write_bytes(two.read_bytes()[: 3 * 188] + two.read_bytes()[cut:])  # its tables, and from its fourth picture on
    both = joined(tmp_path / "both.ts", one, two)
    both.write_bytes(with_continuous_counters(both.read_bytes()))
    clip = read_clip(both, ClipSettings(size=64, num_frames=40 + 37))
    shown = numbers(clip.frames)
    assert (shown[:40], clip.faults) == (list(range(40)), ())
    assert shown[-20:] == list(range(120, 140))  # whole from its keyframe on; until then, the last picture before it
    np.testing.assert_array_equal(clip.frames[40:-20], np.broadcast_to(clip.frames[39], (17, 64, 64, 3)))


@pytest.mark.parametrize("start", [1000.0, 95441.0, 95443.6])
def test_clocks_may_jump_far_and_wrap_around(tmp_path, start):
    """A transport stream's clock has 33 bits of 90 kHz: it is back at 0 after 95,443.7 seconds."""
    late = mux_film(tmp_path / "late.ts", container={"output_ts_offset": str(start)})
    assert numbers(read_clip(late, SETTINGS).frames) == FIVE_OF_40
    early = mux_film(tmp_path / "early.ts", first=100)
    for parts, expected in [((early, late), [108, 124, 0, 16, 32]), ((late, early), [8, 24, 100, 116, 132])]:
        assert numbers(read_clip(joined(tmp_path / "both.ts", *parts), SETTINGS).frames) == expected


@pytest.mark.parametrize(
    ("suffix", "codec", "sound"), [("flv", "flv", "aac"), ("wmv", "wmv2", "wmav2"), ("mkv", "libx264", "aac")]
)
def test_parts_of_joined_files_that_are_not_read_are_named(tmp_path, suffix, codec, sound):
    one = mux_film(tmp_path / f"one.{suffix}", codec=codec, sound=(sound, 4.0))
    two = mux_film(tmp_path / f"two.{suffix}", codec=codec, sound=(sound, 4.0), first=100, size=(192, 128))
    clip = read_clip(joined(tmp_path / f"both.{suffix}", one, two), SETTINGS)
    assert numbers(clip.frames) == FIVE_OF_40
    assert clip.faults == ("only the first of several files put together is read",)


def test_decoder_settings_that_change_within_the_film(tmp_path):
    one = mux_film(tmp_path / "one.flv", options={"g": "20", "bf": "0"})
    two = mux_film(
        tmp_path / "two.flv", first=100, size=(192, 128), options={"g": "10", "bf": "0", "profile": "baseline"}
    )
    header = 13
    (tmp_path / "both.flv").write_bytes(one.read_bytes() + two.read_bytes()[header:])
    for number, expected in [(2, [20, 120]), (7, [5, 17, 28, 100, 111, 122, 134])]:
        clip = read_clip(tmp_path / "both.flv", ClipSettings(size=64, num_frames=number))
        assert (numbers(clip.frames), clip.faults) == (expected, ())


def test_pictures_that_begin_long_after_the_sound(tmp_path):
    """The library looks for streams in the first 5 MB; here the film begins after 6 MB of sound."""
    film = mux_film(tmp_path / "film.ts")
    noise = tmp_path / "noise.ts"
    with av.open(str(noise), "w") as output:
        stream = output.add_stream("mp2", rate=48000, layout="stereo", bit_rate=384000)
        stream.id = 0x111  # not that of the film's
        samples = np.random.default_rng(0).integers(-9999, 9999, (1, 2 * 48000 * 60), np.int16)
        frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="stereo")
        frame.sample_rate = 48000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    assert noise.stat().st_size > 2.5e6
    path = joined(tmp_path / "late.ts", noise, noise, film, noise)
    with av.open(str(path)) as container:
        assert not container.streams.video
    assert numbers(read_clip(path, SETTINGS).frames) == FIVE_OF_40


def test_sound_that_appears_while_the_film_is_read(tmp_path):
    """Neither the beginning nor the end of the file, where the library looks for streams, tells of it."""
    film = mux_film(tmp_path / "film.ts")
    with_sound = mux_film(tmp_path / "sound.ts", sound=("aac", 4.0))
    path = joined(tmp_path / "joined.ts", *[film] * 40, with_sound, *[film] * 40)
    with av.open(str(path)) as container:
        assert not container.streams.audio
        with pytest.raises(IndexError):  # of PyAV; should it pass, nothing needs to be caught any longer
            list(container.demux())
    clip = read_clip(path, SETTINGS)
    assert (numbers(clip.frames), clip.info.num_frames) == ([4, 12, 20, 28, 36], 81 * 40)


def test_an_animated_gif_is_a_video_whatever_its_name(tmp_path):
    """Its frames last as long as they say, and each but the first says only what differs from the one before."""
    path = tmp_path / "film%03d?.gif"
    lengths = [1] * 30 + [9] * 10
    with av.open(f"file:{path}", "w", format="gif") as output:
        stream = output.add_stream("gif", rate=10)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "gray"
        stream.codec_context.time_base = Fraction(1, 10)
        for i in range(len(lengths)):
            frame = av.VideoFrame.from_ndarray(picture(i), format="rgb24").reformat(format="gray")
            frame.pts, frame.time_base = sum(lengths[:i]), Fraction(1, 10)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    clip = read_clip(path, SETTINGS)
    assert numbers(clip.frames) == [11, 30, 32, 35, 37]
    assert (clip.info.codec, clip.info.num_frames, clip.faults) == ("gif", 40, ())
