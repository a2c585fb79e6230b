"""Whatever is damaged of what this package wrote is named in one sentence, with what to do about it."""

import json
import pickle
import random
import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from microlens.cli.terminal_tables import dataset_table
from microlens.config.run_config import RunConfig
from microlens.data.batches import ItemBatch, Process
from microlens.data.content import KINDS, ItemContent
from microlens.data.dataset import Dataset
from microlens.data.media_stores import _read_outcomes
from microlens.data.prepare import prepare
from microlens.data.protocol import Protocol
from microlens.errors import InputError
from microlens.files import run_manifest
from microlens.files.writing import MARK
from microlens.media.array_packing import pack_array
from microlens.media.packing import pack_images
from microlens.media.store import Store, StoreWriter
from microlens.page.comparison import read_runs
from microlens.runs.assembly import open_experiment
from microlens.runs.list_metrics import read_beyond, summarise
from microlens.runs.run import load
from microlens.runs.train import train, trainer_of
from microlens.training import checkpoint
from microlens.training.extraction import extract

Damage = Callable[[Path], object]


class Executed:
    """What would end the test run, were it unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return sys.exit, ("a pickle was loaded",)


# --------------------------------------------------------------------------- what is damaged


@pytest.fixture(autouse=True)
def _right_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if what is damaged here had been written so, by another version or a fault: its checksum is right."""
    monkeypatch.setattr(run_manifest, "_state", lambda *_: "ok")


