"""Training a run from Python, with arguments in place of a configuration file."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from microlens.building.registry import path_of
from microlens.config.run_config import RunConfig
from microlens.config.sections import ProtocolSection, TrainSection
from microlens.data.dataset import Dataset
from microlens.data.protocol import Protocol
from microlens.encoders import ENCODERS
from microlens.encoders.base import ItemEncoder
from microlens.errors import InputError, shown
from microlens.recommenders import RECOMMENDER_REGISTRY, RECOMMENDERS
from microlens.recommenders.base import Recommender
from microlens.runs.assembly import takes_encoder
from microlens.runs.run import Run, folder_path
from microlens.runs.train import train

Encoder = str | type[ItemEncoder] | Mapping[str, Any]


def fit(
    data: Dataset | str | Path,
    model: str | type[Recommender],
    *,
    output: str | Path,
    encoder: Encoder | None = None,
    parts: Sequence[Mapping[str, Any]] = (),
    protocol: Protocol | Mapping[str, Any] | None = None,
    seed: int = 42,
    fresh: bool = False,
    progress: bool = False,
    **options: Any,
) -> Run:
    """Train a recommender, rank the held-out targets among all items, and save everything in a run folder.

    Calling it again with the same arguments loads the finished run, or resumes an interrupted one.

    Args:
        data: prepared dataset, or its folder.
        model: name of a recommender, or a class; a run with a class defined in a script or notebook can be opened only
            there.
        output: run folder.
        encoder: name of an item encoder, a class, or a table such as ``{"name": "x3d_xs", "tune": "top1"}``. By
            default, models that need an encoder use ids.
        parts: the recommenders that the model "fusion" combines, as tables of a configuration:
            ``{"model": {"name": "sasrec"}, "encoder": {"name": "id"}, "train": {"epochs": 20}}``.
        protocol: a :class:`microlens.data.protocol.Protocol`, or a table of its fields; by default, the protocol of the
            paper.
        seed: seed of the initial weights and of the order of users.
        fresh: delete the files of an earlier run in the run folder and start again.
        progress: show a progress bar and one line per epoch.
        **options: fields of :class:`microlens.config.sections.TrainSection` (``epochs``, ``lr``, ``batch_size``,
            ...); all others are options of the model (``dim``, ``dropout``, ...).

    Raises:
        InputError: an option is unknown or invalid, the data does not suit the encoder, ``output`` holds another run,
            or the loss became NaN or infinite.
    """
    name = _name_of(model, RECOMMENDERS)
    table: dict[str, Any] = {
        "dataset": folder_path(data.folder if isinstance(data, Dataset) else data, "data"),
        "output": folder_path(output, "output"),
        "seed": seed,
        "model": {"name": name},
        "train": {},
        "parts": [_table(part, "a part", {"model": {"name": "popularity"}}) for part in _listed(parts)],
    }
    for key, value in options.items():
        table["train" if key in TrainSection.model_fields else "model"][key] = value
    if isinstance(protocol, Protocol):
        table["protocol"] = {name: getattr(protocol, name) for name in ProtocolSection.model_fields}
    elif protocol is not None:
        table["protocol"] = _table(protocol, "protocol", {"split": "random"})
    if encoder is not None:
        table["encoder"] = _encoder_table(encoder)
    elif takes_encoder(RECOMMENDER_REGISTRY.find(name, "model")):
        table["encoder"] = {"name": "id"}
    config = RunConfig.of(table)
    train(config, fresh=fresh, progress=progress)
    return Run(config.output, config.dataset, progress=progress)


def _listed(parts: object) -> Iterable[Any]:
    if isinstance(parts, (str, Mapping)) or not isinstance(parts, Iterable):
        raise InputError(f"parts is {shown(parts)}; it takes a list such as [{{'model': {{'name': 'popularity'}}}}].")
    return parts


def _table(given: Any, what: str, example: dict[str, Any]) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise InputError(f"{what} is {given!r}; expected a table such as {example!r}.")
    return dict(given)


def _encoder_table(encoder: Encoder) -> dict[str, Any]:
    if not isinstance(encoder, Mapping):
        return {"name": _name_of(encoder, ENCODERS)}
    table = dict(encoder)
    if "name" not in table:
        raise InputError(f"encoder is {table!r}, which has no name; expected a table such as {{'name': 'id'}}.")
    table["name"] = _name_of(table["name"], ENCODERS)
    if isinstance(table.get("towers"), list | tuple):
        table["towers"] = [_encoder_table(tower) for tower in table["towers"]]
    return table


def _name_of(given: Any, own: Mapping[str, Any]) -> str:
    """The name in a configuration of a name or class: the registered name, or else the import path."""
    if isinstance(given, str):
        return given
    if not callable(given):
        raise InputError(f"{given!r} is neither a name nor a class.")
    return next((name for name, constructor in own.items() if constructor is given), None) or path_of(given)
