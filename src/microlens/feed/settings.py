"""Settings of a feed, read from TOML and strictly validated."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from microlens.config.toml_files import check_values, read_toml
from microlens.errors import InputError
from microlens.media.pictures import MAX_PIXELS

Share = Annotated[float, Field(ge=0, le=1)]
Weight = Annotated[float, Field(ge=0, le=1000)]


class Section(BaseModel):
    """A table of the settings; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read settings from a TOML file.

        Raises:
            InputError: the file cannot be read, or a key or value is not accepted; the message names the first.
        """
        table = read_toml(path)
        check_values(path, table)
        try:
            return cls.model_validate(table)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            key = ".".join(map(str, fault["loc"]))
            where = f"{path}: {key}" if key else path
            raise InputError(f"{where}: {fault['msg'].removeprefix('Value error, ')}.") from None


class FeedbackSettings(Section):
    """Which feedback makes an item part of the history that the model reads.

    The weight of an item is ``watched`` times the share of it that was watched (at most 1), plus the weight of each
    kind of feedback that was given. An item whose weight reaches ``threshold`` is positive, unless the person was not
    interested in it.
    """

    watched: Weight = 1.0
    like: Weight = 1.0
    comment: Weight = 1.0
    share: Weight = 1.0
    favourite: Weight = 1.0
    threshold: Annotated[float, Field(gt=0, le=1000)] = 0.7


class ExplorationSettings(Section):
    """How often an item is explored instead of the best one, and which.

    With probability ``share`` an item is drawn among the new ones, which have fewer than ``new_below`` interactions and
    exposures, or among all if none is new: uniformly (``epsilon``), or by Thompson sampling of the watched share over
    the ``pool`` items with the fewest exposures (``thompson``).
    """

    kind: Literal["epsilon", "thompson"] = "epsilon"
    share: Share = 0.1
    new_below: Annotated[int, Field(ge=0, le=1_000_000)] = 20
    pool: Annotated[int, Field(ge=2, le=1000)] = 50


class Limits(Section):
    """Limits on what a client sends: lengths in characters, sizes in bytes.

    ``requests_a_minute`` is the rate at which a client may call the API, after a burst of a tenth of it, and
    ``uploads_an_hour`` that at which a person may send videos, after a burst of ten; 0 for no limit.
    """

    comment_length: Annotated[int, Field(ge=1, le=10_000)] = 500
    body_bytes: Annotated[int, Field(ge=1024, le=2**26)] = 2**20
    requests_a_minute: Annotated[int, Field(ge=0, le=10_000_000)] = 600
    title_length: Annotated[int, Field(ge=1, le=1000)] = 200
    upload_bytes: Annotated[int, Field(ge=1024, le=2**33)] = 100 * 2**20
    upload_seconds: Annotated[float, Field(gt=0, le=3600)] = 180.0
    upload_pixels: Annotated[int, Field(ge=64, le=MAX_PIXELS)] = 4096 * 2304
    uploads_an_hour: Annotated[int, Field(ge=0, le=1_000_000)] = 30


class FeedSettings(Section):
    """Settings of a feed.

    Attributes:
        feedback: what counts as positive.
        exploration: how new items get exposure.
        limits: what a client may send.
        preload: number of videos that the page loads ahead.
        allowed_tags: if not empty, only items with these tags are shown.
        blocked_tags: items with these tags are not shown.
        adult_tags: items with these tags are shown only in sessions of adults.
        uploads: whether people may add videos; by default only where the server can be reached from its own machine
            alone, because everybody sees what anybody uploads.
        why: whether people may see why an item was chosen.
        seed: seed of the assignment of people to models, and of all draws.
    """

    feedback: FeedbackSettings = FeedbackSettings()
    exploration: ExplorationSettings = ExplorationSettings()
    limits: Limits = Limits()
    preload: Annotated[int, Field(ge=0, le=5)] = 2
    allowed_tags: tuple[str, ...] = ()
    blocked_tags: tuple[str, ...] = ()
    adult_tags: tuple[str, ...] = ()
    uploads: bool | None = None
    why: bool = True
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
