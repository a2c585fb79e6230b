"""Media files of a release: which are read, which are not and why, and that what is accepted decodes."""

import errno
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from microlens.errors import InputError
from microlens.media.reading import ClipSettings, read_clip, read_cover
from microlens.media.sound import SoundSettings, read_log_mel
from microlens.release.folder import COVER_SUFFIXES, SOUND_SUFFIXES, VIDEO_SUFFIXES, find_release
from microlens.release.media_files import NO_ITEM, MediaFiles, find_media

OTHER_KIND = "no kind of file that is read here"
SECOND = "another file of the same item is read"
NO_FILE = "no file that can be opened"


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def videos(*folders: Path) -> MediaFiles:
    return find_media(folders, VIDEO_SUFFIXES)


def test_media_belong_to_the_item_they_are_named_by(tmp_path: Path) -> None:
    folder = touch(
        tmp_path / "videos", "3.mp4", "12.MP4", "-7.mkv", "7100000000000000101.wmv", "part_1/104.mp4", "a/b/c/105.3GP",
        "007.avi", "holiday.mp4", "101 (1).mp4", "\uff11\uff12.mp4", "1.5.mp4", "notes.txt", "README", "20.mp4.part",
        ".DS_Store", "._3.mp4", "Thumbs.db", "__MACOSX/._3.mp4", "21.jpg",
    )  # fmt: skip
    found = videos(folder)
    assert {item: path.relative_to(folder).as_posix() for item, path in found.by_item.items()} == {
        -7: "-7.mkv", 3: "3.mp4", 7: "007.avi", 12: "12.MP4", 104: "part_1/104.mp4", 105: "a/b/c/105.3GP",
        7100000000000000101: "7100000000000000101.wmv",
    }  # fmt: skip
    assert list(found.by_item) == sorted(found.by_item)
    assert found.names[104] == "videos/part_1/104.mp4"
    assert found.unused == {
        ("", "hidden"): ["videos/.DS_Store"],
        (".mp4", "hidden"): ["videos/._3.mp4", "videos/__MACOSX/._3.mp4"],
        ("", OTHER_KIND): ["videos/README"],
        (".txt", OTHER_KIND): ["videos/notes.txt"],
        (".part", OTHER_KIND): ["videos/20.mp4.part"],
        (".db", OTHER_KIND): ["videos/Thumbs.db"],
        (".jpg", OTHER_KIND): ["videos/21.jpg"],
        (".mp4", NO_ITEM): ["videos/1.5.mp4", "videos/101 (1).mp4", "videos/holiday.mp4", "videos/\uff11\uff12.mp4"],
    }


def test_files_of_other_items_are_not_used(tmp_path: Path) -> None:
    found = videos(touch(tmp_path / "videos", "1.mp4", "2.mkv", "3.txt")).of_items({1})
    assert list(found.by_item) == [1]
    assert found.unused == {(".txt", OTHER_KIND): ["videos/3.txt"], (".mkv", NO_ITEM): ["videos/2.mkv"]}


def test_of_several_files_of_an_item_one_is_taken_by_rule_and_the_rest_counted(tmp_path: Path) -> None:
    folder = touch(
        tmp_path / "videos", "1.mkv", "part/1.mp4", "2.avi", "002.avi", "part/2.avi", "3.mp4", "3.gif", "b/4.mp4",
        "a/4.mp4", "5.mp4", "0/5.mp4",
    )  # fmt: skip
    found = videos(folder)
    assert {item: path.relative_to(folder).as_posix() for item, path in found.by_item.items()} == {
        1: "part/1.mp4", 2: "2.avi", 3: "3.mp4", 4: "a/4.mp4", 5: "5.mp4",
    }  # fmt: skip
    assert found.unused == {
        (".avi", SECOND): ["videos/002.avi", "videos/part/2.avi"],
        (".gif", SECOND): ["videos/3.gif"],
        (".mkv", SECOND): ["videos/1.mkv"],
        (".mp4", SECOND): ["videos/0/5.mp4", "videos/b/4.mp4"],
    }


def test_links_are_followed_once_and_loops_end(tmp_path: Path) -> None:
    folder = touch(tmp_path / "videos", "part/1.mp4")
    elsewhere = touch(tmp_path / "disk", "2.mp4", "3.mp4")
    (folder / "part" / "back").symlink_to(folder)
    (folder / "more").symlink_to(elsewhere)
    (folder / "4.mp4").symlink_to(elsewhere / "3.mp4")
    (folder / "5.mp4").symlink_to(folder / "5.mp4")
    (folder / "6.mp4").symlink_to(tmp_path / "gone.mp4")
    os.mkfifo(folder / "7.mp4")
    (folder / "8.mp4").mkdir()
    found = videos(folder)
    assert list(found.by_item) == [1, 2, 3, 4]
    assert found.unused == {
        ("", "a folder that is read under another name"): ["videos/part/back"],
        (".mp4", NO_FILE): ["videos/5.mp4", "videos/6.mp4", "videos/7.mp4", "videos/8.mp4"],
    }


