"""Values that charts and texts of a page show."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Bar:
    """A fraction with its interval."""

    name: str
    colour: str
    value: float
    low: float
    high: float


def percent(share: float) -> str:
    """Format a fraction in percent for readers: 41.2, 0.31, 0; without the percent sign."""
    value = 100 * share
    if value == 0:
        return "0"
    return f"{value:.1f}" if value >= 1 else f"{value:.2f}"
