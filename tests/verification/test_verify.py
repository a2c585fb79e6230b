"""The whole verification: what a release is, all its faults in one report, and the command."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from microlens import verify
from microlens.download.registry import ReleaseSet, RemoteFile
from microlens.errors import InputError
from microlens.files.writing import sha256
from microlens.release.pairs import Pairs, read_pairs
from microlens.release.synthetic import write_release
from microlens.verification import identity
from microlens.verification.fingerprints import fingerprints
from microlens.verification.mapping import find_mapping, is_timed
from tests.conftest import REPOSITORY
from tests.data.test_prepare import run_command
from tests.verification.permuted import make_pairs, permuted


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean") / "release"
    write_release(folder, users=12, items=14, seed=1, workers=1)
    return folder


@pytest.fixture
def damaged(clean: Path, tmp_path: Path) -> Path:
    """A copy of the release with one fault of every kind."""
    folder = shutil.copytree(clean, tmp_path / "release")
    videos = sorted((folder / "videos").iterdir())
    videos[0].write_bytes(videos[0].read_bytes()[: videos[0].stat().st_size // 2])
    videos[1].write_text("<!doctype html><title>403</title>")
    videos[2].write_bytes(b"")
    shutil.copy(videos[4], videos[3])
    covers = sorted((folder / "covers").iterdir())
    covers[0].unlink()
    next(folder.glob("*titles*")).write_bytes(b"1,NUL \0\n")
    return folder


def test_a_clean_release_has_no_faults(clean: Path, tmp_path: Path) -> None:
    status, said, _ = run_command("data", "verify", clean, "--state", tmp_path / "state", "--jobs", 1)
    assert status == 0
    assert "decoded: 14 videos, 14 covers" in said
    assert "no faults" in said
    assert f"Next: microlens data prepare {clean} DATASET" in said


def test_the_report_names_every_fault_and_the_pictures_are_those(damaged: Path, tmp_path: Path) -> None:
    outputs = ("--json", tmp_path / "out" / "report.json", "--html", tmp_path / "out" / "report.html")
    status, said, _ = run_command("data", "verify", damaged, *outputs, "--jobs", 2)
    assert status == 1
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    faults = {(one["check"], one["kind"]): one["cases"] for one in report["findings"] if one["is_fault"]}
    expected = {
        ("videos", "not a media file"): 1,
        ("videos", "the file is empty"): 1,
        ("duplicates", "videos with the content of another"): 1,
        ("completeness", "items without a cover"): 1,
        ("tables", "tables that cannot be read"): 1,
    }
    assert {key: len(cases) for key, cases in faults.items() if key in expected} == expected
    assert any(kind in ("truncated", "damaged") for check, kind in faults if check == "videos")
    assert report["num_faults"] == sum(len(cases) for cases in faults.values())
    assert f"{report['num_faults']} faults" in said
    page = (tmp_path / "out" / "report.html").read_text()
    assert "not a media file: a web page" in page
    assert page.count('<figure class="card case">') >= 4
    assert page.count('src="data:image/jpeg;base64,') >= 2  # the two that are equal
    assert "no picture" in page
    assert "https://" not in page
    assert "<script" not in page


def test_a_second_verification_decodes_nothing(clean: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = verify(clean, state=tmp_path / "state", jobs=1)
    decoded = []
    monkeypatch.setattr(
        "microlens.verification.media_files.work", lambda function, tasks, workers: (decoded.append(t) for t in tasks)
    )
    assert verify(clean, state=tmp_path / "state", jobs=1).as_dict() == first.as_dict()
    assert decoded == []
    assert not list(clean.parent.glob("*.verify"))


def test_a_folder_of_others_is_not_taken_for_the_state(clean: Path, tmp_path: Path) -> None:
    (tmp_path / "files-1.jsonl").write_text("mine")
    with pytest.raises(InputError, match="was not written by microlens"):
        verify(clean, state=tmp_path, jobs=1)


def write_pairs_csv(path: Path, pairs: Pairs) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pairs.events.write_csv(path)
    return path


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The pairs file of a published set, which the registry knows by its fingerprints, but not its file."""
    pairs = make_pairs()
    path = write_pairs_csv(tmp_path / "official" / "tiny_pairs.csv", pairs)
    known = ReleaseSet(
        name="tiny",
        title="Tiny",
        folder="tiny",
        users=300,
        items=pairs.events["item"].n_unique(),
        interactions=len(pairs.events),
        files=(RemoteFile(path="tiny_titles.csv", kind="titles", address="", sha256="0" * 64),),
        fingerprints={
            name: value
            for name, value in vars(fingerprints(pairs.events, timed=is_timed(pairs.events))).items()
            if name != "timestamps"
        },
    )
    monkeypatch.setattr(identity, "load_registry", lambda: {"tiny": known})
    monkeypatch.setattr("microlens.verification.verify.find_set", lambda name: known)
    return path


