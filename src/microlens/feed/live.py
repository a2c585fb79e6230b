"""A running feed: chooses the next items for people, records what they do, and changes models and rules meanwhile."""

import asyncio
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import torch

from microlens.errors import InputError
from microlens.feed.catalogue import Catalogue
from microlens.feed.chooser import Chooser, NextItems
from microlens.feed.database import Row
from microlens.feed.event_store import ConflictError, EventStore
from microlens.feed.events import FUTURE_MS, Event, Recorded, Refused
from microlens.feed.group_commit import StoreUnavailableError
from microlens.feed.item_counts import ItemCounts
from microlens.feed.models import Models
from microlens.feed.people import People, now_ms
from microlens.feed.person import Person
from microlens.feed.publishing import Publisher
from microlens.feed.schema import MODELS, RULES
from microlens.feed.served_model import ServedModel
from microlens.feed.settings import FeedSettings
from microlens.feed.study.participants import Participants
from microlens.feed.study.settings import StudySettings
from microlens.feed.study.study import Study
from microlens.feed.uploads import Uploads

MOST_AT_ONCE = 5
_SCORING_THREADS = 2
_NICENESS = 5  # of the thread that loads models
_ATTEMPTS = 10
_log = logging.getLogger(__name__)


class Feed:
    """A feed of some models over the items of a catalogue, with its records in a store, which it closes.

    Args:
        store: the event store.
        catalogue: the items.
        models: the models.
        settings: the settings.
        upload_folder: folder for uploaded videos; without one there is no publisher.
        study: a study to serve, instead of everybody.

    Raises:
        InputError: the folder for uploads holds other files.
    """

    def __init__(
        self,
        store: EventStore,
        catalogue: Catalogue,
        models: Models,
        settings: FeedSettings,
        upload_folder: Path | None = None,
        study: StudySettings | None = None,
    ) -> None:
        self.store, self.catalogue, self.models, self.settings = store, catalogue, models, settings
        self.study = None if study is None else Study(study, Participants(store, study.name), models)
        self.counts = ItemCounts(catalogue, settings.exploration.new_below)
        self.uploads = Uploads(store, catalogue, self.counts, models)
        self.uploads.refresh()
        self.publisher: Publisher | None = None
        if upload_folder is not None:
            text_ids = catalogue.dataset_ids.dtype == pl.String
            self.publisher = Publisher(self.uploads, upload_folder, settings.limits, text_ids=text_ids)
        self.counts.load(store)
        catalogue.apply_rules(store.rules())
        self.people = People(store, catalogue, models, settings)
        self._chooser = Chooser(catalogue, models, self.counts, settings)
        self._scoring = ThreadPoolExecutor(_SCORING_THREADS, "scoring", torch.set_num_threads, (1,))
        self._loading = ThreadPoolExecutor(1, "loading", _give_way)
        for model in models.serving.values():
            self._note(model)

    def close(self) -> None:
        """End the threads, and commit what is left."""
        if self.publisher is not None:
            self.publisher.close()
        self._loading.shutdown()
        self._scoring.shutdown()
        self.store.close()

    async def next_items(self, person: Person, session: str, count: int, opened: int | None = None) -> NextItems:
        """Choose and record the next items of a session.

        Args:
            person: the person.
            session: id of a session of the person.
            count: number of items.
            opened: number of an item that the person has opened by its address, and that comes first.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        with _busy(person):
            async with person.choosing:
                return await self._next_items(person, session, count, opened)

    async def _next_items(self, person: Person, session: str, count: int, opened: int | None) -> NextItems:
        for attempt in range(1, _ATTEMPTS + 1):
            visit = person.sessions[session]
            wanted = count if self.study is None else max(0, min(count, self.study.left(person, visit)))
            arguments = (person, visit, wanted, opened)
            found = await asyncio.get_running_loop().run_in_executor(self._scoring, self._chooser.choose, *arguments)
            try:
                await self._record_exposures(person, found)
            except ConflictError:
                if attempt == _ATTEMPTS:
                    raise StoreUnavailableError("other servers show things to this person all the time") from None
                person = await self.people.find(person.id) or person
            else:
                break
        return found

    async def _record_exposures(self, person: Person, found: NextItems) -> None:
        rows = [exposure.row for exposure in found.exposures]
        if rows:
            await asyncio.wrap_future(self.store.add_exposures(rows, len(person.exposures)))
        for exposure in found.exposures:
            person.show(exposure.row, exposure.number)
            self.counts.add_exposure(exposure.number)

    async def record(self, person: Person, events: Sequence[Event | Refused]) -> tuple[Recorded, list[Row]]:
        """Store events durably, and apply them to the person and to the counts.

        Returns:
            What became of them, and the rows that are new.

        Raises:
            StoreUnavailableError: nothing was stored; the same events may be sent again.
        """
        received = now_ms()
        refused = [event for event in events if isinstance(event, Refused)]
        rows: list[dict[str, Any]] = []
        for event in sorted((event for event in events if isinstance(event, Event)), key=lambda event: event.at):
            why = self._why_refused(event, person, received)
            if why is None:
                rows.append(self._event_row(event, person, received))
            else:
                refused.append(Refused(id=event.id, why=why))
        with _busy(person):
            new = await asyncio.wrap_future(self.store.add_events(rows)) if rows else []
            for row in new:
                self._apply(person, row)
        return Recorded(stored=len(new), repeated=len(rows) - len(new), refused=refused), new

    def _why_refused(self, event: Event, person: Person, received: int) -> str | None:
        if (event.request_id, event.position) not in person.exposures:
            return f"nothing was shown at position {event.position} of request {event.request_id}"
        if event.at > received + FUTURE_MS:
            return "at is in the future; is the clock of the client right?"
        most = self.settings.limits.comment_length
        if event.kind == "comment" and len(event.said or "") > most:
            return f"a comment has at most {most:,} characters"
        return None

    def _event_row(self, event: Event, person: Person, received: int) -> dict[str, Any]:
        number, session = person.exposures[event.request_id, event.position]
        facts = event.model_dump(include={"kind", "request_id", "position", "watched_ms", "loops", "at"})
        return {
            **facts,
            "duration_ms": self.catalogue.duration_ms(number) or event.duration_ms,
            "event": event.id,
            "session": session,
            "person": person.id,
            "item": self.catalogue.id(number),
            "text": event.said,
            "received": received,
        }

    def _apply(self, person: Person, row: Row) -> None:
        number, _ = person.exposures[row["request_id"], row["position"]]
        liked = person.likes(number)
        person.apply(row, number)
        self.counts.add_event(number, row, person.likes(number) - liked)

    async def set_rule(self, item: str, state: str, pin: int | None) -> None:
        """Pin an item, take it down, or make it an item like the others again.

        Raises:
            StoreUnavailableError: nothing was changed.
        """
        await asyncio.wrap_future(self.store.put(RULES, item=item, state=state, pin=pin, changed=now_ms()))
        _log.info("item %s is %s%s", item, state, "" if pin is None else f", pinned to {pin}")
        self.catalogue.apply_rules(await asyncio.to_thread(self.store.rules))

    async def refresh(self, *, counts: bool) -> None:
        """Read what another server may have changed: uploads, rules, and counts if wanted.

        Raises:
            StoreUnavailableError: the store does not answer.
        """
        await asyncio.to_thread(self.uploads.refresh)
        self.catalogue.apply_rules(await asyncio.to_thread(self.store.rules))
        if counts:
            await asyncio.to_thread(self.counts.load, self.store)

    async def forget(self, person: str) -> bool:
        """Delete a person; False if there is none.

        Raises:
            StoreUnavailableError: nothing was deleted.
        """
        if await asyncio.to_thread(self.store.person, person) is None:
            return False
        await asyncio.wrap_future(self.store.delete_person(person))
        self.people.forget(person)
        return True

    def replace_model(self, folder: Path, arm: str | None = None) -> ServedModel:
        """Load a run and serve it in an arm, by default the only one; requests go on meanwhile, and first.

        The run may have been trained on other data than the present one; items are matched by their ids.

        Raises:
            InputError: the run cannot be served, knows none of the items, or the arm is unknown.
        """
        return self._loading.submit(self._replace_model, folder, self.models.arm(arm)).result()

    def _replace_model(self, folder: Path, arm: str) -> ServedModel:
        model = self.uploads.join(arm, _opened(folder, self.models.serving[arm]))
        self._note(model)
        return model

    def back(self, arm: str | None = None) -> ServedModel:
        """Serve the former model of an arm again.

        Raises:
            InputError: there is none.
        """
        model = self.models.back(self.models.arm(arm))
        self._note(model)
        return model

    def _note(self, model: ServedModel) -> None:
        _log.info("serving %s from %s", model.id, model.folder)
        row = {"model": model.id, "folder": str(model.folder.resolve()), "digest": model.digest, "loaded": now_ms()}
        self.store.add(MODELS, **row)


def _give_way() -> None:
    """Let the threads that answer requests have the cores first."""
    torch.set_num_threads(1)
    if sys.platform == "linux":  # where each thread has a priority of its own
        os.nice(_NICENESS)


def _opened(folder: Path, former: ServedModel) -> ServedModel:
    """Open a run with the dataset that it names, or else with that of the former model, which may have been moved."""
    try:
        return ServedModel.open(folder, None, former.user_id)
    except InputError as error:
        try:
            return ServedModel.open(folder, former.dataset.folder, former.user_id)
        except InputError:
            raise error from None


@contextmanager
def _busy(person: Person) -> Iterator[None]:
    person.busy += 1
    try:
        yield
    finally:
        person.busy -= 1
