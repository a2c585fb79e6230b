"""Splits stored with a dataset: those that are computed, and never one of something else or a damaged one."""

import hashlib
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from microlens.data import dataset as datasets
from microlens.data import stored_split as stored_splits
from microlens.data.dataset import Dataset
from microlens.data.interactions import Interactions
from microlens.data.protocol import NAMED_PROTOCOLS, Protocol
from microlens.data.split import Split, make_split
from microlens.data.stored_split import ARRAYS, stored_split
from microlens.files.writing import lock_folder
from tests.conftest import random_sequences

Damage = Callable[[Path], object]
NOBODY = np.zeros(31, bool)


@pytest.fixture
def interactions() -> Interactions:
    """40 users with 5 to 19 of 30 items, with times and a split."""
    random = np.random.default_rng(0)
    sequences = [random.permutation(30)[: random.integers(5, 20)] + 1 for _ in range(40)]
    labels = [np.sort(np.append(random.integers(0, 3, len(one) - 3), [0, 1, 2])) for one in sequences]
    count = sum(map(len, sequences))
    return Interactions(
        offsets=np.cumsum([0, *map(len, sequences)]),
        items=np.concatenate(sequences).astype(np.int32),
        times=random.permutation(count).astype(np.int64),
        user_ids=np.arange(40),
        item_ids=np.arange(31),
        split=np.concatenate(labels).astype(np.int8),
    )