@pytest.mark.parametrize(
    ("changes", "verdict", "words"),
    [
        ({"items": False}, "official", "it has the users, items and interactions of Tiny"),
        ({}, "permuted", "it is Tiny with item ids permuted"),
        ({"users": True}, "permuted", "it is Tiny with user ids and item ids permuted"),
        ({"items": False, "users": True}, "permuted", "it is Tiny with user ids permuted"),
        ({"lost": 5}, "unknown", "are those of no published set (Tiny)"),
    ],
)
def test_a_copy_is_recognised_without_the_original(
    changes: dict[str, int], verdict: str, words: str, official: Path, tmp_path: Path
) -> None:
    copy = write_pairs_csv(tmp_path / "copy" / "copy_pairs.csv", permuted(make_pairs(), **changes).pairs)
    found = verify(copy.parent)
    assert found.identity.verdict == verdict
    assert words in found.identity.sentence
    assert bool(found.num_faults) == (verdict == "permuted")
    expected = verify(copy.parent, set_name="tiny")
    assert bool(expected.num_faults) == (verdict != "official")
    assert expected.identity.set_name == "tiny"


def test_other_interactions_with_the_same_counts(official: Path, tmp_path: Path) -> None:
    pairs = make_pairs()
    events = pairs.events.with_columns(
        pl.when(pl.col("user") == 1).then(2).when(pl.col("user") == 2).then(1).otherwise("user").alias("user")
    )
    lengths = pairs.events.group_by("user").len().sort("user")["len"]
    assert lengths[0] != lengths[1]
    copy = write_pairs_csv(tmp_path / "copy" / "copy_pairs.csv", replace(pairs, events=events))
    assert verify(copy.parent).identity.verdict == "permuted"  # two users changed places
    swapped = pairs.events.with_columns(item=pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(1000)).otherwise("item"))
    copy = write_pairs_csv(tmp_path / "copy" / "copy_pairs.csv", replace(pairs, events=swapped))
    assert verify(copy.parent, set_name="tiny").identity.verdict == "changed"


