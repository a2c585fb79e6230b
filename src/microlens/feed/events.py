"""What people do in the feed, as clients send it."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from microlens.errors import printable

Kind = Literal[
    "impression", "start", "progress", "end", "like", "unlike", "favourite", "unfavourite", "share", "comment",
    "not-interested", "error",
]  # fmt: skip
MOST_EVENTS = 1000
FUTURE_MS = 5 * 60 * 1000
_A_DAY_MS = 86_400_000

Identifier = Annotated[str, Field(pattern=r"^[0-9A-Za-z_-]{8,64}$")]
Milliseconds = Annotated[int, Field(ge=0, le=_A_DAY_MS)]


class Event(BaseModel):
    """An event of an exposure.

    Attributes:
        id: made by the client and unique; an event that is sent again counts once.
        kind: what happened.
        request_id: request that returned the exposure.
        position: position of the exposure in its session.
        at: time on the client, in ms since 1970.
        watched_ms: time that the video has been watched in this exposure so far, all loops included.
        loops: times that the video has begun again.
        duration_ms: length of the video.
        text: text of a comment.
        reason: what went wrong, of an error.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: Identifier
    kind: Kind
    request_id: Identifier
    position: Annotated[int, Field(ge=0, lt=2**31)]
    at: Annotated[int, Field(ge=0, lt=2**53)]
    watched_ms: Milliseconds | None = None
    loops: Annotated[int, Field(ge=0, le=1_000_000)] | None = None
    duration_ms: Milliseconds | None = None
    text: Annotated[str, Field(max_length=10_000)] | None = None
    reason: Annotated[str, Field(max_length=500)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.kind == "comment" and not self.said:
            raise ValueError("a comment needs a text")
        return self

    @property
    def said(self) -> str | None:
        """The text of a comment or the reason of an error, without control characters; None for other kinds."""
        text = {"comment": self.text, "error": self.reason}.get(self.kind)
        return printable(text).strip() if text else None


class EventBatch(BaseModel):
    """Events of one person; each is checked for itself, so that a wrong one does not hold up the others."""

    model_config = ConfigDict(extra="ignore")

    session: Annotated[str, Field(max_length=64)]
    events: Annotated[list[Any], Field(max_length=MOST_EVENTS)]


class Refused(BaseModel):
    """An event that is not stored and must not be sent again, and why."""

    id: str | None
    why: str


class Recorded(BaseModel):
    """What became of a batch: the number of events stored, of those stored before, and those refused."""

    stored: int
    repeated: int
    refused: list[Refused]


def read_event(raw: Any) -> Event | Refused:
    """Check one event of a batch."""
    try:
        return Event.model_validate(raw)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        identifier = raw.get("id") if isinstance(raw, dict) else None
        return Refused(
            id=identifier[:64] if isinstance(identifier, str) else None,
            why=f"{where}: {fault['msg']}" if where else fault["msg"].removeprefix("Value error, "),
        )
