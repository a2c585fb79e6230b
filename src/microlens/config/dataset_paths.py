"""Paths inside a dataset's folder, adapted when the folder is elsewhere."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def moved_paths(content: Any, written: Path, formerly: Path | None, dataset: Path) -> Any:
    """JSON content whose strings that are paths inside a dataset's folder are those in its folder now.

    Args:
        content: JSON content.
        written: the dataset's folder as the content spells it.
        formerly: its absolute path when the content was written, if known. A relative path is inside the folder if it
            is from one of the folder's parents, because the working directory of that time is not known.
        dataset: its folder now.
    """
    if isinstance(content, Mapping):
        return {name: moved_paths(inner, written, formerly, dataset) for name, inner in content.items()}
    if isinstance(content, list | tuple):
        return [moved_paths(inner, written, formerly, dataset) for inner in content]
    if not isinstance(content, str) or "/" not in content:
        return content
    inside = _inside(content, written, formerly)
    return content if inside is None else str(dataset / inside)


def _inside(path: str, written: Path, formerly: Path | None) -> Path | None:
    """A path relative to the dataset's folder; None if it is outside."""
    bases = [Path()] if formerly is None else [Path(), *formerly.parents]
    for folder in (written, *([] if formerly is None else [formerly])):
        for base in bases:
            full, inner = (Path(os.path.normpath(base / one)) for one in (path, folder))
            if full != inner and full.is_relative_to(inner):
                return full.relative_to(inner)
    return None
