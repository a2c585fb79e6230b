"""The one exception that speaks to the user, and what to say of failures of the machine."""

import errno
import re
from concurrent.futures import BrokenExecutor

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


AGAIN = "run the same command again: what was finished is kept."
_FULL = f"no space left on the disk; free some and {AGAIN}"
_MEMORY = f"the memory does not suffice; choose smaller sizes or fewer workers, or free some and {AGAIN}"
_WORKERS = f"a worker process ended without a word, as one does that the system kills for lack of memory; {AGAIN}"
_OF_THE_MACHINE = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EIO: f"reading or writing failed: the disk is failing, or has no space left; free some and {AGAIN}",
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: f"the system starts no more processes or threads; end some and {AGAIN}",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n) and run the same command again.",
    errno.ENFILE: "the system has too many files open; close some programs and run the same command again.",
    errno.EFBIG: "a file grows larger than the disk or its quota accepts; choose another disk.",
}
# As PyTorch words it, which raises a plain RuntimeError on a processor.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "Storage size calculation overflowed")


class InputError(ValueError):
    """What the user gave cannot be used.

    Its text is one sentence that says what is wrong, where (file and line), and what is accepted. The command line
    prints it without a traceback and exits with status 2. What it quotes cannot steer a terminal, break its line, or
    make it longer than about a thousand characters.
    """

    def __init__(self, sentence: object) -> None:
        super().__init__(one_line(str(sentence)))


def sentence_of(error: BaseException) -> str | None:
    """What to tell the user of an error; None where it is the program's own fault, whose traceback should be seen."""
    if isinstance(error, InputError):
        return str(error)
    if lacks_memory(error):
        return _MEMORY
    if isinstance(error, (BrokenExecutor, BrokenPipeError, ConnectionResetError)):
        return _WORKERS
    return _sentence_of_system(error) if isinstance(error, OSError) else None


def lacks_memory(error: BaseException) -> bool:
    """Whether an error says that there is not enough memory, as Python, NumPy or PyTorch do."""
    if isinstance(error, RuntimeError):
        return any(words in str(error) for words in _NO_MEMORY)
    return isinstance(error, MemoryError)


def _sentence_of_system(error: OSError) -> str | None:
    if error.errno in _OF_THE_MACHINE:
        return _OF_THE_MACHINE[error.errno]
    if error.filename is not None:
        return one_line(f"{_name(error.filename)} cannot be used: {error.strerror}.")
    if error.errno == errno.ENOENT:
        return "the working folder does not exist any more; change to another one."
    return None


def _name(filename: object) -> str:
    return filename.decode(errors="replace") if isinstance(filename, bytes) else str(filename)
