"""Where files are fetched from: the official site, or a mirror named by option, environment or file."""

import os
import tomllib
from dataclasses import dataclass
from pathlib import Path

import httpx
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from microlens.download.registry import base_address
from microlens.errors import InputError

MIRROR, SETTINGS = "MICROLENS_MIRROR", "MICROLENS_CONFIG"
SETTINGS_FILE = "download.toml"


@dataclass(frozen=True, kw_only=True)
class Source:
    """The base address, and the hosts to which a server may redirect (``host`` or ``host:port``)."""

    base: str
    hosts: frozenset[str]


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class _Settings:
    mirror: str | None = None
    hosts: tuple[str, ...] = ()


def settings_folder() -> Path:
    """The folder of the user's settings: the environment variable ``MICROLENS_CONFIG``, or ``~/.config/microlens``."""
    return Path(os.environ.get(SETTINGS) or "~/.config/microlens").expanduser()


def find_source(mirror: str | None = None) -> Source:
    """The source named by ``mirror``, the variable ``MICROLENS_MIRROR``, the user's ``download.toml``, or the registry.

    ``download.toml`` in :func:`settings_folder` may hold ``mirror``, a base address, and ``hosts``, a list of hosts to
    which that server may redirect.

    Raises:
        InputError: an address is no http or https address, or the file cannot be read.
    """
    settings = _read_settings(settings_folder() / SETTINGS_FILE)
    named = {
        "mirror": mirror,
        f"the environment variable {MIRROR}": os.environ.get(MIRROR),
        str(settings_folder() / SETTINGS_FILE): settings.mirror,
    }
    origin, address = next(((key, value) for key, value in named.items() if value), ("registry", base_address()))
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise InputError(f"{origin}: {address!r} is no address ({error}).") from None
    if url.scheme not in ("http", "https") or not url.host:
        raise InputError(f"{origin}: {address!r} is no http or https address.")
    official = httpx.URL(base_address()).netloc.decode()
    hosts = {url.netloc.decode(), official, *settings.hosts}
    return Source(base=address.rstrip("/") + "/", hosts=frozenset(hosts))


def _read_settings(path: Path) -> _Settings:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        return TypeAdapter(_Settings).validate_python(table)
    except FileNotFoundError:
        return _Settings()
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        key = ".".join(map(str, fault["loc"]))
        raise InputError(f"{path}: {key}: {fault['msg']}; accepted are mirror and hosts.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}).") from None
