"""Transfers that are cut, resumed, lied to, or given another file halfway."""

import random
import time
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from threading import Event, Thread

import pytest

from microlens.download import retrying, server
from microlens.download.failures import StoppedError, TransferError, UnavailableError
from microlens.download.server import Server
from microlens.download.sources import Source
from microlens.download.state import State, open_state
from microlens.download.transfer import Transfer
from tests.download.file_server import FileServer, serving

BODY = random.Random(0).randbytes(1_000_000)
PATH = "folder/a file.bin"


@pytest.fixture
def remote() -> Iterator[FileServer]:
    with serving({PATH: BODY}) as remote:
        yield remote


def connected(remote: FileServer, *hosts: str) -> Server:
    hosts = (remote.address.split("/")[2], *hosts)
    return Server(Source(base=remote.address, hosts=frozenset(hosts)), connections=4)


def fetch(remote: FileServer, state: State, on_bytes=lambda *_: None) -> bytes:
    with connected(remote) as client:
        received = Transfer(client, state, PATH, "a file.bin", on_bytes).run()
        return received.path.read_bytes()


def test_a_file_arrives_with_its_size_and_checksum(remote, tmp_path):
    with open_state(tmp_path) as state:
        assert fetch(remote, state) == BODY
        assert remote.sent() == len(BODY)


def test_a_transfer_that_is_cut_again_and_again_goes_on_where_it_was(remote, tmp_path):
    remote.faults[PATH].extend(["cut"] * 12)
    with open_state(tmp_path) as state:
        assert fetch(remote, state) == BODY
    assert remote.sent() == len(BODY)
    assert len(remote.requests) == 13


def test_a_server_that_sends_nothing_is_given_up(remote, tmp_path):
    remote.always[PATH] = "cut_at_once"
    with open_state(tmp_path) as state, pytest.raises(TransferError, match="the connection was cut"):
        fetch(remote, state)


def test_a_transfer_goes_on_after_a_restart_of_the_program(remote, tmp_path):
    remote.faults[PATH].extend(["cut", *["cut_at_once"] * 10])
    with open_state(tmp_path) as state, pytest.raises(TransferError):
        fetch(remote, state)
    remote.faults.clear()
    with open_state(tmp_path) as state:
        assert fetch(remote, state) == BODY
        assert remote.sent() == len(BODY)
        assert fetch(remote, state) == BODY  # it was complete, and is not asked for
    assert remote.sent() == len(BODY)


@pytest.mark.parametrize("validators", [True, False])
def test_a_file_that_changes_between_tries_starts_again(remote, tmp_path, validators):
    remote.validators = validators
    remote.faults[PATH].extend(["cut", *["cut_at_once"] * 10])
    with open_state(tmp_path) as state, pytest.raises(TransferError):
        fetch(remote, state)
    remote.faults.clear()
    remote.files[PATH] = BODY[::-1] + b"longer"
    with open_state(tmp_path) as state:
        assert fetch(remote, state) == BODY[::-1] + b"longer"


def test_a_file_that_shrinks_between_tries_starts_again(remote, tmp_path):
    remote.faults[PATH].extend(["cut", *["cut_at_once"] * 10])
    with open_state(tmp_path) as state, pytest.raises(TransferError):
        fetch(remote, state)
    remote.faults.clear()
    remote.files[PATH] = b"short"
    with open_state(tmp_path) as state:
        assert fetch(remote, state) == b"short"


def test_a_part_that_changed_meanwhile_is_an_error(remote):
    with connected(remote) as client:
        version = client.look(PATH)
        remote.files[PATH] = BODY[::-1]
        with pytest.raises(UnavailableError, match="changed"):
            client.read(PATH, 10, 20, version, lambda chunk: None)


def test_parts_are_read_to_the_byte_whatever_is_cut(remote):
    remote.faults[PATH].extend([None, *["cut", "too_long", 503, "no_ranges"] * 2])
    content = bytearray()
    with connected(remote) as client:
        client.read(PATH, 1234, 567_890, client.look(PATH), content.extend)
    assert content == BODY[1234:567_890]


def test_a_silent_server_is_tried_again(remote, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "SECONDS_WITHOUT_A_BYTE", 0.3)
    remote.faults[PATH].extend(["slow"] * 2)
    with open_state(tmp_path) as state:
        assert fetch(remote, state) == BODY


