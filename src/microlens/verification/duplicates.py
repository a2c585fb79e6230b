"""Items whose media are the same file, or look the same."""

from collections.abc import Sequence

from microlens.release.ids import Id
from microlens.verification.findings import Case, Finding, grouped
from microlens.verification.media_files import CheckedFile
from microlens.verification.similar_pairs import similar_pairs

_NAMES = {"clips": "videos", "covers": "covers", "sound": "sound files"}


def find_duplicates(kind: str, files: Sequence[tuple[Id, CheckedFile]]) -> list[Finding]:
    """Files of one kind with the same content as an earlier one, and files that look like another.

    Equal content is a fault; files that look alike are a note, because people do upload a video again. Damaged files
    are compared by content only.

    Args:
        kind: clips, covers or sound.
        files: the items and their files.
    """
    first: dict[str, tuple[Id, CheckedFile]] = {}
    copies: list[tuple[str, Case]] = []
    distinct: list[tuple[Id, CheckedFile]] = []
    for item, file in files:
        if not file.sha256:
            continue
        original = first.setdefault(file.sha256, (item, file))
        if original[1] is file:
            distinct.append((item, file))
        else:
            why = f"the same bytes as {original[1].name}"
            case = Case(item=item, file=file.name, why=why, beside=original[1].name)
            copies.append((f"{_NAMES[kind]} with the content of another", case))
    hashed = [(item, file) for item, file in distinct if file.hashes and not file.faults]
    alike = []
    for i, j, bits in similar_pairs([file.hashes or [] for _, file in hashed]):
        (_, one), (item, other) = hashed[i], hashed[j]
        total = 64 * len(other.hashes or [])
        why = f"looks like {one.name} ({bits} of {total} bits of their hashes differ)"
        case = Case(item=item, file=other.name, why=why, beside=one.name)
        alike.append((f"{_NAMES[kind]} that look like another", case))
    return [*grouped("duplicates", copies), *grouped("duplicates", alike, is_fault=False)]
