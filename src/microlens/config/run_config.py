"""The configuration of a run, read from TOML and strictly validated."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

import tomli_w
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from microlens.building import LARGEST, nearest_option
from microlens.config.assignments import assign
from microlens.config.dataset_paths import moved_paths
from microlens.config.former_options import hashed_as_before, translate_former_options
from microlens.config.toml_files import check_values, read_toml
from microlens.errors import InputError, shown
from microlens.files.writing import digest_of

# Paths and the distribution of work do not affect results.
UNIMPORTANT = {"workers", "checkpoint_minutes", "micro_batch"}
NOT_IN_HASH: dict[str, Any] = {
    "output": True,
    "dataset": True,
    "tune": True,
    "track": True,
    "train": UNIMPORTANT,
    "parts": {"__all__": {"train": UNIMPORTANT}},
}


# Fields added later; left out of the hash at their default, so that old runs keep theirs.
ADDED_LATER: dict[str, dict[str, Any]] = {
    "protocol": {"split": "leave-one-out", "masked": "history", "min_item_count": 0, "seed": 0},
    "train": {"start_from": None},
}


MOST = 1_000_000
"""Upper limit of epochs, batch sizes and the like; larger values are mistakes and would exhaust the memory."""


def _named(path: Any) -> Any:
    if path == "":
        raise ValueError("a path")
    return os.path.expanduser(path) if isinstance(path, str) else path  # noqa: PTH111 - raises nothing


NamedPath = Annotated[Path, BeforeValidator(_named)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Section(BaseModel):
    """A table of the configuration; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ProtocolSection(Section):
    """See :class:`microlens.data.protocol.Protocol`."""

    require: tuple[Literal["clips", "covers", "sound"], ...] = ()
    min_length: int = Field(default=5, ge=3)
    max_length: int = Field(default=13, ge=0)
    max_history: int = Field(default=10, ge=1)
    split: Literal["leave-one-out", "random", "global-time", "cold-items", "given"] = "leave-one-out"
    masked: Literal["history", "train-and-validation"] = "history"
    min_item_count: int = Field(default=0, ge=0)
    seed: Seed = 0


class NamedSection(Section):
    """A table that names a model or an encoder; its other keys are options of that model or encoder."""

    model_config = ConfigDict(extra="allow")
    name: str


class ModelSection(NamedSection):
    """The recommender: its name, the vector size D and its own options."""

    dim: int = Field(default=64, ge=1, le=LARGEST)

    def options(self) -> dict[str, Any]:
        """The options of the model other than ``name`` and ``dim``."""
        return self.model_extra or {}


class TrainSection(Section):
    """Training options.

    Learning rates and weight decay form the paper's two groups: parameters that read raw content use ``encoder_lr``
    without weight decay, all others ``lr`` with ``weight_decay``. Three options may make steps faster, each by itself:
    ``precision`` of the computations, ``compile`` runs the trained part of content encoders through torch.compile, and
    ``channels_last`` lays out the weights of their convolutions in that order. For ``micro_batch`` and ``norm_batch``
    see :func:`microlens.training.gradient_caching.encode_in_parts`. ``negatives`` selects whether a target is ranked
    among the items of all processes or of its own, and ``cache`` caches the outputs of frozen trunks. ``loss`` is one
    of :mod:`microlens.training.losses`; losses with sampling draw ``num_negatives`` items for each target, or for each
    batch with the sampled softmax. ``likelihood`` is for models whose scores are log-probabilities, ``own`` is the loss
    that a model defines itself. ``gbce_calibration`` is t of gBCE.
    ``start_from`` is the ``best.safetensors`` of a run, possibly on other data, whose weights initialize this run,
    except for id embeddings.
    """

    epochs: int = Field(default=50, ge=1, le=MOST)
    batch_size: int = Field(default=512, ge=2, le=MOST)
    lr: float = Field(default=1e-4, gt=0)
    encoder_lr: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    clip_norm: float = Field(default=5.0, gt=0)
    patience: int = Field(default=10, ge=1, le=MOST)
    select: Literal["HR@10", "NDCG@10", "HR@20", "NDCG@20"] = "HR@10"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = False
    channels_last: bool = False
    micro_batch: int = Field(default=64, ge=1, le=MOST)
    norm_batch: int = Field(default=64, ge=2, le=MOST)
    negatives: Literal["all-processes", "own-process"] = "all-processes"
    loss: Literal["in-batch-softmax", "full-softmax", "sampled-softmax", "bpr", "bce", "gbce", "likelihood", "own"] = (
        "in-batch-softmax"
    )
    num_negatives: int | None = Field(default=None, ge=1, le=MOST)
    gbce_calibration: float = Field(default=0.75, ge=0, le=1)
    cache: bool = True
    start_from: NamedPath | None = None
    workers: int = Field(default=2, ge=0, le=1024)
    checkpoint_minutes: float = Field(default=10.0, gt=0, le=MOST)

    @property
    def samples_negatives(self) -> bool:
        """True if the loss samples ``num_negatives`` items."""
        return self.loss in ("sampled-softmax", "bpr", "bce", "gbce")


