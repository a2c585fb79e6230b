"""Telling apart several files of titles by their names: the set they belong to, and their language."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

_NAME = re.compile(r"(?P<set>.*?)[ _-]*titles?(?:[ _-]+(?P<language>[a-z]{2}(?:[ _-](?:[a-z]{2}|hans|hant))?))?$")
_READ_FIRST = ("en", "")
ORIGINAL = "original"


@dataclass(frozen=True, kw_only=True)
class TitleFiles:
    """The files of titles of a release.

    ``titles`` gives the column title: English, or else the file without a language, or else the first by alphabet. If
    there are several languages, ``columns`` holds all files by their columns: title_en, title_zh and the like, and
    title_original for the file without a language. ``others`` are the files of other sets.
    """

    titles: Path | None = None
    columns: dict[str, Path] = field(default_factory=dict)
    others: tuple[Path, ...] = ()


def set_and_language(stem: str) -> tuple[str, str]:
    """The set and the language in the name of a file of titles, without suffixes; "" if the name states none.

    MicroLens-100k_title_en is of the set microlens-100k and in the language en.
    """
    found = _NAME.fullmatch(stem.lower())
    if found is None:
        return set_of(stem, "title"), ""
    return found["set"], re.sub(r"[ -]", "_", found["language"] or "")


def set_of(name: str, part: str) -> str:
    """The set in the name of a file: what precedes ``part``, in lower case."""
    return re.split(part, name.lower(), maxsplit=1)[0].rstrip(" _-")


def choose_titles(found: Mapping[tuple[str, str], Path], own: str) -> TitleFiles:
    """Choose among files of titles.

    Args:
        found: files by set and language.
        own: the set of the release; if no file is of this set and all are of another, that one.
    """
    sets = {name for name, _ in found}
    if own not in sets and len(sets) == 1:
        (own,) = sets
    files = {language: path for (name, language), path in sorted(found.items()) if name == own}
    if not files:
        return TitleFiles()
    titles = next(files[language] for language in (*_READ_FIRST, *files) if language in files)
    columns = {f"title_{language or ORIGINAL}": path for language, path in files.items()}
    return TitleFiles(
        titles=titles,
        columns=columns if len(files) > 1 else {},
        others=tuple(path for (name, _), path in found.items() if name != own),
    )
