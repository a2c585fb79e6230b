"""Which published set a release is, and whether its ids are the published ones."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from microlens.download.registry import ReleaseSet, RemoteFile, load_registry
from microlens.files.writing import git_blob, sha256
from microlens.release.pairs import Pairs
from microlens.verification.findings import Case, Finding, grouped, note
from microlens.verification.fingerprints import Fingerprints, fingerprints
from microlens.verification.mapping import Mapping, find_mapping, is_timed

Verdict = Literal["official", "permuted", "changed", "undecided", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Counts:
    """Numbers of users, items and interactions, None where unknown."""

    users: int | None
    items: int | None
    interactions: int | None

    def __str__(self) -> str:
        return ", ".join(f"{value:,} {name}" for name, value in vars(self).items() if value is not None)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What a release was found to be.

    verdict: ``official`` has the published ids and rows; ``permuted`` is a copy with other ids; ``changed`` has other
    rows; ``undecided`` has the counts of a published set, whose ids are not known here; ``unknown`` has the counts of
    none. sentence: the verdict in words. set_name: the published set, None if there is none. files: how each file with
    a published name compares, by name. mapping: between its ids and those of the original, if that was given.
    """

    verdict: Verdict
    sentence: str
    counts: Counts
    set_name: str | None = None
    files: dict[str, str] = field(default_factory=dict)
    fingerprints: Fingerprints
    mapping: Mapping | None = None

    def findings(self, *, expected: bool) -> list[Finding]:
        """Faults: other ids or files than published and, if a set or an original was ``expected``, other rows."""
        wrong = self.verdict == "permuted" or (expected and self.verdict in ("changed", "unknown"))
        differing = [Case(file=name, why=how) for name, how in self.files.items() if how.startswith("differs")]
        cases = [("other interactions than published", Case(why=self.sentence))] if wrong else []
        return [
            *grouped("identity", cases),
            *note("identity", "identity", [] if wrong else [Case(why=self.sentence)]),
            *grouped("identity", (("files that differ from those published", case) for case in differing)),
        ]


def identify(
    pairs: Pairs, folder: Path | None, pairs_file: Path, wanted: ReleaseSet | None, official: Pairs | None
) -> Identity:
    """Compare a release with the published sets and, if it is given, with the original.

    Args:
        pairs: its interactions.
        folder: its folder; None if there is only ``pairs_file``.
        pairs_file: the file of the interactions.
        wanted: the set to compare with; by default the one with the same counts.
        official: the original interactions.
    """
    counts = _counts(pairs)
    prints = fingerprints(pairs.events, timed=is_timed(pairs.events))
    known = wanted or _set_with(counts)
    files = dict(_compared_files(folder or pairs_file.parent, known)) if known else {}
    mapping = None
    if official is not None:
        mapping = find_mapping(pairs, official)
        verdict, sentence = _against(mapping, pairs, official)
    elif known is None:
        sets = ", ".join(one.title for one in load_registry().values())
        verdict, sentence = "unknown", f"its counts ({counts}) are those of no published set ({sets})"
    else:
        as_published = files.get(pairs_file.name) == _AS_PUBLISHED
        verdict, sentence = _by_fingerprints(known, counts, prints, pairs, as_published=as_published)
    return Identity(
        verdict=verdict,
        sentence=sentence,
        counts=counts,
        set_name=known.name if known else None,
        files=files,
        fingerprints=prints,
        mapping=mapping,
    )


def _counts(pairs: Pairs) -> Counts:
    events = pairs.events
    return Counts(users=events["user"].n_unique(), items=events["item"].n_unique(), interactions=len(events))


def _published(known: ReleaseSet) -> Counts:
    return Counts(users=known.users, items=known.items, interactions=known.interactions)


def _set_with(counts: Counts) -> ReleaseSet | None:
    return next((one for one in load_registry().values() if _published(one) == counts), None)


_AS_PUBLISHED = "as published"


def _compared_files(folder: Path, known: ReleaseSet) -> Iterator[tuple[str, str]]:
    """How each file of the set that is in the folder compares with what is known of it."""
    for file in known.files:
        path = folder / file.path
        if path.is_file():
            yield file.path, _compared(path, file)


def _compared(path: Path, file: RemoteFile) -> str:
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"differs: {size:,} bytes instead of {file.size:,}"
    if file.sha256 is not None:
        return _AS_PUBLISHED if file.has_sha256(sha256(path)) else "differs: another SHA-256"
    if file.git_blob is not None:
        return _AS_PUBLISHED if git_blob(path) == file.git_blob else "differs: another git blob"
    return "not compared: no checksum is known"


def _by_fingerprints(
    known: ReleaseSet, counts: Counts, prints: Fingerprints, pairs: Pairs, *, as_published: bool
) -> tuple[Verdict, str]:
    """The verdict without the original."""
    if as_published:
        return "official", f"its interactions are the published file of {known.title}"
    if counts != _published(known):
        return "changed", f"it has {counts}, {known.title} has {_published(known)}"
    own, published = vars(prints), known.fingerprints
    same = {name for name, value in published.items() if own[name] == value}
    if not published:
        return "undecided", (
            f"its counts are those of {known.title}, with items {_range(pairs)}; whether its ids are, too, can only be "
            "told against the published file"
        )
    if "rows" in same:
        order = "" if "sequences" in same else ", in another order where times are equal or missing"
        return "official", f"it has the users, items and interactions of {known.title}{order}"
    if "graph" in same:
        return (
            "permuted",
            f"it is {known.title} with {_permuted(same)} permuted; they are mapped back against the published file",
        )
    return "changed", f"it has the counts of {known.title}, but other interactions"


def _permuted(same: set[str]) -> str:
    changed = [
        ids for ids, name in (("user ids", "lengths_by_user"), ("item ids", "counts_by_item")) if name not in same
    ]
    return " and ".join(changed or ["ids"])


def _range(pairs: Pairs) -> str:
    ids = pairs.with_ids()["item"].unique().sort().to_list()
    return f"{ids[0]} to {ids[-1]}"


def _against(mapping: Mapping, copy: Pairs, official: Pairs) -> tuple[Verdict, str]:
    rows = f"{mapping.agreeing:,} of {mapping.rows:,} rows agree"
    if mapping.rows != len(official.events):
        rows += f" (the original has {len(official.events):,})"
    if not mapping.is_copy:
        return "changed", f"it is no copy of the original: {rows}"
    permuted = [
        f"{len(table):,} {name}"
        for name, table, differs in (
            ("items", mapping.items, mapping.permutes_items),
            ("users", mapping.users, mapping.permutes_users),
        )
        if differs
    ]
    if permuted:
        return "permuted", f"it is a copy with other ids: with {' and '.join(permuted)} matched by {mapping.by}, {rows}"
    same = copy.with_ids().equals(official.with_ids())
    return ("official" if same else "changed"), f"it has the ids of the original: {rows}"
