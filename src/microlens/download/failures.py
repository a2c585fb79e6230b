"""Why a file could not be fetched."""


class Unavailable(Exception):
    """A file cannot be had from this address; trying again is no use."""


class Interruption(Exception):
    """A transfer failed in a way that may pass."""


class RangesIgnored(Interruption):
    """The server sends a whole file where a part was asked for."""


class Stopped(Exception):
    """The user has ended the command."""
