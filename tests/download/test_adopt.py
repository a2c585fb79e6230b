"""Files that were fetched by hand become a release, whatever they are called."""

import random
import shutil
from pathlib import Path
from unittest import mock

import pytest

from microlens.download import registry
from microlens.download.adopt import adopt_release
from microlens.download.release import download_release
from microlens.download.state import FOLDER
from microlens.errors import InputError
from tests.download import tiny_set
from tests.download.test_release import content
from tests.download.zip_files import split_zip


@pytest.fixture
def folder(tiny, tmp_path) -> Path:
    (tmp_path / "by hand").mkdir()
    return tmp_path / "by hand"


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, body in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)


RELEASED = tiny_set.released()
TABLES = {"My Interactions (1).TXT": RELEASED["Tiny_pairs.csv"], "deep/T I T L E S": RELEASED["Tiny_titles.csv"]}


def test_tables_and_media_are_recognised_by_content(folder, tmp_path):
    write(
        folder, TABLES | {"v/1.MP4": tiny_set.video(1), "v/2 (1).mp4": tiny_set.video(2), "3.jpeg": tiny_set.cover(3)}
    )
    write(folder, {"holiday.jpg": tiny_set.cover(4), "notes.txt": b"to do\n", ".DS_Store": b"x", "__MACOSX/._1": b"y"})
    before = content(folder)
    adoption = adopt_release(folder, tmp_path / "out")
    names = ["Tiny_covers/3.jpg", "Tiny_pairs.csv", "Tiny_titles.csv", "Tiny_videos/1.mp4", "Tiny_videos/2.mp4"]
    assert content(tmp_path / "out") == {name: RELEASED[name] for name in names}
    assert adoption.name == "tiny"
    assert adoption.left_out == {
        "holiday.jpg": "neither its name nor a zip tells its item",
        "notes.txt": "its content is not that of an official file",
    }
    assert content(folder) == before
    again = adopt_release(folder, tmp_path / "out")
    assert (again.placed, again.present) == ([], 5)


@pytest.mark.parametrize("renamed", [False, True])
def test_a_split_zip_is_put_together_from_parts_of_any_name(folder, tmp_path, renamed):
    served = tiny_set.served(singles=False)
    parts = {name.rpartition("/")[2]: body for name, body in served.items()}
    if renamed:
        names = [f"download ({number})" for number in range(len(parts))]
        random.Random(0).shuffle(names)
        parts = dict(zip(names, parts.values(), strict=True))
    write(folder, parts)
    adoption = adopt_release(folder, tmp_path / "out")
    left_out = set(adoption.left_out.values())
    assert left_out <= {"its content is not that of an official file"}  # the readme, of which nothing is known
    assert content(tmp_path / "out") == {name: body for name, body in RELEASED.items() if name != "readme.txt"}


def test_a_missing_part_costs_only_the_members_in_it(folder, tmp_path):
    parts = {name.rpartition("/")[2]: body for name, body in tiny_set.served(singles=False).items()}
    del parts["Tiny_videos.z03"]
    write(folder, parts)
    adoption = adopt_release(folder, tmp_path / "out")
    lost = [why for why in adoption.left_out.values() if why == "the part .z03 is not there"]
    assert 1 <= len(lost) <= 3
    assert len(content(tmp_path / "out")) == len(RELEASED) - 1 - len(lost)


def test_a_zip_with_everything_is_unpacked(folder, tmp_path):
    extra = {"Tiny/../../out.csv": b"1,2\n", "__MACOSX/x.csv": b"3", "inner.zip": b"PK\5\6" + bytes(18)}
    [whole] = split_zip(RELEASED | extra, 10**9)
    write(folder, {"archive": whole})
    adoption = adopt_release(folder, tmp_path / "out")
    assert content(tmp_path / "out") == {name: body for name, body in RELEASED.items() if name != "readme.txt"}
    assert adoption.left_out == {
        "archive: Tiny/../../out.csv": "its name points out of the folder",
        "archive: inner.zip": "it is an archive within the archive",
        "archive: readme.txt": "its content is not that of an official file",
    }


def test_a_video_without_its_id_is_told_by_the_directory_of_a_zip(folder, tmp_path):
    parts = {name.rpartition("/")[2]: body for name, body in tiny_set.served(singles=False).items() if ".z" in name}
    del parts["Tiny_videos.z02"]
    write(folder, parts | {"cat video.mp4": tiny_set.video(3), "99.mp4": tiny_set.video(4)})
    adopt_release(folder, tmp_path / "out")
    assert (tmp_path / "out" / "Tiny_videos" / "3.mp4").read_bytes() == tiny_set.video(3)
    assert (tmp_path / "out" / "Tiny_videos" / "4.mp4").read_bytes() == tiny_set.video(4)


def test_links_that_point_out_are_not_followed(folder, tmp_path):
    write(tmp_path, {"elsewhere/1.mp4": tiny_set.video(1)})
    write(folder, TABLES)
    (folder / "1.mp4").symlink_to(tmp_path / "elsewhere" / "1.mp4")
    (folder / "titles again").symlink_to(folder / "deep" / "T I T L E S")
    adoption = adopt_release(folder, tmp_path / "out")
    assert adoption.left_out == {"1.mp4": "it is a link that points out of the folder"}
    assert sorted(content(tmp_path / "out")) == ["Tiny_pairs.csv", "Tiny_titles.csv"]


