"""Videos that people send: ranked from the next request on if they are good, and without a trace if they are not."""

import os
import re
import shutil
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import av
import httpx
import polars as pl
import pytest
from PIL import Image
from sqlalchemy.exc import OperationalError

import microlens as ml
from microlens.errors import InputError
from microlens.feed import publishing
from microlens.feed.live import Feed
from microlens.feed.server import uploads
from microlens.feed.server.access import Access
from microlens.feed.upload_folders import COPY
from microlens.media import untrusted_videos
from tests.feed import upload_workers
from tests.feed.conftest import ITEMS, NO_EXPLORATION, OpenFeed, Postgres, Served, Visitor, event_of
from tests.feed.servers import Server
from tests.videos import encode, mux_film

Serve = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("video_run")
SMALL: dict[str, Any] = {"upload_bytes": 2**20, "upload_seconds": 60, "upload_pixels": 2**20, "requests_a_minute": 0}


def settings(**others: Any) -> dict[str, Any]:
    return {**NO_EXPLORATION, "limits": {**SMALL, "uploads_an_hour": 0}, **others}


def send(client: Any, video: Path | bytes, title: str = "A new one", tag: str = "New", name: str = "a.mp4") -> Any:
    content = video if isinstance(video, bytes) else video.read_bytes()
    return client.post("/api/items", files={"file": (name, content)}, data={"title": title, "tag": tag})


def send_raw(client: Any, body: bytes, boundary: str = "x") -> Any:
    return client.post(
        "/api/items", content=body, headers={"Content-Type": f"multipart/form-data; boundary={boundary}"}
    )


def part(name: str, content: bytes, more: str = "") -> bytes:
    return f'--x\r\nContent-Disposition: form-data; name="{name}"{more}\r\n\r\n'.encode() + content + b"\r\n"


def folder_of(feed: Feed) -> Path:
    return Path(str(feed.store.url.database)).parent / "uploads"


def files_of(feed: Feed) -> list[str]:
    root = folder_of(feed)
    return sorted(str((Path(at) / name).relative_to(root)) for at, _, names in os.walk(root) for name in names)


def assert_nothing_is_left(feed: Feed) -> None:
    assert (files_of(feed), feed.store.uploads(), len(feed.catalogue)) == ([".microlens"], [], ITEMS)
    assert [path for path in folder_of(feed).iterdir() if path.is_dir()] == []


