import errno
from contextlib import suppress
from fractions import Fraction

import av
import numpy as np
import pytest

from microlens.errors import InputError
from microlens.media.reading import ClipSettings, MediaFault, read_clip
from microlens.media.sound import SoundSettings, decibels, log_mel, read_log_mel

RATE = 16000
SETTINGS = SoundSettings()


def tone(hertz, seconds=1.0, amplitude=1.0, rate=RATE):
    return (amplitude * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encode_sound(path, samples, codec="aac", rate=44100, picture=False):
    """Writes samples (channels, N) in -1..1 as the sound track of a file."""
    with av.open(str(path), "w") as output:
        layout = {1: "mono", 2: "stereo", 3: "3.0", 6: "5.1"}[len(samples)]
        stream = output.add_stream(codec, rate=rate, layout=layout)
        video = output.add_stream("flv" if path.suffix == ".flv" else "mpeg4", rate=25) if picture else None
        if video:
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            for _ in range(5):
                output.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
            output.mux(video.encode(None))
        if not len(samples[0]):
            return path
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32), format="fltp", layout=layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=stream.format.name, layout=layout, rate=rate, frame_size=1024)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return path


def log_mel_by_loops(samples, settings):
    """The same picture, a sum at a time."""
    to_mel = lambda hertz: 2595 * np.log10(1 + hertz / 700)  # noqa: E731
    low, high, bands = to_mel(20.0), to_mel(settings.sample_rate / 2), settings.num_mels
    edges = [700 * (10 ** ((low + (high - low) * i / (bands + 1)) / 2595) - 1) for i in range(bands + 2)]
    N, size = settings.window, settings.fft_size
    hann = [0.5 - 0.5 * np.cos(2 * np.pi * n / N) for n in range(N)]
    rows = []
    for begin in range(0, len(samples) - N + 1, settings.hop):
        row = np.zeros(bands)
        for k in range(size // 2 + 1):
            waves = np.exp(-2j * np.pi * k * np.arange(N) / size)
            power = abs(np.sum(samples[begin : begin + N] * hann * waves)) ** 2 / (size / 4 * sum(h * h for h in hann))
            hertz = k * settings.sample_rate / size
            for m in range(bands):
                if edges[m] < hertz <= edges[m + 1]:
                    row[m] += power * (hertz - edges[m]) / (edges[m + 1] - edges[m])
                elif edges[m + 1] < hertz < edges[m + 2]:
                    row[m] += power * (edges[m + 2] - hertz) / (edges[m + 2] - edges[m + 1])
        rows.append(10 * np.log10(np.maximum(row, 1e-8)))
    return np.clip(rows, -80, 0)


def test_log_mel_equals_the_loop_twin():
    samples = np.random.default_rng(0).normal(0, 0.1, 800).astype(np.float32) + tone(1234, 0.05, 0.3)
    ours = decibels(log_mel(samples, SETTINGS))
    twin = log_mel_by_loops(samples, SETTINGS)
    assert ours.shape == twin.shape == (3, 64)
    assert np.abs(ours - twin).max() <= 80 / 255 / 2 + 1e-3


@pytest.mark.parametrize("hertz", [100, 440, 1000, 3000, 7000])
def test_a_tone_peaks_in_the_band_it_belongs_to(hertz):
    levels = decibels(log_mel(tone(hertz), SETTINGS)).mean(0)
    mel = 2595 * np.log10(1 + np.array([20, hertz, RATE / 2]) / 700)
    band = (mel[1] - mel[0]) / (mel[2] - mel[0]) * 65 - 1  # centres of the bands are the whole numbers
    assert abs(levels.argmax() - band) <= 0.75
    assert -8 < levels.max() <= 0


def test_levels_are_decibels_of_full_scale():
    loud, quiet = (decibels(log_mel(tone(6000, amplitude=a), SETTINGS))[10] for a in (0.5, 0.05))
    energy = 10 * np.log10(np.sum(10 ** (loud / 10)))  # neighbouring triangles add up to 1
    assert energy == pytest.approx(20 * np.log10(0.5), abs=0.2)
    assert loud.max() - quiet.max() == pytest.approx(20, abs=0.4)
    assert (log_mel(np.zeros(RATE, np.float32), SETTINGS) == 0).all()
    assert decibels(np.array([0, 255], np.uint8)).tolist() == [-80, 0]


def test_a_sound_shorter_than_a_window_gives_one_row():
    assert log_mel(tone(440, 0.01), SETTINGS).shape == (1, 64)


@pytest.mark.parametrize(
    ("codec", "ending"), [("aac", "mp4"), ("libmp3lame", "avi"), ("libopus", "webm"), ("pcm_s16le", "wav")]
)
def test_the_middle_of_the_track_is_read(tmp_path, codec, ending):
    rate = 48000
    parts = [tone(300, 3, 0.5, rate), tone(2000, 2, 0.5, rate), tone(5000, 3, 0.5, rate)]  # 8 s; the middle 2 differ
    path = encode_sound(tmp_path / f"x.{ending}", np.stack([np.concatenate(parts)] * 2), codec, rate)
    settings = SoundSettings(seconds=2.0)
    picture = read_log_mel(path, settings)
    assert abs(len(picture) - 198) <= 1
    expected = log_mel(tone(2000, 2, 0.5), settings).mean(0).argmax()
    assert (picture[8:-8].argmax(1) == expected).all()
    assert len(read_log_mel(path, SoundSettings(seconds=60))) == pytest.approx(798, abs=8)


def test_channels_are_mixed(tmp_path):
    both = np.stack([tone(500, 2, 0.4, 44100), tone(4000, 2, 0.4, 44100)])
    picture = read_log_mel(encode_sound(tmp_path / "x.mp4", both), SETTINGS)[20:-20].mean(0)
    for channel in both:
        alone = read_log_mel(encode_sound(tmp_path / "y.mp4", np.stack([channel] * 2)), SETTINGS)[20:-20].mean(0)
        drop = (alone.max() - picture[alone.argmax()]) / 255 * 80
        assert drop == pytest.approx(6, abs=1)  # half the amplitude


def levels_at(path, hertz):
    """The level (T,) in dB of the band that a tone peaks in."""
    band = log_mel(tone(hertz), SETTINGS)[10].argmax()
    return decibels(read_log_mel(path, SETTINGS))[5:-5, band]


@pytest.mark.parametrize(
    ("codec", "ending", "second"), [("pcm_s16le", "wav", -1.0), ("pcm_s16le", "wav", -0.9), ("aac", "mp4", -1.0)]
)
def test_channels_that_cancel_each_other_are_as_loud_as_in_phase(tmp_path, codec, ending, second):
    one = tone(1000, 2, 0.25, 44100)
    in_phase = levels_at(encode_sound(tmp_path / f"in.{ending}", np.stack([one, abs(second) * one]), codec), 1000)
    opposed = levels_at(encode_sound(tmp_path / f"out.{ending}", np.stack([one, second * one]), codec), 1000)
    np.testing.assert_allclose(opposed, in_phase, atol=1)
    assert in_phase.min() > -15


def test_only_the_time_and_the_band_that_cancel_are_touched(tmp_path):
    low, high = tone(500, 2, 0.2, 44100), tone(4000, 2, 0.2, 44100)
    early = np.arange(len(low)) < 44100
    plain = encode_sound(tmp_path / "plain.wav", np.stack([low + high] * 2), "pcm_s16le")
    mixed = np.stack([low + high, low + np.where(early, high, -high)])
    path = encode_sound(tmp_path / "mixed.wav", mixed, "pcm_s16le")
    np.testing.assert_allclose(levels_at(path, 4000)[[*range(80), *range(110, 180)]], levels_at(plain, 4000)[0], atol=1)
    np.testing.assert_array_equal(levels_at(path, 500)[:80], levels_at(plain, 500)[:80])


@pytest.mark.parametrize("channels", [(0, 1), (4, 5)])
def test_channels_around_the_listener_do_not_cancel_either(tmp_path, channels):
    in_phase = np.zeros((6, 88200), np.float32)
    in_phase[list(channels)] = tone(1000, 2, 0.2, 44100)
    opposed = in_phase.copy()
    opposed[channels[1]] *= -1
    paths = [encode_sound(tmp_path / f"{i}.wav", x, "pcm_s16le") for i, x in enumerate((in_phase, opposed))]
    expected, found = (levels_at(path, 1000) for path in paths)
    np.testing.assert_allclose(found, expected, atol=1)


def test_sound_that_the_mix_leaves_out_is_heard(tmp_path):
    only_low = np.zeros((6, 88200), np.float32)
    only_low[3] = tone(100, 2, 0.6, 44100)  # the channel for low frequencies
    path = encode_sound(tmp_path / "x.wav", only_low, "pcm_s16le")
    assert levels_at(path, 100)[0] == pytest.approx(decibels(log_mel(tone(100, 2, 0.1), SETTINGS))[10].max(), abs=0.5)


@pytest.mark.parametrize("seed", range(3))
def test_channels_that_have_nothing_to_do_with_each_other_are_mixed_as_they_are(tmp_path, seed):
    noise = np.random.default_rng(seed).normal(0, 0.1, (2, 16000 * 10)).astype(np.float32)
    path = encode_sound(tmp_path / "x.wav", noise, "pcm_f32le", rate=16000)
    np.testing.assert_array_equal(read_log_mel(path, SETTINGS), log_mel(noise.sum(0) * np.float32(0.5**0.5), SETTINGS))


def test_faults(tmp_path, capfd):
    path = encode_sound(tmp_path / "silent.mp4", np.zeros((1, 44100)), picture=True)
    assert (read_log_mel(path, SETTINGS) == 0).all()
    with av.open(str(tmp_path / "mute.mp4"), "w") as output:
        video = output.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        output.mux(video.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        output.mux(video.encode(None))
    with pytest.raises(MediaFault, match=r"^no sound track$"):
        read_log_mel(tmp_path / "mute.mp4", SETTINGS)
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(3000))
    with pytest.raises(MediaFault, match="not a media file"):
        read_log_mel(tmp_path / "noise.mp4", SETTINGS)
    assert capfd.readouterr() == ("", "")


def test_a_sound_codec_without_a_decoder_is_named(tmp_path):
    path = encode_sound(tmp_path / "x.mp4", np.stack([tone(440)]), picture=True)
    path.write_bytes(path.read_bytes().replace(b"mp4a", b"apac", 1).replace(b"esds", b"free", 1))
    with pytest.raises(MediaFault, match="there is no decoder for its sound codec"):
        read_log_mel(path, SETTINGS)
    assert read_clip(path, ClipSettings(size=32)).frames.shape == (5, 32, 32, 3)


@pytest.mark.parametrize(
    "parts",
    [
        [("aac", 44100, 1), ("aac", 48000, 2)],
        [("aac", 32000, 2), ("aac", 44100, 1)],
        [("mp2", 48000, 2), ("mp2", 48000, 1)],
        [("aac", 44100, 1), ("aac", 44100, 1)],
    ],
)
def test_files_joined_by_copying_are_heard_one_after_the_other(tmp_path, parts):
    """Rate and channels change in the middle, and the clock starts again."""
    joined = b""
    for hertz, (codec, rate, channels) in zip((440, 2000), parts, strict=True):
        samples = np.stack([tone(hertz, 2, 0.25, rate)] * channels)
        joined += encode_sound(tmp_path / "part.ts", samples, codec, rate).read_bytes()
    (tmp_path / "x.ts").write_bytes(joined)
    picture = read_log_mel(tmp_path / "x.ts", SETTINGS)
    assert len(picture) == pytest.approx(398, abs=10)
    bands = [log_mel(tone(hertz), SETTINGS).mean(0).argmax() for hertz in (440, 2000)]
    assert (picture[10:185].argmax(1) == bands[0]).all()
    assert (picture[215:-10].argmax(1) == bands[1]).all()
    levels = [decibels(picture[rows, band]).mean() for rows, band in ((100, bands[0]), (300, bands[1]))]
    alone = [decibels(log_mel(tone(hertz, 1, 0.25), SETTINGS)[10]).max() for hertz in (440, 2000)]
    stereo = [10 * np.log10(2) if channels == 2 else 0 for *_, channels in parts]
    np.testing.assert_allclose(levels, np.add(alone, stereo), atol=1)


def test_a_clock_that_leaps_ahead_leaves_no_hole(tmp_path):
    with av.open(str(tmp_path / "x.ts"), "w") as output:
        stream = output.add_stream("aac", rate=44100, layout="mono")
        for number, piece in enumerate(np.split(tone(440, 4, 0.5, 44032), 172)):
            frame = av.AudioFrame.from_ndarray(piece[None], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 44100, number * 1024 + 44100 * 5000 * (number > 86)
            frame.time_base = Fraction(1, 44100)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    picture = read_log_mel(tmp_path / "x.ts", SETTINGS)
    assert len(picture) == pytest.approx(398, abs=10)
    assert (picture[10:-10].argmax(1) == log_mel(tone(440), SETTINGS).mean(0).argmax()).all()


def test_sound_that_begins_after_megabytes_of_pictures_is_found(tmp_path):
    path = encode_sound(tmp_path / "x.flv", np.stack([tone(440, 2, 0.5, 44100)]), "aac", picture=True)
    data = path.read_bytes()
    place, filler = 13, b""  # behind the header come tags: kind, length, time, content, length again
    while data[place] != 8:  # sound
        place += 15 + int.from_bytes(data[place + 1 : place + 4])
    for _ in range(6):
        filler += b"\x12" + (1 << 20).to_bytes(3) + bytes(7 + (1 << 20)) + (11 + (1 << 20)).to_bytes(4)
    path.write_bytes(data[:place] + filler + data[place:])
    with av.open(str(path)) as container:
        assert not container.streams.audio
    picture = read_log_mel(path, SETTINGS)
    assert (picture[10:-10].argmax(1) == log_mel(tone(440), SETTINGS).mean(0).argmax()).all()


@pytest.mark.parametrize(("codec", "ending"), [("aac", "mp4"), ("mp2", "ts"), ("libopus", "mkv"), ("pcm_s16le", "wav")])
def test_no_damage_is_more_than_a_fault(tmp_path, codec, ending, capfd):
    path = encode_sound(tmp_path / f"x.{ending}", np.stack([tone(440, 0.5, 0.5, 48000)] * 2), codec, rate=48000)
    whole, rng = path.read_bytes(), np.random.default_rng(0)
    for _ in range(40):
        data = bytearray(whole[: rng.integers(1, len(whole))] if rng.random() < 0.3 else whole)
        for _ in range(rng.integers(1, 30)):
            place = int(min(rng.exponential(len(data) / 4), len(data) - 1))  # headers more often
            data[place : place + rng.integers(0, 4)] = rng.bytes(rng.integers(0, 4))
        path.write_bytes(data)
        with suppress(MediaFault):
            assert read_log_mel(path, SETTINGS).shape[1] == 64
    assert capfd.readouterr() == ("", "")


def test_a_file_that_may_not_be_read_is_a_fault(tmp_path, monkeypatch):
    path = encode_sound(tmp_path / "x.wav", np.stack([tone(440)]), "pcm_s16le")

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(av, "open", refuse)
    with pytest.raises(MediaFault, match="Permission denied"):
        read_log_mel(path, SETTINGS)
    monkeypatch.setattr(
        av, "open", lambda *_, **__: (_ for _ in ()).throw(OSError(errno.EMFILE, "Too many open files"))
    )
    with pytest.raises(OSError, match="Too many open files"):
        read_log_mel(path, SETTINGS)


def test_damaged_packets_are_left_out(tmp_path, capfd):
    path = encode_sound(tmp_path / "x.mp4", np.stack([tone(1000, 4, 0.5, 44100)]))
    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
    hurt = packets[len(packets) // 2]
    data = bytearray(path.read_bytes())
    data[hurt.pos : hurt.pos + hurt.size] = b"\xff" * hurt.size
    whole = read_log_mel(path, SETTINGS)
    path.write_bytes(data)
    picture = read_log_mel(path, SETTINGS)
    assert abs(len(picture) - len(whole)) <= 5
    np.testing.assert_array_equal(picture[:150].argmax(1), whole[:150].argmax(1))
    for packet in packets:
        data[packet.pos : packet.pos + packet.size] = b"\xff" * packet.size
    path.write_bytes(data)
    with pytest.raises(MediaFault, match="damaged: no sound could be decoded"):
        read_log_mel(path, SETTINGS)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("wrong", [{"sample_rate": 10}, {"num_mels": 0}, {"num_mels": 400}, {"hop_milliseconds": 30.0}])
def test_settings_are_checked(wrong):
    with pytest.raises(InputError, match="accepted are"):
        SoundSettings(**wrong)


@pytest.mark.real_data
def test_real_sound(shared_data):
    for path in sorted((shared_data / "videos" / "microlens").iterdir()):
        picture = read_log_mel(path, SETTINGS)
        assert picture.shape[1] == 64
        assert 700 < len(picture) <= 998
        assert 20 < picture.mean() < 230
        assert picture.std() > 15
