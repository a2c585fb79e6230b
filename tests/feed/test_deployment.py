"""What deploy/ holds: two servers of one PostgreSQL behind nginx, by the configuration that is shipped."""

import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from microlens.feed.event_store import EventStore
from tests.conftest import REPOSITORY
from tests.feed.conftest import Postgres
from tests.feed.servers import Crowd, Server, ids

DEPLOY = REPOSITORY / "deploy"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@contextmanager
def nginx(folder: Path, servers: list[Server]) -> Iterator[str]:
    """nginx with the shipped configuration, in front of servers on this machine; yields its address."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin")
    if program is None:
        pytest.skip("nginx is not installed (apt-get install nginx-light)")
    port, text = free_port(), (DEPLOY / "nginx.conf").read_text()
    for number, server in enumerate(servers, 1):
        text = text.replace(f"feed-{number}:8000", server.address.removeprefix("http://").rstrip("/"))
    kept = "".join(
        f"{name}_temp_path {folder}/{name}; " for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = text.replace("http {", f"http {{ access_log off; {kept}").replace("listen 8080", f"listen 127.0.0.1:{port}")
    (folder / "nginx.conf").write_text(text)
    options = f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;"
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    for _ in range(100):
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert process.poll() is None, process.stderr and process.stderr.read()
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/"
    process.terminate()
    process.communicate(timeout=10)


@pytest.mark.slow
def test_one_of_two_servers_behind_nginx_may_die(world: Path, postgres: Postgres, tmp_path: Path) -> None:
    url = postgres.new_database()
    settings = tmp_path / "feed.toml"
    settings.write_text("limits.requests_a_minute = 0\n")
    servers = [Server(world / "id", url, "--settings", str(settings)) for _ in range(2)]
    with nginx(tmp_path, servers) as address:
        crowd = Crowd(address, people=4)
        time.sleep(2)
        servers[0].kill()
        before = len(crowd.acknowledged)
        time.sleep(2)
        assert before < len(crowd.acknowledged)
    crowd.wait()
    servers[1].stop()
    assert crowd.failures == [], (tmp_path / "errors").read_text()
    store = EventStore(url)
    stored = [event for person in crowd.sent for event in ids(store.events(person))]
    store.close()
    assert len(stored) == len(set(stored))
    assert set(crowd.acknowledged) <= set(stored)


def test_nginx_names_the_servers_of_the_compose_file() -> None:
    yaml = pytest.importorskip("yaml")
    compose: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    upstream = re.findall(r"server (\S+):8000 ", (DEPLOY / "nginx.conf").read_text())
    servers = [name for name, service in compose["services"].items() if service.get("image") == "microlens-feed"]
    assert upstream == servers
    assert "EXPOSE 8000" in (DEPLOY / "Dockerfile").read_text()
    assert set(compose["volumes"]) == {"events"}
    for name in servers:
        assert compose["services"][name]["build"]["dockerfile"] == "deploy/Dockerfile"
