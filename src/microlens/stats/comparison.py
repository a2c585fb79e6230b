"""The comparison of data sets of the MicroLens paper, with a computed row for a dataset."""

import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any

from microlens.stats.counts import Size

_NEARLY_ALL, _COMMON = 0.99, 0.01  # shares of items and titles


def published() -> dict[str, Any]:
    """The rows of other data sets as published: ``columns``, ``rows`` of as many texts, and their ``source``."""
    text = resources.files("microlens.stats").joinpath("comparison.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def comparison_row(
    name: str, size: Size, content: Mapping[str, int], scripts: Mapping[str, Mapping[str, int]]
) -> dict[str, str]:
    """The row of a dataset, by column: "yes", "no", or the share of the items that have a kind of content.

    Raw images stand for pre-extracted ones, "-", as in the paper. The domain is not part of a dataset. Languages are
    those of the columns of titles (title_en, title_zh), or else the scripts of the titles.
    """
    has = {kind: _share(content[kind], size.items) for kind in ("title", "covers", "sound", "clips")}
    return {
        "Dataset": name,
        "Text": has["title"],
        "p-Image": "no" if has["covers"] == "no" else "-",
        "r-Image": has["covers"],
        "Audio": has["sound"],
        "Video": has["clips"],
        "#user": abbreviated(size.users),
        "#item": abbreviated(size.items),
        "#inter.": abbreviated(size.interactions),
        "Domain": "",
        "Language": _languages(scripts),
    }


def _share(number: int, whole: int) -> str:
    if number >= _NEARLY_ALL * whole:
        return "yes"
    return f"{100 * number / whole:.2g} %" if number else "no"


def abbreviated(number: int) -> str:
    """``number`` as the table writes it: 57, 988K, 6.41M, 1.14B."""
    if number < 1000:
        return str(number)
    if number < 999_500:
        return f"{number / 1000:.0f}K"
    return f"{number / 1e6:.2f}M" if number < 999_995_000 else f"{number / 1e9:.2f}B"


def _languages(scripts: Mapping[str, Mapping[str, int]]) -> str:
    named = sorted(column.removeprefix("title_") for column in scripts if column.startswith("title_"))
    if named:
        return "/".join(named)
    of_titles = scripts.get("title", {})
    common = [script for script, number in of_titles.items() if number >= _COMMON * sum(of_titles.values())]
    return f"{'/'.join(common)} script" if common else "no"
