"""What a broken or malicious file may do to the process that decodes it, in a module that is quick to import."""

import os
import signal
import time
from dataclasses import replace
from typing import Any

from microlens.media.untrusted_videos import _limit_process


def die(_: Any) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(_: Any) -> None:
    time.sleep(600)


def take_time(video: Any) -> None:
    _limit_process(replace(video.limits, cpu_seconds=1))
    while True:
        pass


def take_memory(video: Any) -> None:
    _limit_process(video.limits)
    bytearray(3 * 2**30)


def fill_the_disk(_: Any) -> None:
    raise OSError(28, "No space left on device")
