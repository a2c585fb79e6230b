"""Options of earlier versions, in the configurations that their runs wrote."""

from collections.abc import Iterator
from typing import Any

_ACCELERATED = {"compile": True, "channels_last": True, "precision": "bf16"}


def translate_former_options(table: dict[str, Any], *, of_run: bool) -> None:
    """Replace ``accelerate`` of versions up to 0.2 in the training options of a configuration, in place.

    At its default it is dropped, because every run wrote it. Elsewhere it is replaced only in the configuration of a
    run, which nobody can edit (``of_run``); in other files it is an unknown option, and its message says what to write.
    """
    for train in _train_tables(table):
        if train.get("accelerate") is False:
            del train["accelerate"]
        elif of_run and train.get("accelerate") is True:
            del train["accelerate"]
            train.update(_ACCELERATED)


def _train_tables(table: dict[str, Any]) -> Iterator[dict[str, Any]]:
    parts = table.get("parts")
    for owner in [table, *(parts if isinstance(parts, list) else [])]:
        if isinstance(owner, dict) and isinstance(owner.get("train"), dict):
            yield owner["train"]


def hashed_as_before(train: dict[str, Any]) -> None:
    """Give the training options that are hashed the form of earlier versions, so that their runs keep their hashes."""
    train["accelerate"] = all(train[name] == value for name, value in _ACCELERATED.items())
    if train["accelerate"]:
        train["precision"] = "fp32"  # the default, which accelerate overruled
    if train["accelerate"] or not (train["compile"] or train["channels_last"]):
        del train["compile"], train["channels_last"]
