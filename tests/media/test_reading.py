import errno
import os
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from microlens.errors import InputError
from microlens.media import frames as frames_module
from microlens.media.reading import ClipSettings, MediaFault, read_clip, read_cover
from tests.reference.decode_all import decode_all
from tests.videos import ENCODINGS, FASTSTART, HEIGHT, WIDTH, encode, numbers, picture


@pytest.fixture(scope="session")
def encoded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    made: dict[str, Path] = {}

    def get(encoding: str) -> Path:
        if encoding not in made:
            made[encoding] = encode(folder / f"{len(made)}.{ENCODINGS[encoding][0]}", encoding)
        return made[encoding]

    return get


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_spread_and_middle_are_the_frames_of_a_full_decode(encoding, encoded, monkeypatch):
    path = encoded(encoding)
    monkeypatch.delattr(frames_module.FrameDecoder, "_neighbour")  # the rescue of damaged files is not needed here
    for settings in (
        ClipSettings(size=64),
        ClipSettings(frames="middle", size=64),
        ClipSettings(num_frames=13, size=64),
    ):
        clip = read_clip(path, settings)
        np.testing.assert_array_equal(clip.frames, decode_all(path, settings))
        assert clip.faults == ()


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_numbers_in_the_pictures_are_the_wanted_ones(encoding, encoded):
    path = encoded(encoding)
    assert numbers(read_clip(path, ClipSettings(size=64)).frames) == [6, 18, 30, 42, 54]
    assert numbers(read_clip(path, ClipSettings(size=64, frames="middle")).frames) == [28, 29, 30, 31, 32]


def test_the_decoder_is_given_no_more_than_needed(encoded, monkeypatch):
    given = []
    decode = frames_module.FrameDecoder._decode

    def counting(self, position, wanted):
        given.append(position)
        return decode(self, position, wanted)

    monkeypatch.setattr(frames_module.FrameDecoder, "_decode", counting)
    read_clip(encoded("h264, keyframe every 12"), ClipSettings(num_frames=1))
    assert len(given) <= 12  # frame 30 lies in the group that starts with 24
    given.clear()
    read_clip(encoded("h264, keyframe every 12"), ClipSettings(frames="keyframes"))
    assert len(given) <= 10  # five packets, five ends


@pytest.mark.parametrize(
    ("encoding", "skips"),
    [("h264, one keyframe, B-frames", True), ("hevc, one keyframe", True), ("hevc, temporal layers", False)],
)
def test_unwanted_frames_are_skipped_only_where_that_is_exact(encoding, skips, encoded):
    with av.open(str(encoded(encoding))) as container:
        assert frames_module._marks_unreferenced_frames(container.streams.video[0].codec_context) is skips


def test_keyframes_are_the_nearest_ones(encoded):
    clip = read_clip(encoded("h264, keyframe every 12"), ClipSettings(frames="keyframes", size=64))
    assert all(number % 12 == 0 for number in numbers(clip.frames))
    assert all(abs(a - b) <= 6 for a, b in zip(numbers(clip.frames), [6, 18, 30, 42, 54], strict=True))
    one = read_clip(encoded("h264, one keyframe, B-frames"), ClipSettings(frames="keyframes", size=64))
    assert numbers(one.frames) == [0] * 5
    avi = read_clip(encoded("mpeg4 in avi"), ClipSettings(frames="keyframes", size=64))
    with av.open(str(encoded("mpeg4 in avi"))) as container:
        keys = {i for i, frame in enumerate(container.decode(video=0)) if frame.key_frame}
    assert len(set(numbers(avi.frames))) >= 4
    assert set(numbers(avi.frames)) <= keys


def test_variable_frame_rate_is_sampled_by_time(tmp_path):
    times = [*range(30), *range(30, 30 + 270, 9)]  # 30 frames in the first second, 30 in the nine after it; ends at 292
    path = encode(tmp_path / "vfr.mp4", times=times)
    clip = read_clip(path, ClipSettings(size=64))
    assert numbers(clip.frames) == [29, *(30 + (centre - 30) // 9 for centre in (87, 146, 204, 262))]  # of 292
    np.testing.assert_array_equal(clip.frames, decode_all(path, ClipSettings(size=64)))
    assert clip.info.duration == pytest.approx(10, abs=0.35)


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (180, 2), (-90, 3)])
def test_rotated_videos_stand_upright(tmp_path, rotation, turns):
    path = encode(tmp_path / "plain.mp4")
    with av.open(str(path)) as source, av.open(str(tmp_path / "turned.mp4"), "w") as output:
        copy = output.add_stream_from_template(source.streams.video[0])
        copy.set_display_rotation(rotation)
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = copy
                output.mux(packet)
    plain = read_clip(path, ClipSettings(size=64))
    turned = read_clip(tmp_path / "turned.mp4", ClipSettings(size=64))
    np.testing.assert_array_equal(turned.frames, np.rot90(plain.frames, turns, axes=(1, 2)))
    assert (turned.info.width, turned.info.height) == ((HEIGHT, WIDTH) if turns % 2 else (WIDTH, HEIGHT))


