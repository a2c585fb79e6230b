"""Checks of tables: what items lack, and values that cannot be."""

from pathlib import Path

import polars as pl
import pytest

from microlens.errors import InputError
from microlens.verification.contents import Contents, read_contents, read_interactions
from microlens.verification.findings import Finding
from microlens.verification.media_files import CheckedFile
from microlens.verification.tables import check_completeness, check_durations, check_values
from tests.conftest import write_pairs

NOW = 1_700_000_000.0
ITEMS = range(1, 11)


def by_kind(findings: list[Finding]) -> dict[str, list[object]]:
    return {finding.kind: [case.item for case in finding.cases] for finding in findings}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = write_pairs(tmp_path / "release", [list(ITEMS)] * 3)
    (folder / "covers").mkdir()
    for item in ITEMS:
        (folder / "covers" / f"{item}.jpg").touch()
    (folder / "tiny_titles.csv").write_text("item,title\n" + "".join(f"{item},t{item}\n" for item in ITEMS))
    return folder


def test_a_complete_release_lacks_nothing(release: Path) -> None:
    assert check_completeness(read_contents(release)) == []


def test_what_items_lack_is_named_by_kind(release: Path) -> None:
    (release / "covers" / "3.jpg").unlink()
    (release / "covers" / "99.jpg").touch()
    (release / "covers" / "cover 4 (1).jpg").touch()
    (release / "covers" / "__MACOSX").mkdir()
    (release / "covers" / "__MACOSX" / "._3.jpg").touch()
    (release / "tiny_titles.csv").write_text(
        "item,title\n" + "".join(f"{item},t\n" for item in ITEMS[2:]) + "2,  \n77,x\n"
    )
    (release / "tiny_likes.txt").write_text("".join(f"{item}\t1\t2\n" for item in ITEMS[1:]))
    found = check_completeness(read_contents(release))
    kinds = by_kind(found)
    assert kinds["items without a cover"] == [3]
    assert kinds["items without a title"] == [1, 2]
    assert kinds["items without a likes and views"] == [1]
    assert kinds["cover of an item without interactions"] == [99]
    assert kinds["title of an item without interactions"] == [77]
    (unread,) = [finding for finding in found if finding.kind == "not read"]
    assert {(case.file, case.why) for case in unread.cases} == {
        ("covers/__MACOSX/._3.jpg", "hidden"),
        ("covers/cover 4 (1).jpg", "not named by the id of an item that has interactions"),
    }
    assert {finding.kind for finding in found if finding.is_fault} == {
        "items without a cover", "items without a title", "items without a likes and views",
    }  # fmt: skip


def test_a_sample_of_the_media_is_no_fault(release: Path) -> None:
    for item in ITEMS[:6]:
        (release / "covers" / f"{item}.jpg").unlink()
    (sample,) = check_completeness(read_contents(release))
    assert not sample.is_fault
    assert sample.cases[0].why == "4 of 10 items have a cover"


def with_likes(release: Path, lines: str) -> Contents:
    (release / "tiny_likes.txt").write_text(lines)
    return read_contents(release)


def test_impossible_likes(release: Path) -> None:
    contents = with_likes(release, "1\t5\t5\n2\t6\t5\n3\t-1\t5\n4\t0\t0\n5\t\t3\n")
    assert by_kind(check_values(contents, NOW)) == {"fewer views than likes": [2], "negative likes or views": [3]}


def test_times_before_2010_and_in_the_future(tmp_path: Path) -> None:
    path = tmp_path / "some_pairs.csv"
    milliseconds = [1262303999999, 1262304000000, round(NOW * 1000), round(NOW * 1000) + 2 * 86_400_000]
    path.write_text("user,item,timestamp\n" + "".join(f"1,{item},{t}\n" for item, t in enumerate(milliseconds)))
    found = check_values(read_contents(path), NOW)
    assert by_kind(found) == {"interactions before 2010": [0], "interactions in the future": [3]}
    assert found[0].cases[0].why == "user 1 at 1,262,303,999,999 ms since 1970"


def test_positions_are_no_times(release: Path) -> None:
    assert check_values(read_contents(release), NOW) == []


