"""Tuning regimes: the part of a trunk that is trained."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Literal

from torch import nn

from microlens.encoders.trunk import Trunk
from microlens.errors import InputError

Regime = Literal["frozen", "top1", "top", "full", "scratch", "lora"]


@dataclass(frozen=True, kw_only=True)
class Tuning:
    """Options for tuning a trunk.

    ``tune`` is "frozen" (nothing is trained), "top1" (the last stages that the MicroLens paper trains), "top" (the last
    ``top`` stages), "full" (everything), "scratch" (everything, from random weights) or "lora" (low-rank adapters of
    rank ``rank`` on pointwise convolutions and attention, Hu et al. 2021, arXiv 2106.09685). Frozen BatchNorm layers
    use their running statistics; with ``batchnorm`` = "reference" they use and update batch statistics, and dropout in
    frozen stages is active, as in the original code. ``encoder_lr`` overrides the run's encoder rate for this trunk.
    """

    tune: Regime | None = None
    top: int | None = None
    rank: int = 8
    batchnorm: Literal["eval", "reference"] = "eval"
    encoder_lr: float | None = None

    def __post_init__(self) -> None:
        """Validate the options that do not depend on the trunk."""
        if (self.top is not None) != (self.regime == "top"):
            raise InputError(f'encoder.top goes with tune = "top" and only with it; tune is "{self.regime}".')
        if self.rank < 1:
            raise InputError(f"encoder.rank is {self.rank}; at least 1 is needed.")
        if self.encoder_lr is not None and self.encoder_lr <= 0:
            raise InputError(f"encoder.encoder_lr is {self.encoder_lr}; it must be greater than 0.")

    @property
    def regime(self) -> Regime:
        """``tune``, or its default: "top" if ``top`` is given, else "full"."""
        return self.tune or ("full" if self.top is None else "top")


def apply_tuning(trunk: Trunk, tuning: Tuning) -> int:
    """Set which parameters are trained, insert adapters, and return the number of frozen stages, from the bottom.

    The pooling counts as the last stage: with n stages, n + 1 frozen ones leave nothing to train.

    Raises:
        InputError: there are fewer stages than are to be trained, or the library for adapters is not installed.
    """
    stages = trunk.stages()
    frozen = _frozen_links(len(stages), trunk.paper_top, tuning)
    held: Iterable[nn.Module] = (
        [trunk] if frozen > len(stages) else chain.from_iterable(stage.modules for stage in stages[:frozen])
    )
    for module in held:
        module.requires_grad_(requires_grad=False)
    if tuning.regime == "lora":
        _add_adapters(trunk, tuning.rank)
    return frozen


def _frozen_links(stages: int, paper_top: int, tuning: Tuning) -> int:
    if tuning.regime == "frozen":
        return stages + 1
    if tuning.regime == "top1":
        return stages - paper_top
    if tuning.top is not None:
        if not 1 <= tuning.top <= stages:
            raise InputError(f"encoder.top is {tuning.top}; this encoder has {stages} stages, so 1 to {stages}.")
        return stages - tuning.top
    return 0


def _add_adapters(trunk: Trunk, rank: int) -> None:
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError:
        raise InputError(
            "encoder.tune = \"lora\" needs the peft library; install it with: pip install 'microlens[encoders]'"
        ) from None
    if not trunk.adapted():
        raise InputError('encoder.tune = "lora": this encoder has no pointwise convolution or attention to adapt.')
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=trunk.adapted())
    inject_adapter_in_model(config, trunk)  # freezes everything but the adapters