def test_a_folder_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = touch(tmp_path / "videos", "1.mp4", "locked/2.mp4")
    original = Path.iterdir

    def iterdir(self: Path) -> Iterator[Path]:
        if self.name == "locked":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return original(self)

    monkeypatch.setattr(Path, "iterdir", iterdir)  # root may open anything
    found = videos(folder)
    assert list(found.by_item) == [1]
    assert found.unused == {("", "a folder that cannot be opened: Permission denied"): ["videos/locked"]}


def test_names_that_are_no_text_are_named_all_the_same(tmp_path: Path) -> None:
    folder = touch(tmp_path / "videos", os.fsdecode(b"caf\xe9.mp4"), os.fsdecode(b"\xe9/1.mp4"))
    found = videos(folder)
    assert found.names == {1: "videos/\ufffd/1.mp4"}
    assert found.unused == {(".mp4", NO_ITEM): ["videos/caf\ufffd.mp4"]}


@pytest.mark.parametrize(
    ("part", "names"),
    [
        ("videos", ("videos", "video", "Videos", "MicroLens-50k_videos", "VIDEO", "my videos")),
        ("covers", ("covers", "cover", "Covers", "images", "image", "MicroLens-50k_covers", "cover_images")),
        ("sounds", ("audios", "audio", "Audios", "MicroLens-50k_audios", "sound")),
    ],
)
def test_folders_of_media_are_found_by_many_names(tmp_path: Path, part: str, names: tuple[str, ...]) -> None:
    (tmp_path / "x_pairs.csv").write_text("1,2,3")
    for name in (*names, "video_features", "discover", "frames"):
        (tmp_path / name).mkdir()
    found: tuple[Path, ...] = getattr(find_release(tmp_path), part)
    assert {path.name for path in found} == set(names)


def test_several_folders_are_read_as_one(tmp_path: Path) -> None:
    one, two = touch(tmp_path / "videos", "1.mp4", "2.mp4"), touch(tmp_path / "more_videos", "2.mp4", "3.mp4")
    found = videos(two, one)
    assert found.names == {1: "videos/1.mp4", 2: "more_videos/2.mp4", 3: "more_videos/3.mp4"}
    assert found.unused == {(".mp4", SECOND): ["videos/2.mp4"]}


def test_what_is_no_part_of_a_release_is_named(tmp_path: Path) -> None:
    touch(
        tmp_path, "x_pairs.csv", "x_pairs.tsv", "x_titles.csv", "x_titles.csv.gz", "readme.txt", "x_covers.zip",
        "x.z01", ".DS_Store", "1.mp4", "videos/1.mp4", "MicroLens-100k_frames_interval_1_number_5/1-1.jpg",
        "features/a.npy",
    )  # fmt: skip
    release = find_release(tmp_path)
    assert release.titles == tmp_path / "x_titles.csv"
    assert release.frames == (tmp_path / "MicroLens-100k_frames_interval_1_number_5",)
    assert release.unused == {
        "hidden": [".DS_Store"],
        "the pairs are read from x_pairs.csv": ["x_pairs.tsv"],
        "the titles are read from x_titles.csv": ["x_titles.csv.gz"],
        "an archive, which has to be unpacked here": ["x.z01", "x_covers.zip"],
        "no part of a release is called so": ["1.mp4", "features", "readme.txt"],
    }


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("A_PAIRS.CSV",), "A_PAIRS.CSV"),
        (("a_pairs.tsv", "a_pairs.txt"), "a_pairs.tsv"),
        (("a_pairs.txt",), "a_pairs.txt"),
        (("a_pairs.csv.gz", "a_pairs.tsv"), "a_pairs.tsv"),
        (("a_Pairs.csv.gz",), "a_Pairs.csv.gz"),
    ],
)
def test_the_pairs_by_many_names(tmp_path: Path, names: tuple[str, ...], chosen: str) -> None:
    assert find_release(touch(tmp_path, *names)).pairs.name == chosen


def test_two_tables_for_one_part_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "x_pairs.csv", "title.csv", "titles.csv")
    with pytest.raises(InputError, match=r"several files for the titles \(title\.csv, titles\.csv\); keep one"):
        find_release(tmp_path)


