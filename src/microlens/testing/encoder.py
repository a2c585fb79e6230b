"""Contract tests for item encoders."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from microlens.data.batches import ItemBatch
from microlens.data.content import KINDS
from microlens.data.new_items import NewItem
from microlens.encoders import build_encoder
from microlens.encoders.base import ItemEncoder
from microlens.testing import worlds
from microlens.testing.worlds import D, N, items_with_content


def encode(encoder: ItemEncoder, items: ItemBatch) -> Tensor:
    """Encode ``items`` (M,): (M, D)."""
    vectors: Tensor = encoder(items)
    return vectors


def built_encoder(encoder_table: Mapping[str, Any]) -> ItemEncoder:
    """Build an encoder from the table ``[encoder]``, in eval mode."""
    return build_encoder(encoder_table, {**worlds.constructor_arguments(worlds.small_split())}).eval()


class EncoderContract:
    """Tests of one item encoder; subclass it in a test file and set ``encoder``.

    Items have random content of every kind, with clips of 2 frames and covers of 32 x 32 pixels.

    Attributes:
        encoder: encoder class, or its name in a configuration.
        options: options of the table ``[encoder]``.
    """

    encoder: ClassVar[type[ItemEncoder] | Callable[..., ItemEncoder] | str]
    options: ClassVar[Mapping[str, Any]] = {}

    @pytest.fixture
    def encoder_table(self) -> dict[str, Any]:
        """The table ``[encoder]``: name and options."""
        return {"name": worlds.name_of(type(self).encoder), **self.options}

    @pytest.fixture
    def built(self, encoder_table: dict[str, Any]) -> ItemEncoder:
        """The encoder, in eval mode."""
        torch.manual_seed(2)
        return built_encoder(encoder_table)

    def test_shape(self, built: ItemEncoder) -> None:
        """Vectors are (M, D)."""
        assert encode(built, items_with_content(1, 5, 9)).shape == (3, D)

    def test_vectors_are_finite(self, built: ItemEncoder) -> None:
        """No vector contains NaN or infinity."""
        assert encode(built, items_with_content(*range(1, N + 1))).isfinite().all()

    def test_what_it_needs_exists(self, built: ItemEncoder) -> None:
        """``needs`` contains only known kinds of content, and ``may_lack`` is a subset of it."""
        assert built.needs <= set(KINDS)
        assert built.may_lack <= built.needs

    def test_a_row_depends_on_its_item_alone(self, built: ItemEncoder) -> None:
        """An item's vector does not depend on the other items of the batch, and differs from theirs."""
        together, alone = encode(built, items_with_content(4, 2, 9)), encode(built, items_with_content(2))
        torch.testing.assert_close(together[1:2], alone, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(together[0], together[1])

    def test_eval_mode_is_repeatable(self, built: ItemEncoder) -> None:
        """Encoding the same items twice gives bitwise identical vectors."""
        first, second = (encode(built, items_with_content(1, 2)) for _ in range(2))
        torch.testing.assert_close(first, second, rtol=0, atol=0)

    def test_who_reads_the_item_number_says_so(self, built: ItemEncoder) -> None:
        """The same content with another item number has the same vector, unless ``known_items_only``."""
        batch = items_with_content(1, 2)
        renumbered = ItemBatch(items=torch.tensor([3, 4]), content=batch.content)
        same = torch.allclose(encode(built, batch), encode(built, renumbered))
        assert same is not built.known_items_only

    def test_a_new_item_is_encoded_as_one_without_interactions(self, built: ItemEncoder) -> None:
        """An item outside the catalogue has the vector of an item without interactions with the same description."""
        if built.reads_of_new is None:
            pytest.skip("the encoder knows only the items of the catalogue")
        split = worlds.small_split()
        given, known = worlds.constructor_arguments(split), items_with_content(N - 1, N)
        assert not split.train_counts[known.items].any()
        described = [NewItem(title=given["titles"][item - 1], tag=given["tags"][item - 1]) for item in (N - 1, N)]
        new = ItemBatch(items=torch.zeros(2, dtype=torch.long), content=known.content, new=tuple(described))
        torch.testing.assert_close(encode(built, new), encode(built, known), rtol=1e-5, atol=1e-6)

    def test_gradients_reach_every_parameter(self, built: ItemEncoder) -> None:
        """Every trained parameter has a nonzero gradient."""
        with torch.no_grad():  # residual branches may be initialized to zero
            for parameter in built.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        built.train()
        vectors = encode(built, items_with_content(*range(1, N + 1)))
        # A random projection: a plain sum has no gradient through BatchNorm.
        (vectors * torch.randn(N, D)).sum().backward()  # type: ignore[no-untyped-call]
        trained = {name: parameter for name, parameter in built.named_parameters() if parameter.requires_grad}
        silent = [name for name, parameter in trained.items() if parameter.grad is None or not parameter.grad.any()]
        assert silent == []

    def test_content_parameters_are_its_own(self, built: ItemEncoder) -> None:
        """``content_groups`` contains trained parameters, each once, and at least one if content is trained on."""
        groups = [id(parameter) for group in built.content_groups() for parameter in group.parameters]
        trained = {id(parameter) for parameter in built.parameters() if parameter.requires_grad}
        assert len(groups) == len(set(groups))
        assert set(groups) <= trained
        assert bool(groups) == bool(built.needs and trained)

    def test_a_state_dict_brings_everything_back(self, built: ItemEncoder, encoder_table: dict[str, Any]) -> None:
        """A new encoder gives the same vectors after loading the state dict."""
        torch.manual_seed(3)
        other = built_encoder(encoder_table)
        batch = items_with_content(1, 2)
        if any(parameter.requires_grad for parameter in built.parameters()):
            assert not torch.allclose(encode(other, batch), encode(built, batch)), "weights do not depend on the seed"
        other.load_state_dict(built.state_dict())
        torch.testing.assert_close(encode(other, batch), encode(built, batch), rtol=0, atol=0)
