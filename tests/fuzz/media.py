"""Videos, covers and sounds, through the readers of pixels and sound and through preparation's own decoding."""

import os
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from microlens.media import reading
from microlens.media.array_packing import unpack_array
from microlens.media.decoding import Settings, Task, decode
from microlens.media.packing import unpack_images
from microlens.media.reading import ClipSettings, MediaFault
from microlens.media.sound import SoundSettings, read_log_mel
from tests.fuzz.mutations import Random, damage
from tests.fuzz.target import Target, check_answer

# Name, picture codec and format, width, height, sound codec, its rate in Hz.
CLIPS: tuple[tuple[str, str | None, str, int, int, str | None, int], ...] = (
    ("h264.mp4", "libx264", "yuv420p", 64, 48, "aac", 8000),
    ("hevc.mkv", "libx265", "yuv420p", 64, 48, "libmp3lame", 16000),
    ("vp8.webm", "libvpx", "yuv420p", 64, 48, "libopus", 16000),
    ("vp9.webm", "libvpx-vp9", "yuv420p", 64, 48, None, 0),
    ("av1.mp4", "libsvtav1", "yuv420p", 64, 64, None, 0),
    ("mpeg4.avi", "mpeg4", "yuv420p", 64, 48, "libmp3lame", 16000),
    ("mpeg2.ts", "mpeg2video", "yuv420p", 64, 48, "mp2", 16000),
    ("mpeg1.mpg", "mpeg1video", "yuv420p", 64, 48, "mp2", 44100),
    ("flv1.flv", "flv", "yuv420p", 64, 48, "libmp3lame", 22050),
    ("h263.3gp", "h263", "yuv420p", 176, 144, "aac", 8000),
    ("wmv2.wmv", "wmv2", "yuv420p", 64, 48, "wmav2", 44100),
    ("mjpeg.mov", "mjpeg", "yuvj420p", 64, 48, "pcm_s16le", 8000),
    ("ffv1.mkv", "ffv1", "yuv420p", 64, 48, "flac", 8000),
    ("film.gif", "gif", "rgb8", 64, 48, None, 0),
    ("sound.wav", None, "", 0, 0, "pcm_s16le", 8000),
    ("sound.mp3", None, "", 0, 0, "libmp3lame", 16000),
    ("sound.aac", None, "", 0, 0, "aac", 16000),
    ("sound.flac", None, "", 0, 0, "flac", 8000),
    ("sound.ogg", None, "", 0, 0, "libopus", 16000),
    ("sound.m4a", None, "", 0, 0, "aac", 8000),
)
QUIET = {"libx265": {"x265-params": "log-level=none"}}
TOKENS = [
    *b"ftyp moov mdat trak mdia minf stbl stsd stts stsc stsz stco co64 ctts elst tkhd mvhd edts moof trun".split(),
    *b"avc1 hev1 av01 vp09 vvc1 apv1 mp4a samr twos fLaC RIFF AVI strh strf idx1 movi XVID auds vids OggS".split(),
    b"\x1a\x45\xdf\xa3", b"\x1f\x43\xb6\x75", b"V_MPEG4/ISO/AVC", b"A_OPUS", b"\x00\x00\x01\xba",
    b"\x00\x00\x01\xb3", b"\x00\x00\x00\x01\x67", b"\x00\x00\x00\x01\x65", b"\x47\x40\x00\x10", b"FLV\x01\x05",
    b"WAVEfmt ", b"data", b"ID3\x04", b"\xff\xd8", b"\xff\xd9", b"\xff\xc0\x00\x11\x08", b"\xff\xe1", b"Exif\0\0",
    b"\xff\xdb", b"\xff\xda", b"IHDR", b"IDAT", b"IEND", b"acTL", b"fcTL", b"WEBP", b"VP8X", b"VP8L", b"VP8 ",
    b"ANIM", b"ANMF", b"GIF89a", b"BM", b"avif", b"mif1", b"ispe",
]  # fmt: skip


