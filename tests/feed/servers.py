"""A server in a process of its own, and people who use it until it ends."""

import os
import re
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.feed.conftest import Visitor, event_of
from tests.processes import PythonProcess


class Server:
    """``microlens feed`` on a free port."""

    def __init__(self, run: Path, events: str, *options: str) -> None:
        command = ["-m", "microlens", "feed", run, "--port", "0", "--events", events, *options]
        self.process = PythonProcess(command, environment={**os.environ, "COLUMNS": "200"})
        while "\n" not in self.process.said(1) and self.process.poll() is None:
            time.sleep(0.01)
        said = self.process.said(1)
        found = re.search(r"http://[^/]+/", said)
        if found is None:
            raise AssertionError(f"{said}{self.process.communicate()[1]}")
        self.address = found[0]

    def kill(self) -> None:
        """End the process at once, as the system does when memory runs out."""
        self.process.kill()
        self._ended()

    def stop(self) -> str:
        """End the process as an operator does; returns its log."""
        self.process.terminate()
        return self._ended()

    def _ended(self) -> str:
        return self.process.communicate(timeout=30)[1]


class Crowd:
    """People who watch and like, each in a thread; what they sent, and what was acknowledged."""

    def __init__(self, address: str, people: int) -> None:
        self.sent: dict[str, list[dict[str, Any]]] = {}
        self.acknowledged: list[str] = []
        self.failures: list[str] = []
        self.cookies: dict[str, tuple[str, str]] = {}
        self._threads = [threading.Thread(target=self._use, args=(address,)) for _ in range(people)]
        for thread in self._threads:
            thread.start()

    def _use(self, address: str) -> None:
        with httpx.Client(base_url=address, timeout=20) as client:
            try:
                visitor = Visitor(client)
                self.sent[visitor.person] = []
                self.cookies[visitor.person] = (visitor.session, client.cookies["microlens_person"])
                while True:
                    for exposure in visitor.next(2):
                        events = [event_of(exposure, kind) for kind in ("impression", "start", "like")]
                        self.sent[visitor.person] += events
                        answer = visitor.send(*events)
                        assert answer["stored"] + answer["repeated"] == len(events), answer
                        self.acknowledged += [event["id"] for event in events]
            except httpx.TransportError:  # the server has gone
                return
            except Exception as error:
                self.failures.append(repr(error))

    def wait(self) -> None:
        """Wait until nobody is served any more."""
        for thread in self._threads:
            thread.join(60)

    def send_again(self, address: str) -> list[dict[str, Any]]:
        """Send everything that was sent again, as clients do when the server is back; returns the answers."""
        answers = []
        for person, events in self.sent.items():
            session, cookie = self.cookies[person]
            with httpx.Client(base_url=address, cookies={"microlens_person": cookie}, timeout=20) as client:
                for start in range(0, len(events), 500):
                    body = {"session": session, "events": events[start : start + 500]}
                    answers.append(client.post("/api/events", json=body).json())
        return answers


def ids(rows: Sequence[Any]) -> list[str]:
    """The ids of stored events."""
    return [row["event"] for row in rows]
