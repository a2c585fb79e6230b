"""What people's requests hold and what they are answered."""

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

from pydantic import BaseModel, Field

from microlens.feed.catalogue import Item
from microlens.feed.chooser import Exposure
from microlens.feed.live import MOST_AT_ONCE, Feed
from microlens.feed.person import Feedback, Person

_NEAREST = 3
_NOTHING = Feedback()


class SessionRequest(BaseModel):
    """A visit begins; ``participant`` is the token of an invitation to a study."""

    adult: bool = False
    participant: Annotated[str, Field(max_length=200)] | None = None


class Features(BaseModel):
    """What the page may offer."""

    why: bool
    upload: bool


class UploadOffer(BaseModel):
    """What an uploaded video may be: limits, and tags; ``tags_only`` says that there are no others.

    ``ranked_by`` is what of it the models read, such as title and video.
    """

    bytes: int
    seconds: float
    title_length: int
    tags: list[str]
    tags_only: bool
    ranked_by: list[str]


class SessionAnswer(BaseModel):
    """A visit: its id, the person, and how the page should play; ``ends_in_ms`` is when the part of a study ends."""

    session: str
    person: str
    muted_start: bool = True
    preload: int
    comment_length: int
    features: Features
    upload: UploadOffer | None
    ends_in_ms: int | None = None


class NextRequest(BaseModel):
    """Ask for the next items; ``item`` is one that was opened by its address and comes first."""

    session: Annotated[str, Field(max_length=64)]
    count: Annotated[int, Field(ge=1, le=MOST_AT_ONCE)] = 1
    item: Annotated[str, Field(max_length=1000)] | None = None
    why: bool = False


class My(BaseModel):
    """What the person did with an item before."""

    liked: bool
    favourite: bool


class Nearest(BaseModel):
    """An item of the history, and the cosine similarity of its vector."""

    item: str
    title: str
    similarity: float


class Why(BaseModel):
    """Why an item was chosen; ``rank`` is among ``of`` items, ``cold`` says that nobody had it in training."""

    reason: str
    score: float | None
    rank: int | None
    of: int
    cold: bool
    explored: bool
    propensity: float
    nearest: list[Nearest]


class ItemAnswer(BaseModel):
    """An item as the page shows it."""

    item: str
    title: str
    title_original: str | None
    tag: str
    likes: int
    views: int
    comments: int
    my: My
    video: str | None
    playable: bool
    cover: str | None
    width: int | None
    height: int | None
    duration_ms: int | None


class ExposureAnswer(ItemAnswer):
    """An item that is shown."""

    request_id: str
    position: int
    model: str
    why: Why | None = None


class NextAnswer(BaseModel):
    """The next items; ``used_up`` says that everything has been shown, so that they are shown again.

    ``ended`` says that nothing comes after them in this part of a study.
    """

    exposures: list[ExposureAnswer]
    used_up: bool
    ended: bool = False


class Comment(BaseModel):
    """A comment; ``number`` orders comments, ``by`` tells apart who wrote them."""

    number: int
    by: str
    mine: bool
    text: str
    at: int


class Comments(BaseModel):
    """Comments, newest first; ``before`` asks for the older ones."""

    comments: list[Comment]
    before: int | None


def upload_offer(feed: Feed, *, allowed: bool) -> UploadOffer | None:
    """What people may upload; None if uploads are not allowed or no model can rank a new video."""
    if feed.publisher is None or not allowed or not feed.uploads.ranked_by:
        return None
    limits = feed.settings.limits
    return UploadOffer(
        bytes=limits.upload_bytes,
        seconds=limits.upload_seconds,
        title_length=limits.title_length,
        tags=feed.catalogue.tags,
        tags_only=bool(feed.settings.allowed_tags),
        ranked_by=feed.uploads.ranked_by,
    )


def described(feed: Feed, person: Person, number: int) -> dict[str, Any]:
    """The fields of an item's answer."""
    item, counts = feed.catalogue.item(number), feed.counts
    mine = person.feedback.get(number, _NOTHING)
    return {
        "item": item.id,
        "title": item.title,
        "title_original": item.title_original,
        "tag": item.tag,
        "likes": item.likes + int(counts.likes[number]),
        "views": item.views + int(counts.views[number]),
        "comments": int(counts.comments[number]),
        "my": My(liked=mine.liked, favourite=mine.favourite),
        "video": _address("media", item, item.video),
        "playable": item.playable,
        "cover": _address("covers", item, item.cover),
        "width": item.width,
        "height": item.height,
        "duration_ms": item.duration_ms,
    }


def _address(kind: str, item: Item, path: Path | None) -> str | None:
    return None if path is None else f"/{kind}/{quote(item.id, safe='')}"


def exposure_answer(feed: Feed, person: Person, exposure: Exposure, *, why: bool) -> ExposureAnswer:
    """An exposure as the page gets it."""
    row = exposure.row
    return ExposureAnswer(
        **described(feed, person, exposure.number),
        request_id=row["request_id"],
        position=row["position"],
        model=row["model"],
        why=_why(feed, exposure) if why else None,
    )


def _why(feed: Feed, exposure: Exposure) -> Why:
    row, model = exposure.row, exposure.model
    nearest = model.nearest(exposure.number, exposure.history, _NEAREST)
    return Why(
        reason=row["reason"],
        score=row["score"],
        rank=row["rank"],
        of=model.num_known - len(exposure.history),
        cold=not model.warm[exposure.number],
        explored=row["explored"],
        propensity=row["propensity"],
        nearest=[
            Nearest(item=feed.catalogue.id(number), title=feed.catalogue.item(number).title, similarity=cosine)
            for number, cosine in nearest
        ],
    )