@pytest.mark.parametrize(
    ("seconds", "kind"),
    [(0.0, "videos of no duration"), (-1.0, "videos of no duration"), (8 * 3600.0, "videos of more than 2 hours")],
)
def test_impossible_durations(seconds: float, kind: str) -> None:
    def video(name: str, info: dict[str, float]) -> CheckedFile:
        return CheckedFile(kind="clips", name=name, bytes=1, mtime_ns=0, sha256="", faults=[], info=info, hashes=[])

    videos = [(1, video("1", {"duration": 7200.0})), (2, video("2", {"duration": seconds})), (3, video("3", {}))]
    assert by_kind(check_durations(videos)) == {kind: [2]}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"item,title\n1,a\0b\n", "tiny_titles.csv, line 2: a NUL byte"),
        (b"item,title\n" + b"".join(b"%d,caf\xe9 \x80\n" % item for item in ITEMS), "the byte 0xe9 is not UTF-8"),
        (b"PK\x03\x04", "tiny_titles.csv is a zip archive"),
        (b"<html>no such page</html>", "expected the columns item_id, title"),
    ],
)
def test_tables_that_cannot_be_read_are_faults_and_the_rest_is_checked(
    content: bytes, reason: str, release: Path
) -> None:
    (release / "tiny_titles.csv").write_bytes(content)
    (release / "tiny_tags.csv").write_text("".join(f"{item},tag\n" for item in ITEMS[1:]))
    contents = read_contents(release)
    (fault,) = [finding for finding in contents.findings if finding.is_fault]
    assert fault.kind == "tables that cannot be read"
    assert reason in fault.cases[0].why
    assert str(release) not in fault.cases[0].why
    assert by_kind(check_completeness(contents)) == {"items without a tag": [1]}


@pytest.mark.parametrize("encoding", ["gb18030", "utf-16"])
def test_other_encodings_are_notes(encoding: str, release: Path) -> None:
    titles = "item,title\n" + "".join(f"{item},猫和狗一起玩{item}\n" for item in ITEMS)
    (release / "tiny_titles.csv").write_bytes(titles.encode(encoding))
    contents = read_contents(release)
    assert contents.tables["titles"].table["title"][0] == "猫和狗一起玩1"
    (note,) = contents.findings
    assert not note.is_fault
    assert "was read as" in note.cases[0].why


def test_a_line_of_ten_million_characters_is_read(release: Path) -> None:
    (release / "tiny_titles.csv").write_text(f"item,title\n1,{'x' * 10_000_000}\n2,short\n")
    assert read_contents(release).tables["titles"].table["title"].str.len_chars().to_list() == [10_000_000, 5]


def test_unreadable_rows_are_counted(release: Path) -> None:
    rows = "".join(f"{item},t{item}\n" for item in [*ITEMS, *range(11, 30)])
    (release / "tiny_titles.csv").write_text(f"item,title\n{rows}x,bad\n")
    (fault,) = [finding for finding in read_contents(release).findings if finding.is_fault]
    assert str(fault.cases[0]) == "tiny_titles.csv: 1 rows that cannot be read or repeat an item"


def test_two_sets_in_one_folder_are_refused_in_one_sentence(release: Path) -> None:
    write_pairs(release, [[1, 2]], name="other_pairs.tsv")
    with pytest.raises(InputError, match=r"several files for the pairs \(other_pairs.tsv, tiny_pairs.tsv\); keep one"):
        read_contents(release)


MMREC = "userID\titemID\ttimestamp\tx_label\n7\t0\t1634872254913\t0\n7\t3\t1634872254914\t1\n8\t3\t1634872254915\t2\n"
RECBOLE = (
    "user_id:token\titem_id:token\ttimestamp:float\n7\t0\t1634872254.913\n7\t3\t1634872254.914\n8\t3\t1634872254.915\n"
)


@pytest.mark.parametrize("text", [MMREC, RECBOLE])
@pytest.mark.parametrize("in_folder", [True, False])
def test_files_of_other_packages_are_read(text: str, in_folder: bool, tmp_path: Path) -> None:
    path = tmp_path / "copy" / "microlens.inter"
    path.parent.mkdir()
    path.write_text(text)
    (path.parent / "image_feat.npy").touch()
    file, pairs = read_interactions(path.parent if in_folder else path)
    assert file == path
    assert pairs.events.rows() == [(7, 0, 1634872254913), (7, 3, 1634872254914), (8, 3, 1634872254915)]
    contents = read_contents(path.parent if in_folder else path)
    assert contents.folder is None
    assert contents.media == {}


def test_a_path_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; name a release or a file of interactions"):
        read_interactions(tmp_path / "gone")
    with pytest.raises(InputError, match="holds no interactions"):
        read_interactions(tmp_path)


def test_ids_of_a_release_with_text(tmp_path: Path) -> None:
    pl.DataFrame({"user": ["u", "u"], "item": ["b", "a"], "timestamp": [1, 2]}).write_csv(tmp_path / "x_pairs.csv")
    assert read_contents(tmp_path).item_ids == ["a", "b"]
