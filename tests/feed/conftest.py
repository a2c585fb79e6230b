"""A world for the feed, servers over it, and a PostgreSQL of its own."""

import os
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from fastapi.testclient import TestClient

from microlens.config.run_config import RunConfig
from microlens.data.prepare import prepare
from microlens.feed.live import Feed
from microlens.feed.server.access import Access
from microlens.feed.server.app import create_app
from microlens.feed.server.running import bound_socket, open_feed
from microlens.feed.settings import FeedSettings
from microlens.media.decoding import Settings
from microlens.media.reading import ClipSettings
from microlens.release.synthetic import write_release
from microlens.release.synthetic_media import write_item
from microlens.release.synthetic_world import build_world
from microlens.runs.train import train
from tests.feed.records import Records

ITEMS = 20
POSTGRES = Path("/usr/lib/postgresql/15/bin")
NO_EXPLORATION: dict[str, Any] = {"exploration": {"share": 0.0}, "limits": {"requests_a_minute": 0}}


def train_run(folder: Path, name: str, encoder: str | None, seed: int = 0, model: str = "sasrec") -> Path:
    settings: dict[str, Any] = {
        "dataset": folder / "dataset",
        "output": folder / name,
        "seed": seed,
        "model": {"name": model, **({"dim": 8} if encoder else {})},
        "train": {"epochs": 1, "batch_size": 8, "lr": 1e-2, "encoder_lr": 1e-3, "device": "cpu"},
        **({"encoder": {"name": encoder}} if encoder else {}),
    }
    train(RunConfig.model_validate(settings))
    return folder / name


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of 30 users and 20 videos, prepared, and runs: id, other-id, video, popularity."""
    folder = tmp_path_factory.mktemp("feed")
    write_release(folder / "release", users=30, items=ITEMS, seed=1, workers=1)
    settings = Settings(clips=ClipSettings(num_frames=2, size=32), cover_size=32)
    prepare(folder / "release", folder / "dataset", settings, workers=1)
    train_run(folder, "id", "id")
    train_run(folder, "other-id", "id", seed=1)
    train_run(folder, "popularity", None, model="popularity")
    return folder


@pytest.fixture(scope="session")
def video_run(world: Path) -> Path:
    return train_run(world, "video", "x3d_xs")


@pytest.fixture(scope="session")
def fusion_run(world: Path) -> Path:
    """Ids and words in sequence, counts of what follows what, and neighbours by words."""
    towers = [{"name": "id", "dropout": 0.5}, {"name": "words"}]
    sasrec = {"model": {"name": "sasrec", "dim": 8}, "encoder": {"name": "sum", "towers": towers}}
    parts = [{**sasrec, "train": {"epochs": 1}}, {"model": {"name": "co_visitation"}}, {"model": {"name": "text_knn"}}]
    table = {"dataset": world / "dataset", "output": world / "fusion", "model": {"name": "fusion"}, "parts": parts}
    train(RunConfig.model_validate({**table, "train": {"device": "cpu"}}))
    return world / "fusion"


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video that is not in the release."""
    folder = tmp_path_factory.mktemp("clip")
    for name in ("videos", "covers", "audios"):
        (folder / name).mkdir()
    write_item(folder, 1, build_world(30, ITEMS, seed=5).look(3))
    return folder / "videos" / "1.mp4"


OpenFeed = Callable[..., Feed]


@pytest.fixture
def open_world(world: Path, tmp_path: Path) -> OpenFeed:
    """Opens feeds of runs of the world, which a server closes, or the end of the test."""

    def open_(*runs: str, settings: dict[str, Any] | None = None, **options: Any) -> Feed:
        options.setdefault("events", f"sqlite:///{tmp_path}/events/{uuid.uuid4().hex}/events.sqlite")
        loaded = FeedSettings.model_validate(NO_EXPLORATION if settings is None else settings)
        folders = [world / run for run in runs or ("id",)]
        return open_feed(folders, settings=loaded, release=world / "release", **options)

    return open_