def write_video(path: Path, form: str, codec: str, size: tuple[int, int] = (176, 144), rate: int = 25) -> None:
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for _ in range(10):
            picture = np.zeros((size[1], size[0], 3), np.uint8)
            picture[:, : size[0] // 2] = (255, 0, 0)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=stream.pix_fmt)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.mark.parametrize(
    ("suffix", "form", "codec"),
    [
        (".3gp", "3gp", "h263"), (".3g2", "3g2", "mpeg4"), (".wmv", "asf", "wmv2"), (".asf", "asf", "wmv2"),
        (".mpg", "mpeg", "mpeg1video"), (".mpeg", "mpeg", "mpeg2video"), (".vob", "vob", "mpeg2video"),
        (".m2ts", "mpegts", "mpeg2video"), (".mts", "mpegts", "mpeg2video"), (".m2v", "mpeg2video", "mpeg2video"),
        (".m1v", "mpeg1video", "mpeg1video"), (".gif", "gif", "gif"), (".f4v", "f4v", "h264"),
        (".divx", "avi", "mpeg4"), (".qt", "mov", "mpeg4"), (".mxf", "mxf", "mpeg2video"), (".rm", "rm", "rv20"),
        (".mj2", "mov", "jpeg2000"),
    ],
)  # fmt: skip
def test_accepted_kinds_of_video_decode(tmp_path: Path, suffix: str, form: str, codec: str) -> None:
    path = tmp_path / f"1{suffix}"
    write_video(path, form, codec)
    assert videos(tmp_path).by_item == {1: path}
    clip = read_clip(path, ClipSettings(num_frames=2, size=32))
    assert clip.info.num_frames == 10
    left, right = clip.frames[:, 8:24, 2:12], clip.frames[:, 8:24, 20:30]
    assert np.abs(left.astype(int) - (255, 0, 0)).max() < 40
    assert right.max() < 40


@pytest.mark.parametrize(
    ("suffix", "form", "codec"),
    [
        (".wma", "asf", "wmav2"), (".ac3", "ac3", "ac3"), (".eac3", "eac3", "eac3"), (".aiff", "aiff", "pcm_s16be"),
        (".oga", "oga", "flac"), (".opus", "opus", "libopus"), (".mka", "matroska", "flac"), (".m4b", "ipod", "aac"),
        (".weba", "webm", "libopus"), (".mp2", "mp2", "mp2"), (".au", "au", "pcm_s16be"), (".caf", "caf", "pcm_s16le"),
        (".w64", "w64", "pcm_s16le"), (".wv", "wv", "wavpack"), (".tta", "tta", "tta"), (".mp4", "mp4", "aac"),
    ],
)  # fmt: skip
def test_accepted_kinds_of_sound_decode(tmp_path: Path, suffix: str, form: str, codec: str) -> None:
    path = tmp_path / f"1{suffix}"
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=48000, layout="mono")
        stream.bit_rate = 64000
        tone = np.sin(2 * np.pi * 1000 * np.arange(48000) / 48000).astype(np.float32)[None] / 2
        size = stream.codec_context.frame_size or 1024
        resampler = av.AudioResampler(format=stream.format, layout="mono", rate=48000, frame_size=size)
        frame = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48000, 0, Fraction(1, 48000)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode())
    assert find_media([tmp_path], SOUND_SUFFIXES).by_item == {1: path}
    picture = read_log_mel(path, SoundSettings())
    assert 90 <= len(picture) <= 105  # one second in steps of 10 ms
    lowest, highest, tone_mel = 2595 * np.log10(1 + np.array([20, 8000, 1000]) / 700)
    centres = np.linspace(lowest, highest, SoundSettings().num_mels + 2)[1:-1]
    assert abs(int(picture[len(picture) // 2].argmax()) - int(np.abs(centres - tone_mel).argmin())) <= 1


@pytest.mark.parametrize(
    ("suffix", "codec", "form"),
    [(".bmp", "bmp", "bgr24"), (".tiff", "tiff", "rgb24"), (".tif", "tiff", "rgb24"), (".jfif", "mjpeg", "yuvj420p"),
     (".gif", "gif", "rgb8")],
)  # fmt: skip
def test_accepted_kinds_of_cover_decode(tmp_path: Path, suffix: str, codec: str, form: str) -> None:
    path = tmp_path / f"1{suffix}"
    with av.open(str(path), "w", format="gif" if codec == "gif" else "image2", options={"update": "1"}) as container:
        stream = container.add_stream(codec, rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, form
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[:24] = (0, 0, 255)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=form)))
        container.mux(stream.encode())
    assert find_media([tmp_path], COVER_SUFFIXES).by_item == {1: path}
    cover = read_cover(path, 32, "squash").pixels
    assert np.abs(cover[2:12].astype(int) - (0, 0, 255)).max() < 40
    assert cover[20:30].max() < 40
