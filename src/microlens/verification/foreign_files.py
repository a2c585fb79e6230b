"""Recognition of files that have the name of a picture or a video and are something else."""

import re
from functools import partial
from pathlib import Path

_BEGINNING, _PIECE = 4096, 1 << 20
_KINDS = {
    "a web page": rb"(?is)\s*(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)*(?:<!doctype html|<html|<head|<body|<script)",
    "an error message of a server": rb"(?s)\s*(?:<\?xml[^>]*>\s*<Error>|\{\s*\"(?:error|message|detail|code)\")",
    "a Git LFS pointer": rb"version https://git-lfs",
    "a zip archive": rb"PK\x03\x04",
    "a RAR archive": rb"Rar!",
    "a gzip file": rb"\x1f\x8b",
}


def what_it_is(path: Path) -> str | None:
    """What a file is that is no picture, video or sound track, such as "a web page"; None if unknown.

    A download that never went on after its file was allocated is "nothing but zeros".
    """
    with path.open("rb") as file:
        beginning = file.read(_BEGINNING)
        if beginning and not any(beginning) and not any(map(any, iter(partial(file.read, _PIECE), b""))):
            return "nothing but zeros"
    return next((kind for kind, pattern in _KINDS.items() if re.match(pattern, beginning)), None)
