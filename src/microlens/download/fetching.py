"""Fetching the files of a set into a release folder."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath

from microlens.download.archive import Archive, open_archive
from microlens.download.content import is_cut_short
from microlens.download.failures import UnavailableError
from microlens.download.first_seen import check_content, remember
from microlens.download.progress import Tally
from microlens.download.registry import MediaFolder, RemoteFile
from microlens.download.server import Server
from microlens.download.split_zip import LocalParts, Member, extract
from microlens.download.state import State
from microlens.download.transfer import Received, Transfer
from microlens.download.work import Download, Fetch, fetch_all
from microlens.errors import InputError
from microlens.files.writing import crc32, sha256

_MOVE = "move it away to fetch the official one"


@dataclass(frozen=True)
class Fetcher:
    """Fetches files from a server into a release folder.

    Attributes:
        server: where they are.
        state: what is known of the release folder.
        done: what was done, to be added to.
        tally: the progress.
        jobs: number of files at a time.
    """

    server: Server
    state: State
    done: Download
    tally: Tally
    jobs: int

    def fetch_tables(self, files: Sequence[RemoteFile], sizes: Mapping[str, int]) -> None:
        """Fetch single files, of which the ``sizes`` are known by path, or are not."""
        left = [file for file in files if not self.state.has(file.path)]
        self._expect(len(files) - len(left), {file.path: sizes.get(file.path, 0) for file in left})
        self.done.missing |= self._fetch_all({file.path: partial(self._fetch_table, file) for file in left})

    def fetch_media(self, media: MediaFolder, items: Sequence[int], archive: Archive | None) -> None:
        """Fetch the files of items: from the zip, and those that cannot be had there as single files."""
        paths = {media.path_of(item): item for item in items}
        left = {path: item for path, item in paths.items() if not self.state.has(path)}
        members = (
            {path: archive.members[item] for path, item in left.items() if item in archive.members} if archive else {}
        )
        sizes = {path: members[path].info.compress_size if path in members else 0 for path in left}
        self._expect(len(items) - len(left), sizes)
        why = {}
        if archive:
            self.done.notes += archive.notes
            why = dict.fromkeys(left.keys() - members.keys(), "it is not there")
            why |= self._fetch_all(
                {path: partial(self._fetch_member, archive, member, path) for path, member in members.items()}
            )
            self.done.missing |= {path: reason for path, reason in why.items() if self._exists(path)}
            left = {path: left[path] for path in why if not self._exists(path)}
        failed = self._fetch_all({path: partial(self._fetch_single, media, item) for path, item in left.items()})
        for path, reason in failed.items():
            self.done.missing[path] = f"in the zip: {why[path]}; as a single file: {reason}" if path in why else reason

    def fetch_archive(self, media: MediaFolder) -> Archive:
        """Fetch a whole zip, to be unpacked from this machine.

        Raises:
            UnavailableError, TransferError: it cannot be had, or is no zip.
        """
        address = media.archive_parts[-1]
        name = PurePosixPath(address).name
        received = self._transfer(address, name)
        check_content(RemoteFile(path=name, kind=media.kind, address=address), received.path, received.sha256)
        archive = open_archive(LocalParts((received.path,)), media.suffix)
        remember(address, received.size, received.sha256)
        self.tally.on_end(name)
        return archive

    def _exists(self, path: str) -> bool:
        return (self.state.release / path).exists()

    def _fetch_all(self, tasks: Mapping[str, Fetch]) -> dict[str, str]:
        return fetch_all(tasks, self.done, self.tally, self.server.stop, self.jobs)

    def _expect(self, present: int, sizes: Mapping[str, int]) -> None:
        self.done.present += present
        check_space(self.state.release, sum(sizes.values()))
        self.tally.expect(len(sizes), sum(sizes.values()))

    def _transfer(self, address: str, path: str) -> Received:
        return Transfer(self.server, self.state, address, path, self.tally.on_bytes).run()

    def _fetch_table(self, file: RemoteFile) -> int | None:
        target = self.state.release / file.path
        if target.exists():
            self._take_as_it_is(file, target)
            return None
        received = self._transfer(file.address, file.path)
        try:
            check_content(file, received.path, received.sha256)
        except UnavailableError as error:
            received = self._once_more(file, received, error)
        remember(file.address, received.size, received.sha256)
        self.state.place(received.path, file.path, received.sha256)
        return received.fetched

    def _once_more(self, file: RemoteFile, received: Received, error: UnavailableError) -> Received:
        """Fetch a file with a wrong checksum again, if an earlier run had fetched a part of it."""
        if received.fetched < received.size:
            received.path.unlink()
            again = self._transfer(file.address, file.path)
            check_content(file, again.path, again.sha256)
            return again
        kept = self.state.folder / f"refused-{PurePosixPath(file.path).name}"
        received.path.replace(kept)
        raise UnavailableError(f"{error}; what came is kept as {kept}")

    def _take_as_it_is(self, file: RemoteFile, target: Path) -> None:
        """Record a file that somebody put there, if it is the official one."""
        digest, entry = sha256(target), self.state.entry(file.path)
        if entry is None or entry.sha256 != digest:
            try:
                check_content(file, target, digest)
            except UnavailableError as error:
                raise UnavailableError(f"another file is there ({error}); {_MOVE}") from None
            if file.size is None:
                self._compare_size(file.address, target)
        self.state.record(file.path, digest)

    def _compare_size(self, address: str, target: Path) -> None:
        here, there = target.stat().st_size, self.server.look(address).total
        if there not in (None, here):
            raise UnavailableError(f"a file of {here:,} bytes is there, and the server has {there:,}; {_MOVE}")

    def _fetch_member(self, archive: Archive, member: Member, path: str) -> int | None:
        target = self.state.release / path
        if target.exists():
            if (target.stat().st_size, crc32(target)) != (member.info.file_size, member.info.CRC):
                raise UnavailableError(f"a file with another size or CRC-32 is there; {_MOVE}")
            self.state.record(path)
            return None
        temporary, size = self.state.partial_path(path), member.info.compress_size
        extract(archive.parts, member, temporary, lambda so_far: self.tally.on_bytes(path, so_far, size))
        self.state.place(temporary, path)
        return size

    def _fetch_single(self, media: MediaFolder, item: int) -> int | None:
        path, address = media.path_of(item), media.address_of(item)
        target = self.state.release / path
        if target.exists():
            before = self.state.entry(path)
            if before and before.sha256 not in (None, sha256(target)):
                raise UnavailableError(f"it was changed since it was fetched; {_MOVE}")
            self._compare_size(address, target)
            self.state.record(path, before.sha256 if before else None)
            return None
        received = self._transfer(address, path)
        if is_cut_short(received.path, media.suffix):
            received = self._again_if_cut_short(address, path, received)
        before = self.state.entry(path)
        if before and before.sha256 not in (None, received.sha256):
            raise UnavailableError("it has changed on the server since it was first fetched")
        self.state.place(received.path, path, received.sha256)
        return received.fetched

    def _again_if_cut_short(self, address: str, path: str, received: Received) -> Received:
        received.path.unlink()
        again = self._transfer(address, path)
        if again.sha256 == received.sha256:
            self.done.notes.append(f"{path} is cut short on the server.")
        return replace(again, fetched=again.fetched + received.fetched)


def check_space(folder: Path, needed: int) -> None:
    """Raise InputError if the disk of ``folder`` has less than ``needed`` bytes left."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{needed / 1e9:,.1f} GB are to be fetched, and the disk of {folder} has {free / 1e9:,.1f} GB left; "
            f"name fewer kinds (--only) or fewer items (--items)."
        )
