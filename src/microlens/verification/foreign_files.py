"""Recognition of files that have the name of a picture or a video and are something else."""

from functools import partial
from pathlib import Path

from microlens.files.sent_instead import BEGINNING, sent_instead

_PIECE = 1 << 20
_ARCHIVES = {b"PK\x03\x04": "a zip archive", b"Rar!": "a RAR archive", b"\x1f\x8b": "a gzip file"}


def what_it_is(path: Path) -> str | None:
    """What a file is that is no picture, video or sound track, such as "a web page"; None if unknown.

    A download that never went on after its file was allocated is "nothing but zeros".
    """
    with path.open("rb") as file:
        beginning = file.read(BEGINNING)
        if beginning and not any(beginning) and not any(map(any, iter(partial(file.read, _PIECE), b""))):
            return "nothing but zeros"
    archive = next((kind for magic, kind in _ARCHIVES.items() if beginning.startswith(magic)), None)
    return sent_instead(beginning) or archive
