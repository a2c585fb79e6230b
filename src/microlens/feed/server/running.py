"""Running a server: its socket, its log, and the signals that stop it or reload its models."""

import asyncio
import gc
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
import uvicorn

from microlens.errors import InputError, sentence_of
from microlens.feed import DEFAULT_EVENTS
from microlens.feed.catalogue import Catalogue
from microlens.feed.event_store import EventStore
from microlens.feed.live import Feed
from microlens.feed.models import Models
from microlens.feed.served_model import ServedModel
from microlens.feed.server.access import Access
from microlens.feed.server.app import create_app
from microlens.feed.settings import FeedSettings
from microlens.feed.study.settings import StudySettings

_STOP_SECONDS = 10
_IDLE_SECONDS = 75  # longer than most videos; a request on a connection that is just being closed would fail
_SWITCH_SECONDS = 0.0005  # a thread that loads a model gives way ten times as often as usual
_log = logging.getLogger("microlens.feed")


class JsonLines(logging.Formatter):
    """One JSON object a line: time, level, logger and message."""

    def format(self, record: logging.LogRecord) -> str:
        """Format a record."""
        entry = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def serve(
    runs: Sequence[str | Path],
    *,
    dataset: str | Path | None = None,
    release: str | Path | None = None,
    events: str = DEFAULT_EVENTS,
    settings: FeedSettings | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    token: str | None = None,
    operator_token: str | None = None,
    user: str | None = None,
    interleave: bool = False,
    uploads: str | Path | None = None,
    study: StudySettings | None = None,
    on_ready: Callable[[str, int], None] | None = None,
) -> None:
    """Serve a feed of videos, chosen by trained runs, until the process is asked to stop.

    Args:
        runs: run folders; several are compared on people.
        dataset: folder of the dataset, if it was moved.
        release: folder of the release, with videos and covers.
        events: the event store, ``sqlite:///PATH`` or ``postgresql://...``.
        settings: see :class:`microlens.feed.settings.FeedSettings`.
        host: address to listen on; other than a loopback address needs ``token``.
        port: port to listen on; 0 for a free one.
        token: secret that admits people.
        operator_token: secret that admits operators.
        user: id of a user of the dataset whom everybody continues.
        interleave: let the models choose in turn, instead of one for each person.
        uploads: folder for videos that people upload; by default ``uploads`` beside a SQLite file.
        study: serve a study to those who are invited, instead of everybody.
        on_ready: called with the address and the number of items when everything is loaded.

    Raises:
        InputError: a run cannot be served, the address or the event store cannot be used, or a token is missing.
    """
    access = Access(host=host, token=token, operator_token=operator_token)
    _log_as_json()
    with bound_socket(host, port) as listening:
        feed = open_feed(
            [Path(run) for run in runs],
            events,
            settings or FeedSettings(),
            dataset=None if dataset is None else Path(dataset),
            release=None if release is None else Path(release),
            user=user,
            interleave=interleave,
            uploads=None if uploads is None else Path(uploads),
            study=study,
        )
        if on_ready is not None:
            name = f"[{host}]" if ":" in host else host
            on_ready(f"http://{name}:{listening.getsockname()[1]}/", len(feed.catalogue))
        run_server(feed, access, listening)


def open_feed(
    runs: Sequence[Path],
    events: str,
    settings: FeedSettings,
    *,
    dataset: Path | None = None,
    release: Path | None = None,
    user: str | None = None,
    interleave: bool = False,
    uploads: Path | None = None,
    study: StudySettings | None = None,
) -> Feed:
    """Load runs and open the event store.

    Raises:
        InputError: a run cannot be served, the store cannot be opened, the folder for uploads cannot be used, or there
            are too few items for the study.
    """
    models = [ServedModel.open(run, dataset, user) for run in runs]
    catalogue = Catalogue(models[0].dataset, release, settings)
    models = [model.for_items(catalogue.dataset_ids) for model in models]
    served = Models(models, interleave=interleave, seed=settings.seed)
    if study is not None:
        _check_videos(study, 1 if served.interleave else len(models), int(catalogue.active.sum()))
    store = EventStore(events)
    try:
        folder = _upload_folder(store, settings, uploads) if study is None else None
        return Feed(store, catalogue, served, settings, folder, study)
    except BaseException:
        store.close()
        raise


def _upload_folder(store: EventStore, settings: FeedSettings, named: Path | None) -> Path | None:
    """The folder for uploads, or None if they are off."""
    if settings.uploads is False:
        return None
    if named is not None or store.exclusive:
        return named or Path(str(store.url.database)).parent / "uploads"
    if settings.uploads:
        raise InputError(
            "uploads need a folder that all servers of a PostgreSQL database share; name it with --uploads."
        )
    return None


def _check_videos(study: StudySettings, parts: int, items: int) -> None:
    wanted = parts * (study.videos or 0)
    if wanted > items:
        raise InputError(
            f"the study shows {wanted:,} videos, {study.videos:,} in each part, but the feed has {items:,}."
        )


def bound_socket(host: str, port: int) -> socket.socket:
    """A socket that listens on an address.

    Raises:
        InputError: the address cannot be used, or the port is in use.
    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(
            f"--port {port} of {host} cannot be used ({os.strerror(error.errno or 0)}); choose another."
        ) from None


def run_server(feed: Feed, access: Access, listening: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT, which let requests end first; SIGHUP loads the runs again."""
    torch.set_num_threads(1)
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.collect()
    gc.freeze()  # a full collection would walk the objects of torch, for a tenth of a second, while people wait
    gc.enable()
    config = uvicorn.Config(
        create_app(feed, access),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_STOP_SECONDS,
        timeout_keep_alive=_IDLE_SECONDS,
    )
    with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(_serve(feed, _Server(config), listening))


class _Server(uvicorn.Server):
    """A server that leaves signals to :func:`_serve`; uvicorn would raise them again after a clean end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _serve(feed: Feed, server: uvicorn.Server, listening: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(asyncio.to_thread(reload_models, feed))
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    def stop(number: int) -> None:
        if feed.publisher is not None:
            feed.publisher.stop()
        server.handle_exit(number, None)

    loop.add_signal_handler(signal.SIGHUP, reload)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    await server.serve(sockets=[listening])


def reload_models(feed: Feed) -> None:
    """Load the runs of all arms again; one that cannot be loaded stays as it is."""
    for arm, model in feed.models.serving.items():
        try:
            _log.info("%s serves %s", arm, feed.replace_model(model.folder, arm).id)
        except Exception as error:
            _log.exception("%s still serves %s: %s", arm, model.id, sentence_of(error) or error)


def _log_as_json() -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
