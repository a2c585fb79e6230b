"""What is wrong with one media file: a fault of the file, which never stops the job that reads many."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av

_FAILURES_OF_THE_MACHINE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT}


class MediaFault(Exception):  # noqa: N818 - the file is at fault, not the program
    """A media file that cannot be used; its text is one short plain reason."""


@contextmanager
def faults_of(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong while the file ``path`` is read into its MediaFault, so that no file stops a job.

    What is no fault of the file passes: no memory for the process, no file handles, a full disk.
    """
    try:
        yield
    except MediaFault:
        raise
    except av.error.FFmpegError as error:  # before the next, because some of these are MemoryError and OSError, too
        raise MediaFault(f"it cannot be decoded ({error.strerror})") from error
    except (MemoryError, RecursionError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno in _FAILURES_OF_THE_MACHINE:
            raise
        why = error.strerror if isinstance(error, OSError) and error.strerror else f"{type(error).__name__}: {error}"
        raise MediaFault(f"it cannot be read ({why})") from error
