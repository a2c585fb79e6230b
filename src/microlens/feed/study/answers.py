"""The answers of the participants of a study, and the links that invite them, as tables."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from sqlalchemy import select

from microlens.errors import InputError
from microlens.feed.database import Row, reading
from microlens.feed.schema import ANSWERS, PARTICIPANTS
from microlens.feed.study.participants import invite
from microlens.files.writing import write_text

_FORMULA = tuple("=+-@\t\r")


@dataclass(frozen=True, kw_only=True)
class StudyAnswer:
    """An answer of a participant.

    Attributes:
        person: the participant in the other tables of the event store.
        number: number of the participant.
        part: the part after which it was given, from 1; the number of parts plus 1 at the end of the study.
        model: the model of that part; empty at the end, and where the models are interleaved.
        question: name of the question.
        answer: the answer.
    """

    person: str
    number: int
    part: int
    model: str
    question: str
    answer: str


def study_answers(events: str, study: str) -> list[StudyAnswer]:
    """The answers given in a study, in the order of participants and parts.

    Args:
        events: the event store; a server may use it meanwhile.
        study: name of the study.

    Raises:
        InputError: the store cannot be read, or nobody was invited to a study of that name.
    """
    mine = PARTICIPANTS.c.study == study
    given = select(ANSWERS, PARTICIPANTS.c.number, PARTICIPANTS.c.order).join(
        PARTICIPANTS, PARTICIPANTS.c.person == ANSWERS.c.person
    )
    with reading(events) as read:
        invited = read(select(PARTICIPANTS.c.number).where(mine).limit(1))
        rows = read(given.where(mine).order_by(PARTICIPANTS.c.number, ANSWERS.c.part, ANSWERS.c.question))
    if not invited:
        raise InputError(
            f"{events} has no participants of a study {study}; invite them with microlens feed participants."
        )
    return [_answer(row) for row in rows]


def _answer(row: Row) -> StudyAnswer:
    order = json.loads(row["order"])
    model = order[row["part"]] if row["part"] < len(order) else None
    names = ("person", "number", "question", "answer")
    return StudyAnswer(**{name: row[name] for name in names}, part=row["part"] + 1, model=model or "")


def write_answers(answers: Sequence[StudyAnswer], path: Path) -> None:
    """Write answers as CSV; those that a spreadsheet would take for a formula begin with an apostrophe."""
    rows = [asdict(answer) for answer in answers]
    for row in rows:
        row["answer"] = f"'{row['answer']}" if row["answer"].startswith(_FORMULA) else row["answer"]
    _write(path, [field.name for field in fields(StudyAnswer)], [list(row.values()) for row in rows])


def invite_participants(events: str, study: str, count: int, url: str) -> list[tuple[int, str]]:
    """Invite participants to a study.

    Args:
        events: the event store, which is created if it is not there; a server may use it meanwhile.
        study: name of the study.
        count: how many.
        url: the address at which people open the feed, with its ``token`` if it has one.

    Returns:
        The number and the link of each; numbers follow those that are there. The links are secrets, and are not stored.

    Raises:
        InputError: the store cannot be opened, or the address is none.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise InputError(f"--url {url} is no address of a feed, such as https://feed.example/.")
    known = parse_qsl(parts.query)
    return [
        (
            one.number,
            urlunsplit(parts._replace(path=parts.path or "/", query=urlencode([*known, ("participant", one.token)]))),
        )
        for one in invite(events, study, count)
    ]


def write_links(links: Sequence[tuple[int, str]], path: Path) -> None:
    """Write links as CSV, for the owner of the file alone."""
    _write(path, ["number", "link"], links)
    path.chmod(0o600)


def _write(path: Path, head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text.getvalue())
