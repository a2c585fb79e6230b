"""The tables of a run's configuration, and what each option accepts."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from microlens.building import LARGEST

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