@pytest.mark.parametrize(("count", "expected"), [(1, [0, 0, 0, 0, 0]), (3, [0, 0, 1, 2, 2]), (5, [0, 1, 2, 3, 4])])
def test_short_videos_repeat_frames(tmp_path, count, expected):
    path = encode(tmp_path / "short.mp4", count=count)
    assert numbers(read_clip(path, ClipSettings(size=64)).frames) == expected
    middle = read_clip(path, ClipSettings(size=64, frames="middle"))
    assert len(middle.frames) == 5
    np.testing.assert_array_equal(middle.frames, decode_all(path, ClipSettings(size=64, frames="middle")))


def test_center_crop_keeps_proportions(encoded):
    clip = read_clip(encoded("h264, keyframe every 12"), ClipSettings(size=64, crop="center"))
    squash = read_clip(encoded("h264, keyframe every 12"), ClipSettings(size=96))
    middle = squash.frames[:, :, 16:80].astype(int)  # the same columns, in a picture stretched upwards
    assert clip.frames.shape == (5, 64, 64, 3)
    assert np.abs(clip.frames.mean((1, 3)) - middle.mean((1, 3))).max() < 3


def test_colours_are_red_green_blue(tmp_path):
    with av.open(str(tmp_path / "red.mp4"), "w") as output:
        stream = output.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        red = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        red[..., 0] = 220
        output.mux(stream.encode(av.VideoFrame.from_ndarray(red, format="rgb24")))
        output.mux(stream.encode(None))
    seen = read_clip(tmp_path / "red.mp4", ClipSettings(size=32)).frames.mean((0, 1, 2))
    np.testing.assert_allclose(seen, [220, 0, 0], atol=6)


def test_info(encoded):
    info = read_clip(encoded("hevc, one keyframe"), ClipSettings()).info
    assert (info.width, info.height, info.codec, info.num_frames, info.has_sound) == (WIDTH, HEIGHT, "hevc", 60, False)
    assert info.duration == pytest.approx(2.0)
    assert info.fps == pytest.approx(30)


def test_metadata_that_is_not_utf8_is_ignored(tmp_path):
    with av.open(str(tmp_path / "a.avi"), "w") as output:
        output.metadata["title"] = "QQQQQQQQ"
        stream = output.add_stream("mpeg4", rate=30)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        output.mux(stream.encode(av.VideoFrame.from_ndarray(picture(5), format="rgb24")))
        output.mux(stream.encode(None))
    data = (tmp_path / "a.avi").read_bytes()
    assert b"QQQQQQQQ" in data
    (tmp_path / "a.avi").write_bytes(data.replace(b"QQQQQQQQ", b"\xe9\xff\xfe\xe9\xe9\xe9\xe9\xe9"))
    assert numbers(read_clip(tmp_path / "a.avi", ClipSettings(size=64)).frames) == [5] * 5


def sound_file(path: Path, art: bool) -> Path:
    with av.open(str(path), "w") as output:
        sound = output.add_stream("aac", rate=16000)
        cover = output.add_stream("mjpeg", rate=1) if art else None
        if cover:
            cover.width, cover.height, cover.pix_fmt = WIDTH, HEIGHT, "yuvj420p"
            cover.disposition = av.stream.Disposition.attached_pic
        wave = np.sin(np.arange(16000, dtype=np.float32) / 10)[None]
        frame = av.AudioFrame.from_ndarray(wave, format="fltp", layout="mono")
        frame.sample_rate = 16000
        output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
        if cover:
            output.mux(cover.encode(av.VideoFrame.from_ndarray(picture(1), format="rgb24").reformat(format="yuvj420p")))
            output.mux(cover.encode(None))
    return path


