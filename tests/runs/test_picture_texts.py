"""Texts in pictures: those that are there, of the right items, whatever happens on the way."""

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from PIL import Image, ImageDraw, ImageFont

from microlens.data.prepare import prepare
from microlens.errors import InputError
from microlens.media.packing import pack_images
from microlens.media.reading import read_picture
from microlens.media.store import StoreWriter
from microlens.media.text_recognition import TextLine, recognise
from microlens.runs.picture_texts import write_picture_texts
from tests.conftest import REPOSITORY, write_pairs
from tests.data.test_prepare import run_command

pytest.importorskip("rapidocr_onnxruntime")

WORDS = {3: "HARBOUR", 5: "", 8: "VIOLIN", 11: "PEPPER"}
GONE = 20  # an item without a cover


def drawn(words: str, small: str = "") -> Image.Image:
    """A white picture with words in large letters in its middle and others in small letters above."""
    picture = Image.new("RGB", (640, 360), "white")
    draw = ImageDraw.Draw(picture)
    draw.text((320, 200), words, "black", ImageFont.load_default(90), anchor="mm")
    draw.text((320, 60), small, "navy", ImageFont.load_default(36), anchor="mm")
    return picture


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_pairs(tmp_path_factory.mktemp("pictures") / "release", [[*WORDS, GONE]] * 3)
    (folder / "covers").mkdir()
    for item, words in WORDS.items():
        drawn(words, "chapter two" if item == 8 else "").save(folder / f"covers/{item}.png")
    return folder


@pytest.fixture(scope="module")
def dataset(release: Path) -> Path:
    prepare(release, release.parent / "dataset", workers=1)
    return release.parent / "dataset"


@pytest.fixture(scope="module")
def stored(dataset: Path) -> Path:
    """The folder of the texts in the stored covers."""
    out = dataset.parent / "stored"
    status, _, err = run_command("features", dataset, "--encoder", "ocr", "--out", out)
    assert status == 0, err
    return out


def texts_of(lines: pl.DataFrame) -> dict[int, list[str]]:
    return {item: lines.filter(pl.col("item_id") == item)["text"].to_list() for item in lines["item_id"].unique()}


def test_the_largest_letters_come_first_and_stand_where_they_are() -> None:
    first, second = recognise(np.asarray(drawn("VIOLIN", "chapter two")))
    assert (first.text, second.text.replace(" ", "")) == ("VIOLIN", "chaptertwo")
    assert first.height > 1.5 * second.height
    assert 0.1 < first.height < 0.35
    assert first.top > second.top
    assert first.left < 0.5
    assert min(first.confidence, second.confidence) > 0.8
    assert recognise(np.asarray(drawn(""))) == []


@pytest.mark.parametrize(
    ("text", "script"),
    [("国服达摩1V4", "Han"), ("MC的VLOG", "Latin"), ("Vlog", "Latin"), ("2100", None), ("", None), ("なか", None)],
)
def test_the_script_is_that_of_most_letters(text: str, script: str | None) -> None:
    assert TextLine(text=text, confidence=1, height=0.1, left=0, top=0).script == script


def test_stored_covers_are_read(dataset: Path, stored: Path) -> None:
    status, out, err = run_command("features", dataset, "--encoder", "ocr", "--out", stored, "--json")
    assert status == 0, err
    made = json.loads(out)
    assert sorted(path.name for path in stored.iterdir()) == [
        Path(made["path"]).with_suffix(end).name for end in (".json", ".parquet")
    ]
    counted = {name: made[name] for name in ("num_items", "items_with_text", "num_lines", "faults", "source")}
    assert counted == {"num_items": 4, "items_with_text": 3, "num_lines": 4, "faults": [], "source": "cover"}
    lines = pl.read_parquet(made["path"])
    assert lines.columns == ["item_id", "picture", "text", "confidence", "script", "height", "left", "top"]
    found = texts_of(lines)
    assert {item: texts[0] for item, texts in found.items()} == {item: text for item, text in WORDS.items() if text}
    assert found[8][1].replace(" ", "") == "chaptertwo"
    assert lines["item_id"].is_sorted()
    status, out, _ = run_command("features", dataset, "--encoder", "ocr", "--out", stored)
    told = " ".join(out.split())
    assert "4 lines of text in 3 of 4 items" in told
    assert 'name = "e5" source = "title+ocr"' in told


def test_files_of_the_release_are_read_in_their_own_size(release: Path, dataset: Path, tmp_path: Path) -> None:
    broken = tmp_path / "release"
    shutil.copytree(release, broken)
    (broken / "covers/3.png").write_bytes(b"no picture")
    found = write_picture_texts(dataset, release=broken, out=tmp_path / "out", workers=1)
    assert {item: texts[0] for item, texts in texts_of(found.lines).items()} == {8: "VIOLIN", 11: "PEPPER"}
    assert [fault["item"] for fault in found.provenance["faults"]] == [3]
    assert "not a media file of a known kind" in found.provenance["faults"][0]["fault"]


