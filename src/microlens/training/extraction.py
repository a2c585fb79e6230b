"""Compute arrays once for every item and keep them on disk; resumable, and renamed atomically when complete."""

import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from microlens.data.batches import ItemBatch, Process
from microlens.data.content import ItemContent
from microlens.data.interactions import Int64
from microlens.data.item_arrays import Rows, RowWriter
from microlens.distributed import wait_for_all
from microlens.errors import InputError
from microlens.files.json_files import read_json
from microlens.files.writing import MARK, UNFINISHED, claim_folder, clear_folder, write_text

ITEMS_AT_ONCE = 32
SECONDS_BETWEEN_SYNCS = 5.0
PROVENANCE = "provenance.json"
WRITTEN = (PROVENANCE, "[0-9]*.npy", "done-[0-9]*", f".*{UNFINISHED}")
"""Patterns of all files that an extraction writes into its folder."""
_ARRAYS = "arrays"  # key in the provenance of a complete extraction: shapes and types of its arrays

Array: TypeAlias = npt.NDArray[Any]
Compute = Callable[[ItemBatch], tuple[Tensor, ...]]
ComputeElsewhere = Callable[[Sequence[Int64]], Iterator[list[Array]]]
"""Computes the storable arrays of groups of item numbers, in their order."""
OnProgress = Callable[[int, int], None]


def extract(
    compute: Compute,
    content: ItemContent,
    num_items: int,
    folder: Path,
    provenance: dict[str, Any],
    *,
    device: torch.device,
    half: bool = False,
    process: Process | None = None,
    elsewhere: ComputeElsewhere | None = None,
    on_progress: OnProgress | None = None,
) -> list[Rows]:
    """Compute tensors (m, ...) for every item 1..N and store them as ``0.npy``, ``1.npy``, ... in ``folder``.

    An existing folder is read. An interrupted extraction is resumed and gives the same bits as an uninterrupted one,
    because items are computed in the same groups. Several processes share the items.

    Args:
        compute: maps items on ``device`` to tensors with one row per item.
        content: source of the content that ``compute`` reads.
        num_items: N.
        folder: output folder of the arrays and their ``provenance``.
        provenance: everything the arrays depend on; must equal that of an existing folder.
        device: device to compute on.
        half: store floating-point numbers as float16.
        process: rank and world_size of this process.
        elsewhere: computes what ``compute`` does, on other machines.
        on_progress: called with (done, total) items of this process.

    Raises:
        InputError: the folder, or that of the unfinished extraction, holds something else, the disk is too small, or a
            number is not finite.
    """
    process = process or Process()
    partial = folder.with_name(f".{folder.name}.partial")
    if not folder.exists():
        if process.rank == 0:
            _begin(partial, provenance)
        wait_for_all(process)

        def here(groups: Sequence[Int64]) -> Iterator[list[Array]]:
            return (compute_group(compute, content, items, device, half=half) for items in groups)

        _compute_share(elsewhere or here, num_items, partial, process, on_progress)
        wait_for_all(process)
        if process.rank == 0:
            arrays = _described(_read(partial, provenance, num_items))
            write_text(partial / PROVENANCE, json.dumps({**provenance, _ARRAYS: arrays}, indent=1) + "\n")
            partial.rename(folder)
            clear_folder(folder, ("done-[0-9]*", MARK))
        wait_for_all(process)
    return _read(folder, provenance, num_items)


def _read(folder: Path, provenance: dict[str, Any], num_items: int) -> list[Rows]:
    remedy = f"remove {folder}, and it is made again"
    made = read_json(folder / PROVENANCE, dict[str, Any], remedy)
    described = made.pop(_ARRAYS, None)
    if made != provenance:
        raise InputError(f"{folder} was made of something else; choose another folder or remove it.")
    arrays = [Rows(folder / f"{number}.npy") for number in range(len(list(folder.glob("[0-9]*.npy"))))]
    if not arrays or any(len(rows) != num_items for rows in arrays) or described not in (None, _described(arrays)):
        raise InputError(f"{folder} does not hold the arrays that were made of {num_items:,} items; {remedy}.")
    return arrays


def _described(arrays: list[Rows]) -> list[Any]:
    """Shape and type of each array, as JSON values."""
    return [[list(rows.shape), rows.dtype.str] for rows in arrays]


