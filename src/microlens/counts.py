"""The counts that functions accept."""

from numbers import Integral

from microlens.errors import InputError, shown


def checked_count(name: str, value: object, most: int | None = None) -> int:
    """A count of any integer type as an int.

    Args:
        name: the argument, for the message.
        value: what was given.
        most: the largest count accepted; any if None.

    Raises:
        InputError: it is no whole number, less than 1, or more than ``most``.
    """
    if isinstance(value, Integral) and not isinstance(value, bool):
        count = int(value)
        if count >= 1 and (most is None or count <= most):
            return count
    accepted = "at least 1" if most is None else f"from 1 to {most}"
    raise InputError(f"{name} is {shown(value)}; it must be a whole number, {accepted}.")
