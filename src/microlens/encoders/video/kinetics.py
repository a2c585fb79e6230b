"""The 400 class names of Kinetics-400 (Kay et al. 2017, arXiv 1705.06950), the classes of most video weights."""

from functools import cache
from importlib.resources import files

NUM_CLASSES = 400


@cache
def kinetics_classes() -> tuple[str, ...]:
    """The class names in the order of the official weights' logits, which is alphabetical."""
    names = (files("microlens.encoders.video") / "kinetics400.txt").read_text(encoding="utf-8")
    return tuple(names.splitlines())
