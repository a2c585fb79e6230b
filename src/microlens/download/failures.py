"""Why a file could not be fetched."""


class UnavailableError(Exception):
    """A file cannot be had from this address; trying again is no use."""


class TransferError(Exception):
    """A transfer failed in a way that may pass."""


class RangesIgnoredError(TransferError):
    """The server sends a whole file where a part was asked for."""


class StoppedError(Exception):
    """The user has ended the command."""