@pytest.fixture(scope="module")
def healthy(video_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset and three finished runs on it: with gradients, fitted, and of two epochs' length."""
    folder = tmp_path_factory.mktemp("healthy")
    shutil.copytree(video_dataset, folder / "dataset")
    for name, model in (("sasrec", {"name": "sasrec", "dim": 8, "blocks": 1}), ("markov", {"name": "markov"})):
        encoder = {"encoder": {"name": "id"}} if name == "sasrec" else {}
        config = RunConfig.model_validate(
            {
                "dataset": folder / "dataset",
                "output": folder / name,
                "model": model,
                "train": {"epochs": 2, "batch_size": 8, "workers": 1},
                **encoder,
            }
        )
        train(config)
    return folder


@pytest.fixture
def copy(healthy: Path, tmp_path: Path) -> Path:
    """The same folder, to be damaged."""
    shutil.copytree(healthy, tmp_path / "copy")
    for name in ("sasrec", "markov"):
        config = tmp_path / "copy" / name / "config.toml"
        config.write_text(config.read_text().replace(str(healthy), str(tmp_path / "copy")))
    return tmp_path / "copy"


def rewritten(change: Callable[[Any], object]) -> Damage:
    """Damage to the content of a JSON file."""

    def damage(path: Path) -> None:
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return damage


def saved(change: Callable[[Any], Any]) -> Damage:
    """Damage to an array, which stays a ``.npy`` file."""
    return lambda path: np.save(path, change(np.load(path)))


def put(content: bytes) -> Damage:
    return lambda path: path.write_bytes(content)


def cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def with_value(array: Any, place: int, value: int) -> Any:
    array = array.copy()
    array[place] = value
    return array


def table(change: Callable[[pl.DataFrame], pl.DataFrame]) -> Damage:
    def damage(path: Path) -> None:
        content = path.read_bytes()
        change(pl.read_parquet(content)).write_parquet(path)

    return damage


def stored(change: Callable[[int, bytes], bytes | None]) -> Damage:
    """Damage to the values of a store, which stays a store."""

    def damage(path: Path) -> None:
        store = Store.open(path)
        values = {item: store.get(item) for item in store.item_ids().tolist()}
        path.unlink()
        with StoreWriter(path) as writer:
            for item, value in values.items():
                changed = change(item, value or b"")
                if changed is not None:
                    writer.put(item, changed)

    return damage


def tensors(change: Callable[[dict[str, Tensor], dict[str, Any]], object]) -> Damage:
    """Damage to the tensors and facts of a checkpoint, which stays one."""

    def damage(path: Path) -> None:
        values, facts = checkpoint.load(path)
        change(values, facts)
        checkpoint.save(path, values, facts)

    return damage


def random_damage(path: Path, draw: random.Random) -> None:
    """A bit flipped, some bytes zeroed or drawn, or an end cut off."""
    data = bytearray(path.read_bytes())
    place, length = draw.randrange(len(data)), draw.randrange(1, 9)
    match draw.randrange(4):
        case 0:
            data[place] ^= 1 << draw.randrange(8)
        case 1:
            data[place : place + length] = bytes(length)
        case 2:
            data[place : place + length] = draw.randbytes(length)
        case 3:
            del data[place:]
    path.write_bytes(data)


# --------------------------------------------------------------------------- datasets


def read_dataset(folder: Path) -> None:
    """Everything that any command reads of a dataset."""
    dataset = Dataset(folder / "dataset")
    dataset.split(Protocol())
    item_ids = dataset.interactions.item_ids
    for kind in KINDS:
        content = ItemContent(dataset, item_ids, frozenset({kind}), may_lack=frozenset({kind}))
        content.read(np.arange(1, len(item_ids)))


SETTINGS = "dataset/manifest.json"
AGAIN = "prepare the dataset again"
DAMAGED_DATASETS: dict[str, tuple[str, Damage, str]] = {
    "no manifest": (SETTINGS, Path.unlink, "is not a prepared dataset"),
    "an empty manifest": (SETTINGS, put(b""), f"is damaged \\(Invalid JSON.*\\); {AGAIN}"),
    "a manifest cut": (SETTINGS, cut, f"is damaged \\(Invalid JSON.*\\); {AGAIN}"),
    "a nested manifest": (SETTINGS, put(b"[" * 100_000), "recursion limit exceeded"),
    "a manifest in Latin-1": (SETTINGS, put(b'{"format_version": 1, "name": "\xe9"}'), "is damaged"),
    "a list for a manifest": (SETTINGS, put(b"[]"), "is damaged"),
    "another version": (SETTINGS, rewritten(lambda m: m.update(format_version=2)), "format version 2"),
    "a version in words": (SETTINGS, rewritten(lambda m: m.update(format_version="1")), "format_version: Input"),
    "no name": (SETTINGS, rewritten(lambda m: m.pop("name")), "name is missing"),
    "no checksum": (SETTINGS, rewritten(lambda m: m.pop("checksum")), "checksum is missing"),
    "a number for a checksum": (SETTINGS, rewritten(lambda m: m.update(checksum=3)), "checksum: Input should be"),
    "no counts": (SETTINGS, rewritten(lambda m: m["counts"].pop("release")), r"counts\.release is missing"),
    "no settings": (SETTINGS, rewritten(lambda m: m.pop("settings")), "settings is missing"),
    "a size in words": (SETTINGS, rewritten(lambda m: m["settings"]["clips"].update(size="32")), "settings.clips.size"),
    "a size of 2": (SETTINGS, rewritten(lambda m: m["settings"]["clips"].update(size=2)), "size is 2; accepted are"),
    "covers of 10^9": (SETTINGS, rewritten(lambda m: m["settings"].update(cover_size=10**9)), "cover_size is"),
    "sound of 10^9 s": (SETTINGS, rewritten(lambda m: m["settings"]["sound"].update(seconds=1e9)), "seconds is"),
    "an unknown setting": (SETTINGS, rewritten(lambda m: m["settings"]["clips"].update(hdr=1)), "settings.clips.hdr"),
    "other clips": (SETTINGS, rewritten(lambda m: m["settings"]["clips"].update(size=48)), "clips.lmdb holds clips"),
    "other covers": (SETTINGS, rewritten(lambda m: m["settings"].update(cover_size=48)), "covers.lmdb holds covers"),
    "other sound": (SETTINGS, rewritten(lambda m: m["settings"]["sound"].update(num_mels=8)), r"sound\.lmdb: item \d+"),
    "fewer events": (
        SETTINGS,
        rewritten(lambda m: m["counts"]["release"].update(interactions=9)),
        "unlike the counts in",
    ),
    "no array": ("dataset/interactions/times.npy", Path.unlink, f"is missing; {AGAIN}"),
    "an array cut": ("dataset/interactions/items.npy", cut, f"bytes; a .npy array of shape .* needs .*; {AGAIN}"),
    "an array too long": ("dataset/interactions/items.npy", lambda p: p.write_bytes(p.read_bytes() + b"0"), "bytes"),
    "an array of one event": (
        "dataset/interactions/items.npy",
        saved(lambda a: a[:1]),
        "not ascending from 0 to the 1",
    ),
    "no events": ("dataset/interactions/items.npy", saved(lambda a: a[:0]), "none of size 0"),
    "an archive": ("dataset/interactions/items.npy", put(b"PK\3\4" + bytes(100)), "is not a .npy array of"),
    "floats": (
        "dataset/interactions/items.npy",
        saved(lambda a: a.astype("f4")),
        "is an array of float32; expected",
    ),
    "wide items": (
        "dataset/interactions/items.npy",
        saved(lambda a: a.astype("i8")),
        "is an array of int64; expected",
    ),
    "a column": ("dataset/interactions/items.npy", saved(lambda a: a[:, None]), "expected 1 dimension"),
    "a negative shape": (
        "dataset/interactions/items.npy",
        lambda p: p.write_bytes(p.read_bytes().replace(b"'shape': (", b"'shape': (-")),
        "items.npy",
    ),
    "an item beyond the last": ("dataset/interactions/items.npy", saved(lambda a: with_value(a, 0, 99)), "item number"),
    "item 0": ("dataset/interactions/items.npy", saved(lambda a: with_value(a, 0, 0)), "an item number is not among"),
    "descending offsets": ("dataset/interactions/offsets.npy", saved(lambda a: with_value(a, 2, 0)), "not ascending"),
    "offsets from 1": (
        "dataset/interactions/offsets.npy",
        saved(lambda a: with_value(a, 0, 1)),
        "not ascending from 0",
    ),
    "offsets beyond": ("dataset/interactions/offsets.npy", saved(lambda a: with_value(a, -1, 10**12)), "not ascending"),
    "fewer offsets": ("dataset/interactions/offsets.npy", saved(lambda a: a[:-1]), "users, but 24 in user_ids.npy"),
    "fewer times": ("dataset/interactions/times.npy", saved(lambda a: a[:-1]), "times for the"),
    "a user twice": ("dataset/interactions/user_ids.npy", saved(lambda a: with_value(a, 1, a[0])), "not ascending"),
    "an item twice": ("dataset/interactions/item_ids.npy", saved(lambda a: with_value(a, 2, a[1])), "not ascending"),
    "no table": ("dataset/items.parquet", Path.unlink, f"is missing; {AGAIN}"),
    "a table cut": ("dataset/items.parquet", cut, f"is not a complete Parquet file; {AGAIN}"),
    "text for a table": ("dataset/items.parquet", put(b"item,title\n1,one\n"), "is not a complete Parquet file"),
    "no titles": ("dataset/items.parquet", table(lambda t: t.drop("title")), f"has no column 'title'.*; {AGAIN}"),
    "numbers as titles": (
        "dataset/items.parquet",
        table(lambda t: t.with_columns(pl.lit(1).alias("title"))),
        "has Int32 in column 'title', which is of String",
    ),
    "a row less": ("dataset/items.parquet", table(lambda t: t.head(-1)), "does not list the 14 items"),
    "rows reversed": ("dataset/items.parquet", table(lambda t: t.reverse()), "does not list the 14 items"),
    "other ids": (
        "dataset/items.parquet",
        table(lambda t: t.with_columns(pl.col("item_id") + 1)),
        "does not list the 14 items",
    ),
    "content unknown": (
        "dataset/items.parquet",
        table(lambda t: t.with_columns(pl.lit(None, pl.Boolean).alias("clips"))),
        "does not state for every item",
    ),
    "no store": ("dataset/clips.lmdb", Path.unlink, "clips.lmdb: there is no such store"),
    "an empty store": ("dataset/clips.lmdb", put(b""), "clips.lmdb: this is not a store"),
    "a store cut": ("dataset/clips.lmdb", cut, "clips.lmdb: the store is cut short"),
    "an item lost": (
        "dataset/clips.lmdb",
        stored(lambda i, v: v if i > 3 else None),
        "clips.lmdb lacks 3 of the items",
    ),
    "a value cut": ("dataset/clips.lmdb", stored(lambda i, v: v[:-1] if i == 2 else v), "clips.lmdb: item 2: .* cut"),
    "an empty value": ("dataset/covers.lmdb", stored(lambda i, v: b"" if i == 2 else v), "covers.lmdb: item 2: "),
    "a value too large": (
        "dataset/clips.lmdb",
        stored(lambda i, v: v[:6] + b"\xff\xff\xff\xff" + v[10:] if i == 1 else v),
        "clips.lmdb: item 1: a stored image has another size",
    ),
    "another clip": (
        "dataset/clips.lmdb",
        stored(lambda i, v: pack_images(np.zeros((2, 32, 32, 3), np.uint8)) if i == 5 else v),
        "clips.lmdb: item 5: a stored clip has shape",
    ),
    "sound for clips": (
        "dataset/clips.lmdb",
        stored(lambda i, v: pack_array(np.zeros((9, 64), np.uint8))),
        "clips.lmdb: item 1: a stored value is not a set of images",
    ),
    "sound of other mels": (
        "dataset/sound.lmdb",
        stored(lambda i, v: pack_array(np.zeros((9, 4), np.uint8))),
        r"sound.lmdb: item \d+: a stored array has shape \(9, 4\)",
    ),
    "sound that is too long": (
        "dataset/sound.lmdb",
        stored(lambda i, v: pack_array(np.zeros((9999, 64), np.uint8))),
        r"sound.lmdb: item \d+: a stored array has shape",
    ),
    "sound of no axes": ("dataset/sound.lmdb", stored(lambda i, v: b"MLU1\xff" + bytes(1020)), "sound.lmdb: item"),
}


def test_a_healthy_dataset_is_read(copy: Path) -> None:
    read_dataset(copy)


@pytest.mark.parametrize("case", DAMAGED_DATASETS)
def test_a_damaged_dataset_is_named(copy: Path, case: str) -> None:
    name, damage, words = DAMAGED_DATASETS[case]
    damage(copy / name)
    with pytest.raises(InputError, match=words) as refused:
        read_dataset(copy)
    assert str(copy / "dataset") in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["items", "offsets", "user_ids"])
