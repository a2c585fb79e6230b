"""Taking up files that were fetched by hand, as a release folder."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from microlens.download.archive import LEFTOVERS, Archive, archive_of, why_left_out
from microlens.download.failures import UnavailableError
from microlens.download.local_zips import find_zips
from microlens.download.recognition import Match, beginning, is_media, item_in_name, recognise
from microlens.download.registry import ReleaseSet, find_set, load_registry
from microlens.download.split_zip import LocalParts, Member, extract, parse_directory, read_directory_bytes
from microlens.download.state import State, open_state
from microlens.errors import InputError
from microlens.files.progress_bar import OnProgress
from microlens.files.writing import MARK, crc32, link_or_copy, sha256

_MEDIA = (".mp4", ".jpg")
_TABLES = (".csv", ".tsv", ".txt", ".npy", ".parquet")
_UNKNOWN = "its content is not that of an official file"


@dataclass
class Adoption:
    """What was taken up.

    Attributes:
        folder: the release folder.
        name: the name of the set.
        placed: paths in the release of the files that were placed.
        present: number of files that were there already.
        left_out: why a file was not taken up, by its path from the folder of the files.
    """

    folder: Path
    name: str = ""
    placed: list[str] = field(default_factory=list)
    present: int = 0
    left_out: dict[str, str] = field(default_factory=dict)


@dataclass
class _Sources:
    """Files by what they are: the matches of tables, media, and zips with their members; names as they are shown."""

    names: dict[Path, str] = field(default_factory=dict)
    tables: dict[Path, list[Match]] = field(default_factory=dict)
    media: list[Path] = field(default_factory=list)
    zips: dict[LocalParts, list[Member]] = field(default_factory=dict)


def adopt_release(
    folder: Path | str, out: Path | str, *, name: str | None = None, on_progress: OnProgress | None = None
) -> Adoption:
    """Make a release folder of files that were fetched by hand, which are recognised by their content.

    Files are linked where the disk allows it and copied otherwise; those in ``folder`` stay as they are. Zips are
    unpacked. :func:`download_release` fetches the rest.

    Args:
        folder: the files, in any folders within.
        out: the release folder; no file that is there is overwritten.
        name: the set; by default that of the files.
        on_progress: called with the numbers of files done and of all.

    Raises:
        InputError: ``folder`` is none, the set cannot be told, or another process is writing to ``out``.
    """
    folder, out = Path(folder), Path(out)
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder; expected one with files of MicroLens.")
    adoption = Adoption(out)
    with TemporaryDirectory() as unpacked:
        sources = _sort(_files_below(folder, out, adoption), Path(unpacked), adoption)
        chosen = find_set(name) if name else _only_set(folder, sources)
        adoption.name = chosen.name
        out.mkdir(parents=True, exist_ok=True)
        with open_state(out) as state:
            tasks = list(_tasks(sources, chosen, adoption))
            for done, task in enumerate(tasks):
                _place(task, state, adoption)
                if on_progress:
                    on_progress(done + 1, len(tasks))
    return adoption


def _files_below(folder: Path, out: Path, adoption: Adoption) -> dict[Path, str]:
    """All files in ``folder`` and below, by path, with their names from there; without ``out`` and leftovers."""
    found = {}
    inside = folder.resolve()
    for where, folders, files in os.walk(folder):
        here = Path(where)
        folders[:] = sorted(
            name for name in folders if name not in LEFTOVERS and not name.startswith(MARK) and here / name != out
        )
        for path in (here / name for name in sorted(files)):
            if path.name in LEFTOVERS or path.name.startswith("._"):
                continue
            shown = path.relative_to(folder).as_posix()
            if path.is_symlink() and not path.resolve().is_relative_to(inside):
                adoption.left_out[shown] = "it is a link that points out of the folder"
            elif path.is_file() and not path.is_symlink():
                found[path] = shown
    return found


def _sort(names: dict[Path, str], unpacked: Path, adoption: Adoption) -> _Sources:
    """Sort files by what they are; tables in zips are unpacked into ``unpacked``."""
    sources = _Sources(names)
    sources.media = [path for path in names if any(is_media(beginning(path), suffix) for suffix in _MEDIA)]
    media = set(sources.media)
    for parts in find_zips([path for path in names if path not in media]):
        zip_name = names[parts.last]
        try:
            sources.zips[parts] = parse_directory(read_directory_bytes(parts), parts.sizes)
        except UnavailableError as error:
            adoption.left_out[zip_name] = str(error)
            continue
        names |= _unpack_tables(parts, sources.zips[parts], zip_name, unpacked, adoption)
    sorted_already = {*media, *(path for parts in sources.zips for path in parts.paths)}
    for path, name in names.items():
        if path in sorted_already or name in adoption.left_out:
            continue
        if matches := recognise(path, list(load_registry().values())):
            sources.tables[path] = matches
        else:
            adoption.left_out[name] = _UNKNOWN
    return sources


def _unpack_tables(
    parts: LocalParts, members: Sequence[Member], zip_name: str, folder: Path, adoption: Adoption
) -> dict[Path, str]:
    """Unpack members that may be tables, and report those that are never unpacked."""
    tables = {}
    for member in members:
        name, why = f"{zip_name}: {member.info.filename}", why_left_out(member.info)
        if why is None and PurePosixPath(member.info.filename).suffix.lower() in _TABLES:
            path = folder / f"{len(list(folder.iterdir()))}{PurePosixPath(member.info.filename).suffix}"
            try:
                extract(parts, member, path)
                tables[path] = name
            except UnavailableError as error:
                why = str(error)
        if why:
            adoption.left_out[name] = why
    return tables


def _only_set(folder: Path, sources: _Sources) -> ReleaseSet:
    """The set of the pairs, or else the one that most files belong to."""
    matches = [match for several in sources.tables.values() for match in several]
    of_pairs = {match.chosen.name for match in matches if match.file.kind == "pairs"}
    votes = Counter(match.chosen.name for match in matches)
    folders = {PurePosixPath(member.info.filename).parts[0] for members in sources.zips.values() for member in members}
    for chosen in load_registry().values():
        votes[chosen.name] += sum(media.folder in folders for media in chosen.media)
    most = max(votes.values(), default=0)
    likely = of_pairs or {name for name, number in votes.items() if number == most > 0}
    if len(likely) == 1:
        return find_set(likely.pop())
    if likely:
        raise InputError(f"{folder} holds files of {' and '.join(sorted(likely))}; name one of them (--set).")
    raise InputError(f"nothing in {folder} tells which set it is of; name it (--set {' | '.join(load_registry())}).")


@dataclass(frozen=True)
class _FileTask:
    """Place a file as it is."""

    source: Path
    shown: str
    path: str
    sha256: str | None = None

    def bring(self, target: Path) -> None:
        """Make the file ``target``."""
        _link(self.source, target)

    def is_same(self, target: Path) -> bool:
        """True if the file ``target`` has the same content."""
        return sha256(target) == (self.sha256 or sha256(self.source))


@dataclass(frozen=True)
class _MemberTask:
    """Unpack a member of a zip."""

    parts: LocalParts
    member: Member
    shown: str
    path: str
    sha256: None = None

    def bring(self, target: Path) -> None:
        """Make the file ``target``; raises UnavailableError if the member is damaged."""
        extract(self.parts, self.member, target)

    def is_same(self, target: Path) -> bool:
        """True if the file ``target`` has the same size and CRC-32."""
        return (target.stat().st_size, crc32(target)) == (self.member.info.file_size, self.member.info.CRC)


_Task = _FileTask | _MemberTask


def _place(task: _Task, state: State, adoption: Adoption) -> None:
    """Place a file in the release, unless it is there."""
    target = state.release / task.path
    if not target.exists():
        temporary = state.partial_path(task.path)
        try:
            task.bring(temporary)
        except UnavailableError as error:
            adoption.left_out[task.shown] = str(error)
            return
        state.place(temporary, task.path, task.sha256)
        adoption.placed.append(task.path)
    elif state.has(task.path):
        adoption.present += 1
    elif task.is_same(target):
        state.record(task.path, task.sha256)
        adoption.present += 1
    else:
        adoption.left_out[task.shown] = f"another file is called {target} already"


def _tasks(sources: _Sources, chosen: ReleaseSet, adoption: Adoption) -> Iterator[_Task]:
    """What has to be placed; of several files for the same path, the first."""
    taken: dict[str, str] = {}
    for task in (*_table_tasks(sources, chosen, adoption), *_media_tasks(sources, chosen, adoption)):
        if isinstance(task, _FileTask) and task.path in taken:
            adoption.left_out[task.shown] = f"{taken[task.path]} is the same file of the set"
        else:
            taken[task.path] = task.shown
            yield task


def _table_tasks(sources: _Sources, chosen: ReleaseSet, adoption: Adoption) -> Iterator[_FileTask]:
    for source, matches in sources.tables.items():
        match = next((match for match in matches if match.chosen == chosen), None)
        if match:
            yield _FileTask(source, sources.names[source], match.file.path, match.sha256)
        else:
            adoption.left_out[sources.names[source]] = f"it belongs to {matches[0].chosen.title}"


def _media_tasks(sources: _Sources, chosen: ReleaseSet, adoption: Adoption) -> Iterator[_Task]:
    left = dict.fromkeys(sources.media)
    for media in chosen.media:
        archives = {parts: archive_of(parts, members, media.suffix) for parts, members in sources.zips.items()}
        for source in [path for path in left if is_media(beginning(path), media.suffix)]:
            item = _item_of(source, archives.values())
            if item is not None:
                del left[source]
                yield _FileTask(source, sources.names[source], media.path_of(item))
        for parts, archive in archives.items():
            for number, member in archive.members.items():
                shown = f"{sources.names[parts.last]}: {member.info.filename}"
                yield _MemberTask(parts, member, shown, media.path_of(number))
    adoption.left_out |= {sources.names[path]: "neither its name nor a zip tells its item" for path in left}


def _item_of(source: Path, archives: Iterable[Archive]) -> int | None:
    """The item of a file: that of a zip's member with the same content, or else the one in its name."""
    size = source.stat().st_size
    by_crc = {
        member.info.CRC: item
        for archive in archives
        for item, member in archive.members.items()
        if member.info.file_size == size
    }
    by_content = by_crc.get(crc32(source)) if by_crc else None
    return item_in_name(source) if by_content is None else by_content


def _link(source: Path, target: Path) -> None:
    """Make ``target`` a link to ``source``, or a copy where the disk has no links."""
    target.unlink(missing_ok=True)
    link_or_copy(source, target)
