"""Stand-ins for the reader of texts, to be run in worker processes."""

import os
import signal

from microlens.media.text_recognition import ItemTexts, TextTask


def die_at_eight(task: TextTask) -> ItemTexts:
    if task.key == 8:
        os.kill(os.getpid(), signal.SIGKILL)
    return ItemTexts(key=task.key, pictures=[[]])
