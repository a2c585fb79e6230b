"""Image encoders: their agreement with the transformers library, official files, sizes, and which picture they see."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from microlens.building import build
from microlens.data.batches import ItemBatch
from microlens.encoders.clip import CLIPVision
from microlens.encoders.image import IMAGE_NETWORKS, ImageEncoder, ImageNetwork, image_encoder
from microlens.encoders.swin import Swin
from microlens.encoders.trunk import Trunk
from microlens.encoders.tuning import Tuning, apply_tuning
from microlens.encoders.vit import MAE
from microlens.encoders.weights import load_weights
from microlens.errors import InputError
from tests.reference.huggingface import (
    SMALL,
    check_cuts,
    check_gradients,
    check_training_step,
    disturb,
    layout,
    official_file,
)

transformers = pytest.importorskip("transformers")

VIT = {**SMALL, "image_size": 32, "patch_size": 8}
SWIN = {"embed_dim": 12, "depths": (2, 2), "num_heads": (2, 4), "image_size": 56, "drop_path_rate": 0.0}

# Parameters; those that top1 trains and the index of the first; sha256 of the "name shape" lines of state_dict().
FACTS = {
    "swin_t": (27_519_354, 14_185_392, 183, "d04b1056eba286495dda76ffa0253a144dfd14ab4a0c38fe23ad9484d565b899"),
    "mae_base": (85_798_656, 14_177_280, 164, "9e31b6cecf6ddafd6e2e0475f6b576150c48563f8b6462cca58c11fcb1c3ad1f"),
    "clip_vit_b_32": (87_456_000, 14_177_280, 165, "2f7af9b6976cccd75db6b2547cdb4adf15bc3d5c550e06319ef176d29e4f0726"),
}


def small_mae() -> MAE:
    return MAE(transformers.ViTMAEConfig(**VIT))


def small_clip() -> CLIPVision:
    return CLIPVision(transformers.CLIPVisionConfig(**VIT))


def small_swin() -> Swin:
    return Swin(transformers.SwinConfig(**SWIN))


SMALL_NETWORKS: dict[str, Callable[[], Trunk]] = {
    "swin_t": small_swin,
    "mae_base": small_mae,
    "clip_vit_b_32": small_clip,
}
NATIVE = {"swin_t": 56, "mae_base": 32, "clip_vit_b_32": 32}


def small(name: str) -> Trunk:
    torch.manual_seed(0)
    trunk = SMALL_NETWORKS[name]()
    disturb(trunk)
    return trunk.eval()


def unmasked(model: nn.Module) -> nn.Module:
    """A ViTMAE of the library that sees every patch."""
    model.config.mask_ratio = 0.0
    return model


def library_features(name: str, model: nn.Module, pixels: Tensor) -> Tensor:
    if name == "mae_base":
        noise = torch.arange(10_000.0)[: (pixels.shape[2] // model.config.patch_size) ** 2].expand(len(pixels), -1)
        features: Tensor = unmasked(model)(pixels, noise=noise, interpolate_pos_encoding=True).last_hidden_state[:, 0]
    elif name == "clip_vit_b_32":
        features = model(pixels, interpolate_pos_encoding=True).pooler_output
    else:
        features = model(pixels).pooler_output
    return features


def library_model(name: str, *, full: bool = False) -> nn.Module:
    if name == "mae_base":
        return transformers.ViTMAEModel(transformers.ViTMAEConfig(**({} if full else VIT)))
    if name == "clip_vit_b_32":
        return transformers.CLIPVisionModel(transformers.CLIPVisionConfig(**({} if full else VIT)))
    return transformers.SwinModel(transformers.SwinConfig(**({} if full else SWIN)))


def inner(trunk: Trunk) -> nn.Module:
    (model,) = trunk.children()
    return model


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_features_of_the_full_network_equal_those_of_the_library(name: str) -> None:
    reference, ours = library_model(name, full=True).eval(), IMAGE_NETWORKS[name].build().eval()
    disturb(reference)
    inner(ours).load_state_dict(reference.state_dict())
    pixels = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        expected = library_features(name, reference, pixels)
        torch.testing.assert_close(ours.features(pixels), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("name", "size"), [("mae_base", 48), ("clip_vit_b_32", 48), ("swin_t", 100)])
def test_features_of_other_sizes_equal_those_of_the_library(name: str, size: int) -> None:
    reference, ours = library_model(name).eval(), small(name)
    disturb(reference)
    inner(ours).load_state_dict(reference.state_dict())
    pixels = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        expected = library_features(name, reference, pixels)
        torch.testing.assert_close(ours.features(pixels), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_a_training_step_equals_that_of_the_library(name: str) -> None:
    reference, ours = library_model(name).train().double(), small(name).train().double()
    reference.load_state_dict(inner(ours).state_dict())
    pixels = torch.randn(2, 3, NATIVE[name], NATIVE[name], dtype=torch.double)
    weights = torch.randn(2, ours.feature_dim, dtype=torch.double)

    def loss(model: nn.Module) -> Tensor:
        features = ours.features(pixels) if model is ours else library_features(name, model, pixels)
        return (features * weights).sum()

    check_training_step(ours, reference, loss)


def write_official(name: str, folder: Path) -> tuple[Path, nn.Module]:
    """A file with the names and the extras of the published one, and the model of the library that wrote it."""
    if name == "mae_base":
        decoder = {"decoder_hidden_size": 16, "decoder_num_attention_heads": 2, "decoder_num_hidden_layers": 1}
        config = transformers.ViTMAEConfig(**VIT, **decoder, decoder_intermediate_size=16)
        writer, part, extra = transformers.ViTMAEForPreTraining(config), "vit", {}
    elif name == "clip_vit_b_32":
        config = transformers.CLIPConfig(vision_config=VIT, text_config=SMALL | {"vocab_size": 50}, projection_dim=8)
        writer, part = transformers.CLIPModel(config), "vision_model"
        extra = {"vision_model.embeddings.position_ids": torch.arange(17)[None]}
    else:
        writer, part = transformers.SwinForImageClassification(transformers.SwinConfig(**SWIN, num_labels=7)), "swin"
        blocks = ((stage, block) for stage in range(2) for block in range(2))
        index = "swin.encoder.layers.{}.blocks.{}.attention.self.relative_position_index"
        extra = {index.format(*place): torch.zeros(49, 49, dtype=torch.long) for place in blocks}
    disturb(writer)
    return official_file(folder, writer, extra), writer.eval().get_submodule(part)


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_official_files_fit(name: str, tmp_path: Path) -> None:
    path, reference = write_official(name, tmp_path)
    ours = small(name)
    assert {key for key in load_file(path) if not key.startswith(ours.foreign)} == ours.state_dict().keys()
    load_weights(ours, path, ignored=ours.foreign)
    pixels = torch.randn(2, 3, NATIVE[name], NATIVE[name])
    with torch.inference_mode():
        expected = library_features(name, reference, pixels)
        torch.testing.assert_close(ours.features(pixels), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_the_networks_are_the_published_ones(name: str) -> None:
    trunk = IMAGE_NETWORKS[name].build()
    digest = layout(trunk)
    apply_tuning(trunk, Tuning(tune="top1"))
    trained = [index for index, parameter in enumerate(trunk.parameters()) if parameter.requires_grad]
    assert trained == list(range(trained[0], len(list(trunk.parameters()))))
    sizes = [parameter.numel() for parameter in trunk.parameters()]
    assert (sum(sizes), sum(sizes[index] for index in trained), trained[0], digest) == FACTS[name]


def test_known_names_of_published_files_are_there() -> None:
    """By heart, not by the library's own translation."""
    known = {
        "swin_t": "swin.encoder.layers.3.blocks.1.attention.self.relative_position_bias_table",
        "mae_base": "vit.encoder.layer.11.attention.attention.query.weight",
        "clip_vit_b_32": "vision_model.encoder.layers.11.self_attn.out_proj.bias",
    }
    for name, parameter in known.items():
        assert parameter in IMAGE_NETWORKS[name].build().state_dict()


