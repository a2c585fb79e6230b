"""Copies for browsers: the same pictures and sound in formats that every browser plays, from any file."""

from pathlib import Path

import av
import numpy as np
import pytest

from microlens.errors import InputError
from microlens.media.reading import ClipSettings, read_clip
from microlens.media.sound import SoundSettings, read_log_mel
from microlens.media.web_copies import WebOutcome, WebTask, copy_all, copy_if_needed, plays_in_browsers
from microlens.media.web_encoding import encode_for_browsers
from tests.videos import ENCODINGS, encode, mux_film, numbers

HEVC = "hevc, open groups"
PLAYABLE = {
    "h264, one keyframe, B-frames", "h264, keyframe every 12", "h264, open groups", "h264, no B-frames",
    "h264, fragmented", "vp9",
}  # fmt: skip


def streams(path: Path) -> dict[str, tuple]:
    with av.open(str(path)) as container:
        return {
            stream.type: (stream.codec_context.codec.canonical_name, getattr(stream.codec_context, "pix_fmt", None))
            for stream in container.streams
        }


def shown(path: Path) -> tuple[list[int], list[float]]:
    """The numbers in all pictures, and when each is shown."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return numbers(np.stack([frame.to_ndarray(format="rgb24") for frame in frames])), [frame.time for frame in frames]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_what_browsers_play_is_known(tmp_path, encoding):
    path = encode(tmp_path / f"video.{ENCODINGS[encoding][0]}", encoding, count=4)
    assert plays_in_browsers(path) == (encoding in PLAYABLE)


@pytest.mark.parametrize("change", ["10 bits", "4:4:4", "sound", "name"])
def test_formats_within_a_codec_count(tmp_path, change):
    path = tmp_path / ("video.avi" if change == "name" else "video.mp4")
    sound = {"sound": ("ac3", 0.4)} if change == "sound" else {}
    mux_film(path, count=4, container_format="mp4", **sound)
    if change in ("10 bits", "4:4:4"):
        with av.open(str(path), "w") as output:
            stream = output.add_stream("libx264", rate=10)
            stream.width, stream.height = 64, 64
            stream.pix_fmt = {"10 bits": "yuv420p10le", "4:4:4": "yuv444p"}[change]
            output.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")) + stream.encode(None))
    assert not plays_in_browsers(path)


@pytest.mark.parametrize("encoding", [HEVC, "mpeg4 in avi", "h264 in ts", "h264 in mkv, no duration"])
def test_a_copy_has_the_same_pictures_at_the_same_times(tmp_path, encoding):
    source = encode(tmp_path / f"video.{ENCODINGS[encoding][0]}", encoding)
    copy = tmp_path / "copy.mp4"
    assert encode_for_browsers(source, copy) == ()
    assert streams(copy) == {"video": ("h264", "yuv420p")}
    assert plays_in_browsers(copy)
    pictures, times = shown(copy)
    assert pictures == list(range(60))
    assert times[0] < 0.05  # AVI counts the delay of its decoder as time
    assert np.diff(times) == pytest.approx(1 / 30, abs=0.001)
    data = copy.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_sound_is_copied_in_time(tmp_path):
    """A film whose sound begins half a second late, and is silent in the middle."""
    source = mux_film(tmp_path / "video.mkv", count=40, codec="libx265", options={"x265-params": "log-level=none"})
    with av.open(str(source)) as pictures, av.open(str(tmp_path / "heard.mkv"), "w") as output:
        video = output.add_stream_from_template(pictures.streams.video[0])
        sound = output.add_stream("libmp3lame", rate=44100, layout="mono")
        packets = []
        for start in (0.5, 2.5):
            tone = (0.5 * np.sin(np.arange(44100, dtype=np.float32) * 0.1))[None]
            frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, round(44100 * start)
            packets += sound.encode(frame)
        for packet in [*packets, *sound.encode(None), *(p for p in pictures.demux() if p.size)]:
            packet.stream = video if packet.stream.type == "video" else sound
            output.mux(packet)
    copy = tmp_path / "copy.mp4"
    assert encode_for_browsers(tmp_path / "heard.mkv", copy) == ()
    assert streams(copy)["audio"][0] == "aac"
    with av.open(str(copy)) as container:
        (track,) = container.streams.audio
        loud = [(frame.time, float(np.abs(frame.to_ndarray()).mean())) for frame in container.decode(track)]
    heard = [time for time, level in loud if level > 0.1]
    assert heard[0] == pytest.approx(0.5, abs=0.1)
    assert [time for time in heard if 1.6 < time < 2.4] == []
    assert heard[-1] == pytest.approx(3.5, abs=0.1)
    assert read_log_mel(copy, SoundSettings()).shape[0] > 0


@pytest.mark.parametrize(
    ("size", "copied"),
    [((1280, 720), (1280, 720)), ((1080, 1920), (404, 720)), ((1920, 1080), (1280, 720)), ((97, 63), (96, 64))],
)
def test_a_copy_has_at_most_720_lines_and_even_sides(tmp_path, size, copied):
    source = mux_film(tmp_path / "video.mkv", count=2, codec="ffv1", size=size, options={"level": "1"})
    copy = tmp_path / "copy.mp4"
    encode_for_browsers(source, copy)
    with av.open(str(copy)) as container:
        assert (container.streams.video[0].width, container.streams.video[0].height) == copied


@pytest.mark.parametrize(("rotation", "ratio"), [(90, 1), (180, 1), (-90, 1), (0, 2)])
def test_a_copy_is_upright_with_square_pixels(tmp_path, rotation, ratio):
    plain = encode(tmp_path / "plain.mp4", HEVC, count=4)
    turned = tmp_path / "turned.mov"
    with av.open(str(plain)) as source, av.open(str(turned), "w") as output:
        stream = output.add_stream_from_template(source.streams.video[0])
        if rotation:
            stream.set_display_rotation(rotation)
        stream.sample_aspect_ratio = ratio
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    copy = tmp_path / "copy.mp4"
    encode_for_browsers(turned, copy)
    settings = ClipSettings(num_frames=2, size=64)
    expected, found = read_clip(turned, settings), read_clip(copy, settings)
    assert (found.info.width, found.info.height) == (expected.info.width, expected.info.height)
    assert np.abs(found.frames.astype(int) - expected.frames).mean() < 6


def test_frames_of_changing_size_become_one_size(tmp_path):
    parts = [
        mux_film(tmp_path / f"{n}.ts", first=20 * n, count=20, size=size)
        for n, size in enumerate([(96, 64), (192, 128)])
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    copy = tmp_path / "copy.mp4"
    encode_for_browsers(joined, copy)
    assert shown(copy)[0][:20] == list(range(20))


def test_one_bad_file_does_not_stop_the_others(tmp_path):
    whole = encode(tmp_path / "whole.mp4", HEVC)
    data = encode(tmp_path / "cut.mkv", "h264 in mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: len(data) // 2])
    (tmp_path / "text.mp4").write_text("this is no video")
    (tmp_path / "empty.mp4").touch()
    plays = encode(tmp_path / "plays.mp4")
    names = ["whole.mp4", "cut.mkv", "text.mp4", "empty.mp4", "plays.mp4", "absent.mp4"]
    (tmp_path / "out").mkdir()
    tasks = [WebTask(tmp_path / name, tmp_path / "out" / f"{number}.mp4") for number, name in enumerate(names)]
    progress: list[tuple[int, int]] = []
    outcomes = copy_all(tasks, 2, lambda *done: progress.append(done))
    assert outcomes[tasks[0]] == WebOutcome(written=True)
    assert outcomes[tasks[1]].written
    assert shown(tasks[1].target)[0][:10] == list(range(10))
    assert outcomes[tasks[2]].faults[0].startswith("not a media file of a known kind")
    assert outcomes[tasks[3]] == WebOutcome(faults=("the file is empty",))
    assert outcomes[tasks[4]] == WebOutcome(plays=True)
    assert outcomes[tasks[5]] == WebOutcome(faults=("there is no such file",))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["0.mp4", "1.mp4"]
    assert progress == [(number, 6) for number in range(1, 7)]
    assert plays.is_file()
    assert whole.is_file()


def test_a_failure_leaves_no_half_written_copy(tmp_path, monkeypatch):
    source = encode(tmp_path / "video.mp4", HEVC)

    def fail(_, target):
        target.write_bytes(b"half")
        raise InputError("no")

    monkeypatch.setattr("microlens.media.web_copies.encode_for_browsers", fail)
    outcome = copy_if_needed(WebTask(source, tmp_path / "copy.mp4"))
    assert not outcome.written
    assert [path.name for path in tmp_path.iterdir()] == ["video.mp4"]


@pytest.mark.slow
@pytest.mark.real_data
def test_real_videos(shared_data, tmp_path):
    source, copy = shared_data / "videos" / "microlens" / "10034.mp4", tmp_path / "copy.mp4"
    assert copy_if_needed(WebTask(source, copy)) == WebOutcome(written=True)
    settings = ClipSettings(num_frames=3, size=64)
    expected, found = read_clip(source, settings), read_clip(copy, settings)
    assert np.abs(found.frames.astype(int) - expected.frames).mean() < 4
    assert found.info.duration == pytest.approx(expected.info.duration, abs=0.1)
    assert found.info.has_sound