@pytest.mark.parametrize("in_words", [True, False])
def test_retry_after_is_waited_for(remote, tmp_path, in_words):
    stamp = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))
    remote.retry_after = stamp if in_words else "1"
    remote.faults[PATH].extend([429])
    began = time.monotonic()
    with open_state(tmp_path) as state:
        assert fetch(remote, state) == BODY
    assert 0.9 <= time.monotonic() - began < 4


def test_a_very_long_retry_after_is_told(remote, tmp_path):
    remote.retry_after = "7200"
    remote.always[PATH] = 429
    with open_state(tmp_path) as state, pytest.raises(UnavailableError, match="asks to wait for 120 minutes"):
        fetch(remote, state)


@pytest.mark.parametrize(("hosts", "allowed"), [((), False), (("127.0.0.1:{port}",), True)])
def test_redirects_lead_to_allowed_hosts_only(remote, hosts, allowed):
    with serving({"elsewhere": b"other"}) as other:
        remote.elsewhere = f"{other.address}elsewhere"
        remote.always[PATH] = "redirect_elsewhere"
        with connected(remote, *(host.format(port=other.server_port) for host in hosts)) as client:
            if allowed:
                assert client.look(PATH).total == 5
            else:
                with pytest.raises(UnavailableError, match=r"redirects to http://127.*, which is not allowed"):
                    client.look(PATH)
                assert other.requests == []


def test_a_circle_of_redirects_ends(remote):
    remote.always[PATH] = "redirect_here"
    with connected(remote) as client, pytest.raises(UnavailableError, match="in a circle"):
        client.look(PATH)


def test_connections_are_limited(remote, monkeypatch):
    remote.delay = 0.05
    with connected(remote) as client:
        threads = [Thread(target=client.look, args=(PATH,)) for _ in range(12)]
        began = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert time.monotonic() - began >= 3 * 0.05


def test_a_stop_ends_pauses_and_transfers(remote, monkeypatch, tmp_path):
    monkeypatch.setattr(retrying, "FIRST_PAUSE", 60.0)
    remote.always[PATH] = 503
    with connected(remote) as client:
        Thread(target=lambda: (time.sleep(0.2), client.stop.set())).start()
        with pytest.raises(StoppedError):
            client.look(PATH)
    remote.always.clear()
    with connected(remote) as client, open_state(tmp_path) as state, pytest.raises(StoppedError):
        Transfer(client, state, PATH, "a", lambda *_: client.stop.set()).run()


@pytest.mark.parametrize("fault", [None, "cut", "too_long", "cut_at_once"])
def test_a_large_body_is_read_straight_from_the_connection(remote, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(server, "LARGE", 100_000)
    monkeypatch.setattr(server, "CHUNK", 70_001)
    remote.faults[PATH].extend([fault] * 3)
    content = bytearray()
    with open_state(tmp_path) as state, connected(remote) as client:
        received = Transfer(client, state, PATH, "a file.bin", lambda *_: None).run()
        assert received.path.read_bytes() == BODY
        assert received.sha256 == sha256(BODY).hexdigest()
        client.read(PATH, 10, 900_000, client.look(PATH), content.extend)
    assert content == BODY[10:900_000]


def test_attempts_without_progress_are_counted_anew_after_progress():
    position, calls = [0], []

    def attempt() -> str:
        calls.append(len(calls))
        position[0] += len(calls) % 4 == 0
        if len(calls) == 30:
            return "done"
        raise TransferError("again")

    assert retrying.patiently(attempt, Event(), lambda: position[0]) == "done"
    with pytest.raises(TransferError):
        retrying.patiently(lambda: (_ for _ in ()).throw(TransferError("never")), Event())


def test_a_length_that_is_too_short_for_the_content_is_noticed_by_known_sizes_and_ends_of_files(tmp_path: Path):
    from microlens.download.content import is_cut_short
    from tests.download import tiny_set

    for suffix, content in ((".mp4", tiny_set.video(1)), (".jpg", tiny_set.cover(1))):
        path = tmp_path / f"1{suffix}"
        path.write_bytes(content)
        assert not is_cut_short(path, suffix)
        path.write_bytes(content[:-100])
        assert is_cut_short(path, suffix)
