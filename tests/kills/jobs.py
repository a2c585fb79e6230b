"""The commands that are disturbed, and what has to be the same however often they were."""

import csv
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb

from microlens.data.prepare import prepare
from microlens.media.decoding import Settings
from microlens.media.reading import ClipSettings
from microlens.release.synthetic import write_release

USERS, ITEMS = 60, 24
CANARY = "notes.txt"
# What depends on the clock, the machine's memory or the state of a checkout, and not on the data.
OF_THE_MOMENT = re.compile(r"seconds|memory|time|watt|commit")
SASREC = """
dataset = "dataset"
output = "{output}"
[model]
name = "sasrec"
dim = 16
[encoder]
name = "{encoder}"
[train]
epochs = {epochs}
patience = {epochs}
batch_size = 8
micro_batch = 16
lr = 3e-3
device = "cpu"
checkpoint_minutes = 0.001
"""
RANGES = """
[tune]
"train.lr" = { low = 1e-4, high = 1e-1, log = true }
"model.dim" = { choices = [8, 16, 32] }
"""
ROWS = {
    "popularity": 'dataset = "x"\noutput = "x"\n[model]\nname = "popularity"\n',
    "markov": 'dataset = "x"\noutput = "x"\n[model]\nname = "markov"\n',
    "gru4rec-id": SASREC.format(output="x", encoder="id", epochs=4).replace("sasrec", "gru4rec"),
}


@dataclass(frozen=True)
class Job:
    """A command, run in a copy of the world.

    Args:
        arguments: of ``microlens``.
        outputs: folders that it writes, and may write into as it likes, but for what is not its own.
        result: what has to be the same, from the copy's folder.
    """

    arguments: tuple[str, ...]
    outputs: tuple[str, ...]
    result: Callable[[Path], Any]


def make_world(folder: Path) -> None:
    """A release, the dataset prepared from it, configurations, and a file of the user's in every folder."""
    write_release(folder / "release", users=USERS, items=ITEMS, seed=1, workers=1)
    settings = Settings(clips=ClipSettings(num_frames=2, size=32), cover_size=32)
    prepare(folder / "release", folder / "dataset", settings, workers=1)
    (folder / "configs").mkdir()
    for name, text in ROWS.items():
        (folder / "configs" / f"{name}.toml").write_text(text)
    (folder / "id.toml").write_text(SASREC.format(output="runs/id", encoder="id", epochs=30))
    (folder / "video.toml").write_text(SASREC.format(output="runs/video", encoder="x3d_xs", epochs=2))
    (folder / "tune.toml").write_text(SASREC.format(output="runs/tuned", encoder="id", epochs=6) + RANGES)
    for name in (
        "",
        "release",
        "release/videos",
        "dataset",
        "configs",
        "runs/id",
        "runs/video",
        "runs/tuned",
        "features",
        "table",
    ):
        (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / name / CANARY).write_text(f"what I wrote into {name or 'my folder'}\n")


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def without_the_moment(value: Any) -> Any:
    """A JSON value without what depends on the clock."""
    if isinstance(value, dict):
        return {key: without_the_moment(of_it) for key, of_it in value.items() if not OF_THE_MOMENT.search(key)}
    return [without_the_moment(entry) for entry in value] if isinstance(value, list) else value


def read_json(path: Path) -> Any:
    """A JSON file without what depends on the clock."""
    return without_the_moment(json.loads(path.read_text()))


def trained(run: Path) -> dict[str, Any]:
    """Every number of a run: its report, every epoch, every rank, every weight."""
    lines = (run / "metrics.jsonl").read_text().splitlines() if (run / "metrics.jsonl").exists() else []
    return {
        "report": read_json(run / "report.json"),
        "epochs": [without_the_moment(json.loads(line)) for line in lines],
        "ranks": digest(run / "ranks.npy"),
        "weights": digest(run / "checkpoints" / "best.safetensors"),
    }


def extracted(folder: Path) -> dict[str, Any]:
    """Every byte of the features."""
    found: dict[str, Any] = {path.name: digest(path) for path in (folder / "features").glob("*.npy")}
    return found | {path.name: read_json(path) for path in (folder / "features").glob("*.json")}


def tabled(folder: Path) -> dict[str, Any]:
    """The table, and the ranks of its runs."""
    ranks = sorted(digest(path) for path in (folder / "table").rglob("ranks.npy"))
    table = read_json(folder / "table" / "baseline.json")
    del table["checksum"]  # of the times, too
    return {"table": table, "ranks": ranks}


def tuned(folder: Path) -> dict[str, Any]:
    """Every trial that came to an end, in order, and the best."""
    with (folder / "runs" / "tuned" / "tune" / "trials.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["state"] != "fail"]
    kept = [{name: value for name, value in row.items() if name not in ("trial", "seconds")} for row in rows]
    return {"trials": kept, "best": (folder / "runs" / "tuned" / "tune" / "best.toml").read_text()}


def prepared(folder: Path) -> dict[str, Any]:
    """The manifest, every array and table, and every stored value."""
    dataset = folder / "again"
    found: dict[str, Any] = {
        str(path.relative_to(dataset)): digest(path)
        for path in sorted(dataset.rglob("*"))
        if path.suffix in (".json", ".npy", ".parquet")
    }
    for path in sorted(dataset.glob("*.lmdb")):
        with lmdb.open(str(path), subdir=False, readonly=True, lock=False) as store, store.begin() as transaction:
            found[path.name] = {key.decode(): hashlib.sha256(value).hexdigest() for key, value in transaction.cursor()}
    return found


JOBS = {
    "prepare": Job(("data", "prepare", "release", "again", "--num-frames", "2", "--size", "32", "--workers", "1"),
                   ("again", "again.partial"), prepared),
    "prepare-on-ray": Job(("data", "prepare", "release", "again", "--num-frames", "2", "--size", "32",
                           "--engine", "ray", "--shards", "shards"), ("again", "again.partial", "shards"), prepared),
    "verify": Job(("data", "verify", "release", "--json", "verified.json", "--html", "verified.html", "--jobs", "1"),
                  ("release.verify", "verified.json", "verified.html"),
                  lambda folder: read_json(folder / "verified.json")),
    "train": Job(("train", "id.toml"), ("runs/id",), lambda folder: trained(folder / "runs" / "id")),
    "video": Job(("train", "video.toml"), ("runs/video",), lambda folder: trained(folder / "runs" / "video")),
    "features": Job(("features", "dataset", "--encoder", "x3d_xs", "--weights", "random", "--out", "features"),
                    ("features",), extracted),
    "bench": Job(("bench", "baseline", "--dataset", "dataset", "--configs", "configs", "--output", "table"),
                 ("table",), tabled),
    "tune": Job(("tune", "tune.toml", "--trials", "5"), ("runs/tuned",), tuned),
}  # fmt: skip
