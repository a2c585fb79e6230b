"""Folders of uploaded videos: one for each, locked while the upload is being made, and removed unless it succeeds."""

import shutil
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from microlens.errors import InputError
from microlens.files.writing import LOCK, UNFINISHED, claim_folder, lock_folder

COPY, COVER = "video.mp4", "cover.jpg"
_RECEIVED = "received"
_PASSING = (_RECEIVED, LOCK)
_NAMES = (*_PASSING, COPY, COVER, f".{COPY}{UNFINISHED}", f".{COVER}{UNFINISHED}")


class UploadFolder:
    """The folder of an upload that is being made.

    Args:
        path: must not exist.
        on_close: called when the upload has ended.

    Raises:
        OSError: the folder cannot be made.
    """

    def __init__(self, path: Path, on_close: Callable[[], object]) -> None:
        path.mkdir()
        self.path = path
        self._closing = ExitStack()
        self._kept = False
        try:
            self._closing.enter_context(lock_folder(path))
        except OSError:
            self.close()
            raise
        self._closing.callback(on_close)

    @property
    def received(self) -> Path:
        """What the client sends, under a name that is not the client's."""
        return self.path / _RECEIVED

    @property
    def copy(self) -> Path:
        """The video that people see."""
        return self.path / COPY

    @property
    def cover(self) -> Path:
        """A picture of it."""
        return self.path / COVER

    def keep(self) -> None:
        """Let the video and its cover stay."""
        self._kept = True

    def close(self) -> None:
        """Remove what is not kept, and release the lock."""
        _remove(self.path, _PASSING if self._kept else _NAMES)
        self._closing.close()


def remove_leftovers(root: Path, stored: Callable[[], Iterable[str]]) -> None:
    """Remove what killed servers have left of uploads that are not stored.

    Args:
        root: folder with one folder for each upload, named by its item.
        stored: returns the items of the store.

    Raises:
        InputError: the folder holds other files.
    """
    claim_folder(root)
    finished = set(stored())
    for path in [path for path in root.iterdir() if path.is_dir() and not path.is_symlink()]:
        if path.name in finished:
            _remove(path, _PASSING)
            continue
        with suppress(InputError), lock_folder(path):  # that of another server is locked
            _remove(path, _PASSING if path.name in stored() else _NAMES)


def free_bytes(root: Path) -> int:
    """The space that is left on the disk."""
    return shutil.disk_usage(root).free


def _remove(path: Path, names: Iterable[str]) -> None:
    """Remove files of an upload, and its folder if that is empty then."""
    for name in names:
        (path / name).unlink(missing_ok=True)
    with suppress(OSError):
        path.rmdir()