def test_a_published_file_is_recognised_by_its_checksum(
    official: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    known = identity.load_registry()["tiny"]
    files = (RemoteFile(path="tiny_pairs.csv", kind="pairs", address="", sha256=sha256(official)), *known.files)
    bare = replace(known, files=files, fingerprints={})
    monkeypatch.setattr(identity, "load_registry", lambda: {"tiny": bare})
    (official.parent / "tiny_titles.csv").write_text("1,one\n")
    found = verify(official.parent)
    assert found.identity.verdict == "official"
    assert found.identity.files == {"tiny_pairs.csv": "as published", "tiny_titles.csv": "differs: another SHA-256"}
    assert "files that differ from those published" in [finding.kind for finding in found.faults]
    copy = write_pairs_csv(tmp_path / "copy" / "copy_pairs.csv", permuted(make_pairs()).pairs)
    undecided = verify(copy.parent)
    assert undecided.identity.verdict == "undecided"
    assert "can only be told against the published file" in undecided.identity.sentence


def test_git_blobs_are_compared(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("hello\n")
    known = RemoteFile(path="file", kind="pairs", address="", git_blob="ce013625030ba8dba906f756967f9e9ca394464a")
    assert identity._compared(path, known) == "as published"
    path.write_text("hellO\n")
    assert identity._compared(path, known) == "differs: another git blob"
    assert identity._compared(path, replace(known, size=5)) == "differs: 6 bytes instead of 5"


def test_a_permuted_copy_is_mapped_back_by_the_command(official: Path, tmp_path: Path) -> None:
    copy = permuted(make_pairs(), lost=7)
    path = tmp_path / "copy" / "microlens.inter"
    path.parent.mkdir()
    table = copy.pairs.events.select(userID="user", itemID="item", timestamp="timestamp", x_label=pl.lit(0))
    table.write_csv(path, separator="\t")
    mapping = tmp_path / "map.csv"
    status, said, _ = run_command("data", "verify", path.parent, "--against", official, "--write-mapping", mapping)
    assert status == 1
    assert f"matched by user and time, {len(table):,} of {len(table):,} rows agree (the original has " in said
    assert dict(pl.read_csv(mapping).iter_rows()) == copy.truth["item"]


def test_a_mapping_needs_the_original_and_a_copy(official: Path, tmp_path: Path) -> None:
    other = write_pairs_csv(tmp_path / "other" / "other_pairs.csv", make_pairs(seed=5))
    status, _, told = run_command("data", "verify", other, "--write-mapping", tmp_path / "map.csv")
    assert (status, told) == (2, "microlens: --write-mapping needs the original: --against PATH.\n")
    status, said, told = run_command(
        "data", "verify", other, "--against", official, "--write-mapping", tmp_path / "map.csv"
    )
    assert status == 2
    assert "it is no copy of the original" in said
    assert "so it is no copy" in told
    assert not (tmp_path / "map.csv").exists()


def test_unknown_sets_and_missing_releases_are_refused(tmp_path: Path) -> None:
    status, _, told = run_command("data", "verify", tmp_path, "--set", "7m")
    assert status == 2
    assert "7m" in told
    status, _, told = run_command("data", "verify", tmp_path)
    assert status == 2
    assert "holds no interactions" in told


_PROGRAM = """
import builtins, os, sys
load = builtins.__import__

def load_what_windows_has(name, globals=None, *others):
    if name in ("fcntl", "resource") and str((globals or {}).get("__name__")).startswith("microlens"):
        raise ModuleNotFoundError(name)
    return load(name, globals, *others)

builtins.__import__ = load_what_windows_has
del os.sched_getaffinity
sys.argv = ["microlens", "data", "verify", *sys.argv[1:]]
from microlens.cli import main
main()
"""


def test_the_command_runs_without_modules_that_only_unix_has(clean: Path, tmp_path: Path) -> None:
    arguments = [clean, "--html", tmp_path / "page.html", "--json", tmp_path / "r.json", "--state", tmp_path / "state"]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *map(str, arguments), "--jobs", "1"],
        env={"PYTHONPATH": str(REPOSITORY / "src"), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert "no faults" in done.stdout
    assert (tmp_path / "page.html").exists()


@pytest.mark.real_data
def test_mappings_of_the_real_set_are_found(shared_data: Path) -> None:
    pairs = read_pairs(shared_data / "microlens-50k" / "MicroLens-50k_pairs.tsv")
    copy = permuted(pairs, users=True, lost=106)
    mapping = find_mapping(copy.pairs, pairs)
    found = dict(mapping.items.iter_rows())
    assert len(found) >= 19_200
    assert found == {item: copy.truth["item"][item] for item in found}
    assert mapping.agreeing >= 0.99 * mapping.rows


@pytest.mark.real_data
def test_the_real_set_is_recognised_and_clean(shared_data: Path, tmp_path: Path) -> None:
    found = verify(shared_data / "microlens-50k", state=tmp_path)
    assert found.identity.verdict == "official"
    assert set(found.identity.files.values()) == {"as published"}
    assert found.num_faults == 0