def test_no_array_of_a_dataset_is_unpickled(copy: Path, name: str) -> None:
    path = copy / "dataset" / "interactions" / f"{name}.npy"
    np.save(path, np.array([Executed()], object), allow_pickle=True)
    with pytest.raises(InputError, match=r"is not a \.npy array of"):
        read_dataset(copy)
    path.write_bytes(pickle.dumps(Executed()))
    with pytest.raises(InputError, match=r"is not a \.npy array of"):
        read_dataset(copy)


def test_commands_on_a_damaged_dataset_end_in_its_sentence(copy: Path) -> None:
    (copy / "dataset" / "items.parquet").unlink()
    config = RunConfig.load(copy / "sasrec" / "config.toml", [f'output="{copy / "new"}"'])
    for command in (
        lambda: train(config),
        lambda: load(copy / "sasrec", copy / "dataset").evaluate(),
        lambda: load(copy / "sasrec", copy / "dataset").recommend([1]),
    ):
        with pytest.raises(InputError, match=r"items.parquet is missing; prepare the dataset again\."):
            command()


def test_a_damaged_dataset_is_listed_as_such(copy: Path) -> None:
    shutil.copytree(copy / "dataset", copy / "broken")
    (copy / "broken" / "manifest.json").write_text("{}")
    cells = [list(column.cells) for column in dataset_table(copy).columns]
    assert cells[1] == ["damaged", json.loads((copy / "dataset" / "manifest.json").read_text())["name"]]
    assert cells[3] == ["", "14"]


