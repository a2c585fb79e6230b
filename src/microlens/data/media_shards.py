"""Shards of decoded media: files that the machines of a job write to a common folder or bucket.

A shard holds the results of some items. It is a zip archive of ``outcomes.jsonl`` and, uncompressed, the stored values
as ``KIND/ITEM``. It appears when it is complete.
"""

import json
import zipfile
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from io import BytesIO
from itertools import groupby
from pathlib import Path

from microlens.engines.base import ITEMS_PER_SHARD, Engine, work_on_shard
from microlens.errors import InputError
from microlens.files.addresses import absolute, read_bytes, write_bytes
from microlens.files.json_files import parse_json
from microlens.media.decoding import Outcome, Result, Settings, Task, decode, lost
from microlens.media.processes import Killed

_OUTCOMES = "outcomes.jsonl"


@dataclass(frozen=True)
class Shard:
    """The address of a shard and its tasks, which are all tasks of its items."""

    address: str
    tasks: tuple[Task, ...]


def shard_results(
    tasks: Sequence[Task], left: Sequence[Task], settings: Settings, engine: Engine, folder: str
) -> Generator[Result]:
    """Decode files into shards, and yield the results of the tasks that are ``left``.

    A shard that exists is read; one that does not, or is damaged, is written by ``engine``.

    Args:
        tasks: all tasks of the dataset, which decide what is in which shard.
        left: the tasks whose results are needed.
        settings: how media are decoded.
        engine: where they are decoded.
        folder: address of the shards of this dataset, or a path that all machines of the job share.

    Raises:
        InputError: processes do not start, or a shard that was written cannot be read.
        OSError: the address cannot be used, or the disk of a machine is full.
    """
    wanted = set(left)
    missing = []
    for shard in _shards(tasks, folder):
        if wanted.isdisjoint(shard.tasks):
            continue
        results = read_shard(shard)
        if results is None:
            missing.append(shard)
        else:
            yield from (result for task, result in results if task in wanted)
    for shard, _ in engine.map_shards(partial(write_shard, settings=settings), missing):
        results = read_shard(shard)
        if results is None:
            raise InputError(
                f"{shard.address} was written by a task but cannot be read here; name a folder or bucket that all "
                "machines share."
            )
        yield from (result for task, result in results if task in wanted)


def write_shard(shard: Shard, settings: Settings) -> None:
    """Decode the tasks of a shard in a process of their own, and write it."""
    answers = dict(work_on_shard(partial(decode, settings=settings), shard.tasks))
    content = BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        outcomes = []
        for task in shard.tasks:
            answer = answers[task]
            for outcome, value in lost(task, f"decoding it {answer.how}") if isinstance(answer, Killed) else answer:
                outcomes.append(json.dumps(asdict(outcome)))
                if value is not None:
                    archive.writestr(zipfile.ZipInfo(_member(outcome)), value)
        archive.writestr(zipfile.ZipInfo(_OUTCOMES), "\n".join(outcomes))
    write_bytes(shard.address, content.getvalue())


def read_shard(shard: Shard) -> list[tuple[Task, Result]] | None:
    """The results of the tasks of a shard; None if the shard does not exist or is damaged."""
    content = read_bytes(shard.address)
    if content is None:
        return None
    try:
        with zipfile.ZipFile(BytesIO(content)) as archive:
            found = {}
            for line in archive.read(_OUTCOMES).splitlines():
                outcome = parse_json(line, Outcome, Path(shard.address), "it is written again")
                value = archive.read(_member(outcome)) if outcome.stored else None
                found[outcome.kind, outcome.item_id] = outcome, value
            return [(task, [found[kind, task.item_id] for kind in task.kinds]) for task in shard.tasks]
    except (zipfile.BadZipFile, KeyError, EOFError, InputError):
        return None


def _member(outcome: Outcome) -> str:
    return f"{outcome.kind}/{outcome.item_id}"


def _shards(tasks: Sequence[Task], folder: str) -> list[Shard]:
    by_item = sorted(tasks, key=lambda task: task.item_id)
    items = [tuple(of_item) for _, of_item in groupby(by_item, key=lambda task: task.item_id)]
    parts = [items[start : start + ITEMS_PER_SHARD] for start in range(0, len(items), ITEMS_PER_SHARD)]
    return [
        Shard(f"{absolute(folder)}/{number:06}.zip", tuple(task for of_item in part for task in of_item))
        for number, part in enumerate(parts)
    ]