@pytest.mark.parametrize("art", [False, True])
def test_sound_without_a_picture_track_has_no_clip(tmp_path, art):
    with pytest.raises(MediaFault, match=r"^no video stream$"):
        read_clip(sound_file(tmp_path / "sound.mp4", art), ClipSettings())


def test_files_that_are_not_videos(tmp_path, capfd):
    path = tmp_path / "x.mp4"
    with pytest.raises(MediaFault, match="no such file"):
        read_clip(path, ClipSettings())
    path.touch()
    with pytest.raises(MediaFault, match="the file is empty"):
        read_clip(path, ClipSettings())
    contents = {
        "noise": np.random.default_rng(0).bytes(5000),
        "text": b"hello\n" * 900,
        "list": b"#EXTM3U\n#EXTINF:1,\n/etc/hosts\n",
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MediaFault, match="not a media file"):
            read_clip(tmp_path / name, ClipSettings())
    assert capfd.readouterr() == ("", "")


def test_a_truncated_file_without_its_index_is_a_fault(encoded, tmp_path):
    data = encoded("h264, keyframe every 12").read_bytes()
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaFault, match="truncated: the index"):
        read_clip(tmp_path / "cut.mp4", ClipSettings())


@pytest.mark.parametrize("encoding", ["h264, keyframe every 12", "h264, one keyframe, B-frames", "hevc, one keyframe"])
def test_a_truncated_file_keeps_its_places_and_repeats_the_last_good_frame(tmp_path, encoding, capfd):
    whole = encode(tmp_path / "whole.mp4", encoding, container=FASTSTART)
    data = whole.read_bytes()
    media_start = data.index(b"mdat")
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: media_start + (len(data) - media_start) // 2])
    clip, sound = read_clip(cut, ClipSettings(size=64)), read_clip(whole, ClipSettings(size=64))
    assert clip.faults[0].startswith("truncated: read ")
    assert "of 60 frames; the last good frame repeated" in clip.faults[0]
    np.testing.assert_array_equal(clip.frames[0], sound.frames[0])
    np.testing.assert_array_equal(clip.frames[3], clip.frames[4])
    assert numbers(clip.frames)[-1] in range(15, 45)
    assert capfd.readouterr() == ("", "")
    cut.write_bytes(data[: media_start + 40])
    with pytest.raises(MediaFault, match="no frame could be decoded"):
        read_clip(cut, ClipSettings())