def _begin(partial: Path, provenance: dict[str, Any]) -> None:
    """Keep ``partial`` if it was started for the same provenance; otherwise start over."""
    note = partial / PROVENANCE
    claim_folder(partial)
    with suppress(InputError):  # an unreadable provenance counts as another one
        begun = read_json(note, dict[str, Any], "it is made again")
        begun.pop(_ARRAYS, None)
        if begun == provenance:
            return
    clear_folder(partial, WRITTEN)
    write_text(note, json.dumps(provenance, indent=1) + "\n")


@torch.inference_mode()
def compute_group(
    compute: Compute, content: ItemContent, items: Int64, device: torch.device, *, half: bool = False
) -> list[Array]:
    """Compute the storable arrays (m, ...) of a group of items; arguments as :func:`extract`.

    Raises:
        InputError: a number is not finite.
    """
    batch = ItemBatch(items=torch.from_numpy(items), content=content.read(items))
    return [_storable(value, half, items) for value in compute(batch.to(device))]


def _compute_share(
    compute: ComputeElsewhere,
    num_items: int,
    partial: Path,
    process: Process,
    on_progress: OnProgress | None,
) -> None:
    share = np.arange(1, num_items + 1)[process.share_of(num_items)]
    record = partial / f"done-{process.rank}-of-{process.world_size}"
    done = _done(record, len(share))
    synced = time.monotonic()
    with ExitStack() as files:
        writers: list[RowWriter] = []
        groups = [share[start : start + ITEMS_AT_ONCE] for start in range(done, len(share), ITEMS_AT_ONCE)]
        for items, values in zip(groups, compute(groups), strict=True):
            done += len(items)
            writers = writers or [files.enter_context(writer) for writer in _writers(partial, num_items, values)]
            for writer, value in zip(writers, values, strict=True):
                writer.write(int(items[0]) - 1, value)
            if time.monotonic() - synced > SECONDS_BETWEEN_SYNCS:
                for writer in writers:
                    writer.sync()
                _record(record, done, writers)
                synced = time.monotonic()
            if on_progress:
                on_progress(done, len(share))
        if writers:
            for writer in writers:
                writer.sync()
            _record(record, len(share), writers)


def _record(record: Path, done: int, writers: list[RowWriter]) -> None:
    """Write the number of finished items of a share and the number of bytes written to each array."""
    write_text(record, " ".join(map(str, [done, *(writer.end for writer in writers)])))


def _done(record: Path, of_share: int) -> int:
    """The number of finished items of a process's share; 0 if the record or an array is damaged."""
    try:
        done, *ends = map(int, record.read_text(encoding="utf-8").split())
        lengths = [(record.parent / f"{number}.npy").stat().st_size for number in range(len(ends))]
    except (OSError, ValueError):
        return 0
    complete = bool(ends) and all(length >= end for length, end in zip(lengths, ends, strict=True))
    at_a_group = 0 <= done < of_share and done % ITEMS_AT_ONCE == 0
    return done if complete and (at_a_group or done == of_share) else 0


def _writers(partial: Path, num_items: int, values: list[Array]) -> Iterator[RowWriter]:
    """Yield a writer for each of the arrays, whose rows are like those of ``values`` (m, ...), if they fit the disk."""
    paths = [partial / f"{number}.npy" for number in range(len(values))]
    written = sum(path.stat().st_size for path in paths if path.exists())
    needed = num_items * sum(value[0].nbytes for value in values) - written
    free = shutil.disk_usage(partial).free
    if needed > free:
        raise InputError(
            f"{partial.parent} needs {needed / 1e9:,.1f} GB and the disk has {free / 1e9:,.1f} GB left; free some "
            f"space, or turn train.cache off."
        )
    for path, value in zip(paths, values, strict=True):
        yield RowWriter(path, (num_items, *value.shape[1:]), value.dtype)


def _storable(value: Tensor, half: bool, items: Int64) -> Array:
    if value.is_floating_point():
        value = value.to(torch.float16 if half else torch.float32)
        broken = ~value.flatten(1).isfinite().all(1)
        if broken.any():
            beyond = "NaN, infinite or beyond float16 (turn off train.cache, if on)" if half else "NaN or infinite"
            raise InputError(f"what the encoder makes of item number {items[int(broken.nonzero()[0])]} is {beyond}.")
    return value.cpu().numpy()
