"""What a verification finds: cases of one kind together, as faults or as notes."""

from collections.abc import Iterable
from dataclasses import dataclass

from microlens.release.ids import Id


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case: the item and the file that it is about, None if neither, and what is the matter.

    ``beside`` is the file that ``file`` is compared with.
    """

    why: str
    item: Id | None = None
    file: str | None = None
    beside: str | None = None

    @property
    def subject(self) -> str:
        """The file, or else the item, or neither."""
        if self.file is not None:
            return self.file
        return "" if self.item is None else f"item {self.item}"

    def __str__(self) -> str:
        return f"{self.subject}: {self.why}" if self.subject else self.why


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Cases of one kind, such as "truncated", found by one check, such as "videos"; notes are no faults."""

    check: str
    kind: str
    cases: tuple[Case, ...]
    is_fault: bool = True


def grouped(check: str, cases: Iterable[tuple[str, Case]], *, is_fault: bool = True) -> list[Finding]:
    """Findings of pairs of a kind and a case, the most frequent kind first."""
    by_kind: dict[str, list[Case]] = {}
    for kind, case in cases:
        by_kind.setdefault(kind, []).append(case)
    return [
        Finding(check=check, kind=kind, cases=tuple(found), is_fault=is_fault)
        for kind, found in sorted(by_kind.items(), key=lambda entry: -len(entry[1]))
    ]


def note(check: str, kind: str, cases: Iterable[Case]) -> list[Finding]:
    """A note, or nothing without cases."""
    return grouped(check, ((kind, case) for case in cases), is_fault=False)
