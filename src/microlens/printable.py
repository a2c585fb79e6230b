"""Text of others (titles, names of files, contents of files), made fit to be shown."""

import re

# What steers a terminal (C0 and C1 control characters but tab and line feed, DEL), and what turns the order of text.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile("[\ud800-\udfff]")  # stands for a byte of a file name that is no UTF-8; nothing can write it


def printable(text: str) -> str:
    """``text`` without control characters other than tab and line feed, and without surrogates."""
    return _SURROGATE.sub("\ufffd", _STEERING.sub("", text))


def one_line(text: str, most: int = 1000) -> str:
    """``text`` on one line, printable; of more than ``most`` characters, the beginning and the end."""
    if len(text) > most:
        text = f"{text[: most // 2]} ... {text[-(most // 2) :]}"
    return printable(" ".join(text.strip().splitlines()))


def shown(value: object, most: int = 100) -> str:
    """A value as Python writes it, no longer than ``most`` characters."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."
