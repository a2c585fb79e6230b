"""What encoders cost: parameters, multiply-adds, bytes that a cache keeps of an item, and the time of a training step.

Everything but the time is worked out on PyTorch's meta device, where tensors have shapes and no values: that takes a
fraction of a second and no memory for networks of any size.
"""

from collections.abc import Callable
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
    """What one encoder costs, with its projection to vectors of the paper's size and without a classifier.

    ``trainable_parameters`` by regime, None where there is nothing for adapters or no library for them;
    ``multiply_adds`` of one item, forward, counted as for :class:`MultiplyAdds`, and ``top1`` those of a training step
    under "top1", with the ``speedup_limit`` of its cache; ``raw_bytes`` of an item's ``content`` as it is given to the
    encoder, and ``cached_bytes`` of what a trunk cache keeps of it, by regime.
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


def encoder_cost(name: str, clip_shape: ClipShape) -> EncoderCost:
    """What the encoder ``name`` costs for clips of that shape and covers of that size.

    Sound is as long as the default settings take, and titles have as many tokens as are read.

    Raises:
        InputError: a library that it needs is not installed, it does not admit such clips, or it needs an option.
    """
    with torch.device("meta"):
        whole = build_tower(name, Tuning(tune="full"), clip_shape)
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
    """A copy of a "full" encoder on the meta device under another regime, None where there can be no adapters."""
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
    """What every content encoder costs, and why the others, by name, are not listed.

    Args:
        clip_shape: F frames and their height and width.
        measured: whether to time training steps, too.
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
    """What a run's report says of its encoder: multiply-adds an item, bytes a cached item, and seconds a step.

    The content towers are counted, forward; ids and what fuses towers are not. Bytes are there if a cache is in use.

    Args:
        encoder: of the run; stays as it is.
        content: what it reads.
        seconds: of all training steps.
        steps: how many there were.
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
            if not tower.reads <= tower.needs:  # but a cache
                cached.append(kept_bytes(state))
    return {
        "multiply_adds_per_item": total,
        **({"cached_bytes_per_item": sum(cached)} if cached else {}),
        "seconds_per_step": round(seconds / steps, 6) if steps else 0.0,
    }
