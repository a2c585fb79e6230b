"""Faults of single media files, which never stop a job that reads many files."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av

_FULL = {errno.ENOSPC, errno.EDQUOT}
_SYSTEM_FAILURES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, *_FULL}


class MediaFault(Exception):  # noqa: N818 - the file is at fault, not the program
    """A media file cannot be used; the message is one short, plain reason."""


@contextmanager
def faults_of(path: Path) -> Iterator[None]:
    """Convert errors while reading the file ``path`` into a MediaFault, so that no single file stops a job.

    System failures are not converted: out of memory, no file handles left, full disk.
    """
    try:
        yield
    except MediaFault:
        raise
    except av.error.FFmpegError as error:  # first, because some of these are also MemoryError or OSError
        if error.errno in _FULL:
            raise OSError(error.errno, error.strerror) from error
        raise MediaFault(f"it cannot be decoded ({error.strerror})") from error
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _SYSTEM_FAILURES:
            raise
        why = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
        raise MediaFault(f"it cannot be read ({why})") from error
