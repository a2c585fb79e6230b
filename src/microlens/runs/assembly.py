"""Builds the objects that a configuration describes."""

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, TypedDict

import polars as pl
import torch
from torch import Tensor

from microlens.building import LazyValues, build
from microlens.config.run_config import RunConfig
from microlens.data.batches import Process
from microlens.data.content import ItemContent
from microlens.data.dataset import Dataset
from microlens.data.interactions import Int64, ItemIds
from microlens.data.protocol import Protocol
from microlens.data.split import Split
from microlens.distributed import local_device
from microlens.encoders import build_encoder
from microlens.encoders.finite import broken_weight
from microlens.environment import parameters_that_fit
from microlens.errors import InputError
from microlens.files.run_manifest import BEST, CONFIG, check
from microlens.media.sound import SoundSettings
from microlens.recommenders import RECOMMENDER_REGISTRY
from microlens.recommenders.base import Recommender
from microlens.recommenders.counting import train_part
from microlens.recommenders.fusion import Part
from microlens.runs.catalogue_vectors import catalogue_vectors
from microlens.runs.dataset_location import find_dataset, recorded
from microlens.runs.display import extraction_display
from microlens.runs.input_files import check_inputs
from microlens.training import checkpoint
from microlens.training.trunk_cache import use_trunk_caches


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The objects that a configuration describes."""

    config: RunConfig
    dataset: Dataset
    split: Split
    content: ItemContent
    model: Recommender
    device: torch.device

    @property
    def identity(self) -> dict[str, str]:
        """The hashes that a checkpoint of this run must contain, and the model's revision if it is not the first."""
        revision = {"model_revision": str(self.model.revision)} if self.model.revision > 1 else {}
        return {"config_hash": self.config.hash, "data_hash": self.dataset.checksum, **revision}

    @property
    def best(self) -> Path:
        """The path of the checkpoint with the best validation metric."""
        return self.config.output / BEST

    def item_ids(self) -> ItemIds:
        """The id of each item number, (N+1,); index 0 is padding."""
        return self.dataset.item_id_array(self.split.items_kept)


class ContentArguments(TypedDict):
    """Constructor arguments about a dataset's content, passed to encoders that have a parameter of that name."""

    titles: list[str]
    tags: list[str]
    clip_shape: tuple[int, int]
    cover_size: int
    sound_settings: SoundSettings


class ConstructorArguments(ContentArguments):
    """Constructor arguments passed to models and encoders by parameter name; every other parameter is an option."""

    dim: int
    num_items: int
    num_users: int
    item_ids: ItemIds
    history_length: int
    train_counts: Tensor
    train_pairs: tuple[Tensor, Tensor]


GIVEN = ConstructorArguments.__required_keys__ | {"item_encoder", "towers", "parts"}
"""Constructor parameters that are not options: the ones above, and what is built from tables of their own."""


def build_experiment(
    config: RunConfig,
    dataset: Dataset | None = None,
    device: torch.device | None = None,
    *,
    untrained_parts: bool = False,
) -> Experiment:
    """Build everything that ``config`` describes. The initial weights of the model depend on the seed only.

    Args:
        config: configuration of the run.
        dataset: dataset to use instead of the one in ``config``.
        device: device of the model, instead of the one in ``config``.
        untrained_parts: build the parts of a fusion with initial weights instead of loading their runs, to check that
            everything can be built.

    Raises:
        InputError: the data is missing or does not suit the encoder, an option is invalid, the device is not available,
            or the model does not fit into memory.
    """
    device = device or local_device(config.train.device)
    dataset = dataset or Dataset(config.dataset)
    split = dataset.split(Protocol(**config.protocol.model_dump()))
    torch.manual_seed(config.seed)
    with parameters_that_fit():
        parts = (_untrained_parts if untrained_parts else _trained_parts)(config, dataset)
        model = _build_model(config, dataset, split, parts)
    encoder = model.item_encoder
    item_keys = dataset.interactions.item_ids[split.items_kept]
    content = ItemContent(dataset, item_keys, encoder.needs, config.train.workers, encoder.may_lack)
    return Experiment(
        config=config, dataset=dataset, split=split, content=content, model=model.to(device), device=device
    )


