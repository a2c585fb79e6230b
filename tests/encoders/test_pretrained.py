"""Encoders of pretrained models in a folder: their agreement with the transformers library, and unsuitable files."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from microlens.data.batches import ItemBatch
from microlens.encoders import build_encoder
from microlens.encoders.content import ContentEncoder
from microlens.encoders.huggingface import HuggingFaceTrunk
from microlens.encoders.tuning import Tuning, apply_tuning
from microlens.errors import InputError
from tests.reference.huggingface import check_cuts, check_gradients

transformers = pytest.importorskip("transformers")

from tests.reference.pretrained_folders import (  # noqa: E402 - after the library is known to be there
    PIXELS,
    library_model,
    write_folder,
    write_videomae2,
)

IMAGES = ("dinov2", "dinov2_with_registers", "dinov3_vit", "siglip", "siglip2")
VIDEOS = ("vjepa2", "vjepa2-classifier", "videomae", "videomae-classifier", "videomae2", "xclip")
D, FRAMES = 6, 4
Case = tuple[str, Path, Any]  # name, folder and the model of the library in it


def write(name: str, folder: Path) -> Case:
    model = library_model("videomae-classifier" if name == "videomae2" else name)
    return name, (write_videomae2 if name == "videomae2" else write_folder)(model, folder), model


@pytest.fixture(scope="module", params=[*IMAGES, *VIDEOS])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return write(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture
def dinov2(tmp_path: Path) -> Path:
    return write("dinov2", tmp_path / "dinov2")[1]


def encoder_of(folder: object, kind: str = "image", size: int = 32, **options: Any) -> ContentEncoder:
    world = {"dim": D, "cover_size": size, "clip_shape": (FRAMES, size)}
    encoder = build_encoder({"name": kind, "model": str(folder), **options}, world)
    assert isinstance(encoder, ContentEncoder)
    return encoder.eval()


def encoder_of_case(case: Case, size: int = 32, **options: Any) -> ContentEncoder:
    name, folder, _ = case
    return encoder_of(folder, "image" if name in IMAGES else "video", size, **options)


def pictures(case: Case, size: int = 32) -> Tensor:
    """Two clips or pictures (2, F, H, W, 3)."""
    frames = 1 if case[0] in IMAGES else FRAMES
    return torch.randint(256, (2, frames, size, size, 3), dtype=torch.uint8)


def batch_of(case: Case, clips: Tensor) -> ItemBatch:
    kind = "covers" if case[0] in IMAGES else "clips"
    return ItemBatch(items=torch.arange(1, len(clips) + 1), content={kind: clips})


def processed(case: Case, clips: Tensor) -> dict[str, Tensor]:
    """The output of the library's processor without resizing; those of V-JEPA 2 and DINOv3 need torchvision."""
    classes = {"siglip": "SiglipImageProcessorPil", "siglip2": "Siglip2ImageProcessorPil"}
    name = classes.get(case[0], "BitImageProcessorPil" if case[0] in IMAGES else "VideoMAEImageProcessorPil")
    statistics = {key: PIXELS[key] for key in ("image_mean", "image_std")}
    patches = {"patch_size": 8, "max_num_patches": (clips.shape[2] // 8) ** 2, "do_resize": True}
    options = patches if case[0] == "siglip2" else {"do_resize": False, "do_center_crop": False}
    processor = getattr(transformers, name)(**statistics, **options)
    frames = [[Image.fromarray(frame.numpy()) for frame in clip] for clip in clips]
    if case[0] in VIDEOS:
        return {"pixels": torch.stack([processor(clip, return_tensors="pt")["pixel_values"][0] for clip in frames])}
    found = processor([clip[0] for clip in frames], return_tensors="pt")
    return {"pixels": found.pop("pixel_values"), **found}


def expected_features(case: Case, pixels: Tensor, **others: Tensor) -> Tensor:
    """The features according to the library: (M, E)."""
    name, _, model = case
    if name.startswith("dino"):
        found = model(pixels).pooler_output
    elif name == "siglip":
        found = model.vision_model(pixels, interpolate_pos_encoding=True).pooler_output
    elif name == "siglip2":
        found = model.vision_model(pixels, **others).pooler_output
    elif name == "vjepa2":
        found = model(pixels, skip_predictor=True).last_hidden_state.mean(1)
    elif name == "vjepa2-classifier":
        found = model.pooler(model.vjepa2(pixels, skip_predictor=True).last_hidden_state)
    elif name == "videomae":
        found = model(pixels).last_hidden_state.mean(1)
    elif name == "videomae-classifier":
        found = model.videomae(pixels).last_hidden_state.mean(1)
    elif name == "videomae2":
        found = model.fc_norm(model.videomae(pixels).last_hidden_state.mean(1))
    else:
        found = model.get_video_features(pixels, interpolate_pos_encoding=True).pooler_output
    features: Tensor = found
    return features


def test_features_of_pictures_equal_those_of_the_library(case: Case) -> None:
    encoder, clips = encoder_of_case(case), pictures(case)
    with torch.inference_mode():
        content = encoder.content(batch_of(case, clips))
        torch.testing.assert_close(
            encoder.trunk.features(content), expected_features(case, **processed(case, clips)), atol=1e-5, rtol=1e-5
        )


def test_features_of_another_size_equal_those_of_the_library(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    name, _, model = case
    if name.startswith("videomae"):
        pytest.skip("the library's accepts one size; test_videomae.py checks others")
    with caplog.at_level(logging.WARNING, "microlens"):
        encoder = encoder_of_case(case, size=48)
    assert "expects pictures of 32 pixels; these have 48" in caplog.text
    if name.startswith("vjepa2"):
        model = type(model)._from_config(transformers.VJEPA2Config(**model.config.to_dict() | {"crop_size": 48})).eval()
        model.load_state_dict(case[2].state_dict())
    clips = pictures(case, 48)
    with torch.inference_mode():
        found = encoder.trunk.features(encoder.content(batch_of(case, clips)))
        expected = expected_features((name, case[1], model), **processed(case, clips))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_state_dicts_have_the_official_names(case: Case) -> None:
    name, folder, _ = case
    trunk = encoder_of_case(case).trunk
    assert isinstance(trunk, HuggingFaceTrunk)
    official = {
        key for key in trunk.translate(load_file(folder / "model.safetensors")) if not key.startswith(trunk.foreign)
    }
    assert {key for key in trunk.state_dict() if not key.startswith(trunk.foreign)} == official
    known = {
        "dinov2": "dinov2.encoder.layer.1.attention.attention.query.weight",
        "dinov3_vit": "dinov3_vit.layer.1.attention.q_proj.weight",
        "siglip": "vision_model.encoder.layers.1.self_attn.q_proj.weight",
        "vjepa2": "vjepa2.encoder.layer.1.attention.query.weight",
        "xclip": "vision_model.encoder.layers.1.message_attn.q_proj.weight",
    }
    assert known.get(name, next(iter(official))) in official


def test_the_chain_can_be_cut_anywhere(case: Case) -> None:
    trunk = encoder_of_case(case).trunk
    shape = (2, 3, 32, 32) if case[0] in IMAGES else (2, 3, FRAMES, 32, 32)
    with torch.inference_mode():
        check_cuts(trunk, torch.randn(shape), torch.randn(shape))


def test_the_gradient_reaches_every_parameter(case: Case) -> None:
    trunk = encoder_of_case(case).trunk.train()
    silent = [name for name, _ in trunk.named_parameters() if name.endswith("mask_token")]
    check_gradients(trunk, torch.randn((2, 3, 32, 32) if case[0] in IMAGES else (2, 3, FRAMES, 32, 32)), tuple(silent))
    features = [
        trunk.features(torch.ones((1, 3, 32, 32) if case[0] in IMAGES else (1, 3, FRAMES, 32, 32))) for _ in "ab"
    ]
    assert torch.equal(*features)  # nothing is random, even in training


def test_top1_trains_the_last_layer_and_the_pooling(case: Case) -> None:
    trunk = encoder_of_case(case, tune="top1").trunk
    (last,) = trunk.stages()[-trunk.paper_top :]
    frozen = {id(value) for stage in trunk.stages()[:-1] for part in stage.modules for value in part.parameters()}
    trained = {id(value) for value in trunk.parameters() if value.requires_grad}
    assert trained == {id(value) for value in trunk.parameters()} - frozen
    assert trained >= {id(value) for part in last.modules for value in part.parameters()}


def test_adapters_go_to_the_attention_of_the_layers(case: Case) -> None:
    pytest.importorskip("peft")
    trunk = encoder_of_case(case).trunk
    apply_tuning(trunk, Tuning(tune="lora", rank=2))
    trained = [name for name, parameter in trunk.named_parameters() if parameter.requires_grad]
    assert trained
    assert all(".lora_" in name and ".head." not in name for name in trained)
    assert {name.split(".lora_")[0].count("layer") for name in trained} == {1} or case[0].startswith("vjepa2-")
    trunk.features(torch.randn((2, 3, 32, 32) if case[0] in IMAGES else (2, 3, FRAMES, 32, 32))).sum().backward()
    with_gradient = [name for name, parameter in trunk.named_parameters() if parameter.grad is not None]
    assert sorted(with_gradient) == sorted(trained)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"rescale_factor": 1 / 127.5}, lambda p: (p / 127.5 - 0.5) / 0.25),
        ({"do_rescale": False}, lambda p: (p - 0.5) / 0.25),
        ({"do_normalize": False}, lambda p: p / 255),
    ],
)
def test_pixels_are_scaled_as_the_folder_says(
    dinov2: Path, settings: dict[str, Any], expected: Callable[[Tensor], Tensor]
) -> None:
    statistics = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (dinov2 / "preprocessor_config.json").unlink()
    (dinov2 / "processor_config.json").write_text(json.dumps({"image_processor": statistics | settings}))
    covers = torch.randint(256, (1, 1, 32, 32, 3), dtype=torch.uint8)
    found = encoder_of(dinov2).content(ItemBatch(items=torch.ones(1, dtype=torch.long), content={"covers": covers}))
    torch.testing.assert_close(found, expected(covers[:, 0].permute(0, 3, 1, 2).float()), rtol=1e-4, atol=1e-4)


