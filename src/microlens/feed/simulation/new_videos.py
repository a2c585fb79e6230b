"""New videos in the middle of a simulation: uploading what the feed lacks, and who is shown it."""

from collections.abc import Sequence
from pathlib import Path

import httpx
import polars as pl

from microlens.errors import InputError
from microlens.feed.simulation.person import Shown, call
from microlens.feed.simulation.truth import Truth
from microlens.release.folder import MEDIA, Release, find_release
from microlens.release.ids import TextIds
from microlens.release.media_files import find_media
from microlens.release.metadata import read_titles

STEPS = 20
"""Number of steps of a curve over the people in the order in which they came."""


async def lacking_items(truth: Truth, client: httpx.AsyncClient) -> list[str]:
    """The items of a release that a feed does not have.

    Raises:
        InputError: the feed does not answer.
    """
    await call(client, "POST", "/api/sessions", json={})
    answers = {item: await call(client, "GET", f"/api/items/{item}", accepted=(404,)) for item in truth.not_uploaded}
    return [item for item, answer in answers.items() if answer.status_code == httpx.codes.NOT_FOUND]


async def upload(release: Path, item: str, client: httpx.AsyncClient) -> str:
    """Upload the video of an item with its title as a new person; returns its id in the feed.

    Raises:
        InputError: the release has no video of the item, or the feed does not answer or refuses it.
    """
    files = find_release(release)
    videos = find_media(files.videos, MEDIA["clips"][1], text_ids=True).by_item
    if item not in videos:
        raise InputError(f"{release} has no video of item {item} to upload.")
    await call(client, "POST", "/api/sessions", json={})
    content = {"file": (videos[item].name, videos[item].read_bytes())}
    answer = await call(client, "POST", "/api/items", files=content, data={"title": _title(files, item)})
    return str(answer.json()["item"])


def _title(files: Release, item: str) -> str:
    """The title of an item, which models may rank it by; uploads need one, so a blank one becomes a number."""
    if files.titles is not None:
        table = read_titles(files.titles, TextIds(item=True)).table
        for title in table.filter(pl.col("item_id") == item)["title"]:
            if title:
                return str(title)
    return f"New video {item}"


def shares_of_new(shown: Sequence[Shown], uploaded: set[str], people: int) -> dict[str, list[float | None]]:
    """The share of uploaded videos in what each model chose, for groups of people in the order in which they came.

    Args:
        shown: what was shown.
        uploaded: ids of the uploaded items.
        people: number of people, who are numbered from 0.

    Returns:
        For each model :data:`STEPS` shares; None for a group for whom it chose nothing.
    """
    counts = {model: [[0, 0] for _ in range(STEPS)] for model in sorted({one.model for one in shown})}
    for one in (one for one in shown if one.chosen):
        count = counts[one.model][one.person * STEPS // people]
        count[0] += one.item in uploaded
        count[1] += 1
    return {model: [new / all_ if all_ else None for new, all_ in steps] for model, steps in counts.items()}
