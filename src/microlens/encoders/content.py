"""Content encoders: a trunk, frozen up to some stage, and a projection."""

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
    """A trunk over one kind of content, followed by a linear projection to D.

    The outputs of the frozen stages can be computed once for the catalogue and cached (:meth:`use_cache`); the stages
    above then start from the cache.

    Args:
        trunk: the network, with its weights loaded.
        dim: D, the size of item vectors.
        tuning: which part of the trunk is trained.
        head: input of the projection: the pooled "features", the class logits ("kinetics"), or the logits as the
            original code computes them ("reference": with a softmax for the networks where it was left in).
        gelu: apply a GELU after the projection.
        missing: "mask" uses a learned vector for items without content.

    Raises:
        InputError: the trunk has fewer stages than are to be trained, or no classifier although the head needs one.
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
        """The input of the trunk for (M,) items, on the items' device."""

    @property
    def kind(self) -> str | None:
        """The kind of content that the trunk reads, or None."""
        return next(iter(self.needs), None)

    def forward(self, items: ItemBatch) -> Tensor:
        """Encode the items: (M, D)."""
        if self.absent is None:
            return self._encode(items)
        missing = items.content[f"{self.kind}.missing"]
        vectors = self.absent.expand(len(items), -1)  # used even if nothing is missing, so that its gradient is zeros
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
        """The output of the frozen stages for the items' content."""
        return self.run_frozen(self.content(items))

    def run_frozen(self, content: Tensor) -> Hidden:
        """Run the frozen stages on the output of :meth:`content`, without gradients."""
        hidden = self.trunk.begin(content)
        stages = self.trunk.stages()
        with torch.no_grad() if self.frozen_links else nullcontext():
            for stage in stages[: self.frozen_links]:
                hidden = stage.run(hidden)
            if self.frozen_links > len(stages):
                hidden = (self.trunk.pool(hidden),)
        return hidden

    def layer_features(self, items: ItemBatch, count: int) -> Tensor:
        """The outputs of the last ``count`` stages, each pooled like the last one: (M, count, feature_dim).

        Raises:
            TypeError: the stages differ in width (``pools_every_stage`` of the trunk is false).
        """
        return self._layer_features(self.content(items), count)

    def _layer_features(self, content: Tensor, count: int) -> Tensor:
        if not self.trunk.pools_every_stage:
            raise TypeError(f"{type(self.trunk).__name__} pools its last stage only")
        hidden, pooled = self.trunk.begin(content), []
        stages = self.trunk.stages()
        for number, stage in enumerate(stages):
            hidden = stage.run(hidden)
            if number >= len(stages) - count:
                pooled.append(self.trunk.pool(hidden))
        return torch.stack(pooled, 1)

    @property
    def separates_frames(self) -> bool:
        """True if :meth:`frame_features` exists."""
        return self.trunk.separates_frames

    def frame_features(self, items: ItemBatch) -> Tensor:
        """The features of each frame of the clips, or of each window of the sound: (M, T, feature_dim).

        Raises:
            TypeError: the trunk does not keep frames apart (``separates_frames`` is false).
        """
        hidden = self.trunk.begin(self.content(items))
        for stage in self.trunk.stages():
            hidden = stage.run(hidden)
        return self.trunk.pool_frames(hidden)

    def trained_part(self, hidden: Hidden) -> Tensor:
        """Run the stages above the frozen ones on their output: (M, feature_dim)."""
        stages = self.trunk.stages()
        if self.frozen_links > len(stages):
            return hidden[0]
        for stage in stages[self.frozen_links :]:
            hidden = stage.run(hidden)
        return self.trunk.pool(hidden)

    @property
    def cacheable(self) -> bool:
        """True if the frozen stages give an item the same output in every step."""
        return self.frozen_links > 0 and self.tuning.batchnorm == "eval"

    @property
    def keeps_random_weights(self) -> bool:
        """True if stages that are not trained have random weights."""
        return not self.trunk.pretrained and (self.frozen_links > 0 or self.tuning.regime == "lora")

    def use_cache(self, name: str) -> None:
        """Read the outputs of the frozen stages from ``NAME.0``, ``NAME.1``, ... of a batch's content, if present."""
        self._cache = name

    def use_channels_last(self) -> None:
        """Convert the weights of convolutions to channels-last, the order in which pixels are already on a CPU."""
        for module in self.trunk.modules():
            if isinstance(module, nn.Conv3d):
                module.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
            elif isinstance(module, nn.Conv2d):
                module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def compile_trained_part(self) -> None:
        """Run the trained part through torch.compile, which takes a minute or more in the first steps."""
        self._trained_part = torch.compile(self.trained_part)

    @property
    def sees_content(self) -> bool:
        """Always; a text encoder keeps the tokens of the titles itself and needs no content of a batch."""
        return True

    @property
    def reads(self) -> frozenset[str]:
        """The kinds of content that a batch must contain, with the cache in place of the content it was made from."""
        if self._cache is None:
            return self.needs
        return frozenset({self._cache} | ({f"{self.kind}.missing"} if self.absent is not None else set()))

    @property
    def may_lack(self) -> frozenset[str]:
        """The kinds of content that items may lack."""
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
        """Set the mode, but keep frozen stages in eval mode."""
        super().train(mode)
        if mode and self.tuning.batchnorm == "eval":
            stages = self.trunk.stages()
            still: list[nn.Module] = [module for stage in stages[: self.frozen_links] for module in stage.modules]
            if self.frozen_links > len(stages):
                still = [self.trunk]
            if self.tuning.regime == "lora":  # everything is frozen but the adapters in between
                still = [module for module in self.trunk.modules() if isinstance(module, _BatchNorm)]
            for module in still:
                module.eval()
        return self

    @property
    def batch_statistics(self) -> bool:
        """True if, in training, an item's vector depends on the other items of its batch (BatchNorm)."""
        return any(isinstance(module, _BatchNorm) and module.training for module in self.modules())

    def content_groups(self) -> list[ContentGroup]:
        """The trained parameters that read raw content, at this encoder's own learning rate if it has one."""
        trained = [parameter for parameter in self.content_parameters() if parameter.requires_grad]
        return [ContentGroup(trained, self.tuning.encoder_lr)] if trained else []

    def content_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters of the paper's encoder group: the trunk. The projection uses the recommender's rate."""
        yield from self.trunk.parameters()


def _as_computed(state: Tensor) -> Tensor:
    """Convert a cached output to the trunk's own form: full precision, and the memory format that suits the device."""
    if not state.is_floating_point():
        return state
    return channels_last_on_cpu(state.float()) if state.dim() in (4, 5) else state.float()


@contextmanager
def frozen_batchnorm_statistics(module: nn.Module) -> Iterator[None]:
    """Keep the running statistics of BatchNorm layers unchanged, for a second pass over the same items."""
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.training]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
