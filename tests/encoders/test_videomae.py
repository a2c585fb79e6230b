"""VideoMAE: its state dicts, its agreement with the transformers library, and clips of other shapes."""

import logging
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from microlens.data.batches import ItemBatch
from microlens.encoders.tuning import Tuning, apply_tuning
from microlens.encoders.video.clip import video_encoder
from microlens.encoders.video.network import VideoNetwork
from microlens.encoders.video.videomae import VIDEOMAE_NETWORKS, VideoMAE, sinusoids, videomae_base
from microlens.encoders.weights import load_weights
from microlens.errors import InputError
from tests.processes import run_python
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

# sha256 of the "name shape" lines of state_dict(), in order: the official names, q_bias and v_bias among them.
PARAMETERS_AND_DIGEST = {
    "videomae": (86_227_200, "333295b7938425da5e4c6add1189003c54af7bea74fa4fc28903a22c76ec446a"),
    "videomae_kinetics": (86_534_800, "904de0c667b652d1e4d929a13354b464240e27df496a14c36af26f6d9c1e638d"),
}


def small_config(*, fine_tuned: bool, frames: int = 16) -> Any:
    return transformers.VideoMAEConfig(
        **SMALL,
        image_size=32,
        patch_size=8,
        num_frames=frames,
        use_mean_pooling=fine_tuned,
        num_labels=5,
        decoder_num_hidden_layers=1,
        decoder_hidden_size=16,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=16,
    )


def small(*, fine_tuned: bool) -> VideoMAE:
    torch.manual_seed(0)
    trunk = VideoMAE(small_config(fine_tuned=fine_tuned))
    disturb(trunk)
    return trunk.eval()


def frames_first(clips: torch.Tensor) -> torch.Tensor:
    """(M, 3, F, H, W) as the library takes them, (M, F, 3, H, W)."""
    return clips.transpose(1, 2)


@pytest.mark.parametrize("frames", [2, 5, 16])
def test_features_are_the_mean_of_the_tokens_of_the_library(frames: int) -> None:
    reference = transformers.VideoMAEModel(small_config(fine_tuned=False, frames=frames)).eval()
    disturb(reference)
    ours = small(fine_tuned=False)
    ours.videomae.load_state_dict(reference.state_dict())
    clips = torch.randn(2, 3, frames, 32, 32)
    with torch.inference_mode():
        expected = reference(frames_first(clips)).last_hidden_state.mean(1)
        torch.testing.assert_close(ours.features(clips), expected, atol=1e-5, rtol=1e-5)


