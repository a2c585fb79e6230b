"""Making an item of a file that a person has sent: checked, copied, encoded, stored, and ranked from then on."""

import errno
import logging
import os
import secrets
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch

from microlens.errors import InputError
from microlens.feed.group_commit import StoreUnavailableError
from microlens.feed.people import now_ms
from microlens.feed.settings import Limits
from microlens.feed.upload_folders import UploadFolder, free_bytes, remove_leftovers
from microlens.feed.uploads import Uploads
from microlens.media.faults import MediaFault
from microlens.media.untrusted_videos import UntrustedVideo, VideoCopy, VideoLimits, copy_untrusted

MOST_AT_ONCE = 4
RESERVED_BYTES = 2**30
_FIRST_ID, _LAST_ID = 2**40, 2**53
_log = logging.getLogger(__name__)


class BusyError(Exception):
    """An upload cannot begin now; the message says why, and ``own`` is True if the person is the reason."""

    def __init__(self, why: str, *, own: bool = False) -> None:
        super().__init__(why)
        self.own = own


class Publisher:
    """Publishes videos one after another in a thread of its own, so that those who watch do not wait.

    Args:
        uploads: the uploads of a feed.
        folder: folder for videos and covers; leftovers of killed servers in it are removed.
        limits: limits on videos.
        text_ids: the ids of items are text.

    Raises:
        InputError: the folder holds other files.
    """

    def __init__(self, uploads: Uploads, folder: Path, limits: Limits, *, text_ids: bool) -> None:
        self._uploads, self._folder, self._text_ids = uploads, folder.resolve(), text_ids
        self._bytes = limits.upload_bytes
        self._limits = VideoLimits(
            seconds=limits.upload_seconds, pixels=limits.upload_pixels, copy_bytes=2 * limits.upload_bytes
        )
        self._running: set[str] = set()
        self._stopping = threading.Event()
        remove_leftovers(self._folder, uploads.stored)
        self._thread = ThreadPoolExecutor(1, "uploads", torch.set_num_threads, (1,))

    def stop(self) -> None:
        """End the checking of videos; an upload that is not checked yet fails."""
        self._stopping.set()

    def close(self) -> None:
        """Stop, and wait for the end of what is running."""
        self.stop()
        self._thread.shutdown()

    def begin(self, person: str) -> UploadFolder:
        """A folder to receive a file into, which is given to :meth:`publish`, or else closed.

        Raises:
            BusyError: the person or too many others are uploading.
            OSError: the disk is nearly full.
        """
        if person in self._running:
            raise BusyError("you are uploading a video already; wait for its end", own=True)
        if len(self._running) >= MOST_AT_ONCE:
            raise BusyError("several videos are being uploaded already; try again in a moment")
        if free_bytes(self._folder) < RESERVED_BYTES + 3 * self._bytes:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        folder = UploadFolder(self._folder / self._new_id(), lambda: self._running.discard(person))
        self._running.add(person)
        return folder

    def _new_id(self) -> str:
        number = _FIRST_ID + secrets.randbelow(_LAST_ID - _FIRST_ID)
        return f"upload-{number}" if self._text_ids else str(number)

    def publish(self, folder: UploadFolder, *, title: str, tag: str, person: str) -> "Future[int]":
        """Make an item of the received file, and close the folder; the future has the number of the item.

        It raises InputError if the file cannot be used, BusyError if the server stops, OSError if the disk is full, and
        StoreUnavailableError if the store cannot be written. Nothing is left then.
        """
        return self._thread.submit(self._publish, folder, title, tag, person)

    def _publish(self, folder: UploadFolder, title: str, tag: str, person: str) -> int:
        try:
            return self._add(folder, self._copy(folder), title, tag, person)
        finally:
            folder.close()

    def _copy(self, folder: UploadFolder) -> VideoCopy:
        video = UntrustedVideo(source=folder.received, copy=folder.copy, cover=folder.cover, limits=self._limits)
        try:
            return copy_untrusted(video, self._stopping)
        except MediaFault as fault:
            if self._stopping.is_set():
                raise BusyError("the server stops; upload the video again later") from None
            _log.info("an upload was refused: %s", fault)
            raise InputError(f"the file cannot be used: {fault}") from None
        except InputError as error:
            _log.error("an upload cannot be checked: %s", error)
            raise BusyError("the server cannot check videos now; try again later") from error

    def _add(self, folder: UploadFolder, copy: VideoCopy, title: str, tag: str, person: str) -> int:
        item = folder.path.name
        row = {
            "item": item, "title": title, "tag": tag, "path": str(folder.copy), "cover": str(folder.cover),
            "width": copy.width, "height": copy.height, "duration_ms": copy.duration_ms,
            "person": person, "created": now_ms(),
        }  # fmt: skip
        try:
            number = self._uploads.add(row)
        except InputError as error:
            _log.warning("an upload cannot be ranked: %s", error)
            raise InputError("no model of this feed can rank this video") from None
        finally:
            if self._is_stored(item):
                folder.keep()
        _log.info("person %s has uploaded item %s", person, item)
        return number

    def _is_stored(self, item: str) -> bool:
        """Whether an item is in the store; True if that cannot be found out, so that the next start decides."""
        try:
            return item in self._uploads.stored()
        except StoreUnavailableError:
            return True
