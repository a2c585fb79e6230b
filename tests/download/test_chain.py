"""From a server to a table: download, verify, prepare, stats and train, each command once, whatever the server does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from microlens.download import registry
from microlens.release.synthetic import write_release
from tests.data.test_prepare import run_command
from tests.download.file_server import FileServer, serving
from tests.download.test_release import FAULTS
from tests.download.zip_files import split_zip
from tests.kills.jobs import prepared

USERS, ITEMS = 40, 16
FOLDER, BASE = "Chain-Dataset", "Chain-Dataset/"
CONFIG = 'dataset = "{dataset}"\noutput = "{run}"\n[model]\nname = "popularity"\n'
Files = Mapping[str, bytes]


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """The files of a synthetic release, by path."""
    folder = tmp_path_factory.mktemp("chain") / "release"
    write_release(folder, users=USERS, items=ITEMS, seed=1, workers=1)
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def as_single_files(files: Files) -> dict[str, bytes]:
    return {BASE + path: body for path, body in files.items()}


def as_split_zip(files: Files, parts_of_videos: int = 9) -> dict[str, bytes]:
    """Tables as they are, covers in a zip, and videos in one of so many parts."""
    tables = {path: body for path, body in files.items() if "/" not in path}
    videos, covers = ({path: files[path] for path in files if path.startswith(kind)} for kind in ("videos", "covers"))
    size = sum(map(len, videos.values()))
    *parts, last = split_zip(videos, size // parts_of_videos + 1)
    zips = {f"videos.z{number:02}": part for number, part in enumerate(parts, 1)}
    zips |= {"videos.zip": last} | ({"covers.zip": split_zip(covers, 10**9)[0]} if covers else {})
    return as_single_files(tables | zips)


def table_of(served: Files, files: Files) -> dict[str, Any]:
    """The registry's tables for a server's files."""
    kinds = (("pairs", "pairs"), ("titles", "titles"), ("tags", "tags"), ("likes_and_views", "likes"))
    named = [
        {"path": path, "kind": kind, "size": len(files[path])} for path in files for part, kind in kinds if part in path
    ]
    media: list[dict[str, Any]] = [
        {"folder": "videos", "kind": "videos", "suffix": ".mp4"},
        {"folder": "covers", "kind": "covers", "suffix": ".jpg"},
    ]
    for folder in media:
        if f"{BASE}{folder['folder']}.zip" in served:
            folder["archive"] = f"{folder['folder']}.zip"
    if parts := sum(path.startswith(f"{BASE}videos.z") for path in served):
        media[0]["parts"] = parts  # the .zip is one
    chain = {"title": "Chain", "folder": FOLDER, "files": named, "media": media}
    return {"base": "https://127.0.0.1/", "sets": {"chain": chain}}


def disturb(server: FileServer) -> None:
    """Every path fails in two ways in turn, no two paths alike; no fault stays."""
    for number, path in enumerate(server.files):
        server.faults[path].extend(FAULTS[(number + step) % len(FAULTS)] for step in range(2))


def run_chain(server: FileServer, folder: Path, items: Sequence[object]) -> dict[str, Any]:
    """Each command once; what came out."""
    release, dataset, run = folder / "release", folder / "dataset", folder / "run"
    (folder / "popularity.toml").write_text(CONFIG.format(dataset=dataset, run=run))
    said = {}
    for name, arguments in {
        "download": ("data", "download", "chain", release, "--mirror", server.address, *items),
        "verify": ("data", "verify", release, "--jobs", 1),
        "prepare": ("data", "prepare", release, dataset, "--num-frames", 2, "--size", 32, "--workers", 1),
        "stats": ("data", "stats", dataset, "--html", folder / "stats.html"),
        "train": ("train", folder / "popularity.toml"),
        "report": ("report", run),
    }.items():
        status, said[name], told = run_command(*arguments)
        assert status == 0, f"{name}: {said[name][-500:]}{told[-500:]}"
    (folder / "again").symlink_to(dataset)
    return {"dataset": prepared(folder), "table": said["report"].replace(str(folder), "")}


def chained(files: Files, served: Files, folder: Path, *, faults: bool, items: Sequence[object] = ()) -> dict[str, Any]:
    registry.load_registry.cache_clear()
    folder.mkdir()
    with mock.patch.object(registry, "_content", return_value=table_of(served, files)), serving(dict(served)) as server:
        if faults:
            disturb(server)
        outcome = run_chain(server, folder, items)
    registry.load_registry.cache_clear()
    return outcome


def in_every_way(files: Files, folder: Path, items: Sequence[object] = ()) -> list[dict[str, Any]]:
    """What comes out of single files and of a split zip, from a server that works and from one that fails."""
    return [
        chained(files, served, folder / f"{name}-{faults}", faults=faults, items=items)
        for name, served in (("single", as_single_files(files)), ("split", as_split_zip(files)))
        for faults in (False, True)
    ]


@pytest.mark.slow
def test_the_way_of_the_files_and_the_server_do_not_change_the_table(released, tmp_path):
    first, *others = in_every_way(released, tmp_path)
    assert "HR@10" in first["table"]
    assert all(other == first for other in others)


@pytest.mark.published
@pytest.mark.real_data
def test_real_files_come_to_the_same_table(shared_data, tmp_path):
    tables = (path for path in (shared_data / "microlens-50k").iterdir() if path.name != "readme.txt")
    files = {path.name: path.read_bytes() for path in tables}
    videos = (shared_data / "videos" / "microlens").iterdir()
    files |= {f"videos/{path.name}": path.read_bytes() for path in videos}  # the covers there are of other items
    items = tmp_path / "items.txt"
    items.write_text("".join(f"{Path(path).stem}\n" for path in files if path.startswith("videos")))
    first, *others = in_every_way(files, tmp_path, ("--items", items, "--only", "pairs,titles,tags,likes,videos"))
    assert "HR@10" in first["table"]
    assert all(other == first for other in others)
