"""The cost of encoders: parameters, multiply-adds, bytes per item in a cache, and the time of a training step.

Everything but the time is computed on PyTorch's meta device, where tensors have shapes but no values: this takes a
fraction of a second and no memory for networks of any size.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from microlens.cost.counting import MultiplyAdds, kept_bytes, multiply_adds, on_meta, speedup_limit
from microlens.cost.measuring import Measured, measure
from microlens.cost.towers import ClipShape, build_tower, random_items
from microlens.data.batches import ItemBatch
from microlens.data.content import ItemContent
from microlens.encoders import CONTENT_ENCODERS
from microlens.encoders.base import ItemEncoder
from microlens.encoders.content import ContentEncoder
from microlens.encoders.tuning import Regime, Tuning, apply_tuning
from microlens.errors import InputError

REGIMES: tuple[Regime, ...] = ("frozen", "top1", "full", "lora")  # "scratch" trains what "full" trains


@dataclass(frozen=True, kw_only=True)
class EncoderCost:
    """The cost of one encoder, with its projection to vectors of the paper's size and without a classifier.

    ``trainable_parameters`` by regime, None if there is nothing to adapt or the library for adapters is not installed;
    ``multiply_adds`` of a forward pass of one item, counted as for :class:`MultiplyAdds`; ``top1`` those of a training
    step under "top1", with the ``speedup_limit`` of its cache; ``raw_bytes`` of an item's ``content`` as the encoder
    reads it, and ``cached_bytes`` per item in a trunk cache, by regime.
    """

    encoder: str
    content: str
    parameters: int
    trainable_parameters: dict[str, int | None]
    multiply_adds: int
    top1: MultiplyAdds
    speedup_limit: float
    raw_bytes: int
    cached_bytes: dict[str, int]
    measured: Measured | None = None


def encoder_cost(name: str, clip_shape: ClipShape, options: Mapping[str, Any] | None = None) -> EncoderCost:
    """Compute the cost of the encoder ``name`` for clips of this shape and covers of this size.

    Encoders of pretrained models need the option ``model``; of its files, weights are not read. Sound has the default
    length, and titles have the maximum number of tokens.

    Raises:
        InputError: a required library is not installed, the encoder does not accept such clips, or it needs an option.
    """
    with torch.device("meta"):
        whole = build_tower(name, Tuning(tune="full"), clip_shape, options)
    tuned = {regime: _retuned(whole, regime) for regime in REGIMES}
    tower = tuned["top1"]
    assert tower is not None
    items = random_items(tower, clip_shape, 1).to(torch.device("meta"))
    content = tower.content(items)
    top1, state = multiply_adds(tower, content)
    return EncoderCost(
        encoder=name,
        content=tower.kind or "titles",
        parameters=sum(parameter.numel() for parameter in whole.parameters()),
        trainable_parameters={regime: _trained(tower) for regime, tower in tuned.items()},
        multiply_adds=top1.frozen + top1.forward,
        top1=top1,
        speedup_limit=speedup_limit(top1),
        raw_bytes=sum(values.nbytes for values in items.content.values()) or content.nbytes,
        cached_bytes={"top1": kept_bytes(state), "frozen": 2 * tower.trunk.feature_dim},
    )


def _retuned(whole: ContentEncoder, regime: Regime) -> ContentEncoder | None:
    """Copy a "full" encoder on the meta device and apply another regime; None if adapters are not possible."""
    tower = on_meta(whole)
    if regime == "lora" and not tower.trunk.adapted():
        return None
    try:
        tower.frozen_links = apply_tuning(tower.trunk, Tuning(tune=regime))
    except InputError:  # the library for adapters is not installed
        return None
    return tower


def _trained(tower: ContentEncoder | None) -> int | None:
    if tower is None:
        return None
    return sum(parameter.numel() for parameter in tower.parameters() if parameter.requires_grad)


def all_costs(
    clip_shape: ClipShape, *, measured: bool, on_progress: Callable[[int, int], None]
) -> tuple[list[EncoderCost], dict[str, str]]:
    """The costs of all content encoders, and for each encoder that is left out the reason, by name.

    Args:
        clip_shape: F frames, and their height and width.
        measured: also time training steps.
        on_progress: called with (done, total) encoders.
    """
    costs: list[EncoderCost] = []
    notes: dict[str, str] = {}
    for done, name in enumerate(CONTENT_ENCODERS):
        on_progress(done, len(CONTENT_ENCODERS))
        try:
            costs.append(encoder_cost(name, clip_shape))
            if measured:
                costs[-1] = replace(costs[-1], measured=measure(name, clip_shape))
        except InputError as error:
            notes[name] = str(error)
    on_progress(len(CONTENT_ENCODERS), len(CONTENT_ENCODERS))
    return costs, notes


def run_cost(encoder: ItemEncoder, content: ItemContent, *, seconds: float, steps: int) -> dict[str, Any]:
    """The costs of an encoder in a run's report: multiply-adds per item, cached bytes per item, seconds per step.

    Multiply-adds are those of a forward pass of the content encoders; ids and fusions are not counted. Cached bytes are
    reported if a cache is in use.

    Args:
        encoder: the run's encoder; not modified.
        content: source of its content.
        seconds: total time of all training steps.
        steps: number of training steps.
    """
    before, content.reads = content.reads, encoder.needs
    items = ItemBatch(items=torch.tensor([1]), content=content.read(np.array([1]))).to(torch.device("meta"))
    content.reads = before
    total, cached = 0, []
    for tower in encoder.towers():
        if isinstance(tower, ContentEncoder):
            shadow = on_meta(tower)
            step, state = multiply_adds(shadow, shadow.content(items))
            total += step.frozen + step.forward
            if not tower.reads <= tower.needs:  # it reads a cache
                cached.append(kept_bytes(state))
    return {
        "multiply_adds_per_item": total,
        **({"cached_bytes_per_item": sum(cached)} if cached else {}),
        "seconds_per_step": round(seconds / steps, 6) if steps else 0.0,
    }