@pytest.fixture
def cannot_make(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Called, it makes every computation of a split fail."""

    def fail(*_: object) -> Split:
        raise AssertionError("the split is computed again")

    return lambda: monkeypatch.setattr(stored_splits, "make_split", fail)


def assert_same(one: Split, other: Split) -> None:
    assert one.protocol == other.protocol
    for name in ARRAYS:
        assert getattr(one, name).dtype == getattr(other, name).dtype
        assert np.array_equal(getattr(one, name), getattr(other, name))


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("name", NAMED_PROTOCOLS)
def test_a_stored_split_is_the_computed_one_and_mapped(
    tmp_path: Path, interactions: Interactions, cannot_make: Callable[[], None], name: str
) -> None:
    protocol = Protocol(**NAMED_PROTOCOLS[name])
    computed = make_split(interactions, protocol, NOBODY)
    assert_same(stored_split(tmp_path / "s", "data", interactions, protocol, NOBODY), computed)
    cannot_make()
    mapped = stored_split(tmp_path / "s", "data", interactions, protocol, NOBODY)
    assert_same(mapped, computed)
    assert isinstance(mapped.sequences.base, np.memmap)
    assert not mapped.sequences.flags.writeable
    stored = sum(path.stat().st_size for path in (tmp_path / "s").glob("*.npy"))
    assert stored <= 4 * computed.num_events + 32 * computed.num_users + 8 * computed.num_items + 6 * 150


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink, lambda path: path.write_bytes(b"")])
@pytest.mark.parametrize("name", ["sequences.npy", "users_kept.npy", "split.json"])
def test_a_damaged_split_is_made_again_in_silence(
    tmp_path: Path, interactions: Interactions, caplog: pytest.LogCaptureFixture, damage: Damage, name: str
) -> None:
    computed = stored_split(tmp_path / "s", "data", interactions, Protocol(), NOBODY)
    whole = content_of(tmp_path / "s")
    damage(tmp_path / "s" / name)
    assert_same(stored_split(tmp_path / "s", "data", interactions, Protocol(), NOBODY), computed)
    assert content_of(tmp_path / "s") == whole
    assert not caplog.records


@pytest.mark.parametrize("change", ["data", "items", "lengths", "times", "labels", "content", "protocol", "version"])
def test_the_split_of_something_else_is_not_used(
    tmp_path: Path, interactions: Interactions, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    named = {"times": "global-time", "labels": "given"}.get(change, "paper")
    protocol, checksum, excluded = Protocol(**NAMED_PROTOCOLS[named]), "data", NOBODY.copy()
    before = stored_split(tmp_path / "s", checksum, interactions, protocol, excluded)
    labels, offsets = interactions.split, interactions.offsets.copy()
    assert labels is not None
    offsets[1:-1:2] += 1
    other = {
        "items": {"items": interactions.items % 30 + 1},
        "lengths": {"offsets": offsets},
        "times": {"times": interactions.times[::-1]},
        "labels": {"split": 2 - labels},
    }
    interactions = replace(interactions, **other.get(change, {}))
    if change == "data":
        checksum = "other"
    elif change == "content":
        excluded[7] = True
    elif change == "protocol":
        protocol = Protocol(max_length=6)
    elif change == "version":
        monkeypatch.setattr(stored_splits, "VERSION", 2)
    note = (tmp_path / "s" / "split.json").read_bytes()
    after = stored_split(tmp_path / "s", checksum, interactions, protocol, excluded)
    assert_same(after, make_split(interactions, protocol, excluded))
    assert (tmp_path / "s" / "split.json").read_bytes() != note
    if change not in ("data", "version"):
        assert any(not np.array_equal(getattr(before, name), getattr(after, name)) for name in ARRAYS)


class StoppedError(Exception):
    """Stands for whatever ends a process in the middle."""


@pytest.mark.parametrize("had_one", [False, True])
def test_stopped_while_it_is_stored(
    tmp_path: Path, interactions: Interactions, monkeypatch: pytest.MonkeyPatch, had_one: bool
) -> None:
    if had_one:
        stored_split(tmp_path / "s", "data", replace(interactions, items=interactions.items[::-1]), Protocol(), NOBODY)

    def stop(*_: object) -> None:
        raise StoppedError

    with monkeypatch.context() as patch:
        patch.setattr(stored_splits, "write_text", stop)
        with pytest.raises(StoppedError):
            stored_split(tmp_path / "s", "data", interactions, Protocol(), NOBODY)
    computed = make_split(interactions, Protocol(), NOBODY)
    for _ in range(2):
        assert_same(stored_split(tmp_path / "s", "data", interactions, Protocol(), NOBODY), computed)


@pytest.mark.parametrize("obstacle", ["file", "folder", "lock", "full disk"])
def test_where_nothing_can_be_stored_the_split_is_computed(
    tmp_path: Path, interactions: Interactions, monkeypatch: pytest.MonkeyPatch, obstacle: str
) -> None:
    folder = tmp_path / "splits" / "s"
    computed = make_split(interactions, Protocol(), NOBODY)
    if obstacle == "file":
        (tmp_path / "splits").write_text("a file of somebody else")
    elif obstacle == "folder":
        (folder / "items_kept.npy" / "of somebody else").mkdir(parents=True)
    elif obstacle == "full disk":

        def fail(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(np, "save", fail)
    else:
        folder.mkdir(parents=True)
        with lock_folder(folder):
            assert_same(stored_split(folder, "data", interactions, Protocol(), NOBODY), computed)
    for _ in range(2):
        assert_same(stored_split(folder, "data", interactions, Protocol(), NOBODY), computed)
    if obstacle != "lock":
        assert not list(tmp_path.rglob("split.json"))


def test_several_may_store_at_once(tmp_path: Path, interactions: Interactions, cannot_make: Callable[[], None]) -> None:
    computed = make_split(interactions, Protocol(), NOBODY)
    with ThreadPoolExecutor(8) as pool:
        for split in pool.map(
            lambda _: stored_split(tmp_path / "s", "data", interactions, Protocol(), NOBODY), range(32)
        ):
            assert_same(split, computed)
    cannot_make()
    assert_same(stored_split(tmp_path / "s", "data", interactions, Protocol(), NOBODY), computed)
    assert {path.name for path in (tmp_path / "s").iterdir()} <= {
        *(f"{name}.npy" for name in ARRAYS),
        "split.json",
        ".lock",
    }


def test_large_datasets_store_one_split_a_protocol_and_copies_take_it_along(
    make_dataset: Callable[[list[list[int]]], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cannot_make: Callable[[], None],
) -> None:
    folder = make_dataset(random_sequences(50, 30))
    small = [Dataset(folder).split(protocol) for protocol in (Protocol(), Protocol(max_length=6))]
    assert not (folder / "splits").exists()
    monkeypatch.setattr(datasets, "FEWEST_EVENTS", 1)
    for split in small:
        assert_same(Dataset(folder).split(split.protocol), split)
    assert {path.name for path in (folder / "splits").iterdir()} == {split.protocol.hash for split in small}
    shutil.copytree(folder, tmp_path / "copy")
    cannot_make()
    for split in small:
        assert_same(Dataset(tmp_path / "copy").split(split.protocol), split)


def test_a_change_of_splits_needs_another_version(interactions: Interactions) -> None:
    """If this fails because splits are meant to change, raise ``stored_split.VERSION`` with the digest."""
    digest = hashlib.sha256()
    for fields in NAMED_PROTOCOLS.values():
        split = make_split(interactions, Protocol(**fields), NOBODY)
        for name in ARRAYS:
            digest.update(getattr(split, name).tobytes())
    assert (stored_splits.VERSION, digest.hexdigest()[:16]) == (1, "7c2a0c8e2430c6d4")