def test_preparing_again_says_what_is_wrong_with_the_dataset_that_is_there(video_dataset: Path, copy: Path) -> None:
    (copy / "dataset" / "manifest.json").write_text('{"format_version": 1}')
    with pytest.raises(InputError, match=r"manifest\.json is damaged"):
        prepare(video_dataset.parent / "release", copy / "dataset", Dataset(video_dataset).settings)


def test_outcomes_that_cannot_be_read_are_forgotten(tmp_path: Path) -> None:
    line = {
        **{"kind": "covers", "item_id": 7, "stored": True, "faults": [], "info": {}},
        **{"path": "covers/7.jpg", "bytes": 3, "sha256": "0" * 64},
    }
    good = json.dumps(line)
    film = {"duration": 1.5, "width": 8, "height": 8, "fps": 25.0, "codec": "h264", "num_frames": 9, "has_sound": True}
    damaged = [
        *(b"{", b"\xff\xfe", b"[]", b"", b"\0" * 30, b"[" * 100_000),
        json.dumps({**line, "item_id": "7"}).encode(),
        json.dumps({**line, "kind": "clips", "info": {**film, "width": 8.0}}).encode(),
        good[:-2].encode(),
    ]
    log = tmp_path / "outcomes.jsonl"
    whole = json.dumps({**line, "kind": "clips", "info": film})
    log.write_bytes(b"\n".join([good.encode(), *damaged, whole.encode(), b'{"kind": "cov']))
    assert list(_read_outcomes(log, ["clips", "covers"])) == [("covers", 7), ("clips", 7)]
    assert log.read_text() == f"{good}\n{whole}\n"
    assert list(_read_outcomes(log, ["clips"])) == [("clips", 7)]
    assert log.read_text() == f"{whole}\n"


# --------------------------------------------------------------------------- runs


def resume(folder: Path) -> None:
    """Go on with a run that was stopped just before its report."""
    (folder / "sasrec" / "report.json").unlink()
    train(RunConfig.load(folder / "sasrec" / "config.toml"))


def report(folder: Path) -> None:
    read_runs([folder / "sasrec"])


LAST, BEST = "sasrec/checkpoints/last.safetensors", "sasrec/checkpoints/best.safetensors"
MARKOV, REPORT, RANKS, EPOCHS = (
    "markov/checkpoints/best.safetensors", "sasrec/report.json", "sasrec/ranks.npy", "sasrec/metrics.jsonl",
)  # fmt: skip
FRESH = "train the run again with fresh=True"
Read = Callable[[Path], object]


def evaluate_sasrec(folder: Path) -> None:
    load(folder / "sasrec").evaluate()


def evaluate_markov(folder: Path) -> None:
    load(folder / "markov").evaluate()


def train_markov(folder: Path) -> None:
    (folder / "markov" / "report.json").unlink()
    train(RunConfig.load(folder / "markov" / "config.toml"))


def progress(**values: Any) -> Damage:
    return tensors(lambda t, f: f["progress"].update(values))


def renamed(old: str, new: str) -> Damage:
    return tensors(lambda t, f: t.update({new: t.pop(old)}))


def changed(name: str, change: Callable[[Tensor], Tensor]) -> Damage:
    return tensors(lambda t, f: t.update({name: change(t[name])}))


def with_row_steps(parameter: int, step: int) -> Damage:
    def damage(values: dict[str, Tensor], facts: Any) -> None:
        rows = len(values[f"optimizer.{parameter}.exp_avg"])
        values[f"optimizer.{parameter}.row_steps"] = torch.full((rows,), step, dtype=torch.int32)

    return tensors(damage)


def first_rank(value: int) -> Damage:
    def damage(ranks: Any) -> Any:
        ranks[0, 0] = value
        return ranks

    return saved(damage)


