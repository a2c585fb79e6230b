"""Folders of ours are told from those of the user, and only ours are cleared."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from microlens.errors import InputError
from microlens.files.writing import (
    LOCK,
    MARK,
    atomic_write,
    claim_folder,
    clear_folder,
    lock_folder,
    remove_folder,
    write_text,
)


def test_a_new_folder_is_claimed_and_claimed_again(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "work"
    claim_folder(folder)
    (folder / "part.bin").write_bytes(b"1")
    claim_folder(folder)
    assert (folder / "part.bin").read_bytes() == b"1"


def test_a_folder_with_files_of_others_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    thesis = tmp_path / "work" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("four years")
    with pytest.raises(InputError, match=r"thesis\.txt was not written by microlens"):
        claim_folder(tmp_path / "work")
    with pytest.raises(InputError, match="was not made by microlens"):
        clear_folder(tmp_path / "work", ["*"])
    assert thesis.read_text() == "four years"
    assert not (tmp_path / "work" / MARK).exists()


def test_a_folder_whose_claim_was_killed_is_claimed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "..microlens.microlens-partial").touch()  # as earlier versions left it
    claim_folder(tmp_path)
    assert (tmp_path / MARK).is_file()

    def killed(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "new"
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            claim_folder(folder)
    claim_folder(folder)
    assert [path.name for path in folder.iterdir()] == [MARK]


def test_a_folder_that_another_process_claims_meanwhile_is_not_foreign(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        for number in range(50):
            folder = tmp_path / str(number)

            def claim(worker: int, folder: Path = folder) -> None:
                claim_folder(folder)
                (folder / f"{worker}.bin").write_bytes(b"1")

            list(pool.map(claim, range(8)))


def test_files_of_other_names_are_no_obstacle_where_the_names_are_known(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    claim_folder(tmp_path, ["report.json", "checkpoints"])
    (tmp_path / "report.json").write_text("{}")
    (tmp_path / "checkpoints").mkdir()
    clear_folder(tmp_path, ["report.json", "checkpoints"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [MARK, "notes.txt"]


def test_a_folder_of_ours_is_removed_but_for_what_others_put_there(tmp_path: Path) -> None:
    for name in ("empty", "kept"):
        claim_folder(tmp_path / name)
        (tmp_path / name / "videos").mkdir()
        (tmp_path / name / "videos" / "1.mp4").write_bytes(b"1")
    (tmp_path / "kept" / "videos" / "holiday.mp4").write_bytes(b"2")
    for name in ("empty", "kept"):
        with lock_folder(tmp_path / name):
            remove_folder(tmp_path / name, ["videos/[0-9].mp4"])
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"kept/videos/holiday.mp4", f"kept/{MARK}", f"kept/{LOCK}"}
    assert not (tmp_path / "empty").exists()
    remove_folder(tmp_path / "empty", ["*"])


def test_files_of_others_beside_one_that_is_written_are_left_as_they_are(tmp_path: Path) -> None:
    names = [".report.json.partial", "report.json.partial", "report.json.tmp", "report.json~", ".report.json.swp"]
    for name in names:
        (tmp_path / name).write_text("mine")
    write_text(tmp_path / "report.json", "{}")
    with pytest.raises(ZeroDivisionError), atomic_write(tmp_path / "report.json") as temporary:
        temporary.write_text(str(1 / 0))
    assert (tmp_path / "report.json").read_text() == "{}"
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        **dict.fromkeys(names, "mine"),
        "report.json": "{}",
    }


def test_what_a_killed_process_left_of_a_file_is_overwritten(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "report.json") as temporary:
        temporary.write_text("hal")
        copy = temporary.read_text()
    temporary.write_text(copy)
    write_text(tmp_path / "report.json", "{}")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"report.json": "{}"}


def test_a_file_that_cannot_be_written_is_named_as_it_was_given(tmp_path: Path) -> None:
    (tmp_path / "list.csv").mkdir()
    with pytest.raises(InputError, match=r"list\.csv is a folder; name a file\."), atomic_write(tmp_path / "list.csv"):
        pass
    with pytest.raises(OSError, match="No such file") as refused, atomic_write(tmp_path / "no" / "x.csv") as temporary:
        temporary.write_text("")
    assert refused.value.filename == str(tmp_path / "no" / "x.csv")


def test_errors_that_cannot_be_changed_go_on(tmp_path: Path) -> None:
    class FixedError(OSError):
        filename = property(lambda error: str(tmp_path / ".x.csv.microlens-partial"))  # type: ignore[assignment]

    with pytest.raises(FixedError), atomic_write(tmp_path / "x.csv"):
        raise FixedError(28, "No space left on device")


def test_a_lock_leaves_the_content_of_a_file_of_its_name(tmp_path: Path) -> None:
    (tmp_path / LOCK).write_text("mine")
    refused = pytest.raises(InputError, match="being written by another process")
    with lock_folder(tmp_path), refused, lock_folder(tmp_path):
        pass
    assert (tmp_path / LOCK).read_text() == "mine"


def test_a_file_in_the_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("mine")
    with pytest.raises(InputError, match="is a file"):
        claim_folder(tmp_path / "work")


def test_what_a_link_points_to_is_not_cleared(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "thesis.txt").write_text("four years")
    claim_folder(tmp_path / "work")
    (tmp_path / "work" / "videos").symlink_to(tmp_path / "elsewhere")
    clear_folder(tmp_path / "work", ["videos"])
    assert (tmp_path / "elsewhere" / "thesis.txt").exists()
    assert not (tmp_path / "work" / "videos").is_symlink()