class TrackSection(Section):
    """Services to log a run to besides TensorBoard: a W&B project, an MLflow experiment."""

    wandb: str | None = None
    mlflow: str | None = None


class Range(Section):
    """The values that ``microlens tune`` tries for an option: ``choices``, or numbers from ``low`` to ``high``.

    Two integers are a range of integers. ``step`` restricts values to multiples counted from ``low``; ``log`` samples
    on a logarithmic scale.
    """

    low: int | float | None = None
    high: int | float | None = None
    step: int | float | None = Field(default=None, gt=0)
    log: bool = False
    choices: tuple[str | int | float | bool, ...] | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.choices is None) == (self.low is None or self.high is None):
            raise ValueError("a range with choices, or with low and high")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError("a range whose low is below its high")
        whole = isinstance(self.low, int) and isinstance(self.high, int)
        if whole and self.step is not None and not float(self.step).is_integer():
            raise ValueError("a range of integers whose step is one, too")
        if self.log and (self.step is not None or self.low is None or self.low <= 0):
            raise ValueError("a range above 0 without step, to be log")
        return self

    @property
    def ends(self) -> tuple[Any, Any]:
        """The smallest and the largest value, or the first and the last choice."""
        return (self.choices[0], self.choices[-1]) if self.choices is not None else (self.low, self.high)


class PartSection(Section):
    """A recommender of a fusion: the tables of a run of its own."""

    model: ModelSection
    encoder: NamedSection | None = None
    train: TrainSection = TrainSection()