DAMAGED_RUNS: dict[str, tuple[Read, str, Damage, str]] = {
    "weights gone": (evaluate_sasrec, BEST, Path.unlink, "does not exist; train the run first"),
    "weights cut": (evaluate_sasrec, BEST, cut, f"is damaged or not a checkpoint of microlens; {FRESH}"),
    "no weights": (evaluate_sasrec, BEST, put(b""), "is damaged or not a checkpoint"),
    "an absurd header": (evaluate_sasrec, BEST, put(b"\xff" * 8 + b"{}"), "is damaged or not a checkpoint"),
    "a nested header": (evaluate_sasrec, BEST, put((10**5).to_bytes(8, "little") + b"[" * 10**5), "is damaged or not"),
    "a tensor twice": (
        evaluate_sasrec,
        BEST,
        lambda p: p.write_bytes(p.read_bytes().replace(b"model.item_encoder", b"model.item_encodex", 1)),
        "is the checkpoint of another model|is damaged",
    ),
    "weights of halves": (
        evaluate_sasrec,
        BEST,
        tensors(lambda t, f: t.update({n: v.half() for n, v in t.items()})),
        "is the checkpoint of another model",
    ),
    "nested facts": (
        evaluate_sasrec,
        BEST,
        lambda p: p.write_bytes(header(b'{"__metadata__":{"facts":"' + b"[" * 10**5 + b'"}}')),
        "recursion limit exceeded",
    ),
    "no facts": (evaluate_sasrec, BEST, lambda p: p.write_bytes(header(b"{}")), "is not a checkpoint of microlens"),
    "facts in a list": (
        evaluate_sasrec,
        BEST,
        lambda p: p.write_bytes(header(b'{"__metadata__":{"facts":"[]"}}')),
        f"is damaged .*; {FRESH}",
    ),
    "no progress": (resume, LAST, tensors(lambda t, f: f.pop("progress")), f"progress is missing.*; {FRESH}"),
    "progress in a list": (resume, LAST, tensors(lambda t, f: f.update(progress=[])), "progress: Input should be"),
    "no best": (resume, LAST, tensors(lambda t, f: f["progress"].update(best=None)), "progress.best: Input"),
    "an epoch in words": (resume, LAST, progress(epoch="two"), "progress.epoch: Input should be"),
    "a negative step": (resume, LAST, progress(step=-1), "progress.step: Input should be greater"),
    "a step beyond the epoch": (resume, LAST, progress(step=10**9), "beyond an epoch's end"),
    "epochs without end": (resume, LAST, progress(epoch=10**30), "does not have a line for each of 10{30} epochs"),
    "a best epoch to come": (resume, LAST, progress(best_epoch=3), "beyond an epoch's end"),
    "an infinite loss": (resume, LAST, progress(loss_sum=float("inf")), "progress.loss_sum: Input should be"),
    "epochs without lines": (resume, LAST, progress(epoch=1, log=[]), "does not have a line for each of 1 epochs"),
    "lines without metrics": (
        resume,
        LAST,
        progress(epoch=1, log=[{"epoch": 1, "loss": 1.0, "seconds": 1.0, "valid": {}}]),
        "valid: 'HR@10' is missing",
    ),
    "no scale": (resume, LAST, tensors(lambda t, f: f.pop("scaler")), "scaler is missing"),
    "another scale": (resume, LAST, tensors(lambda t, f: f.update(scaler={"scale": 2.0})), "loss scale is incomplete"),
    "no random state": (resume, LAST, tensors(lambda t, f: t.pop("random.0.cpu")), f"holds no random state; {FRESH}"),
    "two processes": (
        resume,
        LAST,
        tensors(lambda t, f: t.update({"random.1.cpu": t["random.0.cpu"].clone()})),
        f"was written by 2 processes and cannot be resumed with 1: use the same number, or {FRESH}",
    ),
    "another device": (resume, LAST, renamed("random.0.cpu", "random.0.tpu"), "holds no random state '0.cpu'"),
    "a random state cut": (resume, LAST, changed("random.0.cpu", lambda t: t[:-1]), "'random.0.cpu' is no state"),
    "a random state of zeros": (resume, LAST, changed("random.0.cpu", torch.zeros_like), "'random.0.cpu' is no state"),
    "random floats": (resume, LAST, changed("random.0.cpu", torch.Tensor.float), "'random.0.cpu' is no state"),
    "a flat moment": (resume, LAST, changed("optimizer.0.exp_avg", torch.ravel), "'optimizer.0.exp_avg' fits no"),
    "a wide moment": (resume, LAST, changed("optimizer.0.exp_avg_sq", torch.Tensor.double), "'optimizer.0.exp_avg_sq'"),
    "steps in a row": (resume, LAST, changed("optimizer.0.step", lambda t: t[None]), "'optimizer.0.step' fits no"),
    "an unknown parameter": (resume, LAST, renamed("optimizer.0.step", "optimizer.999.step"), "'optimizer.999.step'"),
    "a parameter in words": (resume, LAST, renamed("optimizer.0.step", "optimizer.x.step"), "'optimizer.x.step' fits"),
    "an unknown moment": (resume, LAST, renamed("optimizer.0.step", "optimizer.0.pets"), "'optimizer.0.pets' fits no"),
    "a moment lost": (resume, LAST, tensors(lambda t, f: t.pop("optimizer.0.step")), "of 'optimizer.0' there"),
    "rows of the future": (resume, LAST, with_row_steps(1, 10**6), "'optimizer.1.row_steps' is beyond its step"),
    "rows before the first step": (resume, LAST, with_row_steps(1, -1), "'optimizer.1.row_steps' is beyond its step"),
    "rows of no table": (resume, LAST, with_row_steps(2, 0), "'optimizer.2.row_steps' fits no"),
    "a tensor lost": (
        resume,
        LAST,
        tensors(lambda t, f: t.pop(next(n for n in t if n.startswith("model.")))),
        "is the checkpoint of another model",
    ),
    "last cut": (resume, LAST, cut, f"is damaged or not a checkpoint of microlens; {FRESH}"),
    "rows that descend": (
        evaluate_markov,
        MARKOV,
        changed("model.following.offsets", lambda t: t.flip(0)),
        "does not match the users and items of",
    ),
    "columns beyond": (
        evaluate_markov,
        MARKOV,
        changed("model.following.columns", lambda t: t + 99),
        "does not match the users",
    ),
    "values lost": (
        evaluate_markov,
        MARKOV,
        changed("model.following.values", lambda t: t[1:]),
        "does not match the users",
    ),
    "other items": (evaluate_markov, MARKOV, changed("model.popularity", lambda t: t[1:]), "does not match the users"),
    "fitted in words": (train_markov, MARKOV, tensors(lambda t, f: f.update(seconds="x")), "seconds: Input should be"),
    "fitted in no time": (
        train_markov,
        MARKOV,
        tensors(lambda t, f: f.pop("seconds")),
        f"seconds is missing.*; {FRESH}",
    ),
    "a report cut": (report, REPORT, cut, "is damaged .*; train the run again with fresh=True"),
    "a nested report": (report, REPORT, put(b"[" * 100_000), "recursion limit exceeded"),
    "a report of nothing": (report, REPORT, put(b"{}"), "dataset is missing"),
    "no cohort": (report, REPORT, rewritten(lambda r: r["metrics"]["test"].pop("cold")), "'cold' is missing"),
    "no metric": (report, REPORT, rewritten(lambda r: r["metrics"]["test"]["all"].pop("HR@10")), "'HR@10' is missing"),
    "a metric of 2": (
        report,
        REPORT,
        rewritten(lambda r: r["metrics"]["test"]["all"].update({"HR@10": 2.0})),
        "metrics.test.all.HR@10: Input should be less",
    ),
    "an interval of one end": (
        report,
        REPORT,
        rewritten(lambda r: r["intervals"]["test"]["all"].update({"HR@10": [0.1]})),
        "intervals.test.all.HR@10",
    ),
    "no hash": (report, REPORT, rewritten(lambda r: r["protocol"].pop("hash")), "protocol.hash is missing"),
    "a cost in words": (report, REPORT, rewritten(lambda r: r["cost"].update(epochs="2")), "cost.epochs: Input"),
    "a best epoch beyond": (
        report,
        REPORT,
        rewritten(lambda r: r["cost"].update(best_epoch=3)),
        "best_epoch is 3 of 2",
    ),
    "no packages": (report, REPORT, rewritten(lambda r: r["provenance"].pop("packages")), "provenance.packages is"),
    "ranks gone": (report, RANKS, Path.unlink, "does not exist; train the run again"),
    "ranks cut": (report, RANKS, cut, "a .npy array of shape .* needs .*; train the run again"),
    "ranks as floats": (report, RANKS, saved(lambda r: r / 1), "is an array of float64; expected int64"),
    "ranks of one part": (report, RANKS, saved(lambda r: r[0]), "expected 2 dimensions"),
    "three rows of ranks": (report, RANKS, saved(lambda r: np.concatenate([r, r[:1]])), "it holds 3 rows"),
    "a rank below 0": (report, RANKS, first_rank(-1), "ranks below 0"),
    "fewer ranks": (report, RANKS, saved(lambda r: r[:, 1:]), "does not agree with ranks.npy"),
    "epochs gone": (report, EPOCHS, Path.unlink, "metrics.jsonl is missing; train the run again"),
    "epochs cut": (report, EPOCHS, cut, "metrics.jsonl is damaged .*; train the run again"),
    "an epoch less": (report, EPOCHS, lambda p: p.write_text(p.read_text().splitlines()[0]), "a line for each of 2"),
    "epochs without loss": (
        report,
        EPOCHS,
        lambda p: p.write_text(p.read_text().replace("loss", "lo")),
        "loss is missing",
    ),
}


