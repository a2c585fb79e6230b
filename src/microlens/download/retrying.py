"""Trying again what failed in a way that may pass, with growing pauses."""

import random
from collections.abc import Callable
from threading import Event
from typing import TypeVar

from tenacity import RetryCallState, Retrying, retry_if_exception_type
from tenacity.nap import sleep_using_event

from microlens.download.failures import StoppedError, TransferError

T = TypeVar("T")
ATTEMPTS = 6
"""Attempts without a new byte after which a transfer is given up."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0  # seconds


def patiently(attempt: Callable[[], T], stop: Event, position: Callable[[], int] = lambda: 0) -> T:
    """The result of ``attempt``, repeated while it raises TransferError.

    Args:
        attempt: what to do.
        stop: ends the pauses; then StoppedError is raised.
        position: bytes received so far; as long as they grow, there is no limit of attempts.

    Raises:
        TransferError: of the last attempt.
    """
    patience = _Patience(position)
    retrying = Retrying(
        retry=retry_if_exception_type(TransferError),
        stop=patience.is_over,
        wait=patience.pause,
        sleep=sleep_using_event(stop),
        reraise=True,
    )

    def attempt_unless_stopped() -> T:
        if stop.is_set():
            raise StoppedError
        return attempt()

    return retrying(attempt_unless_stopped)


class _Patience:
    """Counts the attempts since the last one that brought bytes."""

    def __init__(self, position: Callable[[], int]) -> None:
        self.position, self.reached, self.failures = position, position(), 0

    def is_over(self, state: RetryCallState) -> bool:
        now = self.position()
        self.failures = 1 if now > self.reached else self.failures + 1
        self.reached = now
        return self.failures >= ATTEMPTS

    def pause(self, state: RetryCallState) -> float:
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (self.failures - 1))
        return longest * random.uniform(0.5, 1.0)
