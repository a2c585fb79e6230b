"""The exception for user errors, and messages for system failures."""

import errno
import re
from concurrent.futures import BrokenExecutor

# Terminal control characters (C0 and C1 except tab and line feed, DEL), and characters that change the order of text.
_CONTROL_CHARACTERS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile("[\ud800-\udfff]")  # a byte of a file name that is not UTF-8; cannot be encoded


def has_surrogates(text: str) -> bool:
    """True if ``text`` has characters that UTF-8 cannot encode."""
    return _SURROGATE.search(text) is not None


def printable(text: str) -> str:
    """``text`` without surrogates and control characters, except tab and line feed."""
    return _SURROGATE.sub("\ufffd", _CONTROL_CHARACTERS.sub("", text))


def one_line(text: str, most: int = 1000) -> str:
    """``text`` on one line, printable; longer text is reduced to its beginning and end, ``most`` characters in all."""
    if len(text) > most:
        text = f"{text[: most // 2]} ... {text[-(most // 2) :]}"
    return printable(" ".join(text.strip().splitlines()))


def shown(value: object, most: int = 100) -> str:
    """The ``repr`` of a value, truncated to ``most`` characters."""
    text = repr(value)
    return text if len(text) <= most else f"{text[:most]}..."


AGAIN = "run the same command again: what was finished is kept."
_FULL = f"no space left on the disk; free some and {AGAIN}"
_MEMORY = f"there is not enough memory; choose smaller sizes or fewer workers, or free some and {AGAIN}"
_WORKERS = f"a worker process ended without a message, probably killed by the system for lack of memory; {AGAIN}"
_SYSTEM_MESSAGES = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EIO: f"reading or writing failed: the disk is failing, or has no space left; free some and {AGAIN}",
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: f"the system cannot start more processes or threads; end some and {AGAIN}",
    errno.EMFILE: "too many files are open; raise the limit (ulimit -n) and run the same command again.",
    errno.ENFILE: "the system has too many files open; close some programs and run the same command again.",
    errno.EFBIG: "a file is larger than the disk or its quota accepts; choose another disk.",
}
# PyTorch's messages; on CPUs it raises a plain RuntimeError.
_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "Storage size calculation overflowed")

_SYSTEM_CODE = re.compile(r"\(os error (\d+)\)")  # in messages of libraries in Rust, whose errors often have no errno


class InputError(ValueError):
    """The user's input cannot be used.

    The message is one sentence that says what is wrong, where (file and line), and what is accepted. The command line
    prints it without a traceback and exits with status 2. Quoted input cannot control a terminal, break the line, or
    extend the message beyond about a thousand characters.
    """

    def __init__(self, sentence: object) -> None:
        super().__init__(one_line(str(sentence)))


def sentence_of(error: BaseException) -> str | None:
    """The message for the user, or None for a bug of the program, whose traceback should be shown."""
    if isinstance(error, InputError):
        return str(error)
    if lacks_memory(error):
        return _MEMORY
    if isinstance(error, (BrokenExecutor, BrokenPipeError, ConnectionResetError)):
        return _WORKERS
    if isinstance(error, OSError):
        return _sentence_of_system(error)
    return _SYSTEM_MESSAGES.get(system_code(str(error))) if _is_compute_error(error) else None


def system_code(text: str) -> int:
    """The number of the system error in the message of a library in Rust, such as polars; 0 if it has none."""
    found = _SYSTEM_CODE.search(text)
    return 0 if found is None else int(found[1])


def lacks_memory(error: BaseException) -> bool:
    """True if an error of Python, NumPy or PyTorch means that there is not enough memory."""
    if isinstance(error, RuntimeError):
        return any(words in str(error) for words in _NO_MEMORY)
    return isinstance(error, MemoryError)


def _sentence_of_system(error: OSError) -> str | None:
    code = system_code(str(error)) if error.errno is None else error.errno
    if code in _SYSTEM_MESSAGES:
        return _SYSTEM_MESSAGES[code]
    if error.filename is not None:
        return one_line(f"{_name(error.filename)} cannot be used: {error.strerror}.")
    if error.errno == errno.ENOENT:
        return "the working folder does not exist any more; change to another one."
    return None


def _is_compute_error(error: BaseException) -> bool:
    """True for what polars raises if a Parquet file cannot be written; polars itself is not imported for a message."""
    return (type(error).__module__, type(error).__name__) == ("polars.exceptions", "ComputeError")


def _name(filename: object) -> str:
    return filename.decode(errors="replace") if isinstance(filename, bytes) else str(filename)
