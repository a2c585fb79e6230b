"""The sound encoder: shapes, rows, tuning, and that it learns to tell sounds apart."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from microlens.building import build
from microlens.data.batches import ItemBatch
from microlens.encoders.sound import SOUND_ENCODERS, SoundCNN, SoundEncoder
from microlens.media.sound import SoundSettings, log_mel
from tests.reference.huggingface import check_cuts, check_gradients
from tests.reference.networks import randomise_norms


def trunk() -> SoundCNN:
    network = SoundCNN()
    randomise_norms(network)
    return network.eval()


def encoder(**options: object) -> SoundEncoder:
    tower = build(SOUND_ENCODERS["sound_cnn"], options, {"dim": 6}, "encoder")
    assert isinstance(tower, SoundEncoder)
    return tower


def batch(sound: Tensor) -> ItemBatch:
    return ItemBatch(items=torch.arange(1, len(sound) + 1), content={"sound": sound})


def test_the_network_is_four_convolutions_a_mean_and_nothing_else() -> None:
    network, sound = trunk(), torch.randn(2, 1, 33, 17)
    with torch.inference_mode():
        expected = sound
        for convolution, norm, _ in network.blocks:
            filtered = nn.functional.conv2d(expected, convolution.weight, stride=2, padding=1)
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            shift = norm.bias - norm.running_mean * scale
            expected = (filtered * scale[:, None, None] + shift[:, None, None]).relu()
        torch.testing.assert_close(network.features(sound), expected.mean((2, 3)), atol=1e-5, rtol=1e-5)
    assert sum(parameter.numel() for parameter in network.parameters()) == 388_320


@pytest.mark.parametrize(("length", "bands"), [(1, 1), (1, 64), (5, 64), (998, 64), (31, 17)])
def test_sounds_of_any_length_and_number_of_bands_fit(length: int, bands: int) -> None:
    sound = torch.randint(0, 256, (3, length, bands), dtype=torch.uint8)
    tower = encoder().eval()
    with torch.inference_mode():
        vectors = tower(batch(sound))
        alone = torch.cat([tower(batch(sound[row : row + 1])) for row in range(3)])
    assert vectors.shape == (3, 6)
    assert vectors.isfinite().all()
    torch.testing.assert_close(vectors, alone, atol=1e-5, rtol=1e-5)


def test_bytes_are_levels_from_silence_to_full_scale() -> None:
    sound = torch.tensor([[[0, 255, 51]]], dtype=torch.uint8)
    torch.testing.assert_close(encoder().content(batch(sound)), torch.tensor([[[[0.0, 1.0, 0.2]]]]))


def test_the_gradient_reaches_every_parameter() -> None:
    check_gradients(trunk().train(), torch.rand(4, 1, 40, 32))


def test_the_chain_can_be_cut_anywhere() -> None:
    with torch.inference_mode():
        check_cuts(trunk(), torch.rand(2, 1, 40, 32), torch.rand(3, 1, 7, 32))


def test_frozen_stages_stay_as_they_are() -> None:
    tower = encoder(tune="top1").train()
    before = {name: value.clone() for name, value in tower.state_dict().items()}
    tower(batch(torch.randint(0, 256, (4, 50, 64), dtype=torch.uint8))).sum().backward()
    trained = {name for name, parameter in tower.named_parameters() if parameter.grad is not None}
    assert {name for name in trained if "blocks" in name} == {
        f"trunk.blocks.3.{part}" for part in ("0.weight", "1.weight", "1.bias")
    }
    moved = {name for name, value in tower.state_dict().items() if not torch.equal(value, before[name])}
    assert {name for name in moved if "blocks" in name and not name.startswith("trunk.blocks.3")} == set()


def tones(count: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Log-mel pictures of low (class 0) and high (class 1) tones in noise, of any loudness and start."""
    settings = SoundSettings(seconds=0.5)
    classes = rng.integers(0, 2, count)
    pictures = []
    for label in classes:
        time = np.arange(8000) / settings.sample_rate + rng.random()
        tone = rng.uniform(0.05, 0.5) * np.sin(2 * np.pi * rng.uniform(*((200, 600), (2000, 5000))[label]) * time)
        pictures.append(log_mel((tone + rng.normal(0, 0.02, 8000)).astype(np.float32), settings))
    return torch.from_numpy(np.stack(pictures)), torch.from_numpy(classes)


def test_it_learns_to_tell_sounds_apart() -> None:
    rng = np.random.default_rng(0)
    tower = encoder().train()
    head = nn.Linear(6, 2)
    optimizer = torch.optim.AdamW([*tower.parameters(), *head.parameters()], lr=3e-3)
    sounds, classes = tones(64, rng)
    for rows in torch.arange(64).split(16) * 25:  # the running statistics follow the weights slowly
        optimizer.zero_grad()
        nn.functional.cross_entropy(head(tower(batch(sounds[rows]))), classes[rows]).backward()
        optimizer.step()
    new_sounds, new_classes = tones(40, rng)
    with torch.inference_mode():
        found = head(tower.eval()(batch(new_sounds))).argmax(1)
    assert (found == new_classes).float().mean() > 0.9