class Media(Target):
    """One file, read as a clip, a cover, a sound, or all that preparation wants of it."""

    name = "media"
    answers = (MediaFault,)

    def prepare(self, folder: Path) -> None:
        """Clips of .4 s in twenty formats, and covers in ten."""
        os.environ.setdefault("SVT_LOG", "0")
        for name, *how in CLIPS:
            write_clip(folder / name, *how)
        write_covers(folder)

    def open(self, folder: Path) -> None:
        """Keep all files in memory."""
        self.files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}

    def make(self, folder: Path, random: Random) -> str:
        """A file that is damaged, and now and then goes by the name of another kind."""
        names = list(self.files)
        name, other = (names[int(random.integers(len(names)))] for _ in range(2))
        suffix = Path(other if random.random() < 0.1 else name).suffix
        data = (
            damage(self.files[name], random, [self.files[other]], TOKENS)
            if random.random() < 0.97
            else self.files[name]
        )
        (folder / f"1{suffix}").write_bytes(data)
        return f"{name} as 1{suffix}"

    def read(self, folder: Path, random: Random) -> str | None:
        """Read it in one of the ways; of healthy files any way has to give what it should."""
        (path,) = folder.iterdir()
        size, frames = int(random.choice([8, 16, 48])), int(random.choice([1, 3, 5]))
        crop: Any = random.choice(["squash", "center"])
        sampling: Any = random.choice(["spread", "middle", "keyframes"])
        clips = ClipSettings(frames=sampling, num_frames=frames, size=size, crop=crop)
        sound = SoundSettings(sample_rate=8000, num_mels=16, seconds=float(random.choice([0.1, 1.0])))
        is_cover = path.suffix in (".jpg", ".png", ".webp", ".bmp", ".avif")
        way = random.choice(["own", "own", "clip", "cover", "sound", "preparation"])
        if way == "preparation":
            kinds = ("covers",) if is_cover else ("clips", "sound")
            settings = Settings(clips=clips, cover_size=size, cover_crop=crop, sound=sound)
            for outcome, value in decode(Task(1, path, kinds), settings):
                for fault in outcome.faults:
                    check_answer(fault)
                assert (value is not None) == outcome.stored
                if value is not None:
                    shapes = {"clips": (frames, size, size, 3), "covers": (1, size, size, 3)}
                    got = unpack_array(value) if outcome.kind == "sound" else unpack_images(value)
                    check_sound(got, sound) if outcome.kind == "sound" else check_pixels(got, shapes[outcome.kind])
        elif way == "sound" or (way == "own" and path.stem == "sound"):
            check_sound(read_log_mel(path, sound), sound)
        elif way == "cover" or (way == "own" and is_cover):
            reading.read_cover(path, size, crop)  # its shape is seen in what preparation stores
        else:
            clip = reading.read_clip(path, clips)
            check_pixels(clip.frames, (frames, size, size, 3))
            for fault in clip.faults:
                check_answer(fault)
            assert clip.info.width > 0, clip.info
            assert np.isfinite([clip.info.duration, clip.info.fps]).all(), clip.info


def check_pixels(pixels: Any, shape: tuple[int, ...]) -> None:
    """Pictures of the shape that was asked for."""
    assert pixels.dtype == np.uint8, pixels.dtype
    assert pixels.shape == shape, f"{pixels.shape} in place of {shape}"


def check_sound(sound: Any, settings: SoundSettings) -> None:
    """Bands of no more time than was asked for."""
    assert sound.dtype == np.uint8, sound.dtype
    assert 1 <= len(sound) <= settings.shape[0], sound.shape
    assert sound.shape[1] == settings.shape[1], sound.shape


def write_clip(path: Path, codec: str | None, form: str, width: int, height: int, sound: str | None, rate: int) -> None:
    """Ten frames of moving noise, and .4 s of a tone."""
    with av.open(str(path), "w") as container:
        film: Any = container.add_stream(codec, rate=25, options=QUIET.get(codec, {})) if codec else None
        tone: Any = container.add_stream(sound, rate=rate) if sound else None
        if tone:
            tone.codec_context.layout, tone.codec_context.bit_rate = "mono", 64000
        if film:
            film.width, film.height, film.pix_fmt = width, height, form
            film.codec_context.thread_count = 1
            noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
            for number in range(10):
                container.mux(film.encode(av.VideoFrame.from_ndarray(np.roll(noise, 3 * number, 0), format="rgb24")))
            container.mux(film.encode())
        if tone:
            wave = (8000 * np.sin(np.arange(int(0.4 * rate)) / 5)).astype(np.int16)[None]
            frame = av.AudioFrame.from_ndarray(wave, format="s16", layout="mono")
            frame.sample_rate, frame.pts = rate, 0
            container.mux(tone.encode(frame))
            container.mux(tone.encode())


def write_covers(folder: Path) -> None:
    """A picture in every format that covers come in, some with several frames, turned, or with few colours."""
    noise = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    picture = Image.fromarray(noise)
    turned = Image.Exif()
    turned[0x0112] = 6
    picture.save(folder / "plain.jpg")
    picture.save(folder / "turned.jpg", exif=turned)
    picture.convert("L").save(folder / "gray.jpg", progressive=True)
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    picture.save(folder / "plain.png")
    picture.convert("P").save(folder / "palette.png")
    picture.save(folder / "several.png", save_all=True, append_images=[picture.rotate(180)])
    picture.save(folder / "plain.webp")
    picture.save(folder / "several.webp", save_all=True, append_images=[picture.rotate(180)])
    picture.save(folder / "plain.bmp")
    picture.save(folder / "plain.avif")