@pytest.mark.parametrize("encoding", ["h264, one keyframe, B-frames", "h264, keyframe every 12", "mpeg4"])
def test_damage_in_the_middle_never_shows(tmp_path, encoding, capfd):
    whole = encode(tmp_path / "whole.mp4", encoding)
    with av.open(str(whole)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        broken = next(i for i, packet in enumerate(packets) if i >= 26 and not packet.is_keyframe)
        start, size = packets[broken].pos, packets[broken].size
    data = bytearray(whole.read_bytes())
    data[start : start + size] = b"\xa5" * size
    (tmp_path / "hurt.mp4").write_bytes(data)
    clip, sound = read_clip(tmp_path / "hurt.mp4", ClipSettings(size=64)), read_clip(whole, ClipSettings(size=64))
    assert clip.faults == ("1 damaged packet skipped",)
    np.testing.assert_array_equal(clip.frames[:2], sound.frames[:2])
    shown = numbers(clip.frames)
    assert 20 <= shown[2] <= 30
    later = [42, 54] if "every 12" in encoding or encoding == "mpeg4" else [shown[2]] * 2
    assert shown[3:] == later
    assert capfd.readouterr() == ("", "")


def test_a_damaged_keyframe_gives_way_to_the_frame_before_it(tmp_path):
    whole = encode(tmp_path / "whole.mp4", "h264, keyframe every 12")
    with av.open(str(whole)) as container:
        keys = [packet for packet in container.demux(video=0) if packet.is_keyframe]
        start, size = keys[0].pos, keys[0].size
        again, size_again = keys[2].pos, keys[2].size
    data = bytearray(whole.read_bytes())
    data[start : start + size] = b"\xa5" * size
    data[again : again + size_again] = b"\xa5" * size_again
    (tmp_path / "hurt.mp4").write_bytes(data)
    assert numbers(read_clip(tmp_path / "hurt.mp4", ClipSettings(size=64)).frames) == [12, 18, 23, 42, 54]
    by_keys = read_clip(tmp_path / "hurt.mp4", ClipSettings(size=64, frames="keyframes"))
    assert set(numbers(by_keys.frames)) <= {12, 36, 48}
    assert by_keys.faults


@pytest.mark.parametrize(
    "name",
    [
        "folder:of/101.mp4",
        "101:x.mp4",
        "http:101.mp4",
        "concat:a|b.mp4",
        "file:x.mp4",
        "-x.mp4",
        "a%03d?#& *[1].mp4",
        "two\nlines.mp4",
        os.fsdecode(b"not\xff\xfeutf-8.mp4"),
        "l" * 251 + ".mp4",
    ],
)
def test_any_file_name_is_only_a_name(tmp_path, encoded, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(encoded("h264, keyframe every 12").read_bytes())
    assert numbers(read_clip(path, ClipSettings(size=64)).frames) == [6, 18, 30, 42, 54]


def test_what_the_system_says_of_a_file_is_its_fault(tmp_path):
    """Permissions do not bind the root user, but loops and lengths do."""
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    for path in (tmp_path / "loop.mp4", tmp_path):
        with pytest.raises(MediaFault, match="there is no such file"):
            read_clip(path, ClipSettings())
    for read in (lambda path: read_clip(path, ClipSettings()), lambda path: read_cover(path, 32, "squash")):
        with pytest.raises(MediaFault, match=r"^it cannot be read \(File name too long\)$"):
            read(tmp_path / ("l" * 300))


def test_whatever_is_raised_while_a_file_is_read_is_its_fault_but_not_what_the_machine_lacks(tmp_path, monkeypatch):
    path = encode(tmp_path / "film.mp4", count=1)

    def raising(error):
        def fail(container):
            raise error

        monkeypatch.setattr("microlens.media.reading.read_film", fail)
        read_clip(path, ClipSettings())

    for error in (AttributeError("x"), ZeroDivisionError("x"), OverflowError("x"), PermissionError(13, "no")):
        with pytest.raises(MediaFault, match=r"^it cannot be read"):
            raising(error)
    for error in (OSError(errno.EMFILE, "too many open files"), OSError(errno.ENOSPC, "disk full"), MemoryError()):
        with pytest.raises(type(error)):
            raising(error)


@pytest.mark.parametrize(
    ("setting", "value"), [("frames", "random"), ("crop", "left"), ("num_frames", 0), ("size", 3), ("num_frames", 5000)]
)
def test_settings_are_checked(setting, value):
    with pytest.raises(InputError, match=f"{setting} is .*accepted are"):
        replace(ClipSettings(), **{setting: value})


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_covers(tmp_path, kind):
    path = tmp_path / f"cover.{kind}"
    with av.open(str(path), "w", format={"jpg": "mjpeg", "png": "image2", "webp": "webp"}[kind]) as output:
        stream = output.add_stream({"jpg": "mjpeg", "png": "png", "webp": "libwebp"}[kind], rate=1)
        stream.width, stream.height = WIDTH, HEIGHT
        stream.pix_fmt = {"jpg": "yuvj420p", "png": "rgb24", "webp": "yuv420p"}[kind]
        output.mux(
            stream.encode(av.VideoFrame.from_ndarray(picture(77), format="rgb24").reformat(format=stream.pix_fmt))
        )
        output.mux(stream.encode(None))
    cover = read_cover(path, 64, "squash")
    assert numbers(cover.pixels[None]) == [77]
    assert read_cover(path, 48, "center").pixels.shape == (48, 48, 3)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(MediaFault):
        read_cover(path, 64, "squash")


def test_a_cover_that_is_no_picture(tmp_path, encoded):
    with pytest.raises(MediaFault, match="not a media file"):
        read_cover(encoded("h264 in mkv"), 64, "squash")


@pytest.mark.real_data
def test_real_videos_equal_a_full_decode(shared_data):
    files = sorted((shared_data / "videos").glob("*/*"))
    assert len(files) >= 9
    for path in files:
        for frames in ("spread", "middle"):
            settings = ClipSettings(frames=frames, size=56)
            clip = read_clip(path, settings)
            np.testing.assert_array_equal(clip.frames, decode_all(path, settings), err_msg=f"{path.name} {frames}")
            assert clip.frames.std() > 10
            assert clip.faults == ()


@pytest.mark.real_data
def test_real_covers(shared_data):
    for path in sorted((shared_data / "covers").iterdir()):
        cover = read_cover(path, 224, "center").pixels
        assert cover.shape == (224, 224, 3)
        assert cover.std() > 10