def test_logits_of_the_full_network_equal_those_of_the_library() -> None:
    ours = videomae_base(fine_tuned=True).eval()
    reference = transformers.VideoMAEForVideoClassification(
        transformers.VideoMAEConfig(num_frames=5, num_labels=400)
    ).eval()
    disturb(reference)
    ours.load_state_dict(reference.state_dict())
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in reference.named_parameters()]
    clips = torch.randn(1, 3, 5, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(ours(clips), reference(frames_first(clips)).logits, atol=1e-4, rtol=1e-4)


def test_a_training_step_equals_that_of_the_library() -> None:
    ours = small(fine_tuned=True).train().double()
    reference = transformers.VideoMAEForVideoClassification(small_config(fine_tuned=True, frames=4)).train().double()
    reference.load_state_dict(dict(zip(reference.state_dict(), ours.state_dict().values(), strict=True)))
    clips, labels = torch.randn(3, 3, 4, 32, 32, dtype=torch.double), torch.tensor([4, 0, 4])
    check_training_step(
        ours,
        reference,
        lambda model: nn.functional.cross_entropy(
            model(clips) if model is ours else model(frames_first(clips)).logits, labels
        ),
    )


def test_the_self_supervised_file_fits_without_its_decoder(tmp_path: Path) -> None:
    reference = transformers.VideoMAEForPreTraining(small_config(fine_tuned=False)).eval()
    disturb(reference)
    path = official_file(tmp_path, reference)
    ours = small(fine_tuned=False)
    kept = {name for name in load_file(path) if not name.startswith(ours.foreign)}
    assert kept == ours.state_dict().keys()
    load_weights(ours, path, ignored=ours.foreign)
    clips = torch.randn(1, 3, 16, 32, 32)
    with torch.inference_mode():
        expected = reference.videomae(frames_first(clips)).last_hidden_state.mean(1)
        torch.testing.assert_close(ours.features(clips), expected, atol=1e-5, rtol=1e-5)


def test_files_of_before_and_after_fine_tuning_are_told_apart(tmp_path: Path) -> None:
    path = official_file(tmp_path, transformers.VideoMAEForVideoClassification(small_config(fine_tuned=True)))
    load_weights(small(fine_tuned=True), path, ignored=VideoMAE.foreign)
    with pytest.raises(InputError, match="has no place in"):
        load_weights(small(fine_tuned=False), path, ignored=VideoMAE.foreign)


@pytest.mark.parametrize("name", VIDEOMAE_NETWORKS)
def test_names_and_shapes_are_those_of_the_published_weights(name: str) -> None:
    model = VIDEOMAE_NETWORKS[name].build()
    assert (sum(parameter.numel() for parameter in model.parameters()), layout(model)) == PARAMETERS_AND_DIGEST[name]
    names = model.state_dict().keys()
    published = {"embeddings.patch_embeddings.projection.weight", "encoder.layer.11.attention.attention.q_bias"}
    published |= {"encoder.layer.0.attention.attention.v_bias", "encoder.layer.0.attention.attention.key.weight"}
    assert {f"videomae.{part}" for part in published} <= names
    assert ("videomae.layernorm.weight" in names) == (name == "videomae")


def test_top1_trains_from_the_tensor_that_the_original_code_names() -> None:
    trunk = videomae_base(fine_tuned=False)
    apply_tuning(trunk, Tuning(tune="top1"))
    trained = [index for index, parameter in enumerate(trunk.parameters()) if parameter.requires_grad]
    assert trained == list(range(152, len(list(trunk.parameters()))))
    assert sum(parameter.numel() for parameter in trunk.parameters() if parameter.requires_grad) == 14_175_744


@pytest.mark.parametrize(("frames", "height", "width"), [(2, 8, 8), (3, 16, 40), (20, 32, 32), (7, 64, 24)])
def test_clips_of_other_shapes_fit(frames: int, height: int, width: int) -> None:
    trunk = small(fine_tuned=False)
    clips = torch.randn(2, 3, frames, height, width)
    with torch.inference_mode():
        features = trunk.features(clips)
        flipped = trunk.features(clips.flip(3))
    assert features.shape == (2, 32)
    assert features.isfinite().all()
    assert (features[0] - features[1]).abs().max() > 1e-3
    assert (features - flipped).abs().max() > 1e-4


def test_an_odd_last_frame_is_left_out() -> None:
    clips = torch.randn(1, 3, 5, 32, 32)
    trunk = small(fine_tuned=False)
    with torch.inference_mode():
        torch.testing.assert_close(trunk.features(clips), trunk.features(clips[:, :, :4]))


@pytest.mark.parametrize("axis", [2, 3, 4])
@pytest.mark.parametrize("size", [32, 64])
def test_the_place_of_a_patch_matters(axis: int, size: int) -> None:
    """Moving whole tubelets about changes the features, which without positions would be a mean of the same tokens."""
    trunk = small(fine_tuned=False)
    clips = torch.randn(1, 3, 4, size, size)
    moved = clips.roll(2 if axis == 2 else 8, axis)
    with torch.inference_mode():
        assert (trunk.features(clips) - trunk.features(moved)).abs().max() > 1e-4


def test_positions_are_sinusoids() -> None:
    table = sinusoids(1568, 768)
    expected = transformers.models.videomae.modeling_videomae.get_sinusoid_encoding_table(1568, 768)[0]
    torch.testing.assert_close(table, expected, rtol=0, atol=1e-7)


def test_positions_of_a_coarser_grid_are_between_those_of_the_finer() -> None:
    """At half the size each position is near the mean of the four that it stands for."""
    trunk = small(fine_tuned=False)
    projection = trunk.videomae.embeddings.patch_embeddings.projection
    with torch.inference_mode():
        projection.weight.zero_()
        projection.bias.zero_()
        native = trunk._embed(torch.zeros(1, 3, 4, 32, 32)).view(2, 4, 4, 32)
        coarse = trunk._embed(torch.zeros(1, 3, 4, 16, 16)).view(2, 2, 2, 32)
    means = native.view(2, 2, 2, 2, 2, 32).mean((2, 4))
    assert (coarse - means).abs().mean() < 0.1 * (coarse - means.flip(1)).abs().mean()


def test_wrong_clips_are_refused_and_foreign_sizes_mentioned(caplog: pytest.LogCaptureFixture) -> None:
    trunk = small(fine_tuned=False)
    with pytest.raises(ValueError, match="1 frame; VideoMAE accepts 2"):
        trunk.check_clip(1, 32)
    with pytest.raises(ValueError, match="multiples of 8"):
        trunk.check_clip(5, 30)
    with caplog.at_level(logging.WARNING, "microlens"):
        trunk.check_clip(5, 32)
        assert not caplog.records
        trunk.check_clip(5, 64)
    assert [record.getMessage() for record in caplog.records] == [
        "VideoMAE was trained on pictures of 32 pixels; these have 64: positions are interpolated"
    ]


def test_the_gradient_reaches_every_parameter() -> None:
    check_gradients(small(fine_tuned=False).train(), torch.randn(2, 3, 4, 32, 32))


def test_the_chain_can_be_cut_anywhere() -> None:
    with torch.inference_mode():
        check_cuts(small(fine_tuned=False), torch.randn(2, 3, 5, 32, 32), torch.randn(3, 3, 2, 48, 48))


def encoder(fine_tuned: bool, **options: Any) -> nn.Module:
    network = VideoNetwork(
        partial(small, fine_tuned=fine_tuned), VIDEOMAE_NETWORKS["videomae"].official, frames=16, size=32
    )
    return video_encoder(network)(dim=6, clip_shape=(5, 32), **options)


def test_only_the_fine_tuned_network_has_class_logits_to_project() -> None:
    clips = torch.randint(0, 256, (2, 5, 32, 32, 3), dtype=torch.uint8)
    items = ItemBatch(items=torch.tensor([1, 2]), content={"clips": clips})
    tower = encoder(True, tuning=Tuning(tune="top1"), head="kinetics")
    assert tower(items).shape == (2, 6)
    with pytest.raises(InputError, match="no classifier"):
        encoder(False, tuning=Tuning(), head="kinetics")
    assert not any("fc_norm" in name for name, _ in encoder(True, tuning=Tuning()).named_parameters())


def test_adapters_go_to_the_attention_of_every_layer() -> None:
    pytest.importorskip("peft")
    tower = encoder(False, tuning=Tuning(tune="lora", rank=2))
    trained = {name for name, parameter in tower.trunk.named_parameters() if parameter.requires_grad}
    assert len(trained) == 3 * 4 * 2  # layers, linear layers of attention, factors
    assert all("attention" in name and "lora" in name for name in trained)
    copy = encoder(False, tuning=Tuning(tune="lora", rank=2))
    copy.load_state_dict(tower.state_dict())


def test_a_missing_or_old_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for stand_in in (None, SimpleNamespace(__version__="4.57.1")):
        monkeypatch.setitem(sys.modules, "transformers", stand_in)
        with pytest.raises(InputError, match=r"VideoMAE needs .*pip install 'microlens\[encoders\]'"):
            videomae_base(fine_tuned=False)


def test_listing_encoders_does_not_import_the_library() -> None:
    modules = ("image", "text", "sound", "video.videomae")
    code = "".join(f"import microlens.encoders.{module}; " for module in modules)
    code += "import sys; assert 'transformers' not in sys.modules"
    done = run_python(["-c", code])
    assert done.returncode == 0, done.stderr
