"""Folders of ours are told from those of the user, and only ours are cleared."""

from pathlib import Path

import pytest

from microlens.errors import InputError
from microlens.files import MARK, claim_folder, clear_folder


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


def test_files_of_other_names_are_no_obstacle_where_the_names_are_known(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    claim_folder(tmp_path, ["report.json", "checkpoints"])
    (tmp_path / "report.json").write_text("{}")
    (tmp_path / "checkpoints").mkdir()
    clear_folder(tmp_path, ["report.json", "checkpoints"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [MARK, "notes.txt"]


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