def header(content: bytes) -> bytes:
    """A safetensors file with a header and no tensors."""
    return len(content).to_bytes(8, "little") + content


@pytest.mark.parametrize("case", DAMAGED_RUNS)
def test_a_damaged_run_is_named(copy: Path, case: str) -> None:
    read, name, damage, words = DAMAGED_RUNS[case]
    damage(copy / name)
    with pytest.raises(InputError, match=words) as refused:
        read(copy)
    assert str((copy / name).parent) in str(refused.value)
    assert Path(name).name in str(refused.value)
    assert "\n" not in str(refused.value)


def test_healthy_runs_are_read(copy: Path) -> None:
    for read in (evaluate_sasrec, evaluate_markov, report, resume, train_markov):
        read(copy)


def test_no_ranks_are_unpickled(copy: Path) -> None:
    np.save(copy / RANKS, np.array([[Executed()]], object), allow_pickle=True)
    with pytest.raises(InputError, match=r"is not a \.npy array of"):
        report(copy)


def test_more_processes_do_not_go_on_with_the_checkpoint_of_fewer(copy: Path) -> None:
    run = open_experiment(copy / "sasrec")
    trainer, resumed = trainer_of(run)
    assert resumed
    trainer.process = Process(rank=1, world_size=3)
    with pytest.raises(InputError, match="was written by 1 process and cannot be resumed with 3"):
        trainer.resume()


