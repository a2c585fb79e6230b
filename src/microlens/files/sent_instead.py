"""Recognition of what servers send in place of a file."""

import re

BEGINNING = 4096
"""Bytes that are enough to recognise it."""
_KINDS = {
    "a web page": rb"(?is)(?:\xef\xbb\xbf)?\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body|script)\b",
    "an error message of a server": (
        rb"(?s)(?:\xef\xbb\xbf)?\s*(?:(?:<\?xml[^>]*>\s*)?<Error>"
        rb"|\{\s*\"(?:errors?|errno|errcode|code|detail|message|msg|status|success)\"\s*:)"
    ),
    "a Git LFS pointer": rb"version https://git-lfs",
}


def sent_instead(beginning: bytes) -> str | None:
    """What a file is that begins like this, such as "a web page", if a server sent it in place of another; else None.

    Args:
        beginning: the first bytes, of which :data:`BEGINNING` are looked at.
    """
    return next((kind for kind, pattern in _KINDS.items() if re.match(pattern, beginning[:BEGINNING])), None)