def _build_model(config: RunConfig, dataset: Dataset, split: Split, parts: list[Part]) -> Recommender:
    content: Callable[[], Mapping[str, Any]] = cache(lambda: dataset_arguments(dataset, split.items_kept))
    given = LazyValues(
        {
            **{name: partial(lambda name: content()[name], name) for name in ContentArguments.__required_keys__},
            "dim": lambda: config.model.dim,
            "num_items": lambda: split.num_items,
            "num_users": lambda: split.num_users,
            "item_ids": lambda: dataset.item_id_array(split.items_kept),
            "history_length": lambda: split.history_length,
            "train_counts": lambda: torch.from_numpy(split.train_counts),
            "train_pairs": lambda: tuple(map(torch.from_numpy, train_part(split))),
        }
    )
    constructor = RECOMMENDER_REGISTRY.find(config.model.name, "model.name")
    if takes_parts(constructor) != bool(config.parts):
        need = "needs recommenders to combine: add [[parts]] tables" if not config.parts else "combines no [[parts]]"
        raise InputError(f"model.name is '{config.model.name}', which {need}.")
    if takes_encoder(constructor) and config.encoder is None:
        raise InputError(
            f"model.name is '{config.model.name}', which needs an item encoder: add [encoder] name = \"id\"."
        )
    if config.encoder is not None:
        if not takes_encoder(constructor):
            raise InputError(f"model.name is '{config.model.name}', which takes no [encoder]; leave that table out.")
        encoder = build_encoder(config.encoder.model_dump(), given)
        return build(constructor, config.model.options(), given.plus("item_encoder", encoder), "model")
    if not takes_parts(constructor):
        return build(constructor, config.model.options(), given, "model")
    return build(constructor, config.model.options(), given.plus("parts", parts), "model")


def _trained_parts(config: RunConfig, dataset: Dataset) -> list[Part]:
    """The recommenders of a fusion, from the run folders in its own."""
    runs = [open_experiment(part.output, dataset.folder) for part in config.part_configs()]
    return [Part(run.model, catalogue_vectors(run)) for run in runs]


def _untrained_parts(config: RunConfig, dataset: Dataset) -> list[Part]:
    """The recommenders of a fusion with initial weights, and no item vectors."""
    runs = []
    for number, part in enumerate(config.part_configs()):
        with errors_of_part(number, part):
            runs.append(build_experiment(part, dataset))
    return [Part(run.model, torch.zeros(run.split.num_items + 1, 1)) for run in runs]


@contextmanager
def errors_of_part(number: int, part: RunConfig) -> Iterator[None]:
    """Say in errors of the block which part of a fusion they are about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"part {number + 1} of the fusion ({part.model.name}): {error}") from None


def depends_on_seed(config: RunConfig) -> bool:
    """False if all seeds of a configuration give the same run; True for a model built by a function.

    Raises:
        InputError: there is no such model.
    """
    return bool(getattr(RECOMMENDER_REGISTRY.find(config.model.name, "model.name"), "depends_on_seed", True))


def takes_encoder(constructor: Callable[..., Recommender]) -> bool:
    """True if a recommender's constructor takes an item encoder."""
    return "item_encoder" in inspect.signature(constructor).parameters


def takes_parts(constructor: Callable[..., Recommender]) -> bool:
    """True if a recommender's constructor takes other, trained recommenders."""
    return "parts" in inspect.signature(constructor).parameters


def dataset_arguments(dataset: Dataset, numbers: Int64) -> ContentArguments:
    """Return titles, tags, and the shape of clips, covers and sound as constructor arguments of encoders.

    Args:
        dataset: dataset that stores the content.
        numbers: (N+1,) number in the dataset of each item number; index 0 is unused.
    """
    rows = dataset.items.select(pl.col("title", "tag").fill_null(""))[numbers[1:] - 1]
    return {
        "titles": rows["title"].to_list(),
        "tags": rows["tag"].to_list(),
        "clip_shape": (dataset.settings.clips.num_frames, dataset.settings.clips.size),
        "cover_size": dataset.settings.cover_size,
        "sound_settings": dataset.settings.sound,
    }