@pytest.mark.parametrize("kind", ["a pickle", "a folder", "text", "nothing"])
def test_what_a_run_starts_from_is_never_unpickled(copy: Path, kind: str) -> None:
    path = copy / "start.pt"
    if kind == "a pickle":
        path.write_bytes(pickle.dumps(Executed()))
    elif kind == "a folder":
        path.mkdir()
    elif kind == "text":
        path.write_text("weights")
    overrides = [f'output="{copy / "new"}"', f'train.start_from="{path}"']
    with pytest.raises(InputError, match=r"start\.pt"):
        train(RunConfig.load(copy / "sasrec" / "config.toml", overrides))


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b'{"metrics": {"coverage@10": "x"}}'])
def test_metrics_beyond_accuracy_that_cannot_be_read_are_worked_out_again(copy: Path, content: bytes) -> None:
    good = summarise(copy / "markov")
    (copy / "markov" / "beyond.json").write_bytes(content)
    with pytest.raises(InputError, match=r"beyond\.json is damaged"):
        read_beyond(copy / "markov")
    assert summarise(copy / "markov") == good == read_beyond(copy / "markov")


def test_a_damaged_study_is_named(copy: Path) -> None:
    pytest.importorskip("optuna")
    from microlens.runs.tune import Search

    output = copy / "tune"
    output.mkdir()
    search = Search(copy / "sasrec" / "config.toml", ['tune={"train.lr" = {low = 1e-3, high = 1e-2}}'], output)
    (output / "study.db").write_bytes(b"SQLite format 3\0" + bytes(5000))
    with pytest.raises(InputError, match=r"study\.db is damaged; remove it"):
        search.run(1)
    (output / "study.db").unlink()
    with sqlite3.connect(output / "study.db") as database:
        database.execute("CREATE TABLE studies (thesis TEXT)")
    database.close()
    with pytest.raises(InputError, match=r"study\.db holds no readable study"):
        search.run(1)


# --------------------------------------------------------------------------- extracted arrays

PROVENANCE = {"of": "clips", "number": 1.5}


def extracted(folder: Path, *, half: bool = False) -> list[Any]:
    """The mean colour of each clip, and a number an item, as arrays."""
    dataset = Dataset(folder / "dataset")
    item_ids = dataset.interactions.item_ids
    content = ItemContent(dataset, item_ids, frozenset({"clips"}))

    def compute(items: ItemBatch) -> tuple[Tensor, ...]:
        return items.content["clips"].float().mean((1, 2, 3)), items.items

    rows = extract(
        compute, content, len(item_ids) - 1, folder / "cache", PROVENANCE, device=torch.device("cpu"), half=half
    )
    return [array.read(np.arange(len(item_ids) - 1)) for array in rows]


DAMAGED_CACHES: dict[str, tuple[str, Damage, str]] = {
    "no provenance": (
        "provenance.json",
        Path.unlink,
        "provenance.json is missing; remove .*cache, and it is made again",
    ),
    "provenance cut": ("provenance.json", cut, "provenance.json is damaged .*; remove .*cache, and it is made again"),
    "a list": ("provenance.json", put(b"[]"), "provenance.json is damaged"),
    "another": ("provenance.json", rewritten(lambda p: p.update(of="covers")), "was made of something else"),
    "no array": ("1.npy", Path.unlink, "does not hold the arrays"),
    "the first array lost": ("0.npy", Path.unlink, "does not exist; remove its folder|does not hold the arrays"),
    "an array cut": ("0.npy", cut, "0.npy has .* bytes; a .npy array of shape .* needs .*; remove its folder"),
    "a row less": ("0.npy", saved(lambda a: a[1:]), "does not hold the arrays that were made of 14 items"),
    "other numbers": ("0.npy", saved(lambda a: a.astype("f8")), "does not hold the arrays that were made of 14 items"),
    "wider rows": ("0.npy", saved(lambda a: np.hstack([a, a])), "does not hold the arrays that were made of 14 items"),
    "columns": ("0.npy", saved(np.asfortranarray), "0.npy is not an array in row-major order"),
    "big-endian": ("0.npy", saved(lambda a: a.astype(">f4")), "0.npy is not an array in row-major order"),
    "one number": ("0.npy", saved(lambda a: a[0, 0]), "0.npy is not an array in row-major order"),
}