def test_pages_and_other_files_of_an_official_name_are_left_out(folder, tmp_path):
    page = b"<!DOCTYPE html><html>log in</html>"
    write(folder, TABLES | {"1.mp4": page, "Tiny_covers.zip": page, "2.jpg": b"", "Tiny_readme.csv": b"\0\1\2"})
    adoption = adopt_release(folder, tmp_path / "out")
    assert adoption.left_out.keys() == {"1.mp4", "Tiny_covers.zip", "2.jpg", "Tiny_readme.csv"}
    assert sorted(content(tmp_path / "out")) == ["Tiny_pairs.csv", "Tiny_titles.csv"]


def test_files_of_the_release_are_never_overwritten(folder, tmp_path):
    write(folder, TABLES | {"1.mp4": tiny_set.video(1), "2.mp4": tiny_set.video(2)})
    write(tmp_path / "out", {"Tiny_titles.csv": b"mine", "Tiny_videos/1.mp4": tiny_set.video(1)})
    adoption = adopt_release(folder, tmp_path / "out")
    assert (tmp_path / "out" / "Tiny_titles.csv").read_bytes() == b"mine"
    assert list(adoption.left_out) == ["deep/T I T L E S"]
    assert (len(adoption.placed), adoption.present) == (2, 1)


def test_without_links_files_are_copied(folder, tmp_path, monkeypatch):
    def no_links(*_: object) -> None:
        raise OSError

    monkeypatch.setattr(Path, "hardlink_to", no_links)
    write(folder, TABLES)
    adopt_release(folder, tmp_path / "out")
    assert content(tmp_path / "out").keys() == {"Tiny_pairs.csv", "Tiny_titles.csv"}
    assert (tmp_path / "out" / "Tiny_pairs.csv").stat().st_nlink == 1


def test_a_download_fetches_the_rest(server, folder, tmp_path):
    write(folder, TABLES | {f"{item}.mp4": tiny_set.video(item) for item in range(1, 10)})
    adopt_release(folder, tmp_path / "out")
    done = download_release("tiny", tmp_path / "out", mirror=server.address)
    assert done.missing == {}
    assert content(tmp_path / "out") == RELEASED
    assert done.present == 11
    assert not list((tmp_path / "out" / FOLDER).glob("*.part"))


def test_a_folder_that_tells_no_set_is_an_error_unless_it_is_named(folder, tmp_path):
    write(folder, {"1.mp4": tiny_set.video(1)})
    with pytest.raises(InputError, match=r"tells which set it is of; name it \(--set tiny\)"):
        adopt_release(folder, tmp_path / "out")
    assert adopt_release(folder, tmp_path / "out", name="tiny").placed == ["Tiny_videos/1.mp4"]
    with pytest.raises(InputError, match="is not a folder"):
        adopt_release(folder / "nowhere", tmp_path / "out")


@pytest.mark.real_data
def test_the_real_files_of_two_sets_are_told_apart(shared_data, tmp_path):
    strange = {
        "readme.txt": "read me", "MicroLens-50k_pairs.tsv": "p.csv", "MicroLens-50k_titles.csv": "a b.TXT",
        "MicroLens-50k_likes_and_views.txt": "L", "MicroLens-100k_tags_to_summary.csv": "tags",
    }  # fmt: skip
    (tmp_path / "by hand").mkdir()
    for name, other in strange.items():
        shutil.copy(shared_data / "microlens-50k" / name, tmp_path / "by hand" / other)
    adoption = adopt_release(tmp_path / "by hand", tmp_path / "out")
    assert (adoption.name, adoption.left_out) == ("50k", {})
    assert sorted(adoption.placed) == sorted(strange)


def test_files_of_several_sets_are_told_apart(folder, tmp_path):
    other = "user,item,timestamp\n" + "".join(f"{user},{user + 1},{10**12}\n" for user in range(1, 4))
    table = tiny_set.content()
    counts = {"users": 3, "items": 3, "interactions": 3}
    files = [{"path": "Other_pairs.csv", "kind": "pairs"}]
    table["sets"]["other"] = {"title": "Other", "folder": "Other-Dataset", **counts, "files": files}
    registry.load_registry.cache_clear()
    with mock.patch.object(registry, "_content", return_value=table):
        write(folder, TABLES | {"pairs of others.csv": other.encode()})
        with pytest.raises(InputError, match=r"holds files of other and tiny; name one of them \(--set\)"):
            adopt_release(folder, tmp_path / "out")
        adoption = adopt_release(folder, tmp_path / "out", name="other")
        assert adoption.placed == ["Other_pairs.csv"]
        assert set(adoption.left_out.values()) == {"it belongs to Tiny"}
        assert adopt_release(folder, tmp_path / "tiny", name="tiny").left_out == {
            "pairs of others.csv": "it belongs to Other"
        }
