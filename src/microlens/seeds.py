"""The seeds that commands and functions accept."""

from microlens.errors import InputError, shown

LARGEST_SEED = 2**63 - 1  # accepted by NumPy, PyTorch and JSON alike


def checked_seed(seed: object) -> int:
    """A seed of any integer type as an int.

    Raises:
        InputError: it is no integer from 0 to :data:`LARGEST_SEED`.
    """
    if not isinstance(seed, bool) and hasattr(seed, "__index__") and 0 <= int(seed.__index__()) <= LARGEST_SEED:
        return int(seed.__index__())
    raise InputError(f"seed is {shown(seed)}; accepted are integers from 0 to {LARGEST_SEED:,}.")