def use_caches(run: Experiment, process: Process | None = None, *, progress: bool = False) -> None:
    """Cache the outputs of the frozen part of the item tower for all items; no-op if cached or if caching is off."""
    if not run.config.train.cache:
        return
    with extraction_display("frozen trunk", progress=progress) as on_progress:
        use_trunk_caches(
            run.model.item_encoder,
            run.content,
            run.dataset,
            run.content.item_keys,
            run.device,
            process=process or Process(),
            on_progress=on_progress,
        )


def read_config(folder: Path) -> RunConfig:
    """Read the configuration in a run folder, with that folder as its output.

    Raises:
        InputError: there is no configuration, or it was modified after it was written.
    """
    check(folder, CONFIG)
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder} is not a run folder (no {CONFIG}); make one with: microlens train CONFIG")
    return RunConfig.load(folder / CONFIG, of_run=True).model_copy(update={"output": folder})


def open_experiment(folder: Path, dataset: Path | None = None, *, progress: bool = False) -> Experiment:
    """Load a trained run from its folder, with its best weights.

    Args:
        folder: the run folder.
        dataset: folder of the dataset; by default, :func:`microlens.runs.dataset_location.find_dataset` searches it.
        progress: show a bar while trunk caches are computed.

    Raises:
        InputError: the folder holds no trained run, its files were modified, its weights are not finite, or its
            dataset has changed or is not found.
    """
    config = read_config(folder)
    check(folder, BEST)
    data_hash = str(checkpoint.load_facts(folder / BEST).get("data_hash"))
    data = find_dataset(folder, config.dataset, data_hash, dataset)
    cpu = None if torch.cuda.is_available() else torch.device("cpu")  # the run may come from a machine with a GPU
    placed = config.on_dataset(data.folder, next(recorded(folder), None))
    check_inputs(folder, placed)
    run = replace(build_experiment(placed, data, cpu), config=config)
    load_best(run)
    run.model.eval()
    use_caches(run, progress=progress)
    return run


def load_best(run: Experiment) -> None:
    """Load a run's best weights into its model.

    Raises:
        InputError: the weights are missing, damaged or modified, belong to another model, to other equations of this
            model or to other data, or are not finite.
    """
    check(run.config.output, BEST)
    tensors, facts = checkpoint.load(run.best)
    check_revision(run, facts)
    if facts.get("data_hash") != run.dataset.checksum:
        raise InputError(
            f"{run.best} was trained on data that differs from the current content of {run.config.dataset}."
        )
    checkpoint.load_model(run.model, tensors, run.best)
    if not run.model.fits(run.split):
        raise InputError(f"{run.best} does not match the users and items of {run.config.dataset}; {checkpoint.FRESH}.")
    check_weights(run.model, run.best)


def check_revision(run: Experiment, facts: Mapping[str, Any]) -> None:
    """Check that a checkpoint with these ``facts`` was trained with the equations that the model has now.

    Raises:
        InputError: the model's equations have changed since.
    """
    if facts.get("model_revision") != run.identity.get("model_revision"):
        raise InputError(
            f"{run.config.output} was trained with another version of microlens, whose '{run.config.model.name}' had "
            f"other equations or defaults; {checkpoint.FRESH}."
        )


def check_weights(model: Recommender, path: Path) -> None:
    """Check that all weights are finite.

    Raises:
        InputError: a weight is NaN or infinite; the message names ``path``, the file it was read from or is written to.
    """
    name = broken_weight(model)
    if name is not None:
        raise InputError(
            f"the weights '{name}' of {path} are NaN or infinite, so items cannot be ranked; train the run again "
            f"with other options."
        )
