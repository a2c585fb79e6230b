"""The registry of official files."""

import re

import pytest

from microlens.download.registry import RemoteFile, base_address, find_set, load_registry
from microlens.errors import InputError


def test_registry_holds_the_official_sets_with_their_published_counts():
    registry = load_registry()
    assert list(registry) == ["50k", "100k", "1m", "1m-mmctr"]
    counts = {name: (entry.users, entry.items, entry.interactions) for name, entry in registry.items()}
    assert counts["50k"] == (50_000, 19_220, 359_708)
    assert counts["100k"] == (100_000, 19_738, 719_405)
    assert counts["1m"] == (1_000_000, 91_402, 9_095_620)
    assert base_address().startswith("https://")
    assert base_address().endswith("/")


@pytest.mark.parametrize("name", list(load_registry()))
def test_paths_and_checksums_are_well_formed(name):
    entry = load_registry()[name]
    paths = [file.path for file in entry.files]
    assert len(paths) == len(set(paths))
    for file in entry.files:
        assert not file.path.startswith("/")
        assert ".." not in file.path
        assert "\\" not in file.path
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}|[0-9a-f]{8}…[0-9a-f]{4}", file.sha256)
        assert file.git_blob is None or re.fullmatch(r"[0-9a-f]{40}", file.git_blob)


def test_files_lie_below_the_folder_of_their_set_unless_an_address_is_given():
    files = {file.path: file.address for file in find_set("50k").files}
    assert files["MicroLens-50k_pairs.csv"] == "MicroLens-50k-Dataset/MicroLens-50k_pairs.csv"
    assert files["MicroLens-100k_tags_to_summary.csv"] == "MicroLens-100k-Dataset/tags_to_summary.csv"


def test_parts_of_a_split_zip_are_named_in_their_order():
    videos = next(media for media in find_set("100k").media if media.kind == "videos")
    parts = [part.rpartition("_videos")[2] for part in videos.archive_parts]
    assert len(parts) == 223
    assert parts[:2] == [".z01", ".z02"]
    assert parts[98:100] == [".z99", ".z100"]
    assert parts[-2:] == [".z222", ".zip"]


def test_a_set_is_found_by_its_official_name():
    assert find_set("MicroLens-50k") is find_set("50K")
    with pytest.raises(InputError, match=r"no set called '2m'; the sets are 50k, 100k, 1m, 1m-mmctr\."):
        find_set("2m")


def test_a_shortened_checksum_is_compared_by_its_ends():
    file = RemoteFile(path="a", kind="pairs", address="a", sha256="01234567…cdef")
    assert file.has_sha256("01234567" + "0" * 52 + "cdef")
    assert not file.has_sha256("01234567" + "0" * 52 + "cdee")
    assert not file.has_sha256("11234567" + "0" * 52 + "cdef")
    assert RemoteFile(path="a", kind="pairs", address="a").has_sha256("00")
