"""Routes of a study: for participants what comes next, consent and answers; for the operator its state."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, HTTPException, Request, Response
from pydantic import BaseModel, Field

from microlens.feed.live import Feed
from microlens.feed.people import person_of
from microlens.feed.person import Person
from microlens.feed.server.cookies import PERSON_COOKIE, feed_of, set_person
from microlens.feed.server.problems import RESPONSES
from microlens.feed.study.participants import Participant
from microlens.feed.study.study import Stage, Study

router = APIRouter(tags=["study"], responses=RESPONSES)
Token = Annotated[str, Field(max_length=200)]


class StudyRequest(BaseModel):
    """Who asks: the token of an invitation, or else the person of the cookie."""

    participant: Token | None = None


class AnswersRequest(StudyRequest):
    """Answers by the names of the questions, after a part."""

    part: Annotated[int, Field(ge=0, le=10_000)]
    answers: dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=10_000)]] = {}


class QuestionAnswer(BaseModel):
    """A question; without ``choices`` the answer is a text of at most ``length`` characters."""

    name: str
    text: str
    choices: list[str]
    length: int
    required: bool


class NextStep(BaseModel):
    """What comes next for a participant. Parts are counted from 0; at the end ``part`` is the number of ``parts``."""

    stage: Stage
    title: str = ""
    text: str = ""
    part: int = 0
    parts: int = 0
    questions: list[QuestionAnswer] = []


class StudyState(BaseModel):
    """The state of a study: whether it is closed to those who have not begun, and the numbers of participants."""

    name: str
    title: str
    closed: bool
    invited: int
    consented: int
    finished: int


class Closing(BaseModel):
    """Close a study to those who have not begun, or open it again."""

    closed: bool


@router.post("/api/study")
async def next_step(request: Request, wanted: StudyRequest | None = None) -> NextStep:
    """What comes next for a participant; records nothing."""
    feed = feed_of(request)
    secret = secret_of(request, None if wanted is None else wanted.participant)
    if feed.study is None or secret is None:
        return NextStep(stage="none" if feed.study is None else "invitation")
    return await _answer(feed, feed.study, secret)


@router.post("/api/study/consent")
async def consent(request: Request, response: Response, wanted: StudyRequest) -> NextStep:
    """Take part; the browser is the participant's from then on."""
    feed, study, secret = _asked(request, wanted)
    participant, person = await found(feed, study, secret)
    if study.stage(participant, person) == "consent" and participant is not None:
        await asyncio.to_thread(study.consent, participant)
        set_person(request, response, secret)
    return await _answer(feed, study, secret)


@router.post("/api/study/answers")
async def answer(request: Request, given: AnswersRequest) -> NextStep:
    """End a part with the answers to its questions; a part that has ended already stays as it is."""
    feed, study, secret = _asked(request, given)
    participant, person = await found(feed, study, secret)
    if study.stage(participant, person) == "questions" and participant is not None and participant.done == given.part:
        await asyncio.to_thread(study.answer, participant, given.answers)
    return await _answer(feed, study, secret)


@router.post("/api/admin/study", tags=["operator"])
async def close_study(request: Request, wanted: Closing) -> StudyState:
    """Close the study: nobody begins any more, those who have begun may finish; or open it again."""
    study = _study(request)
    await asyncio.to_thread(lambda: study.participants.close(closed=wanted.closed))
    return await asyncio.to_thread(state_of, study)


def secret_of(request: Request, participant: str | None) -> str | None:
    """The secret of who asks: the token of an invitation, or else that of the cookie."""
    return participant or request.cookies.get(PERSON_COOKIE)


async def found(feed: Feed, study: Study, secret: str) -> tuple[Participant | None, Person | None]:
    """The participant with a secret, and the person after the consent."""
    participant = await asyncio.to_thread(study.participants.find, person_of(secret))
    person = None if participant is None else await feed.people.find(participant.person)
    return participant, person


async def participant_in(feed: Feed, study: Study, secret: str | None) -> tuple[Participant, Person]:
    """A participant who may watch videos now.

    Raises:
        HTTPException: 403, something else comes next; 409, the models of the study are not those that are served.
    """
    participant, person = (None, None) if secret is None else await found(feed, study, secret)
    stage = await asyncio.to_thread(study.stage, participant, person)
    if participant is None:
        raise HTTPException(403, "this feed is a study by invitation; open the link that you were sent")
    if person is None or stage != "videos":
        raise HTTPException(403, "there are no videos for this participant now; ask POST /api/study what comes next")
    if not study.serves(participant):
        raise HTTPException(409, "the models of this participant are not served now; the study goes on when they are")
    return participant, person


def _study(request: Request) -> Study:
    study = feed_of(request).study
    if study is None:
        raise HTTPException(404, "this feed is no study")
    return study


def _asked(request: Request, wanted: StudyRequest) -> tuple[Feed, Study, str]:
    study, secret = _study(request), secret_of(request, wanted.participant)
    if secret is None:
        raise HTTPException(403, "this feed is a study by invitation; open the link that you were sent")
    return feed_of(request), study, secret


async def _answer(feed: Feed, study: Study, secret: str) -> NextStep:
    participant, person = await found(feed, study, secret)
    stage = await asyncio.to_thread(study.stage, participant, person)
    texts = {"consent": study.settings.consent, "finished": study.settings.thanks}
    asked = study.questions(participant) if participant is not None and stage == "questions" else []
    return NextStep(
        stage=stage,
        title=study.settings.title,
        text=texts.get(stage, ""),
        part=0 if participant is None else participant.done,
        parts=0 if participant is None else len(participant.order),
        questions=[QuestionAnswer(**question.model_dump(exclude={"after"})) for question in asked],
    )


def state_of(study: Study) -> StudyState:
    """The state of a study."""
    return StudyState(
        name=study.settings.name,
        title=study.settings.title,
        closed=study.participants.is_closed(),
        **study.participants.counts(),
    )