class RunConfig(Section):
    """The configuration of a run; ``tune`` maps dotted option names to what ``microlens tune`` tries.

    ``parts`` are the recommenders that the model ``fusion`` combines.
    """

    dataset: NamedPath
    output: NamedPath
    seed: Seed = 42
    protocol: ProtocolSection = ProtocolSection()
    model: ModelSection
    encoder: NamedSection | None = None
    train: TrainSection = TrainSection()
    parts: tuple[PartSection, ...] = ()
    track: TrackSection = TrackSection()
    tune: dict[str, Range] = {}

    @classmethod
    def load(cls, path: str | Path, overrides: list[str] | None = None, *, of_run: bool = False) -> Self:
        """Read a TOML file and apply ``key=value`` overrides.

        Args:
            path: the file.
            overrides: assignments to dotted keys.
            of_run: a run wrote the file, perhaps in an earlier version, whose options are then translated.

        Raises:
            InputError: the file is missing or not TOML, a key is unknown (the message names the nearest), or a value is
                invalid.
        """
        path = Path(path)
        table = read_toml(path)
        translate_former_options(table, of_run=of_run)
        for override in overrides or []:
            assign(table, override)
        check_values(path, table)
        try:
            return cls.of(table)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Self:
        """The configuration of a table as TOML gives it.

        Raises:
            InputError: a key is unknown or has a wrong value; names the nearest key.
        """
        try:
            # Through JSON, because there strict types still let a list be a tuple and a string be a path.
            return cls.model_validate_json(json.dumps(table, default=str), strict=True)
        except ValidationError as error:
            raise InputError(_first_fault(error)) from None

    def check_output(self) -> None:
        """Check that the output folder does not mix with other files; called before anything is written.

        Raises:
            InputError: the output is a file, is inside the dataset, or contains the working or the home folder.
        """
        output, dataset = (Path(os.path.realpath(folder)) for folder in (self.output, self.dataset))
        if output.exists() and not output.is_dir():
            raise InputError(f"output is {self.output}, which is a file; name a folder for this run.")
        if output.is_relative_to(dataset):
            raise InputError(f"output is {self.output}, which is inside the dataset; name a folder for this run.")
        for taken in (Path.cwd(), Path(os.path.expanduser("~"))):  # noqa: PTH111 - there may be no home
            if Path(os.path.realpath(taken)).is_relative_to(output):
                raise InputError(
                    f"output is {self.output}, which contains the working or home folder; name a folder for this run."
                )

    def part_configs(self) -> list["RunConfig"]:
        """The configurations of the parts, whose run folders are in that of this run."""
        return [
            RunConfig(
                dataset=self.dataset,
                output=self.output / "parts" / f"{number}-{part.model.name}",
                seed=self.seed,
                protocol=self.protocol,
                model=part.model,
                encoder=part.encoder,
                train=part.train,
            )
            for number, part in enumerate(self.parts)
        ]

    def on_dataset(self, dataset: str | Path, formerly: str | Path | None = None) -> Self:
        """The same run on a dataset in another folder; paths inside the dataset are adapted, however they are spelled.

        Args:
            dataset: folder of the dataset.
            formerly: absolute path of the folder where the run was trained, if known.
        """
        before = None if formerly is None else Path(formerly)
        content = moved_paths(self.model_dump(mode="json"), self.dataset, before, Path(dataset))
        return self.model_validate_json(json.dumps(content), strict=True).model_copy(update={"dataset": Path(dataset)})

    def toml(self) -> str:
        """The resolved configuration as TOML."""
        empty = {name for name in ("tune", "track", "parts") if not self.model_dump(exclude_none=True)[name]}
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True, exclude=empty))

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of everything that affects results."""
        content = self.model_dump(mode="json", exclude=NOT_IN_HASH)
        for section, added in ADDED_LATER.items():
            for name, value in added.items():
                if content[section][name] == value:
                    del content[section][name]
        for train in [content["train"], *(part["train"] for part in content["parts"])]:
            hashed_as_before(train)
        if not self.parts:
            del content["parts"]
        return digest_of(content)[:12]


def _first_fault(error: ValidationError) -> str:
    """The first validation error, with the dotted name of its key."""
    faults = error.errors()
    first = faults[0]
    key = _key_of(first)
    name = ".".join(map(str, key)) or "the configuration"
    if first["type"] == "extra_forbidden":
        table = ".".join(map(str, key[:-1]))
        return f"{name} is unknown; {nearest_option(str(key[-1]), _accepted(key[:-1]), table)}"
    if first["type"] == "missing":
        return f"{name} is missing."
    accepted = dict.fromkeys(_accepts(fault) for fault in faults if _key_of(fault) == key)
    return f"{name} is {shown(first['input'])}; it must be {' or '.join(accepted)}."


def _key_of(fault: ErrorDetails) -> tuple[int | str, ...]:
    """The path of keys to an error, without pydantic's name of the type tried where several are accepted."""
    loc = fault["loc"]
    return loc[:-1] if len(loc) > 3 and loc[-1] in ("int", "float", "str", "bool") else loc


def _accepts(fault: ErrorDetails) -> str:
    """The accepted values, in TOML's terms."""
    text = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ").removeprefix("a valid ")
    if fault["type"] == "too_short":
        return f"at least {fault['ctx']['min_length']} long"
    return {"an object": "a table", "array": "a list"}.get(text, text)


def _accepted(key: tuple[int | str, ...]) -> list[str]:
    """The keys accepted in the table at ``key``."""
    section: type[BaseModel] = RunConfig
    for name in key:
        field = section.model_fields.get(str(name))
        of_field = (field.annotation, *get_args(field.annotation)) if field else ()
        section = next((part for part in of_field if isinstance(part, type) and issubclass(part, Section)), section)
    return list(section.model_fields)
