"""The configuration of a run: TOML in, strict, one place to look everything up."""

import hashlib
import json
import tomllib
from pathlib import Path
from typing import Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from microlens.building import nearest
from microlens.errors import InputError

# Where things lie and how the work is shared out changes no number.
NOT_IN_HASH: dict[str, Any] = {
    "output": True,
    "dataset": True,
    "tune": True,
    "track": True,
    "train": {"workers", "checkpoint_minutes", "micro_batch"},
}


# What configurations gained later: at these values it counts for no hash, and runs from before stay the same runs.
ADDED_LATER: dict[str, dict[str, Any]] = {
    "protocol": {"split": "leave-one-out", "min_item_count": 0, "seed": 0},
    "train": {"start_from": None},
}


class Section(BaseModel):
    """A table of the configuration; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class ProtocolSection(Section):
    """See :class:`microlens.data.protocol.Protocol`."""

    require: tuple[Literal["clips", "covers", "sound"], ...] = ()
    min_length: int = Field(default=5, ge=3)
    max_length: int = Field(default=13, ge=0)
    max_history: int = Field(default=10, ge=1)
    split: Literal["leave-one-out", "random", "global-time", "cold-items"] = "leave-one-out"
    min_item_count: int = Field(default=0, ge=0)
    seed: int = Field(default=0, ge=0)


class NamedSection(Section):
    """A table that names a model or an encoder; its other keys are that one's options."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)
    name: str


class ModelSection(NamedSection):
    """The recommender: its name, D, and its own options."""

    dim: int = Field(default=64, ge=1)

    def options(self) -> dict[str, Any]:
        """The model's own options."""
        return self.model_extra or {}


class TrainSection(Section):
    """How to train.

    Rates and decays are the paper's two groups: what sees raw content trains at ``encoder_lr`` without weight decay,
    everything else at ``lr`` with ``weight_decay``. ``accelerate`` is bf16, channels-last and torch.compile.
    ``micro_batch`` and ``norm_batch`` are those of :func:`microlens.encoding.encode_in_parts`, ``negatives`` says whose
    items a target is ranked among where several processes train together, and ``cache`` runs frozen trunks once.
    ``loss`` is one of :mod:`microlens.losses`; those that draw items draw ``num_negatives`` for each target, or, for
    the sampled softmax, for a batch. ``gbce_calibration`` is t of gBCE. ``start_from`` is the ``best.safetensors`` of
    a run, perhaps on other data, whose weights this one begins with; vectors of ids start anew.
    """

    epochs: int = Field(default=50, ge=1)
    batch_size: int = Field(default=512, ge=2)
    lr: float = Field(default=1e-4, gt=0)
    encoder_lr: float = Field(default=1e-4, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    clip_norm: float = Field(default=5.0, gt=0)
    patience: int = Field(default=10, ge=1)
    select: Literal["HR@10", "NDCG@10", "HR@20", "NDCG@20"] = "HR@10"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    accelerate: bool = False
    micro_batch: int = Field(default=64, ge=1)
    norm_batch: int = Field(default=64, ge=2)
    negatives: Literal["all-processes", "own-process"] = "all-processes"
    loss: Literal["in-batch-softmax", "full-softmax", "sampled-softmax", "bpr", "bce", "gbce"] = "in-batch-softmax"
    num_negatives: int | None = Field(default=None, ge=1)
    gbce_calibration: float = Field(default=0.75, ge=0, le=1)
    cache: bool = True
    start_from: Path | None = None
    workers: int = Field(default=2, ge=0)
    checkpoint_minutes: float = Field(default=10.0, gt=0)


class TrackSection(Section):
    """Where to log a run besides TensorBoard: a project of W&B, an experiment of MLflow."""

    wandb: str | None = None
    mlflow: str | None = None


class Range(Section):
    """What ``microlens tune`` may try of one option: ``choices``, or the numbers from ``low`` to ``high``.

    Two integers are a range of integers. ``step`` keeps to multiples from ``low``, ``log`` draws by the logarithm.
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
        if self.log and (self.step is not None or self.low is None or self.low <= 0):
            raise ValueError("a range above 0 without step, to be log")
        return self

    @property
    def ends(self) -> tuple[Any, Any]:
        """The least and the largest value, or the first and the last choice."""
        return (self.choices[0], self.choices[-1]) if self.choices is not None else (self.low, self.high)


class RunConfig(Section):
    """One run; ``tune`` says what ``microlens tune`` may change of it, by dotted name."""

    dataset: Path
    output: Path
    seed: int = Field(default=42, ge=0)
    protocol: ProtocolSection = ProtocolSection()
    model: ModelSection
    encoder: NamedSection | None = None
    train: TrainSection = TrainSection()
    track: TrackSection = TrackSection()
    tune: dict[str, Range] = {}

    @classmethod
    def load(cls, path: Path, overrides: list[str] | None = None) -> Self:
        """Read a TOML file and apply ``key=value`` overrides.

        Raises:
            InputError: the file is missing or no TOML, or a key is unknown or has a wrong value; names the nearest key.
        """
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(
                f"{path} does not exist; a configuration is a TOML file such as those in configs/."
            ) from None
        except IsADirectoryError:
            raise InputError(f"{path} is a folder; name a TOML file such as those in configs/.") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is not TOML: {error}.") from None
        for override in overrides or []:
            _override(table, override)
        try:
            # Through JSON, because there strict types still let a list be a tuple and a string be a path.
            return cls.model_validate_json(json.dumps(table, default=str), strict=True)
        except ValidationError as error:
            raise InputError(f"{path}: {_first_fault(cls, error)}") from None

    def toml(self) -> str:
        """The resolved configuration as TOML."""
        empty = {name for name in ("tune", "track") if not self.model_dump(exclude_none=True)[name]}
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True, exclude=empty))

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of everything that can change the numbers."""
        content = self.model_dump(mode="json", exclude=NOT_IN_HASH)
        for section, added in ADDED_LATER.items():
            for name, value in added.items():
                if content[section][name] == value:
                    del content[section][name]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _override(table: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise InputError(f"--set {override}: expected key=value, such as train.lr=1e-3.")
    *sections, name = key.strip().split(".")
    for section in sections:
        table = table.setdefault(section, {})
        if not isinstance(table, dict):
            raise InputError(f"--set {override}: '{section}' is not a table.")
    table[name] = toml_value(text.strip())


def toml_value(text: str) -> Any:
    """A value as TOML writes it; what is none is a string, so that a shell needs no nested quotes."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _first_fault(config: type[RunConfig], error: ValidationError) -> str:
    fault = min(error.errors(), key=lambda fault: fault["type"] != "finite_number")  # the first of these, or of all
    path = ".".join(map(str, fault["loc"]))
    if fault["type"] == "extra_forbidden":
        section: Any = config
        for name in fault["loc"][:-1]:
            section = section.model_fields[name].annotation
        return f"{path} is unknown; {nearest(str(fault['loc'][-1]), section.model_fields)}"
    if fault["type"] == "missing":
        return f"{path} is missing."
    message = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ").removeprefix("a valid ")
    return f"{path} is {fault['input']!r}; it must be {message}."
