"""What a broken or malicious file may do to the process that decodes it, in a module that is quick to import."""

import os
import signal
import time
from typing import Any


def die(_: Any) -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def hang(_: Any) -> None:
    time.sleep(600)


def take_memory(_: Any) -> None:
    from microlens.media.untrusted_videos import _limit_process

    _limit_process(2**20)
    bytearray(3 * 2**30)


def fill_the_disk(_: Any) -> None:
    raise OSError(28, "No space left on device")
