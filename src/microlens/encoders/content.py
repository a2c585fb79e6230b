"""Items as what a network sees in their content: a trunk, frozen up to a cut, and a projection."""

from abc import abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional, init
from torch.nn.modules.batchnorm import _BatchNorm

from microlens.data.batches import ItemBatch
from microlens.encoders.base import ContentGroup, ItemEncoder
from microlens.encoders.trunk import Hidden, Trunk, channels_last_on_cpu
from microlens.encoders.tuning import Tuning, apply_tuning
from microlens.errors import InputError

Head = Literal["features", "kinetics", "reference"]
Missing = Literal["error", "mask"]


class ContentEncoder(ItemEncoder):
    """A trunk over one kind of content and a linear projection to D.

    The chain's frozen links may be run once over the catalogue and kept (:meth:`use_cache`); what is above them then
    starts from what was kept.

    Args:
        trunk: the network, with its weights in place.
        dim: D.
        tuning: what of the trunk is trained.
        head: project the pooled "features", the class logits ("kinetics"), or these as the original code left them
            ("reference": with a softmax behind them for the networks where it forgot one).
        gelu: whether a GELU follows the projection.
        missing: "mask" puts a learned vector in place of items without content.

    Raises:
        InputError: the trunk has fewer stages than are to be trained, or no classifier though the head needs one.
    """

    def __init__(
        self,
        trunk: Trunk,
        dim: int,
        *,
        tuning: Tuning,
        head: Head = "features",
        gelu: bool = True,
        missing: Missing = "error",
    ) -> None:
        super().__init__()
        if head != "features" and not trunk.num_classes:
            raise InputError(f'encoder.head is "{head}", but this encoder has no classifier; accepted is "features".')
        self.trunk, self.tuning, self.head, self.gelu = trunk, tuning, head, gelu
        if head == "features":
            trunk.drop_classifier()
        self.frozen_links = apply_tuning(trunk, tuning)
        self.projection = nn.Linear(trunk.feature_dim if head == "features" else trunk.num_classes, dim)
        init.xavier_normal_(self.projection.weight)
        init.zeros_(self.projection.bias)
        self.absent = nn.Parameter(torch.zeros(dim)) if missing == "mask" else None
        self._cache: str | None = None
        self._trained_part: Callable[[Hidden], Tensor] = self.trained_part

    @abstractmethod
    def content(self, items: ItemBatch) -> Tensor:
        """What the trunk begins with, on the items' device, for (M,) items."""

    @property
    def kind(self) -> str | None:
        """The kind of content in a batch that the trunk sees, if it sees any."""
        return next(iter(self.needs), None)

    def forward(self, items: ItemBatch) -> Tensor:
        """Encode the items: (M, D)."""
        if self.absent is None:
            return self._encode(items)
        missing = items.content[f"{self.kind}.missing"]
        vectors = self.absent.expand(len(items), -1)  # also where nothing is missing: it then has a gradient of zeros
        present = (~missing).nonzero().squeeze(1)
        if not len(present):
            return vectors
        seen = self._encode(items.at(present))
        return vectors.to(seen.dtype).index_copy(0, present, seen)

    def _encode(self, items: ItemBatch) -> Tensor:
        hidden = self._kept(items)
        if hidden is None:
            hidden = self.frozen_state(items)
        features = self._trained_part(hidden)
        if self.head != "features":
            features = self.trunk.classify(features)
            if self.head == "reference" and self.trunk.softmax_in_head:
                features = features.softmax(1)
        vectors: Tensor = self.projection(features)
        return functional.gelu(vectors) if self.gelu else vectors

    def frozen_state(self, items: ItemBatch) -> Hidden:
        """What the frozen links make of the items' content."""
        return self.run_frozen(self.content(items))

    def run_frozen(self, content: Tensor) -> Hidden:
        """Run the frozen links, without a graph, over what :meth:`content` gives."""
        hidden = self.trunk.begin(content)
        stages = self.trunk.stages()
        with torch.no_grad() if self.frozen_links else nullcontext():
            for stage in stages[: self.frozen_links]:
                hidden = stage.run(hidden)
            if self.frozen_links > len(stages):
                hidden = (self.trunk.pool(hidden),)
        return hidden

    def trained_part(self, hidden: Hidden) -> Tensor:
        """What the links above the frozen ones make of their state: (M, feature_dim)."""
        stages = self.trunk.stages()
        if self.frozen_links > len(stages):
            return hidden[0]
        for stage in stages[self.frozen_links :]:
            hidden = stage.run(hidden)
        return self.trunk.pool(hidden)

    @property
    def cacheable(self) -> bool:
        """Whether the frozen links give an item the same state in every step."""
        return self.frozen_links > 0 and self.tuning.batchnorm == "eval"

    def use_cache(self, name: str) -> None:
        """From now on read the frozen links' states, ``NAME.0``, ``NAME.1``, ... of a batch's content, if there."""
        self._cache = name

    def accelerate(self) -> None:
        """Lay weights out channels-last and compile what is trained; the first steps then take longer."""
        for module in self.trunk.modules():
            if isinstance(module, nn.Conv3d):
                module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
            elif isinstance(module, nn.Conv2d):
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._trained_part = torch.compile(self.trained_part)

    @property
    def sees_content(self) -> bool:
        """Always; a text encoder keeps the tokens of the titles itself and needs no content of a batch."""
        return True

    @property
    def reads(self) -> frozenset[str]:
        """The kinds of content that a batch has to hold, with the cache in place of what it was made of."""
        if self._cache is None:
            return self.needs
        return frozenset({self._cache} | ({f"{self.kind}.missing"} if self.absent is not None else set()))

    @property
    def may_lack(self) -> frozenset[str]:
        """The kinds of content that an item may be without."""
        return self.needs if self.absent is not None else frozenset()

    def _kept(self, items: ItemBatch) -> Hidden | None:
        if self._cache is None or f"{self._cache}.0" not in items.content:
            return None
        names = sorted(
            (name for name in items.content if name.startswith(f"{self._cache}.")),
            key=lambda name: int(name.rpartition(".")[2]),
        )
        kept = (items.content[name] for name in names)
        return tuple(_as_computed(state) for state in kept)

    def train(self, mode: bool = True) -> "ContentEncoder":
        """As for every module, but frozen links stay in eval mode."""
        super().train(mode)
        if mode and self.tuning.batchnorm == "eval":
            stages = self.trunk.stages()
            still: list[nn.Module] = [module for stage in stages[: self.frozen_links] for module in stage.modules]
            if self.frozen_links > len(stages):
                still = [self.trunk]
            if self.tuning.regime == "lora":  # frozen all over, but for the adapters in between
                still = [module for module in self.trunk.modules() if isinstance(module, _BatchNorm)]
            for module in still:
                module.eval()
        return self

    @property
    def batch_statistics(self) -> bool:
        """Whether an item's vector depends, in training, on the items it is encoded with."""
        return any(isinstance(module, _BatchNorm) and module.training for module in self.modules())

    def content_groups(self) -> list[ContentGroup]:
        """The trained parameters that see raw content, at this encoder's own rate if it has one."""
        trained = [parameter for parameter in self.seeing_content() if parameter.requires_grad]
        return [ContentGroup(trained, self.tuning.encoder_lr)] if trained else []

    def seeing_content(self) -> Iterator[nn.Parameter]:
        """The parameters of the paper's encoder group: the trunk's, the projection having the recommender's rate."""
        yield from self.trunk.parameters()


def _as_computed(state: Tensor) -> Tensor:
    """A kept state as the trunk would have left it: full precision, and pixels in the order that suits the device."""
    if not state.is_floating_point():
        return state
    return channels_last_on_cpu(state.float()) if state.dim() in (4, 5) else state.float()


@contextmanager
def frozen_batchnorm_statistics(module: nn.Module) -> Iterator[None]:
    """Leave the running statistics of BatchNorm layers as they are: for a second pass over the same items."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
