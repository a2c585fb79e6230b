"""The tables of a description as rows of text."""

from microlens.stats.description import Description

CONTENT = {
    "title": "title",
    "tag": "tag",
    "likes": "likes",
    "views": "views",
    "clips": "video",
    "covers": "cover",
    "sound": "sound",
}
"""Kinds of content by their names for readers."""


def percent(share: float) -> str:
    """A share in percent for readers, with three digits: 100 %, 36.8 %, 0.0374 %."""
    return f"{100 * share:.3g} %"


def size_rows(description: Description) -> list[tuple[str, ...]]:
    """The name of each figure, its value for all interactions, and for those that the protocol keeps."""
    sizes = (description.size, description.cut)
    return [
        ("users", *(f"{size.users:,}" for size in sizes)),
        ("items", *(f"{size.items:,}" for size in sizes)),
        ("interactions", *(f"{size.interactions:,}" for size in sizes)),
        ("density", *(percent(size.density) for size in sizes)),
        ("mean session length", *(f"{size.sessions.mean:.2f}" for size in sizes)),
        ("median session length", *(f"{size.sessions.median:g}" for size in sizes)),
        ("shortest session", *(f"{size.sessions.least:,.0f}" for size in sizes)),
        ("longest session", *(f"{size.sessions.most:,.0f}" for size in sizes)),
    ]


NUMBERS = ("items", "least", "median", "mean", "most")
"""Columns of :func:`number_rows` after the first."""


def number_rows(description: Description) -> list[tuple[str, ...]]:
    """For likes, views and durations in seconds: the number of items, least, median, mean and most."""
    duration = description.videos.duration if description.videos else None
    numbers = {**description.numbers, **({"duration, seconds": duration} if duration else {})}
    return [
        (
            name,
            f"{found.number:,}",
            *(
                f"{value:,.4g}" if value < 1000 else f"{value:,.0f}"
                for value in (found.least, found.median, found.mean, found.most)
            ),
        )
        for name, found in numbers.items()
    ]


def cold_sentence(description: Description) -> str:
    """The share of cold targets in words."""
    found = description.cold
    return (
        f"cold: {found.unseen:,} of {description.cut.items:,} items never occur in the train part; "
        f"{percent(found.share('valid'))} of validation and {percent(found.share('test'))} of test targets are cold"
    )
