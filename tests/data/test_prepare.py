"""From a release to a dataset: what it records, what it survives, and how it goes on."""

import errno
import gc
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import av
import lmdb
import numpy as np
import polars as pl
import pytest

from microlens.cli import main
from microlens.data import media_stores
from microlens.data.arrays import ArrayWriter
from microlens.data.prepare import prepare
from microlens.files.writing import LOCK, MARK, lock_folder, sha256
from microlens.media.array_packing import unpack_array
from microlens.media.decoding import Settings, Task, decode
from microlens.media.packing import unpack_images
from microlens.media.reading import ClipSettings
from microlens.media.sound import read_log_mel
from microlens.media.store import Store, StoreWriter
from microlens.release.folder import MEDIA
from microlens.release.synthetic import write_release
from tests.conftest import REPOSITORY
from tests.data.worker_tasks import DEADLY, deadly_decode, decode_on_a_full_disk, logged_decode

SETTINGS = Settings(clips=ClipSettings(num_frames=2, size=32))
OPTIONS = ("--num-frames", "2", "--size", "32", "--workers", "1")
ITEMS, TASKS = 14, 42


def run_command(*arguments: object) -> tuple[int, str, str]:
    """Exit status, standard output and standard error of a ``microlens`` command; a traceback fails the test."""
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as monkeypatch, redirect_stdout(out), redirect_stderr(err):
        monkeypatch.setattr(sys, "argv", ["microlens", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            main()
    return int(end.value.code or 0), out.getvalue(), err.getvalue()


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "release"
    write_release(folder, users=12, items=ITEMS, seed=1, workers=1)  # every item occurs
    return folder


@pytest.fixture(scope="module")
def undisturbed(release: Path) -> Path:
    prepare(release, release.parent / "undisturbed", SETTINGS, workers=1)
    return release.parent / "undisturbed"


@pytest.fixture
def decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What has been decoded since, a line a file; small commits, so that there is something to go on from."""
    log = tmp_path / "decoded.txt"
    log.touch()
    monkeypatch.setenv("DECODED", str(log))
    monkeypatch.setattr(media_stores, "decode", logged_decode)
    monkeypatch.setattr(media_stores, "_ITEMS_PER_COMMIT", 4)

    def since() -> list[str]:
        lines = log.read_text().splitlines()
        log.write_text("")
        return lines

    return since


def manifest_of(dataset: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((dataset / "manifest.json").read_text())
    return manifest


def stored(dataset: Path) -> dict[tuple[str, int], bytes | None]:
    stores = {kind: Store.open(dataset / f"{kind}.lmdb") for kind in MEDIA if (dataset / f"{kind}.lmdb").exists()}
    return {(kind, int(item)): store.get(item) for kind, store in stores.items() for item in store.item_ids()}


def assert_same(dataset: Path, other: Path) -> None:
    assert manifest_of(dataset) == manifest_of(other)
    assert stored(dataset) == stored(other)
    assert {path.name for path in dataset.iterdir()} == {path.name for path in other.iterdir()}
    assert pl.read_parquet(dataset / "items.parquet").equals(pl.read_parquet(other / "items.parquet"))
    assert not dataset.with_name(dataset.name + ".partial").exists()


def finished_files(partial: Path) -> set[str]:
    lines = [json.loads(line) for line in (partial / "outcomes.jsonl").read_text().splitlines()]
    return {line["path"] for line in lines}


def write_small_release(folder: Path, source: Path, items: range = range(1, 4)) -> Path:
    """Some items of ``source``, all seen by one user."""
    for name, suffix in (("videos", "mp4"), ("covers", "jpg"), ("audios", "m4a")):
        (folder / name).mkdir(parents=True)
        for item in items:
            shutil.copy(source / name / f"{item}.{suffix}", folder / name)
    (folder / "small_pairs.tsv").write_text(f"1\t{' '.join(map(str, range(1, 13)))}\n")
    return folder


def test_the_manifest_names_every_source(release: Path, undisturbed: Path) -> None:
    manifest = manifest_of(undisturbed)
    unused = {"world.json", "synthetic_pairs.tsv"}  # the csv has the timestamps
    files = [path for path in release.rglob("*") if path.is_file() and path.name not in unused]
    expected = {
        str(path.relative_to(release)): (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in files
    }
    assert {source["path"]: (source["bytes"], source["sha256"]) for source in manifest["sources"]} == expected
    assert len(manifest["sources"]) == len(expected)


def test_the_counts_are_those_of_the_release(release: Path, undisturbed: Path) -> None:
    manifest = manifest_of(undisturbed)
    rows = np.loadtxt(release / "synthetic_pairs.csv", delimiter=",", skiprows=1, dtype=np.int64)
    assert manifest["counts"]["release"] == {
        "users": len(np.unique(rows[:, 0])),
        "items": len(np.unique(rows[:, 1])),
        "interactions": len(rows),
    }
    assert [manifest["counts"][kind] for kind in ("clips", "covers", "sound")] == [ITEMS] * 3
    assert manifest["faults"] == manifest["notes"] == []
    assert {example: drop["why"] for drop in manifest["dropped"] for example in drop["examples"]} == {
        "synthetic_pairs.tsv": "the pairs are read from synthetic_pairs.csv",
        "world.json": "no part of a release is called so",
    }
    assert pl.read_parquet(undisturbed / "users.parquet")["num_interactions"].sum() == len(rows)
    frames = [unpack_images(value or b"") for (kind, _), value in stored(undisturbed).items() if kind == "clips"]
    assert all(clip.shape == (2, 32, 32, 3) and clip.std() > 5 for clip in frames)


def test_several_processes_make_the_same_dataset(release: Path, undisturbed: Path, tmp_path: Path) -> None:
    prepare(release, tmp_path / "dataset", SETTINGS, workers=2)
    assert_same(tmp_path / "dataset", undisturbed)


def test_the_checksum_knows_content_and_settings_and_nothing_else(release: Path, tmp_path: Path) -> None:
    first = write_small_release(tmp_path / "one", release)
    numbers = iter(range(100))

    def checksum(folder: Path, settings: Settings = SETTINGS) -> str:
        manifest = prepare(folder, tmp_path / f"dataset{next(numbers)}", settings, workers=1).manifest
        return str(manifest["checksum"])

    original = checksum(first)
    elsewhere = shutil.copytree(first, tmp_path / "far" / "away", copy_function=shutil.copyfile)
    for path in elsewhere.rglob("*.*"):
        os.utime(path, (1, 1))
    assert checksum(elsewhere) == original
    seen = {original, checksum(first, Settings(clips=ClipSettings(num_frames=2, size=32, frames="middle")))}
    for name in ("small_pairs.tsv", "videos/2.mp4", "covers/3.jpg", "audios/1.m4a"):
        content = (elsewhere / name).read_bytes()
        place = content.index(b"1") if name.endswith("tsv") else len(content) // 2
        changed = content[:place] + bytes([content[place] ^ 1 or 1]) + content[place + 1 :]
        (elsewhere / name).write_bytes(changed)
        seen.add(checksum(elsewhere))
        (elsewhere / name).write_bytes(content)
    one, other = elsewhere / "videos/1.mp4", elsewhere / "videos/2.mp4"
    one.rename(tmp_path / "one.mp4"), other.rename(one), (tmp_path / "one.mp4").rename(other)
    seen.add(checksum(elsewhere))
    assert len(seen) == 7


@pytest.fixture(scope="module")
def damaged(release: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with everything that goes wrong with files, prepared."""
    folder = write_small_release(tmp_path_factory.mktemp("damaged") / "release", release, range(1, 11))
    videos, covers, audios = (folder / name for name in ("videos", "covers", "audios"))
    for item in (2, 3, 4, 5, 6, 7):
        (audios / f"{item}.m4a").unlink()
    (videos / "2.mp4").write_bytes(b"")
    (videos / "3.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    whole = (videos / "4.mp4").read_bytes()
    (videos / "4.mp4").write_bytes(whole[: len(whole) // 2])
    (videos / "5.mp4").write_text("Not a video at all.\n" * 50)
    shutil.copy(audios / "1.m4a", videos / "6.mp4")
    write_silent_video(videos / "7.mp4")
    shutil.copy(audios / "1.m4a", audios / "8.m4a")  # not the sound of the video
    (videos / "9.mp4").unlink()
    cover = (covers / "1.jpg").read_bytes()
    (covers / "1.jpg").write_bytes(cover[: len(cover) // 2])
    (covers / "2.jpg").rename(covers / "2.png")
    (covers / "2.png").write_bytes(b"\x89PNG but no picture")
    shutil.copy(videos / "1.mp4", videos / "holiday.mp4")
    shutil.copy(videos / "1.mp4", videos / "999.mp4")
    (videos / "11.mp4").mkdir()
    (covers / "12.jpg").symlink_to(covers / "gone.jpg")
    (videos / "notes.txt").write_text("ignored")
    prepare(folder, folder.parent / "dataset", SETTINGS, workers=1)
    return folder.parent / "dataset"


def write_silent_video(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        noise = np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8)
        for shift in range(10):
            frame = av.VideoFrame.from_ndarray(np.roll(noise, shift, axis=0), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_damaged_media_are_faults_of_their_items_and_nothing_is_made_up(damaged: Path) -> None:
    manifest = manifest_of(damaged)
    faults = {(fault["kind"], fault["item"]): fault["fault"] for fault in manifest["faults"]}
    assert all(fault["lost"] for fault in manifest["faults"])
    for key, reason in {
        ("clips", 2): "empty",
        ("clips", 3): "not a media file",
        ("clips", 4): "truncated",
        ("clips", 5): "not a media file",
        ("clips", 6): "no video stream",
        ("covers", 1): "incomplete or damaged JPEG",
        ("covers", 2): "not a",
    }.items():
        assert reason in faults.pop(key), key
    assert faults == {}
    content = stored(damaged)
    assert {item for kind, item in content if kind == "clips"} == {1, 7, 8, 10}
    assert {item for kind, item in content if kind == "covers"} == set(range(3, 11))
    assert {item for kind, item in content if kind == "sound"} == {1, 6, 8, 9, 10}


def test_items_say_what_content_they_have(damaged: Path) -> None:
    content = stored(damaged)
    for row in pl.read_parquet(damaged / "items.parquet").to_dicts():
        for kind in MEDIA:
            assert row[kind] == ((kind, row["item_id"]) in content)
        assert bool(row["faults"]) == (row["item_id"] in range(1, 7))
        assert (row["codec"] is not None) == row["clips"]
    counts = manifest_of(damaged)["counts"]
    assert [counts[kind] for kind in ("clips", "covers", "sound")] == [4, 8, 5]


def test_a_sound_file_of_an_item_is_preferred_to_its_video(damaged: Path) -> None:
    audios = damaged.parent / "release" / "audios"
    sound = {item: unpack_array(value or b"") for (kind, item), value in stored(damaged).items() if kind == "sound"}
    np.testing.assert_array_equal(sound[8], read_log_mel(audios / "8.m4a", SETTINGS.sound))
    assert not np.array_equal(sound[8], read_log_mel(audios.parent / "videos" / "8.mp4", SETTINGS.sound))


def test_files_of_no_item_are_counted(damaged: Path) -> None:
    of_no_item = "not named by the id of an item that has interactions"
    dropped = {
        (drop["what"], drop["why"]): (drop["count"], set(drop["examples"])) for drop in manifest_of(damaged)["dropped"]
    }
    assert dropped == {
        (".mp4 files of videos", of_no_item): (2, {"videos/holiday.mp4", "videos/999.mp4"}),
        (".mp4 files of videos", "no file that can be opened"): (1, {"videos/11.mp4"}),
        (".txt files of videos", "no kind of file that is read here"): (1, {"videos/notes.txt"}),
        (".jpg files of covers", "no file that can be opened"): (1, {"covers/12.jpg"}),
    }


def test_nested_media_and_odd_tables_are_read_and_named(release: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    (folder / "Video" / "part_1").mkdir(parents=True)
    shutil.copy(release / "videos" / "1.mp4", folder / "Video" / "part_1" / "7100000000000000101.MP4")
    shutil.copy(release / "videos" / "2.mp4", folder / "Video" / "7100000000000000101.mkv")
    lines = [f"1;{7100000000000000100 + place};{1_700_000_000 + place};5" for place in range(6)]
    (folder / "Odd_Pairs.csv").write_text("\r".join(["uid;videoId;time;rating", *reversed(lines)]))
    (folder / "odd_titles.csv").write_bytes("item,title\n7100000000000000101,标题\n".encode("gbk"))
    (folder / "odd_frames_interval_1_number_5").mkdir()
    (folder / "odd_frames_interval_1_number_5" / "7100000000000000101-1.jpg").touch()
    (folder / "odd_likes.txt").write_text("7100000000000000101\t12\t34\n5\t6\t7\n")
    dataset = tmp_path / "dataset"
    status, told, _ = run_command("data", "prepare", folder, dataset, *OPTIONS)
    assert status == 0
    row = pl.read_parquet(dataset / "items.parquet").row(1, named=True)
    assert (row["item_id"], row["title"], row["likes"], row["clips"]) == (7100000000000000101, "标题", 12, True)
    assert pl.read_parquet(dataset / "interactions.parquet").rows() == [
        (1, 7100000000000000100 + place, 1000 * (1_700_000_000 + place)) for place in range(6)
    ]
    manifest = manifest_of(dataset)
    assert manifest["name"] == "Odd"
    sources = [source["path"] for source in manifest["sources"]]
    assert sources[-1] == "Video/part_1/7100000000000000101.MP4"
    assert manifest["counts"]["out_of_order"] == 5
    assert manifest["notes"] == [
        "Odd_Pairs.csv: columns not read: rating",
        "Odd_Pairs.csv: timestamps are seconds; they are stored in milliseconds",
        "odd_titles.csv was read as GB18030, such as '标题'",
    ]
    assert "note: odd_titles.csv was read as GB18030, such as '标题'" in told
    second = "dropped: 1 .mkv files of videos (another file of the same item is read): Video/7100000000000000101.mkv"
    assert second in told
    assert "dropped: 1 .jpg files of frames (taken by other code; clips are made of the videos themselves)" in told
    assert "dropped: 1 lines of odd_likes.txt (items without interactions)\n" in told


def test_a_table_that_was_misunderstood_leaves_nothing_behind(release: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    (folder / "odd_pairs.tsv").write_text("1\t1 2 3 4 5 6\n")
    (folder / "odd_titles.csv").write_bytes("1,caf\xe9\n2,b\n".encode("latin-1"))
    status, _, told = run_command("data", "prepare", folder, tmp_path / "dataset", *OPTIONS)
    assert status == 2
    assert "odd_titles.csv, line 1: the byte 0xe9 is not UTF-8; accepted is text in UTF-8" in told
    assert [path.name for path in tmp_path.iterdir()] == ["odd"]
    (folder / "odd_titles.csv").write_text("1,café\n2,b\n")
    assert run_command("data", "prepare", folder, tmp_path / "dataset", *OPTIONS)[0] == 0


def test_files_that_kill_their_decoder_are_faults_and_the_rest_is_decoded(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_stores, "decode", deadly_decode)
    folder = write_small_release(tmp_path / "release", release)
    manifest = prepare(folder, tmp_path / "dataset", SETTINGS, workers=2).manifest
    assert [(fault["item"], fault["kind"], fault["fault"]) for fault in manifest["faults"]] == [
        (item, "clips", "decoding it kills the process (exit status 9)") for item in DEADLY
    ]
    everything = {(kind, item) for kind in MEDIA for item in (1, 2, 3)}
    assert set(stored(tmp_path / "dataset")) == everything - {("clips", item) for item in DEADLY}


def test_processes_that_do_not_start_are_no_fault_of_the_files(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("data", "prepare", release, tmp_path / "dataset", *OPTIONS)
    with monkeypatch.context() as broken:
        broken.setattr("microlens.media.processes._PROGRAM", "raise SystemExit('out of everything')")
        status, _, told = run_command(*arguments)
    assert status == 2
    assert told.startswith("microlens: a worker process died during startup (exit status 1: out of everyth")
    assert told.count("\n") == 1
    assert (tmp_path / "dataset.partial" / "outcomes.jsonl").read_text() == ""
    assert run_command(*arguments)[0] == 0
    assert manifest_of(tmp_path / "dataset")["faults"] == []


def test_what_was_decoded_before_the_machine_failed_is_kept(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(media_stores, "decode", decode_on_a_full_disk)
    status, _, told = run_command("data", "prepare", release, tmp_path / "dataset", *OPTIONS)
    assert status == 2
    assert told.startswith("microlens: no space left on the disk")
    assert finished_files(tmp_path / "dataset.partial") == {"videos/1.mp4"}


def test_a_file_that_vanishes_is_a_fault(tmp_path: Path) -> None:
    task = Task(1, tmp_path / "videos" / "1.mp4", ("clips", "sound"))
    (clip, clip_value), (sound, sound_value) = decode(task, SETTINGS)
    assert clip_value is sound_value is None
    assert (clip.faults, sound.faults) == (["it cannot be read (No such file or directory)"], [])
    assert (clip.path, clip.bytes, clip.sha256) == ("videos/1.mp4", 0, "")
    task.path.mkdir(parents=True)
    assert decode(task, SETTINGS)[0][0].faults == ["it cannot be read (Is a directory)"]


def test_a_script_needs_no_guard(release: Path, undisturbed: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from microlens.media.decoding import Settings\n"
        "from microlens.media.reading import ClipSettings\n"
        "from microlens.data.prepare import prepare\n"
        "settings = Settings(clips=ClipSettings(num_frames=2, size=32))\n"
        f"prepare(Path({str(release)!r}), Path({str(tmp_path / 'dataset')!r}), settings, workers=2)\n"
    )
    process = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert process.stderr == ""
    assert_same(tmp_path / "dataset", undisturbed)


PREPARE_SLOWLY = """
from microlens.cli import main
from microlens.data import media_stores
from tests.data import worker_tasks

media_stores._ITEMS_PER_COMMIT = 4
media_stores.decode = worker_tasks.slow_decode
main()
"""


def test_kill_9_in_the_middle_and_the_same_command_again(
    release: Path, undisturbed: Path, tmp_path: Path, decoded: Callable[[], list[str]]
) -> None:
    dataset, partial = tmp_path / "dataset", tmp_path / "dataset.partial"
    arguments = ["data", "prepare", str(release), str(dataset), *OPTIONS]
    process = subprocess.Popen(
        [sys.executable, "-c", PREPARE_SLOWLY, *arguments],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not (partial / "outcomes.jsonl").exists() or not (partial / "outcomes.jsonl").read_text().count("\n"):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)  # the pipes close when the decoding processes have ended too
    assert not dataset.exists()
    finished = len(finished_files(partial))
    assert 0 < finished < TASKS
    assert run_command(*arguments)[0] == 0
    assert len(decoded()) == TASKS - finished
    assert_same(dataset, undisturbed)


def fail_to_commit(error: type[Exception], text: str) -> Callable[[pytest.MonkeyPatch], None]:
    def plant(monkeypatch: pytest.MonkeyPatch) -> None:
        original, calls = StoreWriter.commit, []

        def commit(self: StoreWriter) -> None:
            calls.append(self)
            if len(calls) > 6:  # two rounds of three stores
                raise error(text)
            original(self)

        monkeypatch.setattr(StoreWriter, "commit", commit)

    return plant


def fail_to_save(monkeypatch: pytest.MonkeyPatch) -> None:
    def append(*_: Any) -> None:
        raise OSError("42 requested and 0 written")  # NumPy's words for it

    monkeypatch.setattr(ArrayWriter, "append", append)


def fail_to_write_the_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    original = Path.write_text

    def write_text(self: Path, text: str, *args: Any, **keywords: Any) -> int:
        if "manifest" in self.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self))
        return original(self, text, *args, **keywords)

    monkeypatch.setattr(Path, "write_text", write_text)


@pytest.mark.parametrize(
    ("plant", "sentence", "finished"),
    [
        (fail_to_commit(lmdb.DiskError, "No space left on device"), "no space left on the disk", 8),
        (fail_to_commit(lmdb.Error, "mdb_txn_commit: Input/output error"), "has no space left", 8),
        (fail_to_save, "no space left on the disk", 0),
        (fail_to_write_the_manifest, "no space left on the disk", TASKS),
    ],
)
def test_a_full_disk_is_one_sentence_and_the_same_command_goes_on(
    release: Path, undisturbed: Path, tmp_path: Path, decoded: Callable[[], list[str]],
    plant: Callable[[pytest.MonkeyPatch], None], sentence: str, finished: int,
) -> None:  # fmt: skip
    dataset = tmp_path / "dataset"
    arguments = ("data", "prepare", release, dataset, *OPTIONS)
    with pytest.MonkeyPatch.context() as monkeypatch:
        plant(monkeypatch)
        status, _, told = run_command(*arguments)
    assert status == 2
    assert sentence in told
    assert "run the same command again" in told
    assert told.count("\n") == 1
    assert not dataset.exists()
    gc.collect()  # the stores of the failed attempt, which would end with its process
    assert len(decoded()) <= finished + 8  # what was under way is finished, the rest is not begun
    assert run_command(*arguments)[0] == 0
    assert len(decoded()) == TASKS - finished
    assert_same(dataset, undisturbed)


class StoppedError(Exception):
    """Stands for whatever ends a process in the middle."""


def stop_after_first_commit(release: Path, dataset: Path, settings: Settings = SETTINGS) -> None:
    def stop(done: int, total: int) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        prepare(release, dataset, settings, workers=1, on_progress=stop)


def test_half_a_line_at_the_end_of_the_outcomes(
    release: Path, undisturbed: Path, tmp_path: Path, decoded: Callable[[], list[str]]
) -> None:
    dataset, outcomes = tmp_path / "dataset", tmp_path / "dataset.partial" / "outcomes.jsonl"
    stop_after_first_commit(release, dataset)
    lines = outcomes.read_text().splitlines(keepends=True)
    outcomes.write_text("".join(lines[:-1]) + lines[-1][:20])
    decoded()
    prepare(release, dataset, SETTINGS, workers=1)
    assert len(decoded()) == TASKS - len(lines) + 1
    assert_same(dataset, undisturbed)


@pytest.mark.parametrize("left", [0, 100, 4096])
def test_a_store_cut_short_by_a_full_disk_is_begun_again(
    release: Path, undisturbed: Path, tmp_path: Path, decoded: Callable[[], list[str]], left: int
) -> None:
    dataset, partial = tmp_path / "dataset", tmp_path / "dataset.partial"
    stop_after_first_commit(release, dataset)
    other = len({path for path in finished_files(partial) if not path.startswith("videos/")})
    store = partial / "clips.lmdb"
    store.write_bytes(store.read_bytes()[:left])
    decoded()
    prepare(release, dataset, SETTINGS, workers=1)
    assert len(decoded()) == TASKS - other
    assert_same(dataset, undisturbed)


def test_what_was_begun_with_other_settings_is_begun_again(
    release: Path, undisturbed: Path, tmp_path: Path, decoded: Callable[[], list[str]]
) -> None:
    stop_after_first_commit(release, tmp_path / "dataset", Settings(clips=ClipSettings(num_frames=3, size=32)))
    decoded()
    prepare(release, tmp_path / "dataset", SETTINGS, workers=1)
    # Each kind of content of each item once: an item with a sound file is not heard in its video too.
    assert sorted(decoded()) == sorted(f"{item} {kind}" for item in range(1, ITEMS + 1) for kind in MEDIA)
    assert_same(tmp_path / "dataset", undisturbed)


def test_a_folder_that_another_process_writes_is_left_alone(release: Path, tmp_path: Path) -> None:
    partial = tmp_path / "dataset.partial"
    partial.mkdir()
    with lock_folder(partial):
        status, _, told = run_command("data", "prepare", release, tmp_path / "dataset", *OPTIONS)
    assert status == 2
    assert "dataset.partial is being written by another process" in told
    assert {path.name for path in partial.iterdir()} == {LOCK, MARK}


def test_a_folder_of_somebody_else_is_not_touched(release: Path, tmp_path: Path) -> None:
    thesis = tmp_path / "dataset.partial" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("four years")
    status, _, told = run_command("data", "prepare", release, tmp_path / "dataset", *OPTIONS)
    assert status == 2
    assert "thesis.txt was not written by microlens; move it or choose another folder." in told
    assert [path.name for path in tmp_path.rglob("*")] == ["dataset.partial", "thesis.txt"]
    assert thesis.read_text() == "four years"


def test_only_what_was_begun_is_cleared(release: Path, tmp_path: Path, decoded: Callable[[], list[str]]) -> None:
    stop_after_first_commit(release, tmp_path / "dataset", Settings(clips=ClipSettings(num_frames=3, size=32)))
    partial = tmp_path / "dataset.partial"
    for name in ("thesis.txt", "interactions/thesis.txt"):
        (partial / name).write_text("four years")
    (partial / "comments.parquet").write_bytes(b"of another release")
    prepare(release, tmp_path / "dataset", SETTINGS, workers=1)
    for name in ("thesis.txt", "interactions/thesis.txt"):
        assert (tmp_path / "dataset" / name).read_text() == "four years"
    assert b"of another release" not in (tmp_path / "dataset" / "comments.parquet").read_bytes()


def test_a_finished_dataset_is_used_or_refused_and_never_touched(
    release: Path, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microlens.data.dataset_writer.decode_all", None)
    digest = sha256(undisturbed / "clips.lmdb")
    status, told, _ = run_command("data", "prepare", release, undisturbed, *OPTIONS)
    assert status == 0
    assert "14 clips, 14 covers, 14 sound tracks" in told
    for options in (("--frames", "middle"), ("--crop", "center"), ("--size", "64")):
        status, _, told = run_command("data", "prepare", release, undisturbed, *OPTIONS, *options)
        assert status == 2
        assert "was made from other data or with other settings" in told
    (tmp_path / "thesis").mkdir()
    status, _, told = run_command("data", "prepare", release, tmp_path / "thesis")
    assert status == 2
    assert "thesis exists and is not a prepared dataset" in told
    assert sha256(undisturbed / "clips.lmdb") == digest
    assert not undisturbed.with_name("undisturbed.partial").exists()


@pytest.mark.real_data
def test_microlens_50k_has_the_published_numbers(shared_data: Path, tmp_path: Path) -> None:
    status, told, _ = run_command("data", "prepare", shared_data / "microlens-50k", tmp_path / "dataset")
    assert status == 0
    assert "paper's protocol: 50,000 users, 19,099 items, 339,511 interactions" in told
    counts = manifest_of(tmp_path / "dataset")["counts"]
    assert counts["paper_protocol"] == {"users": 50_000, "items": 19_099, "interactions": 339_511}


@pytest.mark.real_data
def test_real_videos_covers_and_sound_are_prepared(shared_data: Path, tmp_path: Path) -> None:
    release = tmp_path / "release"
    ours = sorted((shared_data / "videos" / "microlens").iterdir())
    others = sorted((shared_data / "videos" / "other").iterdir())
    names = {path.name: path for path in ours} | {
        f"{900_000 + number}{path.suffix}": path for number, path in enumerate(others)
    }
    covers = {path.name: path for path in sorted((shared_data / "covers").iterdir())}
    for folder, files in (("x_videos", names), ("x_covers", covers)):
        (release / folder).mkdir(parents=True)
        for name, path in files.items():
            (release / folder / name).symlink_to(path.resolve())
    items = sorted(int(Path(name).stem) for name in names | covers)
    (release / "x_pairs.tsv").write_text(f"1\t{' '.join(map(str, items))}\n")
    manifest = prepare(release, tmp_path / "dataset", Settings(), workers=2).manifest
    content = stored(tmp_path / "dataset")
    clips = {item: unpack_images(value or b"") for (kind, item), value in content.items() if kind == "clips"}
    assert set(clips) == {int(Path(name).stem) for name in names}
    for clip in clips.values():
        assert clip.shape == (5, 224, 224, 3)
        assert min(frame.std() for frame in clip) > 10
    pictures = [unpack_images(value or b"") for (kind, _), value in content.items() if kind == "covers"]
    assert len(pictures) == len(covers)
    assert all(picture.shape == (1, 224, 224, 3) and picture.std() > 10 for picture in pictures)
    sound = {item: unpack_array(value or b"") for (kind, item), value in content.items() if kind == "sound"}
    assert all(picture.shape[1] == 64 for picture in sound.values())
    assert all(sound[int(path.stem)].std() > 5 for path in ours)
    assert not any(fault["lost"] for fault in manifest["faults"])