SIZES = {"swin_t": [1, 30, 32, 57, 112, 224], "mae_base": [8, 40, 64], "clip_vit_b_32": [8, 40, 64]}


@pytest.mark.parametrize(("name", "size"), [(name, size) for name, sizes in SIZES.items() for size in sizes])
def test_other_sizes_fit(name: str, size: int) -> None:
    trunk = small(name)
    trunk.check_clip(1, size)
    pixels = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        features = trunk.features(pixels)
    assert features.shape == (2, trunk.feature_dim)
    assert features.isfinite().all()
    assert (features[0] - features[1]).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["mae_base", "clip_vit_b_32"])
def test_sizes_of_no_whole_patches_are_refused_and_foreign_ones_mentioned(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    trunk = small(name)
    for size in (4, 30):
        with pytest.raises(ValueError, match=rf"{size} pixels wide; .* accepts multiples of 8"):
            trunk.check_clip(1, size)
    with caplog.at_level(logging.WARNING, "microlens"):
        trunk.check_clip(1, 32)
        assert not caplog.records
        trunk.check_clip(1, 40)
    assert "these have 40: positions are interpolated" in caplog.text


def test_mae_sees_every_patch_and_the_same_each_time() -> None:
    trunk = small("mae_base").train()
    pixels = torch.randn(1, 3, 32, 32).requires_grad_()
    features = trunk.features(pixels)
    assert torch.equal(features, trunk.features(pixels))
    features.sum().backward()
    seen = pixels.grad.abs().amax(1).view(4, 8, 4, 8).amax((1, 3))
    assert (seen > 0).all()


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_the_gradient_reaches_every_parameter(name: str) -> None:
    fixed = ("vit.embeddings.position_embeddings",) if name == "mae_base" else ()
    check_gradients(small(name).train(), torch.randn(2, 3, NATIVE[name], NATIVE[name]), silent=fixed)


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_the_chain_can_be_cut_anywhere(name: str) -> None:
    """The other pictures are small: the library's Swin shrinks its windows for good when it sees such."""
    with torch.inference_mode():
        check_cuts(small(name), torch.randn(2, 3, NATIVE[name], NATIVE[name]), torch.randn(3, 3, 16, 16))


@pytest.mark.parametrize("name", SMALL_NETWORKS)
def test_adapters_go_to_the_attention_of_every_layer(name: str) -> None:
    pytest.importorskip("peft")
    trunk = small(name)
    apply_tuning(trunk, Tuning(tune="lora", rank=2))
    trained = [parameter_name for parameter_name, parameter in trunk.named_parameters() if parameter.requires_grad]
    layers = 4 if name == "swin_t" else 3
    assert len(trained) == layers * 4 * 2
    copy = small(name)
    apply_tuning(copy, Tuning(tune="lora", rank=2))
    copy.load_state_dict(trunk.state_dict())


def pictures(kind: str, frames: int) -> ItemBatch:
    values = torch.randint(0, 256, (3, frames, 32, 32, 3), dtype=torch.uint8)
    return ItemBatch(items=torch.tensor([4, 5, 6]), content={kind: values})


def encoder(**options: Any) -> ImageEncoder:
    constructor = image_encoder(ImageNetwork(lambda: small("clip_vit_b_32"), IMAGE_NETWORKS["clip_vit_b_32"].official))
    world = {"dim": 6, "cover_size": 32, "clip_shape": (5, 32)}
    tower = build(constructor, options, world, "encoder")
    assert isinstance(tower, ImageEncoder)
    return tower.eval()


def test_the_cover_is_seen_normalised_and_projected_linearly() -> None:
    tower, items = encoder(), pictures("covers", 1)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (CLIPVision.mean, CLIPVision.std))
    pixels = (items.content["covers"][:, 0].permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.inference_mode():
        expected = tower.projection(tower.trunk.features(pixels))
        torch.testing.assert_close(tower(items), expected, atol=1e-5, rtol=1e-5)
        assert (tower(items) < -1e-2).any()  # a GELU would have left little below zero
    assert tower.needs == {"covers"}


def test_a_frame_is_the_middle_one_of_the_clip() -> None:
    tower, items = encoder(source="frame"), pictures("clips", 5)
    assert tower.needs == {"clips"}
    middle = ItemBatch(items=items.items, content={"clips": items.content["clips"][:, 2:3]})
    with torch.inference_mode():
        assert torch.equal(tower(items), tower(middle))
    assert encoder().needs == {"covers"}


def test_the_projection_is_trained_at_the_recommenders_rate() -> None:
    tower = encoder(tune="top1")
    (group,) = tower.content_groups()
    seeing = {id(parameter) for parameter in group.parameters}
    assert not seeing & {id(parameter) for parameter in tower.projection.parameters()}
    assert seeing == {id(parameter) for parameter in tower.trunk.parameters() if parameter.requires_grad}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "thumbnail"}, "encoder.source is 'thumbnail'"),
        ({"weights": "nowhere.safetensors"}, "nowhere.safetensors does not exist"),
        ({"tune": "scratch", "weights": "default"}, "starts from random weights"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder(**options)


def test_a_size_that_does_not_suit_is_refused_for_the_picture_that_is_read() -> None:
    constructor = image_encoder(ImageNetwork(small_clip, IMAGE_NETWORKS["clip_vit_b_32"].official))
    world = {"dim": 6, "cover_size": 30, "clip_shape": (5, 32)}
    with pytest.raises(InputError, match="30 pixels wide"):
        build(constructor, {}, world, "encoder")
    build(constructor, {"source": "frame"}, world, "encoder")