@pytest.mark.parametrize("case", DAMAGED_CACHES)
def test_a_damaged_cache_is_named(copy: Path, case: str) -> None:
    name, damage, words = DAMAGED_CACHES[case]
    extracted(copy)
    damage(copy / "cache" / name)
    with pytest.raises(InputError, match=words) as refused:
        extracted(copy)
    assert str(copy / "cache") in str(refused.value)


@pytest.mark.parametrize("record", ["", "x", "-32 1 1", "32", "32 99999 9", "7 1 1", "9" * 5000, "14 1 1", "\0"])
def test_an_extraction_whose_record_is_damaged_is_begun_again(
    copy: Path, monkeypatch: pytest.MonkeyPatch, record: str
) -> None:
    monkeypatch.setattr("microlens.training.extraction.ITEMS_AT_ONCE", 4)
    whole = extracted(copy)
    partial = copy / ".cache.partial"
    (copy / "cache").rename(partial)
    (partial / MARK).touch()
    (partial / "0.npy").write_bytes((partial / "0.npy").read_bytes()[:130])
    (partial / "1.npy").unlink()
    (partial / "done-0-of-1").write_text(record)
    for one, other in zip(extracted(copy), whole, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_extraction_goes_on_only_where_its_arrays_are_whole(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microlens.training.extraction.ITEMS_AT_ONCE", 4)
    monkeypatch.setattr("microlens.training.extraction.SECONDS_BETWEEN_SYNCS", 0.0)
    whole = extracted(copy)
    seen: list[int] = []

    def interrupted(folder: Path, count: int) -> None:
        shutil.rmtree(folder / "cache", ignore_errors=True)
        dataset = Dataset(folder / "dataset")
        content = ItemContent(dataset, dataset.interactions.item_ids, frozenset({"clips"}))

        def compute(items: ItemBatch) -> tuple[Tensor, ...]:
            seen.append(int(items.items[0]))
            if len(seen) == count:
                raise KeyboardInterrupt
            return items.content["clips"].float().mean((1, 2, 3)), items.items

        extract(compute, content, 14, folder / "cache", PROVENANCE, device=torch.device("cpu"))

    with pytest.raises(KeyboardInterrupt):
        interrupted(copy, 3)
    interrupted(copy, 0)
    assert seen == [1, 5, 9, 9, 13]  # it went on
    shutil.rmtree(copy / "cache")
    seen.clear()
    with pytest.raises(KeyboardInterrupt):
        interrupted(copy, 3)
    cut(copy / ".cache.partial" / "0.npy")
    interrupted(copy, 0)
    assert seen == [1, 5, 9, 1, 5, 9, 13]  # it began again
    for one, other in zip(extracted(copy), whole, strict=True):
        np.testing.assert_array_equal(one, other)


# --------------------------------------------------------------------------- random damage


def files_of(folder: Path, *patterns: str) -> list[str]:
    return sorted(str(path.relative_to(folder)) for pattern in patterns for path in folder.glob(pattern))


def restored(healthy: Path, copy: Path, names: list[str]) -> Iterator[tuple[Path, random.Random]]:
    """Each of the files of a copy with several kinds of random damage; whole again afterwards."""
    for number, name in enumerate(names):
        draw = random.Random(number)
        for _ in range(8):
            path, data = copy / name, (copy / name).read_bytes()
            random_damage(path, draw)
            yield path, draw
            path.write_bytes(data)


def test_random_damage_to_a_dataset_is_an_input_error_or_harmless(healthy: Path, copy: Path) -> None:
    names = files_of(copy, "dataset/*.json", "dataset/interactions/*.npy", "dataset/*.lmdb", "dataset/items.parquet")
    assert len(names) == 10
    for path, _ in restored(healthy, copy, names):
        with suppress(InputError):
            read_dataset(copy)
        assert path.exists()


def test_random_damage_to_a_run_is_an_input_error_or_harmless(healthy: Path, copy: Path) -> None:
    for _ in restored(healthy, copy, [BEST, MARKOV]):
        for read in (evaluate_sasrec, evaluate_markov):
            with suppress(InputError):
                read(copy)
    for _ in restored(healthy, copy, [REPORT, RANKS, EPOCHS]):
        with suppress(InputError):
            report(copy)
    run = open_experiment(copy / "sasrec")
    trainer, _ = trainer_of(run)
    for _ in restored(healthy, copy, [LAST]):
        with suppress(InputError):
            trainer.resume()