@pytest.fixture
def serve() -> Iterator[Callable[..., TestClient]]:
    """Serves a feed; the client is a browser that has not been there before."""
    with ExitStack() as stack:

        def serve_(feed: Feed, access: Access | None = None) -> TestClient:
            app = create_app(feed, access)
            return stack.enter_context(TestClient(app, "http://127.0.0.1", raise_server_exceptions=False))

        yield serve_


@pytest.fixture(scope="session")
def lasting(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """A server for tests that change nothing for other people; ``client.app.state.feed`` is its feed."""
    url = f"sqlite:///{tmp_path_factory.mktemp('lasting')}/events.sqlite"
    settings = FeedSettings.model_validate(NO_EXPLORATION)
    feed = open_feed([world / "id"], url, settings, release=world / "release")
    with TestClient(create_app(feed), "http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


Served = Callable[..., str]


@contextmanager
def running_server(feed: Feed, access: Access) -> Iterator[str]:
    """A server in a thread; yields its address."""
    server = uvicorn.Server(uvicorn.Config(create_app(feed, access), log_config=None))
    with bound_socket("127.0.0.1", 0) as listening:
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def served() -> Iterator[Served]:
    """Serves a feed at an address of its own, for clients in other threads and programs."""
    with ExitStack() as stack:
        yield lambda feed, **access: stack.enter_context(running_server(feed, Access(**access)))


@pytest.fixture
def store_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/store/events.sqlite"


@pytest.fixture
def records(store_url: str) -> Iterator[Records]:
    """An event store to fill by hand."""
    found = Records(store_url)
    yield found
    found.store.close()


class Visitor:
    """A person with a browser."""

    def __init__(self, client: Any, **session: Any) -> None:
        self.client = client
        answer = client.post("/api/sessions", json=session)
        assert answer.status_code == 200, answer.text
        self.session, self.person = answer.json()["session"], answer.json()["person"]

    def next(self, count: int = 1, **wanted: Any) -> list[dict[str, Any]]:
        answer = self.client.post("/api/next", json={"session": self.session, "count": count, **wanted})
        assert answer.status_code == 200, answer.text
        exposures: list[dict[str, Any]] = answer.json()["exposures"]
        return exposures

    def send(self, *events: Any) -> dict[str, Any]:
        answer = self.client.post("/api/events", json={"session": self.session, "events": events})
        assert answer.status_code == 200, answer.text
        recorded: dict[str, Any] = answer.json()
        return recorded


def event_of(exposure: dict[str, Any], kind: str, **facts: Any) -> dict[str, Any]:
    """An event of an exposure, as a client makes it."""
    return {
        "id": uuid.uuid4().hex,
        "kind": kind,
        "request_id": exposure["request_id"],
        "position": exposure["position"],
        "at": time.time_ns() // 1_000_000,
        **facts,
    }


@pytest.fixture(scope="session")
def postgres() -> Iterator["Postgres"]:
    """A PostgreSQL server of the system package."""
    if not (POSTGRES / "initdb").is_file():
        pytest.skip(f"PostgreSQL 15 is not installed at {POSTGRES} (apt-get install postgresql)")
    server = Postgres()
    server.start()
    yield server
    server.remove()


class Postgres:
    """A server in a folder of its own, where its socket is; it refuses to run as root, so then it runs as nobody."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))  # short, as sockets need, and not in a folder of root
        self._as = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.getuid() == 0 else []
        if self._as:
            shutil.chown(self.folder, "nobody", "nogroup")
        self._run("initdb", "-D", str(self.folder / "data"), "-U", "feed", "-A", "trust", "--no-sync")

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as, str(POSTGRES / program), *arguments]
        done = subprocess.run(command, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stderr

    def start(self) -> None:
        options = f"-k {self.folder} -c listen_addresses='' -c max_connections=50"
        data, log = str(self.folder / "data"), str(self.folder / "log")
        self._run("pg_ctl", "-D", data, "-o", options, "-l", log, "-w", "start")

    def stop(self) -> None:
        """Stop at once, as when the power fails."""
        self._run("pg_ctl", "-D", str(self.folder / "data"), "-m", "immediate", "-w", "stop")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"feed_{uuid.uuid4().hex[:12]}"
        self._run("createdb", "-h", str(self.folder), "-U", "feed", name)
        return f"postgresql://feed@/{name}?host={self.folder}"