def until(condition: Callable[[], Any], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"it did not happen within {seconds} seconds"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def receiving(world: Path, video_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A server for uploads that fail."""
    from fastapi.testclient import TestClient

    from microlens.feed.server.app import create_app
    from microlens.feed.server.running import open_feed
    from microlens.feed.settings import FeedSettings

    url = f"sqlite:///{tmp_path_factory.mktemp('receiving')}/events.sqlite"
    feed = open_feed([video_run], url, FeedSettings.model_validate(settings()), release=world / "release")
    with TestClient(create_app(feed), "http://127.0.0.1", raise_server_exceptions=False) as client:
        yield client


@pytest.fixture
def client(receiving: Any) -> Any:
    """A visitor of that server, who leaves nothing there."""
    receiving.cookies.clear()
    Visitor(receiving)
    yield receiving
    receiving.cookies.clear()
    assert_nothing_is_left(receiving.app.state.feed)
    assert receiving.app.state.feed.publisher._running == set()


def test_a_video_is_ranked_at_once_lasts_and_becomes_part_of_a_release(
    world: Path, video_run: Path, clip: Path, open_world: OpenFeed, serve: Serve, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/store/events.sqlite"
    feed = open_world("video", events=url, settings=settings())
    client = serve(feed)
    visitor = Visitor(client)
    first = visitor.next(2)
    visitor.send(*(event_of(exposure, "like") for exposure in first))
    answer = send(client, clip, 'A "new" one,\twith 你好\x00\x1b', "Cats & dogs", name="../../../../tmp/climbed.mp4")
    assert answer.status_code == 201, answer.text
    item = answer.json()
    assert (item["title"], item["tag"]) == ('A "new" one, with 你好', "Cats & dogs")
    assert (item["width"], item["height"], item["playable"]) == (144, 256, True)
    assert item["duration_ms"] == pytest.approx(2500, abs=50)
    assert client.get(answer.headers["location"]).json() == item
    assert client.get(item["cover"]).content.startswith(b"\xff\xd8")
    copy = client.get(item["video"]).content
    assert files_of(feed) == [".microlens", f"{item['item']}/cover.jpg", f"{item['item']}/video.mp4"]
    assert copy == (folder_of(feed) / item["item"] / COPY).read_bytes()
    history = [exposure["item"] for exposure in first]
    table = ml.load(video_run).recommend(history=history, add_video=folder_of(feed) / item["item"] / COPY, k=ITEMS + 1)
    expected = [name or item["item"] for name in table["item"].cast(pl.String)]
    served = [exposure for count in (5, 5, 5, 4) for exposure in visitor.next(count)]
    assert [exposure["item"] for exposure in served] == [name for name in expected if name not in history][:19]
    (own,) = (exposure for exposure in served if exposure["item"] == item["item"])
    visitor.send(event_of(own, "start"), event_of(own, "like"))
    client.__exit__(None, None, None)

    again = open_world("video", events=url, settings=settings())
    client = serve(again)
    visitor = Visitor(client)
    assert client.get(item["video"]).content == copy
    assert (client.get(item["video"]).status_code, client.get(f"/api/items/{item['item']}").json()["likes"]) == (200, 1)

    ml.release_from_events(url, tmp_path / "out", release=world / "release", merge=True)
    assert (tmp_path / "out" / "videos" / f"{item['item']}.mp4").read_bytes() == copy
    assert (tmp_path / "out" / "covers" / f"{item['item']}.jpg").is_file()
    prepared = ml.prepare(tmp_path / "out", tmp_path / "dataset", workers=1).items
    (found,) = prepared.filter(pl.col("item_id") == int(item["item"])).select("title", "tag").rows()
    assert found == (item["title"], item["tag"])

    assert client.post(f"/api/admin/items/{item['item']}", json={"state": "taken-down"}).status_code == 200
    assert client.get(item["video"]).status_code == client.get(f"/api/items/{item['item']}").status_code == 404
    assert item["item"] not in [exposure["item"] for _ in range(4) for exposure in visitor.next(5)]


def bomb(path: Path) -> Path:
    """A GIF of a few hundred bytes whose pictures have 16384 x 16384 pixels."""
    pictures = [Image.new("P", (8, 8), colour) for colour in (1, 2, 3)]
    pictures[0].save(path, "GIF", save_all=True, append_images=pictures[1:])
    data = path.read_bytes()
    path.write_bytes(data[:6] + b"\x00\x40\x00\x40" + data[10:])
    return path


def larger_than_allowed(path: Path) -> Path:
    return mux_film(path, count=3, size=(2048, 1024), options={"preset": "ultrafast"})


def cut_off(path: Path) -> Path:
    data = encode(path, container={"movflags": "faststart"}).read_bytes()
    path.write_bytes(data[: len(data) // 2])
    return path


def cut_off_before_the_index(path: Path) -> Path:
    path.write_bytes(encode(path).read_bytes()[:3000])
    return path


def text(path: Path) -> Path:
    path.write_text("This is no video.\n" * 100)
    return path


def playlist(path: Path) -> Path:
    path.write_text("#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n")
    return path


def without_frames(path: Path) -> Path:
    return mux_film(path, count=0, sound=("aac", 1.0))


def too_long(path: Path) -> Path:
    return encode(path, count=3, times=[0, 30, 30 * 61])


def empty(path: Path) -> Path:
    path.touch()
    return path


def noise(path: Path) -> Path:
    """Damage in the middle of the pictures, behind an index that is right."""
    data = bytearray(encode(path, "h264, one keyframe, B-frames", container={"movflags": "faststart"}).read_bytes())
    start = data.index(b"mdat") + 8
    data[start:] = os.urandom(len(data) - start)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (text, "not a media file of a known kind"),
        (playlist, "not a media file of a known kind"),
        (empty, "the file is empty"),
        (without_frames, "no video stream"),
        (cut_off, "cut off or damaged"),
        (cut_off_before_the_index, "truncated: the index"),
        (noise, "damaged"),
        (bomb, "the size of its pictures is unknown, or above 1,048,576 pixels"),
        (larger_than_allowed, r"its pictures have 2048 x 1024 pixels; accepted are up to 1,048,576"),
        (too_long, "it is 61 seconds long; accepted are up to 60"),
    ],
)
def test_a_file_that_is_no_good_video_is_refused(
    client: Any, tmp_path: Path, make: Callable[[Path], Path], why: str
) -> None:
    answer = send(client, make(tmp_path / "a.mp4"))
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert re.search(why, answer.json()["detail"]), answer.text
    assert str(tmp_path) not in answer.text
    assert "uploads" not in answer.json()["detail"]


def test_nothing_of_the_file_itself_gets_out(
    client: Any, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        av.open(str(clip)) as source,
        av.open(str(tmp_path / "a.mp4"), "w", options={"movflags": "+use_metadata_tags"}) as output,
    ):
        output.metadata["location"] = "+47.4979+019.0402/"
        stream = output.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                output.mux(packet)
    assert b"+47.4979" in (tmp_path / "a.mp4").read_bytes()
    seen = []
    monkeypatch.setattr(client.app.state.feed.uploads, "add", lambda row: seen.append(Path(row["path"]).read_bytes()))
    assert send(client, tmp_path / "a.mp4").status_code == 500  # the planted function returns no number
    assert seen
    assert b"+47.4979" not in seen[0]


FILE = part("file", b"abc", '; filename="a.mp4"')
TITLE, TAG, END = part("title", b"A new one"), part("tag", b"New"), b"--x--\r\n"


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (TITLE + TAG + END, 422, "file: is missing"),
        (FILE + TAG + END, 422, "title: is missing"),
        (FILE + part("title", " \t\u200b\x07 ".encode()) + END, 422, "title: is missing"),
        (FILE + FILE + TITLE + END, 422, "file: only one is accepted"),
        (FILE + TITLE + TITLE + END, 422, "title: only one is accepted"),
        (FILE + TITLE + part("path", b"/etc/passwd") + END, 422, "there is no field 'path'"),
        (FILE + part("title", b"x" * 201) + END, 422, "title: has more than 200 characters"),
        (FILE + part("title", b"x" * 500_000) + END, 422, "too long"),
        (FILE + part("title", b"A \xff\xfe new one") + END, 422, "title: is not UTF-8"),
        (FILE + TITLE + part("tag", b"a\n<script>") + END, 422, "tag: is up to 50 letters"),
        (FILE + TITLE + part("tag", b"x" * 51) + END, 422, "tag: is up to 50 letters"),
        (FILE + TITLE + TAG, 422, "the form is cut off"),
        (b"", 422, "the form is cut off"),
        (b'{"file": "abc"}', 400, "the body is not the form"),
        (b"--x\r\n" + b"A: b\r\n" * 10_000 + b"\r\n", 400, "the body is not the form"),
        (b"--x\r\nContent-Type: video/mp4\r\n\r\nabc\r\n--x--\r\n", 422, "there is no field ''"),
    ],
)
def test_a_form_that_is_not_complete_is_refused(client: Any, body: bytes, status: int, why: str) -> None:
    answer = send_raw(client, body)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert why in answer.json()["detail"]


@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data", "text/plain; boundary=x", ""])
def test_what_is_not_a_form_is_refused(client: Any, kind: str) -> None:
    answer = client.post("/api/items", content=b"abc", headers={"Content-Type": kind})
    assert answer.status_code == 415


@pytest.mark.parametrize(
    "name", ["../../../../tmp/climbed.mp4", "/tmp/climbed.mp4", "..\\..\\climbed.mp4", "a\0b.mp4", "x" * 5000]
)
def test_the_name_of_the_file_leads_nowhere(client: Any, name: str) -> None:
    quoted = name.replace("\\", "\\\\").replace("\0", "%00")
    answer = send_raw(client, part("file", b"no video", f'; filename="{quoted}"') + TITLE + END)
    assert answer.status_code in (400, 422)
    assert not Path("/tmp/climbed.mp4").exists()


@pytest.mark.parametrize("origin", ["http://evil.example", "null"])
def test_another_site_cannot_upload(client: Any, origin: str) -> None:
    answer = client.post("/api/items", files={"file": b"abc"}, headers={"Origin": origin})
    assert answer.status_code == 403
    assert client.post("/api/items", files={"file": b"a"}, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_nobody_uploads_without_a_cookie_or_a_token(client: Any, open_world: OpenFeed, serve: Serve) -> None:
    client.cookies.clear()
    assert send(client, b"abc").status_code == 401
    token = "people0123456789"
    other = serve(open_world("video", settings=settings(uploads=True)), Access(host="0.0.0.0", token=token))
    assert send(other, b"abc").status_code == 401
    other.headers["Authorization"] = f"Bearer {token}"
    Visitor(other)
    assert send(other, b"abc").status_code == 422


def connected(address: str) -> socket.socket:
    host, port = re.fullmatch(r"http://([^:]+):(\d+)", address.rstrip("/")).groups()  # type: ignore[union-attr]
    return socket.create_connection((host, int(port)), timeout=20)


def head(address: str, client: httpx.Client, length: int) -> bytes:
    cookie = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    lines = [
        "POST /api/items HTTP/1.1", f"Host: {address.partition('://')[2]}", f"Cookie: {cookie}",
        "Content-Type: multipart/form-data; boundary=x", f"Content-Length: {length}",
    ]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode()


def test_too_large_a_body_is_refused_unread_and_what_is_broken_off_leaves_nothing(
    open_world: OpenFeed, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = open_world("video", settings=settings())
    address = served(feed)
    with httpx.Client(base_url=address, timeout=20) as client:
        Visitor(client)
        with closing(connected(address)) as line:  # 4 GB, of which nothing is sent
            line.sendall(head(address, client, 2**32))
            assert b"413 " in line.recv(100)
        sent = 0

        def endless() -> Iterator[bytes]:
            nonlocal sent
            yield part("title", b"x") + part("file", b"")[:-2]
            for _ in range(1000):
                sent += 2**16
                yield b"\0" * 2**16

        try:
            assert client.post("/api/items", content=endless(), headers=_KIND).status_code == 413
        except httpx.TransportError:  # the answer came while the client was still sending
            assert sent < 2**24
        assert_nothing_is_left(feed)
        with closing(connected(address)) as line:
            line.sendall(head(address, client, 500_000) + FILE[:-2] + b"\0" * 100_000)
            until(lambda: len(files_of(feed)) > 1)
        until(lambda: files_of(feed) == [".microlens"])
        monkeypatch.setattr(uploads, "IDLE_SECONDS", 0.3)
        with closing(connected(address)) as line:
            line.sendall(head(address, client, 500_000) + FILE)
            assert b"408 " in line.recv(100)
        assert_nothing_is_left(feed)
        assert send(client, b"abc").status_code == 422  # nobody is taken for uploading any more


_KIND = {"Content-Type": "multipart/form-data; boundary=x"}


@pytest.mark.parametrize(
    ("worker", "status", "why"),
    [
        (upload_workers.die, 422, r"decoding it kills the process \(SIGSEGV\)"),
        (upload_workers.hang, 422, r"decoding it takes longer than 0.01 minutes"),
        (upload_workers.take_time, 422, "decoding it takes too long"),
        (upload_workers.take_memory, 422, "decoding it needs more memory than there is"),
        (upload_workers.fill_the_disk, 507, "the disk of the server is full"),
    ],
)
def test_what_a_file_does_to_its_process_hurts_nothing_else(
    client: Any, clip: Path, monkeypatch: pytest.MonkeyPatch, worker: Any, status: int, why: str
) -> None:
    monkeypatch.setattr(untrusted_videos, "_copy_within_limits", worker)
    monkeypatch.setattr(untrusted_videos, "MOST_SECONDS", 0.6 if worker is upload_workers.hang else 60.0)
    answer = send(client, clip)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert re.search(why, answer.json()["detail"]), answer.text


def test_people_are_served_meanwhile_one_upload_each_and_a_few_in_all(
    open_world: OpenFeed, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = open_world("video", settings=settings())
    address = served(feed)
    monkeypatch.setattr(untrusted_videos, "_copy_within_limits", upload_workers.hang)
    clients = [httpx.Client(base_url=address, timeout=60) for _ in range(publishing.MOST_AT_ONCE + 1)]
    visitors = [Visitor(client) for client in clients]
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda client=client: answers.append(send(client, b"a" * 1000).status_code))
        for client in clients[:-1]
    ]
    for number, thread in enumerate(threads, 1):
        thread.start()
        until(lambda wanted=number: len(feed.publisher._running) == wanted)  # type: ignore[union-attr, misc]
    own, other = (send(client, b"a" * 1000) for client in (clients[0], clients[-1]))
    assert (own.status_code, other.status_code) == (429, 503)
    assert own.headers["retry-after"] == other.headers["retry-after"] == "10"
    for visitor in visitors:
        visitor.send(event_of(visitor.next()[0], "like"))
    assert answers == []
    feed.publisher.close()  # type: ignore[union-attr] # the server stops
    for thread in threads:
        thread.join(30)
    assert answers == [503] * publishing.MOST_AT_ONCE
    assert_nothing_is_left(feed)
    for client in clients:
        client.close()


def test_the_rate_of_a_person_is_limited(open_world: OpenFeed, serve: Serve) -> None:
    limits = {**SMALL, "uploads_an_hour": 1}
    client = serve(open_world("video", settings={**NO_EXPLORATION, "limits": limits}))
    Visitor(client)
    answers = [send_raw(client, b"") for _ in range(11)]
    assert [answer.status_code for answer in answers] == [422] * 10 + [429]
    assert 3000 < int(answers[-1].headers["retry-after"]) <= 3600


def test_where_no_model_reads_videos_that_is_said_and_nothing_is_offered(
    client: Any, clip: Path, open_world: OpenFeed, serve: Serve
) -> None:
    offered = client.post("/api/sessions").json()
    assert offered["features"]["upload"]
    assert offered["upload"]["bytes"] == 2**20
    assert offered["upload"]["ranked_by"] == ["video"]
    assert offered["upload"]["tags"] == client.app.state.feed.catalogue.tags
    feed = open_world("id", settings=settings())
    other = serve(feed)
    answer = other.post("/api/sessions").json()
    assert (answer["features"]["upload"], answer["upload"]) == (False, None)
    refused = send(other, clip)
    assert (refused.status_code, refused.headers["content-type"]) == (409, "application/problem+json")
    assert "no model of this feed can rank a new video" in refused.json()["detail"]
    assert_nothing_is_left(feed)


def test_a_fusion_ranks_a_video_by_its_title_at_once(
    fusion_run: Path, clip: Path, open_world: OpenFeed, serve: Serve
) -> None:
    feed = open_world("fusion", settings=settings())
    client = serve(feed)
    visitor = Visitor(client)
    first = visitor.next(2)
    visitor.send(*(event_of(exposure, "like") for exposure in first))
    assert client.post("/api/sessions").json()["upload"]["ranked_by"] == ["title"]
    assert client.get("/api/admin/overview").json()["models"][0]["uploads_by"] == ["title"]
    item = send(client, clip, str(feed.catalogue.item(7).title)).json()["item"]
    chosen = [exposure for count in (5, 5, 5, 4) for exposure in visitor.next(count, why=True)]
    (own,) = (exposure["why"] for exposure in chosen if exposure["item"] == item)
    assert (own["reason"], own["cold"], own["of"]) == ("model", True, ITEMS - 1)
    numbers = [feed.catalogue.number(exposure["item"]) or 0 for exposure in first]
    assert own["score"] == pytest.approx(feed.models.serving["fusion"].scores(numbers)[feed.catalogue.number(item)])


@pytest.mark.parametrize(
    ("wanted", "access", "allowed"),
    [
        (None, Access(), True),
        (None, Access(host="0.0.0.0", token="people0123456789"), False),
        (True, Access(host="0.0.0.0", token="people0123456789"), True),
        (False, Access(), False),
    ],
)
def test_only_a_private_server_takes_videos_without_being_told_to(
    open_world: OpenFeed, serve: Serve, wanted: bool | None, access: Access, allowed: bool
) -> None:
    client = serve(open_world("video", settings=settings(uploads=wanted)), access)
    client.headers["Authorization"] = "Bearer people0123456789"
    assert client.post("/api/sessions").json()["features"]["upload"] == allowed
    answer = send(client, b"abc")
    assert answer.status_code == (422 if allowed else 403)
    assert allowed or answer.json()["detail"] == "this feed takes no videos"


def test_tags_are_those_that_the_settings_allow(open_world: OpenFeed, serve: Serve) -> None:
    client = serve(open_world("video", settings=settings(allowed_tags=["Cats", "Dogs"], blocked_tags=["Dogs"])))
    assert client.post("/api/sessions").json()["upload"]["tags"] == ["Cats"]
    assert client.post("/api/sessions").json()["upload"]["tags_only"]
    for tag, why in (("Birds", "accepted are Cats, Dogs"), ("", "accepted are"), ("Dogs", "is not accepted")):
        answer = send(client, b"abc", tag=tag)
        assert (answer.status_code, why in answer.json()["detail"]) == (422, True)
    assert "the file cannot be used" in send(client, b"abc", tag="Cats").json()["detail"]


def test_a_store_that_is_full_or_a_model_that_fails_leaves_no_file(
    client: Any, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed = client.app.state.feed
    original = feed.store._commits._transaction

    def full(jobs: Any) -> Any:
        raise OperationalError("INSERT", {}, sqlite3.OperationalError("database or disk is full"))

    monkeypatch.setattr(feed.store._commits, "_transaction", full)
    assert send(client, clip).status_code == 503
    monkeypatch.setattr(feed.store._commits, "_transaction", original)
    assert_nothing_is_left(feed)

    def broken(*_: Any) -> Any:
        raise InputError(f"{folder_of(feed)} is secret")

    monkeypatch.setattr(feed.uploads, "add", broken)
    answer = send(client, clip)
    assert (answer.status_code, "secret" in answer.text) == (422, False)
    monkeypatch.setattr(publishing, "free_bytes", lambda _: 2**30)
    answer = send(client, clip)
    assert (answer.status_code, answer.json()["detail"]) == (507, "the disk of the server is full; nothing was stored")


@pytest.mark.skipif(os.getuid() != 0 or shutil.which("mount") is None, reason="mounting a small disk needs root")
def test_a_disk_that_is_really_full(
    tmp_path: Path, clip: Path, open_world: OpenFeed, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("a small disk cannot be mounted here")
    monkeypatch.setattr(publishing, "free_bytes", lambda _: 2**40)
    try:
        feed = open_world("video", settings=settings(), uploads=disk)
        client = serve(feed)
        visitor = Visitor(client)
        answer = send(client, clip.read_bytes() + b"\0" * 300_000)  # does not fit as it is sent
        assert (answer.status_code, list(disk.iterdir())) == (507, [disk / ".microlens"]), answer.text
        padding = 256 * 1024 - clip.stat().st_size - 16 * 1024
        (disk / ".microlens").write_bytes(b"\0" * padding)  # leaves no room for the copy
        answer = send(client, clip)
        assert (answer.status_code, list(disk.iterdir())) == (507, [disk / ".microlens"]), answer.text
        assert visitor.next()
        client.__exit__(None, None, None)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def test_what_a_killed_server_has_left_is_removed_and_nothing_else(
    clip: Path, open_world: OpenFeed, serve: Serve, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/store/events.sqlite"
    feed = open_world("video", events=url, settings=settings())
    client = serve(feed)
    Visitor(client)
    item = send(client, clip).json()["item"]
    client.__exit__(None, None, None)
    root = folder_of(feed)
    (root / item / "received").write_bytes(b"killed after the commit")
    (root / "123").mkdir()
    for name in ("received", ".video.mp4.microlens-partial", "cover.jpg", ".lock"):
        (root / "123" / name).write_bytes(b"killed before")
    (root / "456").mkdir()
    (root / "456" / "thesis.doc").write_bytes(b"of somebody else")
    again = open_world("video", events=url, settings=settings())
    assert files_of(again) == sorted([".microlens", "456/thesis.doc", f"{item}/cover.jpg", f"{item}/video.mp4"])
    again.close()


def test_servers_that_share_a_store_share_uploads(
    postgres: Postgres, clip: Path, open_world: OpenFeed, serve: Serve, tmp_path: Path
) -> None:
    url, shared = postgres.new_database(), tmp_path / "shared"
    alone = open_world("video", events=url, settings=settings())
    assert alone.publisher is None
    alone.close()
    with pytest.raises(InputError, match="name it with --uploads"):
        open_world("video", events=url, settings=settings(uploads=True))
    one = open_world("video", events=url, settings=settings(), uploads=shared)
    assert one.publisher is not None
    with closing(one.publisher.begin("ann")) as begun:
        begun.received.write_bytes(b"is being sent")
        other = open_world("video", events=url, settings=settings(), uploads=shared)
        assert begun.received.is_file()
    clients = serve(one), serve(other)
    visitors = [Visitor(client) for client in clients]
    item = send(clients[0], clip).json()
    until(lambda: clients[1].get(f"/api/items/{item['item']}").status_code == 200, 3)
    assert clients[1].get(item["video"]).content == clients[0].get(item["video"]).content
    assert visitors[1].next(item=item["item"])[0]["title"] == "A new one"
    number = ITEMS + 1
    assert one.models.serving["video"].scores([1])[number] == other.models.serving["video"].scores([1])[number]


def test_a_folder_with_other_files_is_not_taken(open_world: OpenFeed, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.doc").touch()
    with pytest.raises(InputError, match="was not written by microlens"):
        open_world("video", uploads=tmp_path / "mine")


@pytest.mark.slow
def test_a_server_that_is_killed_in_the_middle_leaves_nothing(
    video_run: Path, open_world: OpenFeed, tmp_path: Path
) -> None:
    url = f"sqlite:///{tmp_path}/events.sqlite"
    server = Server(video_run, url)
    with httpx.Client(base_url=server.address, timeout=20) as client, closing(connected(server.address)) as line:
        Visitor(client)
        line.sendall(head(server.address.rstrip("/"), client, 500_000) + FILE[:-2] + b"\0" * 100_000)
        until(lambda: list((tmp_path / "uploads").glob("*/received")))
        server.kill()
    assert list((tmp_path / "uploads").glob("*/received"))
    feed = open_world("video", events=url)
    assert_nothing_is_left(feed)
    feed.close()


@pytest.mark.slow
def test_a_server_that_is_asked_to_stop_ends_an_upload(video_run: Path, tmp_path: Path) -> None:
    long = mux_film(tmp_path / "long.mp4", count=1200, size=(960, 540), options={"preset": "ultrafast"})
    server = Server(video_run, f"sqlite:///{tmp_path}/events.sqlite")
    answers: list[int] = []
    with httpx.Client(base_url=server.address, timeout=60) as client:
        Visitor(client)
        thread = threading.Thread(target=lambda: answers.append(send(client, long).status_code))
        thread.start()
        until(lambda: list((tmp_path / "uploads").glob("*/.video.mp4*")), 60)
        log = server.stop()
        thread.join()
    assert (answers, server.process.poll()) == ([503], 0)
    assert '"level": "error"' not in log
    assert [path.name for path in (tmp_path / "uploads").rglob("*")] == [".microlens"]