def test_weights_in_parts_and_old_files_are_loaded(dinov2: Path, tmp_path: Path) -> None:
    state = load_file(dinov2 / "model.safetensors")
    whole = encoder_of(dinov2).trunk.state_dict()
    parts, torch_file = (Path(shutil.copytree(dinov2, tmp_path / name)) for name in ("parts", "torch"))
    for folder in (parts, torch_file):
        (folder / "model.safetensors").unlink()
    torch.save(state, torch_file / "pytorch_model.bin")
    half = sorted(state)[: len(state) // 2]
    files = {name: f"model-{1 if name in half else 2}.safetensors" for name in state}
    for file in set(files.values()):
        save_file({name: state[name] for name in state if files[name] == file}, parts / file)
    (parts / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    for folder in (parts, torch_file):
        found = encoder_of(folder).trunk.state_dict()
        assert found.keys() == whole.keys()
        assert all(torch.equal(value, whole[name]) for name, value in found.items())
    (parts / "model-2.safetensors").unlink()
    with pytest.raises(InputError, match=r"parts' has no model-2.safetensors; it holds config.json, model-1"):
        encoder_of(parts)
    (parts / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../model.safetensors"}}))
    with pytest.raises(InputError, match="no name of a file beside it"):
        encoder_of(parts)


def edit(folder: Path, file: str, **changes: Any) -> None:
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def without_a_layer(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in state.items() if "layer.1." not in name}, folder / "model.safetensors")


def with_fewer_layers(folder: Path) -> None:
    edit(
        folder, "config.json", num_hidden_layers=1, stage_names=["stem", "stage1"], out_features=None, out_indices=None
    )


def as_code(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({"model": Path("code")}, folder / "pytorch_model.bin")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "config.json").unlink(), "has no config.json; it holds model.safetensors, prep"),
        (
            lambda folder: (folder / "preprocessor_config.json").unlink(),
            "has no video_preprocessor_config.json or prep",
        ),
        (lambda folder: (folder / "model.safetensors").unlink(), "has no model.safetensors or pytorch_model.bin; it"),
        (lambda folder: (folder / "config.json").write_text("{"), r"config.json cannot be read: Expecting"),
        (lambda folder: (folder / "config.json").write_text("[]"), r"config.json holds \[\]; accepted is a JSON obj"),
        (lambda folder: edit(folder, "config.json", model_type="bert"), "is a bert; accepted here: dinov2, dinov2_w"),
        (lambda folder: edit(folder, "config.json", hidden_size="wide"), "has a config.json that is invalid: "),
        (lambda folder: edit(folder, "config.json", hidden_size=32), r"has shape \(.*24.*\); this network has \(.*32"),
        (with_fewer_layers, "has no place in this network"),
        (lambda folder: edit(folder, "preprocessor_config.json", image_mean=[1]), r"image_mean is \[1\]; accepted are"),
        (lambda folder: edit(folder, "preprocessor_config.json", rescale_factor=0), "rescale_factor is 0; accepted is"),
        (without_a_layer, r"'dinov2.encoder.layer.1.norm1.weight' is missing .*0 unknown and 18 missing"),
        (as_code, "without running code"),
    ],
)
def test_a_folder_that_does_not_suit_is_named(dinov2: Path, damage: Callable[[Path], Any], message: str) -> None:
    damage(dinov2)
    with pytest.raises(InputError, match=message) as refused:
        encoder_of(dinov2)
    assert "\n" not in str(refused.value)