def test_all_frames_of_a_clip_are_read(dataset: Path, tmp_path: Path) -> None:
    copy = tmp_path / "dataset"
    shutil.copytree(dataset, copy)
    frames = np.stack([np.asarray(drawn(words).resize((224, 224))) for words in ("", "FALCON", "TUNNEL", "", "")])
    with StoreWriter(copy / "clips.lmdb") as writer:
        writer.put(8, pack_images(frames))
        writer.put(11, b"damaged")
    items = pl.read_parquet(copy / "items.parquet")
    items.with_columns(clips=pl.col("item_id").is_in([8, 11])).write_parquet(copy / "items.parquet")
    found = write_picture_texts(copy, source="frames", workers=1)
    assert found.lines.select("item_id", "picture", "text").rows() == [(8, 1, "FALCON"), (8, 2, "TUNNEL")]
    assert [fault["item"] for fault in found.provenance["faults"]] == [11]


READ_SLOWLY = """
import sys
from microlens.runs.picture_texts import write_picture_texts
write_picture_texts(sys.argv[1], out=__import__("pathlib").Path(sys.argv[2]), workers=1)
"""


def interrupt(done: int, total: int) -> None:
    raise KeyboardInterrupt


def test_after_kill_9_it_goes_on_and_gives_the_same(dataset: Path, stored: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", READ_SLOWLY, str(dataset), str(out)], cwd=REPOSITORY) as process:
        deadline = time.monotonic() + 120
        while not any(log.stat().st_size for log in out.glob(".*/texts.jsonl")):
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    (log,) = out.glob(".*/texts.jsonl")
    log.write_bytes(log.read_bytes() + b'{"key": 11, "pict')  # a line cut short
    logged = log.read_bytes().count(b"\n")
    with pytest.raises(KeyboardInterrupt):
        write_picture_texts(dataset, out=out, workers=1, on_progress=interrupt)
    assert log.read_bytes().count(b"\n") == logged + 1
    steps: list[tuple[int, int]] = []
    write_picture_texts(dataset, out=out, workers=1, on_progress=lambda *step: steps.append(step))
    assert steps[0] == (logged + 2, 4)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == {
        path.name: path.read_bytes() for path in stored.iterdir()
    }


def test_a_picture_that_kills_its_reader_is_a_fault(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.runs import ocr_tasks

    monkeypatch.setattr("microlens.runs.picture_texts.read_stored_texts", ocr_tasks.die_at_eight)
    found = write_picture_texts(dataset, out=tmp_path, workers=1)
    assert [fault["item"] for fault in found.provenance["faults"]] == [8]
    assert "reading its text kills the process" in found.provenance["faults"][0]["fault"]
    assert found.provenance["num_items"] == 4


@pytest.mark.real_data
def test_the_captions_of_ten_real_covers(shared_data: Path) -> None:
    """As listed in docs/text-in-pictures.md; the first character of a name is misread in one of them."""
    captions = {
        1955: ["看到的生物会复制"],
        7315: ["老表昌布一打五"],
        7771: ["我终于知道辅助的不容易了", "中路过去了赶紧走"],
        8411: [],
        9580: ["绝境神速1V4", "王牌3星", "意辩天子"],
        9943: ["国服达摩被嘲讽"],
        12077: ["这是一场2100分渡劫局"],
        14631: ["国服达摩被喷菜"],
        16821: ["怕怕", "有点有点怕啊"],
    }
    document = (REPOSITORY / "docs/text-in-pictures.md").read_text(encoding="utf-8").replace("**", "")
    for item, expected in captions.items():
        found = [line.text for line in recognise(read_picture(shared_data / f"covers/{item}.jpg").pixels)]
        assert found[: len(expected)] == expected
        assert all(caption in document for caption in expected)


def test_what_cannot_be_done_is_refused(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for options, words in (
        (("--option", "source=frames"), "no item has clips"),
        (("--option", "source=clip"), "option.source is 'clip': input should be 'cover' or 'frames'"),
        (("--option", "workers=0"), "workers is 0; it must be at least 1"),
        (("--option", "sorce=cover"), "option.sorce is unknown; did you mean 'source'?"),
        (("--option", f"release={tmp_path}"), "holds no interactions"),
        (("--option", "release=x", "--option", "source=frames"), "release is given, which is read for covers only"),
        (("--weights", "random"), "ocr takes a DATASET, --out and --option"),
        (("--missing", "skip"), "ocr takes a DATASET, --out and --option"),
    ):
        status, _, err = run_command("features", dataset, "--encoder", "ocr", *options)
        assert (status, words in " ".join(err.split())) == (2, True), err
    assert not (dataset / "features").exists()
    monkeypatch.setattr("microlens.media.text_recognition.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"install it with: pip install 'microlens\[ocr\]'"):
        write_picture_texts(dataset)
    assert list(tmp_path.iterdir()) == []
