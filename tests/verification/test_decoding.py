"""Whole files are decoded: intact ones have no faults, and each damage has its name."""

from pathlib import Path

import av
import numpy as np
import pytest

from microlens.media.faults import MediaFault
from microlens.verification import decoding
from microlens.verification.decoding import NUM_PICTURES, decode_sound, decode_video
from tests.videos import ENCODINGS, encode, mux_film


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return mux_film(tmp_path_factory.mktemp("film") / "film.mp4", count=60, sound=("aac", 6.0))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_intact_videos_are_decoded_to_the_last_frame(encoding: str, tmp_path: Path) -> None:
    decoded = decode_video(encode(tmp_path / f"1.{ENCODINGS[encoding][0]}", encoding))
    assert decoded.faults == []
    assert decoded.info["decoded"] == decoded.info["num_frames"] == 60
    assert decoded.info["duration"] == pytest.approx(2.0, abs=0.05)
    assert (decoded.info["width"], decoded.info["height"]) == (96, 64)


def test_the_pictures_are_those_at_the_centres_of_three_parts(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = []
    monkeypatch.setattr(decoding, "_small", lambda frame: every.append(frame.pts) or np.zeros((32, 32), np.uint8))
    assert len(decode_video(film).pictures) == NUM_PICTURES
    step = every[1] - every[0]
    assert [round(pts / step * 20) for pts in every] == [10, 30, 50]  # of frames 0..59


def test_a_sound_track_is_decoded(film: Path) -> None:
    decoded = decode_sound(film)
    assert decoded.faults == []
    assert decoded.info["duration"] == pytest.approx(6.0, abs=0.1)
    assert len(decoded.pictures) == 0
    assert decode_video(film).info["has_sound"]


def test_a_truncated_video_says_how_much_is_there(tmp_path: Path) -> None:
    film = mux_film(tmp_path / "1.mp4", count=60, container={"movflags": "faststart"})
    content = film.read_bytes()
    film.write_bytes(content[: len(content) * 2 // 3])
    first, *_ = decode_video(film).faults
    there, expected = (int(word) for word in first.split() if word.isdigit())
    assert first.startswith("truncated: ")
    assert 20 < there < 60 == expected


def test_damage_within_a_video_is_found_by_decoding(tmp_path: Path) -> None:
    film = mux_film(tmp_path / "1.mp4", count=60, container={"movflags": "faststart"})
    content = bytearray(film.read_bytes())
    for place in range(len(content) // 2, len(content) - 200, 97):
        content[place : place + 30] = bytes(range(30))
    film.write_bytes(content)
    assert any(fault.startswith("damaged: ") for fault in decode_video(film).faults)


def test_every_packet_that_cannot_be_decoded_counts(tmp_path: Path) -> None:
    film = mux_film(tmp_path / "1.mp4", count=60, options={"g": "1"})
    with av.open(str(film)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    content = bytearray(film.read_bytes())
    for position, size in packets[10:15]:
        content[position : position + size] = b"\xff" * size  # no length of a unit that would fit
    film.write_bytes(content)
    assert decode_video(film).faults == ["damaged: 5 packets cannot be decoded"]


@pytest.mark.parametrize("codec", ["aac", "mp3", "flac"])
def test_damaged_sound_is_found(codec: str, tmp_path: Path) -> None:
    film = mux_film(tmp_path / "1.mkv", count=20, sound=(codec, 20.0))
    with av.open(str(film)) as container:
        packets = [(packet.pos, packet.size) for packet in container.demux(audio=0) if packet.size]
    content, rng = bytearray(film.read_bytes()), np.random.default_rng(0)
    for position, size in packets[5::3]:
        content[position + 8 : position + size] = rng.bytes(size - 8)
    film.write_bytes(content)
    (fault,) = decode_video(film).faults
    damaged, number = (int(word) for word in fault.split() if word.isdigit())
    assert fault.startswith("damaged sound: ")
    assert number == len(packets)
    assert 0.2 * number < damaged <= number / 3 + 1


def test_a_file_without_frames_is_a_fault(tmp_path: Path, film: Path) -> None:
    page = tmp_path / "1.mp4"
    page.write_text("<!doctype html><html>log in</html>")
    with pytest.raises(MediaFault, match="not a media file"):
        decode_video(page)
    page.write_bytes(film.read_bytes()[:3000])
    with pytest.raises(MediaFault):
        decode_video(page)
    with pytest.raises(MediaFault, match="no sound track"):
        decode_sound(mux_film(tmp_path / "silent.mp4"))


def test_very_long_videos_are_decoded_by_keyframes_after_a_while(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = 96 * 64
    monkeypatch.setattr(decoding, "MOST_PIXELS", 30 * pixels)
    few = decode_video(film)
    assert 30 < few.info["decoded"] < 45  # and the keyframes at 40
    assert few.info["num_frames"] == 60
    assert few.faults == []
    assert len(few.pictures) == NUM_PICTURES
    monkeypatch.setattr(decoding, "_MOST_PIXELS_OF_KEYFRAMES", 30 * pixels)
    assert decode_video(film).info["decoded"] <= few.info["decoded"]


def test_a_video_of_eight_hours_is_decoded(tmp_path: Path) -> None:
    film = encode(tmp_path / "1.mp4", count=40, times=[frame * 30 * 720 for frame in range(40)])
    decoded = decode_video(film)
    assert decoded.faults == []
    assert decoded.info["duration"] == pytest.approx(8 * 3600, rel=0.03)


def test_packets_are_not_kept(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = []
    read = decoding.read_film
    monkeypatch.setattr(decoding, "read_film", lambda *a, **k: kept.append(read(*a, **k)) or kept[-1])
    decode_video(film)
    assert len(kept[0].packets) == 60
    assert not hasattr(kept[0].packets[0], "buffer_ptr")


def test_pictures_of_too_many_pixels_are_refused(film: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microlens.media.pictures.MAX_PIXELS", 1000)
    with pytest.raises(MediaFault, match="96 x 64 pixels; accepted are up to 1,000"):
        decode_video(film)
