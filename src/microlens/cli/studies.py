"""Commands of studies with participants."""

from pathlib import Path
from typing import Annotated

import typer

from microlens.cli.output import console
from microlens.feed import DEFAULT_EVENTS, require_packages

_Study = Annotated[Path, typer.Argument(help="The study, a TOML file.")]
_Events = Annotated[
    str, typer.Option(envvar="MICROLENS_FEED_EVENTS", help="Event store: sqlite:///PATH or postgresql://...")
]


def participants(
    study: _Study,
    out: Annotated[Path, typer.Argument(help="CSV file for the links, which must not exist.")],
    count: Annotated[int, typer.Option(min=1, max=100_000, help="Number of participants.")] = 20,
    url: Annotated[
        str, typer.Option(help="Address at which people open the feed, with ?token=TOKEN if it has one.")
    ] = "http://127.0.0.1:8000/",
    events: _Events = DEFAULT_EVENTS,
) -> None:
    """Invite participants to a study: write a link for each, which is a secret; the feed may run meanwhile."""
    require_packages()
    from microlens.feed.study.answers import invite_participants, write_links
    from microlens.feed.study.settings import StudySettings
    from microlens.files.writing import check_is_new

    settings = StudySettings.load(study)
    check_is_new(out)
    links = invite_participants(events, settings.name, count, url)
    write_links(links, out)
    console.print(
        f"{out}: links of participants {links[0][0]:,} to {links[-1][0]:,}, which cannot be written again. "
        f"Next: microlens feed RUN --study {study}"
    )


def answers(
    study: _Study,
    out: Annotated[Path, typer.Argument(help="CSV file for the answers.")],
    events: _Events = DEFAULT_EVENTS,
) -> None:
    """Write the answers that participants of a study have given; the feed may run meanwhile."""
    require_packages()
    from microlens.feed.study.answers import study_answers, write_answers
    from microlens.feed.study.settings import StudySettings

    found = study_answers(events, StudySettings.load(study).name)
    write_answers(found, out)
    people = len({answer.person for answer in found})
    console.print(f"{out}: {len(found):,} answers of {people:,} participants")