def test_code_in_a_folder_is_not_run(dinov2: Path) -> None:
    edit(dinov2, "config.json", model_type="mine", auto_map={"AutoConfig": "code.Config", "AutoModel": "code.Model"})
    (dinov2 / "code.py").write_text("raise SystemExit(1)")
    with pytest.raises(InputError, match="is a mine; accepted here"):
        encoder_of(dinov2)


def test_a_name_that_cannot_be_fetched_says_where_to_put_the_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        InputError, match=r"(?s)is no folder here and cannot be fetched .* set encoder.model to that"
    ) as no:
        encoder_of("nobody/no-such-model")
    assert "\n" not in str(no.value)


def test_what_networks_do_not_accept_is_refused(tmp_path: Path) -> None:
    xclip, vjepa2, videomae2 = (write(name, tmp_path / name)[1] for name in ("xclip", "vjepa2", "videomae2"))
    for folder, shape, message in (
        (xclip, (5, 32), "clips have 5 frames; this X-CLIP accepts 4"),
        (vjepa2, (1, 32), "clips have 1 frame; V-JEPA 2 accepts 2 and more"),
        (vjepa2, (4, 30), "30 pixels wide; V-JEPA 2 accepts multiples of 8"),
    ):
        with pytest.raises(InputError, match=message):
            build_encoder({"name": "video", "model": str(folder)}, {"dim": D, "clip_shape": shape})
    network = encoder_of(vjepa2, "video").trunk
    with pytest.raises(ValueError, match="48 pixels wide; this network was built for 32"):
        network.features(torch.zeros(1, 3, 4, 48, 48))
    with pytest.raises(InputError, match='"scratch" starts from random weights'):
        encoder_of(vjepa2, "video", tune="scratch")
    theirs = json.loads((videomae2 / "config.json").read_text())["model_config"]
    edit(videomae2, "config.json", model_config=theirs | {"cos_attn": True})
    with pytest.raises(InputError, match="VideoMAE v2 with cos_attn = True, which is not supported"):
        encoder_of(videomae2, "video")


def test_random_weights_need_no_weight_file(dinov2: Path) -> None:
    (dinov2 / "model.safetensors").unlink()
    torch.manual_seed(1)
    first = encoder_of(dinov2, weights="random", tune="scratch").trunk.state_dict()
    torch.manual_seed(1)
    again = encoder_of(dinov2, weights="random").trunk.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in first.items())
