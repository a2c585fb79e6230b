"""Training a run from Python: what a configuration file says, as arguments."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from microlens.building.registry import path_of
from microlens.config.run_config import RunConfig, TrainSection
from microlens.data.dataset import Dataset
from microlens.encoders import ENCODERS
from microlens.encoders.base import ItemEncoder
from microlens.errors import InputError
from microlens.recommenders import RECOMMENDER_REGISTRY, RECOMMENDERS
from microlens.recommenders.base import Recommender
from microlens.runs.assembly import takes_encoder
from microlens.runs.run import Run
from microlens.runs.train import train

Encoder = str | type[ItemEncoder] | Mapping[str, Any]


def fit(
    data: Dataset | str | Path,
    model: str | type[Recommender],
    *,
    output: str | Path,
    encoder: Encoder | None = None,
    protocol: Mapping[str, Any] | None = None,
    seed: int = 42,
    fresh: bool = False,
    progress: bool = False,
    **options: Any,
) -> Run:
    """Train a recommender, rank the held-out targets among all items, and keep everything in a run folder.

    The same call again reads the finished run, or resumes one that was interrupted.

    Args:
        data: a prepared dataset, or its folder.
        model: the name of a recommender, or a class; a class of a script or notebook can be opened only there.
        output: the run folder.
        encoder: the name of an item encoder, a class, or its table: ``{"name": "x3d_xs", "tune": "top1"}``. Models that
            need one and are given none use ids.
        protocol: fields of :class:`microlens.data.protocol.Protocol`; the paper's by default.
        seed: decides initial weights and the order of users.
        fresh: delete what the run folder holds and start again.
        progress: show a progress bar and a line an epoch.
        **options: fields of :class:`microlens.config.run_config.TrainSection` (``epochs``, ``lr``, ``batch_size``,
            ...); all others are options of the model (``dim``, ``dropout``, ...).

    Raises:
        InputError: an option is unknown or has a wrong value, the data does not suit the encoder, ``output`` holds
            another run, or the loss became NaN or infinite.
    """
    name = _name_of(model, RECOMMENDERS)
    table: dict[str, Any] = {
        "dataset": str(data.folder if isinstance(data, Dataset) else data),
        "output": str(output),
        "seed": seed,
        "model": {"name": name},
        "train": {},
    }
    for key, value in options.items():
        table["train" if key in TrainSection.model_fields else "model"][key] = value
    if protocol is not None:
        table["protocol"] = dict(protocol)
    if encoder is not None:
        table["encoder"] = _encoder_table(encoder)
    elif takes_encoder(RECOMMENDER_REGISTRY.find(name, "model")):
        table["encoder"] = {"name": "id"}
    config = RunConfig.of(table)
    train(config, fresh=fresh, progress=progress)
    return Run(config.output, config.dataset, progress=progress)


def _encoder_table(encoder: Encoder) -> dict[str, Any]:
    if not isinstance(encoder, Mapping):
        return {"name": _name_of(encoder, ENCODERS)}
    table = dict(encoder)
    if "name" not in table:
        raise InputError(f"encoder is {table!r}, which has no name; expected a table such as {{'name': 'id'}}.")
    table["name"] = _name_of(table["name"], ENCODERS)
    if "towers" in table:
        table["towers"] = [_encoder_table(tower) for tower in table["towers"]]
    return table


def _name_of(given: Any, own: Mapping[str, Any]) -> str:
    """The name of a configuration for a name or class; a class of this package has its short name."""
    if isinstance(given, str):
        return given
    if not callable(given):
        raise InputError(f"{given!r} is neither a name nor a class.")
    return next((name for name, constructor in own.items() if constructor is given), None) or path_of(given)
