"""Decoders that the tests run in worker processes, in a module that is quick to import."""

import errno
import os
import time
from pathlib import Path

from microlens.media.decoding import Result, Settings, Task, decode

DEADLY = (1, 2)


def deadly_decode(task: Task, settings: Settings) -> Result:
    if task.item_id in DEADLY and "clips" in task.kinds:
        os._exit(9)
    return decode(task, settings)


def decode_on_a_full_disk(task: Task, settings: Settings) -> Result:
    if task.item_id == 2:
        raise OSError(errno.ENOSPC, "No space left on device")
    return decode(task, settings)


def slow_decode(task: Task, settings: Settings) -> Result:
    time.sleep(0.04)
    return decode(task, settings)


def logged_decode(task: Task, settings: Settings) -> Result:
    with Path(os.environ["DECODED"]).open("a") as log:
        log.write(f"{task.item_id} {' '.join(task.kinds)}\n")
    return slow_decode(task, settings)
