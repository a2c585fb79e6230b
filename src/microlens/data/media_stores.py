"""Parallel decoding of a release's media into the stores of a dataset; an interrupted job is resumed."""

import json
from collections.abc import Callable, Container, Generator, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

from microlens.data.media_shards import shard_results
from microlens.engines.base import Engine
from microlens.errors import InputError
from microlens.files.json_files import parse_json
from microlens.media.decoding import Outcome, Result, Settings, Task, decode, lost
from microlens.media.processes import Killed
from microlens.media.store import Store, StoreWriter, rewrite_in_order

_ITEMS_PER_COMMIT = 64


def decode_all(
    tasks: Sequence[Task],
    settings: Settings,
    folder: Path,
    engine: Engine,
    shards: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Outcome]:
    """Decode all tasks that are not yet in ``folder`` into ``KIND.lmdb``.

    A file that cannot be decoded, or whose decoding kills the process, becomes an outcome with a fault and does not
    stop the job. Committed work survives a kill: the content is committed first, then its line in ``outcomes.jsonl``.
    Items decoded before an error are committed, too. The stores have the same bytes whatever the order of decoding.

    Args:
        tasks: the files to decode.
        settings: how they are decoded.
        folder: folder of the stores.
        engine: where they are decoded.
        shards: address of a folder for results, see :func:`microlens.data.media_shards.shard_results`; without one,
            the engine returns them directly.
        on_progress: called with (done, total) tasks.

    Returns:
        The outcomes, ordered by kind and item.

    Raises:
        InputError: worker processes do not start, or die independently of the task.
        OSError: the disk is full, or another system resource is exhausted.
    """
    log = folder / "outcomes.jsonl"
    kinds = sorted({kind for task in tasks for kind in task.kinds})
    done = _read_outcomes(log, [kind for kind in kinds if _has_store(folder / f"{kind}.lmdb")])
    left = [task for task in tasks if any((kind, task.item_id) not in done for kind in task.kinds)]
    finished = len(tasks) - len(left)
    with ExitStack() as stack:
        writers = {kind: stack.enter_context(StoreWriter(folder / f"{kind}.lmdb")) for kind in kinds}
        lines = stack.enter_context(log.open("a"))
        decoded = shard_results(tasks, left, settings, engine, shards) if shards else _decoded(left, settings, engine)
        results = stack.enter_context(closing(decoded))
        for batch in _batched(results, _ITEMS_PER_COMMIT):
            for result in batch:
                for outcome, value in result:
                    if value is not None:
                        writers[outcome.kind].put(outcome.item_id, value)
                    done[outcome.kind, outcome.item_id] = outcome
            for writer in writers.values():
                writer.commit()
            lines.writelines(json.dumps(asdict(outcome)) + "\n" for result in batch for outcome, _ in result)
            lines.flush()
            finished += len(batch)
            if on_progress:
                on_progress(finished, len(tasks))
    for kind in kinds:
        rewrite_in_order(folder / f"{kind}.lmdb")
    return [done[key] for key in sorted(done)]


def _decoded(tasks: Sequence[Task], settings: Settings, engine: Engine) -> Generator[Result]:
    """Yield the result of each task as it completes; a task that killed its worker twice yields a fault."""
    for task, answer in engine.map_items(partial(decode, settings=settings), tasks):
        yield lost(task, f"decoding it {answer.how}") if isinstance(answer, Killed) else answer


def _has_store(path: Path) -> bool:
    """True if there is a store; a file that is none, such as one cut short by a full disk, is removed."""
    if not path.exists() or not path.stat().st_size:
        return False
    try:
        Store.open(path)
    except InputError:
        path.unlink()
        return False
    return True


def _read_outcomes(log: Path, kinds: Container[str]) -> dict[tuple[str, int], Outcome]:
    """The outcomes of some kinds; lines of others are removed."""
    done: dict[tuple[str, int], Outcome] = {}
    if not log.exists():
        return done
    from microlens.media.reading import VideoInfo  # slow to import

    whole = []
    for line in log.read_bytes().split(b"\n")[:-1]:  # the last line may be incomplete after a kill
        with suppress(InputError):  # unreadable lines are decoded again
            outcome = parse_json(line, Outcome, log, "it is decoded again")
            if outcome.info:
                parse_json(json.dumps(outcome.info), VideoInfo, log, "it is decoded again")
            if outcome.kind in kinds:
                done[outcome.kind, outcome.item_id] = outcome
                whole.append(line + b"\n")
    log.write_bytes(b"".join(whole))
    return done


def _batched(values: Iterator[Result], size: int) -> Iterator[list[Result]]:
    batch: list[Result] = []
    try:
        for value in values:
            batch.append(value)
            if len(batch) == size:
                yield batch
                batch = []
    except (InputError, OSError):
        yield batch  # keep completed results
        raise
    if batch:
        yield batch
