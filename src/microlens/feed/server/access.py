"""Who may use the server: hosts, tokens, origins and the rate of requests."""

import hmac
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass

from microlens.errors import InputError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
TOKEN_COOKIE = "microlens_token"  # noqa: S105 - a name
SHORTEST_TOKEN = 16
_MOST_CLIENTS = 10_000
_BURST_SECONDS = 6.0


@dataclass(frozen=True, kw_only=True)
class Access:
    """Rules of access.

    Attributes:
        host: address that the server listens on.
        token: admits people; None admits everyone, which only a loopback address may.
        operator_token: admits to the operator's routes; without any token, everyone who reaches a loopback address is
            the operator.

    Raises:
        InputError: the host is not a loopback address and there is no token, or a token is too short.
    """

    host: str = "127.0.0.1"
    token: str | None = None
    operator_token: str | None = None

    def __post_init__(self) -> None:
        if not self.is_private and self.token is None:
            raise InputError(
                f"--host {self.host} can be reached from other machines; give a --token that admits people, or leave "
                f"out --host."
            )
        for token in (self.token, self.operator_token):
            if token is not None and not (len(token) >= SHORTEST_TOKEN and token.isascii() and token.isalnum()):
                raise InputError(
                    f"a token is at least {SHORTEST_TOKEN} letters and digits; make one with: openssl rand -hex 16"
                )

    @property
    def is_private(self) -> bool:
        """True if only programs on the same machine reach the server."""
        return self.host in LOOPBACK

    def admits(self, given: str | None) -> bool:
        """True if a token admits a person."""
        return self.token is None or _equal(given, self.token) or self.is_operator(given)

    def is_operator(self, given: str | None) -> bool:
        """True if a token admits to the operator's routes."""
        if self.operator_token is None:
            return self.token is None
        return _equal(given, self.operator_token)

    def serves(self, host: str) -> bool:
        """True if a Host header may be answered.

        On a loopback address other names are refused, because a page of another site could have its name point here.
        """
        return not self.is_private or host_name(host) in LOOPBACK


def host_name(host: str) -> str:
    """The name in a Host header, without its port."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()


def is_same_origin(headers: Mapping[str, str]) -> bool:
    """True if a request comes from the pages of this server, or from a program that is no browser."""
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = headers.get("origin")
    return origin is None or origin.partition("://")[2] == headers.get("host")


def _equal(given: str | None, token: str) -> bool:
    return given is not None and hmac.compare_digest(given.encode(errors="replace"), token.encode())


class RateLimit:
    """Limits the requests of each client: a bucket of tokens that is refilled steadily.

    Args:
        a_minute: requests a minute in the long run; 0 for no limit.
    """

    def __init__(self, a_minute: float) -> None:
        self._rate = a_minute / 60
        self._burst = max(10.0, self._rate * _BURST_SECONDS)
        self._clients: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait(self, client: str, now: float | None = None) -> float:
        """Count a request; returns the seconds until it would be allowed, 0 if it is."""
        if not self._rate:
            return 0.0
        now = time.monotonic() if now is None else now
        left, then = self._clients.pop(client, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._rate)
        allowed = left >= 1
        self._clients[client] = (left - 1 if allowed else left, now)
        if len(self._clients) > _MOST_CLIENTS:
            self._clients.popitem(last=False)
        return 0.0 if allowed else (1 - left) / self._rate
