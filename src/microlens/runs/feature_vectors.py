"""Which frozen vectors of an item are written: one, those of the encoder's layers, or those of frames."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import Tensor

from microlens.data.batches import ItemBatch
from microlens.encoders.content import ContentEncoder
from microlens.errors import InputError
from microlens.training.extraction import Compute

Layers = int | Literal["all"]


@dataclass(frozen=True, kw_only=True)
class VectorsPerItem:
    """The vectors that are written of an item: the pooled features alone, if nothing else is chosen.

    Args:
        layers: instead, the outputs of the last ``layers`` stages of the encoder, or of "all", each pooled like the
            last: the embeddings and the layers of a transformer.
        per_frame: instead, the features of each frame of a clip, or of each window of sound.

    Raises:
        InputError: both are chosen, or ``layers`` is below 1.
    """

    layers: Layers | None = None
    per_frame: bool = False

    def __post_init__(self) -> None:
        if self.layers is not None and self.per_frame:
            raise InputError("choose either layers or frames: a file holds one sequence of vectors per item.")
        if isinstance(self.layers, int) and self.layers < 1:
            raise InputError(f"layers is {self.layers}; at least 1 is needed, or 'all'.")

    @property
    def several(self) -> bool:
        """True if an item has a sequence of vectors, (T, E), stored as float16; otherwise one, (E,), float32."""
        return self.per_frame or self.layers is not None

    def identity(self, tower: ContentEncoder) -> dict[str, Any]:
        """What the vectors depend on besides the encoder; empty for one vector, whose files have no such keys.

        Raises:
            InputError: as :meth:`compute`.
        """
        if self.per_frame:
            return {"per_frame": True}
        return {} if self.layers is None else {"layers": self._count(tower)}

    def compute(self, tower: ContentEncoder, name: str) -> Compute:
        """The function from items to the vectors: ((M, E),) or ((M, T, E),).

        Raises:
            InputError: the encoder does not keep frames apart, its layers differ in width, or it has fewer layers.
        """
        if self.per_frame:
            if not tower.separates_frames:
                raise InputError(
                    f"{name} has no vectors of frames; accepted are image encoders with source=frame, 3D residual "
                    f"networks such as slow_r50, and yamnet."
                )
            return partial(_frames, tower)
        if self.layers is None:
            return tower.frozen_state
        if not tower.trunk.pools_every_stage:
            raise InputError(
                f"{name} has no vectors of layers, because its layers differ in width; accepted are text encoders, "
                f"mae_base, clip_vit_b_32 and videomae."
            )
        if self._count(tower) > len(tower.trunk.stages()):
            raise InputError(f"layers is {self.layers}; {name} has {len(tower.trunk.stages())}, with the embeddings.")
        return partial(_layers, tower, self._count(tower))

    def _count(self, tower: ContentEncoder) -> int:
        return len(tower.trunk.stages()) if self.layers == "all" else int(self.layers or 0)


def _frames(tower: ContentEncoder, items: ItemBatch) -> tuple[Tensor]:
    return (tower.frame_features(items),)


def _layers(tower: ContentEncoder, count: int, items: ItemBatch) -> tuple[Tensor]:
    return (tower.layer_features(items, count),)
