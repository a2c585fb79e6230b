"""CLAP in a folder: its agreement with the transformers library, of the network and of the sound that it hears."""

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from microlens.data.batches import ItemBatch
from microlens.encoders import build_encoder
from microlens.encoders.pretrained import PretrainedModel
from microlens.encoders.pretrained_sound import CLAPEncoder, spectrograms_of
from microlens.encoders.trunk import Trunk
from microlens.errors import InputError
from microlens.media.sound import SoundSettings, log_mel, read_log_mel
from microlens.media.sound_track import read_sound
from tests.reference.huggingface import check_cuts, check_gradients, disturb

transformers = pytest.importorskip("transformers")

from tests.reference.pretrained_folders import HEARD, library_model, write_folder  # noqa: E402 - the library is there

RATE = HEARD["sampling_rate"]
FINE = SoundSettings(sample_rate=RATE, num_mels=128, seconds=10.0)
SILENCE = -100.0


@pytest.fixture(scope="module")
def clap(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    model = library_model("clap")
    return write_folder(model, tmp_path_factory.mktemp("clap"), HEARD), model


def encoder_of(folder: Path, settings: SoundSettings = FINE, **options: Any) -> CLAPEncoder:
    world = {"dim": 6, "sound_settings": settings}
    encoder = build_encoder({"name": "sound", "model": str(folder), **options}, world)
    assert isinstance(encoder, CLAPEncoder)
    return encoder.eval()


def heard(encoder: CLAPEncoder, samples: NDArray[Any], settings: SoundSettings = FINE) -> Tensor:
    """What the network hears (steps, mels) of samples, as a batch of a dataset has them."""
    stored = np.zeros(settings.shape, np.uint8)
    values = log_mel(samples.astype(np.float32), settings)[: len(stored)]
    stored[: len(values)] = values
    batch = ItemBatch(items=torch.ones(1, dtype=torch.long), content={"sound": torch.from_numpy(stored)[None]})
    return encoder.content(batch)[0, 0]


def expected(samples: NDArray[Any], **changes: Any) -> NDArray[Any]:
    """The spectrogram (steps, mels) according to the library."""
    extractor = transformers.ClapFeatureExtractor(**HEARD | changes)
    found: NDArray[Any] = extractor(samples, sampling_rate=RATE)["input_features"][0][0]
    return found


def noise(seconds: float) -> NDArray[Any]:
    """Noise that swells and ebbs, so that places in time can be told apart."""
    samples = int(RATE * seconds)
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 1.5 * np.arange(samples) / RATE)
    return 0.1 * swell * np.random.default_rng(0).standard_normal(samples)


@pytest.mark.parametrize("fuses", [False, True])
def test_features_equal_those_of_the_library(tmp_path: Path, fuses: bool) -> None:
    config = library_model("clap").config
    config.audio_config.enable_fusion = fuses
    model = transformers.ClapModel(config).eval()
    disturb(model)
    trunk = encoder_of(write_folder(model, tmp_path, HEARD)).trunk
    spectrograms = torch.randn(2, 1, 501, 32)
    four = {"input_features": spectrograms.expand(-1, 4, -1, -1), "is_longer": torch.zeros(2, 1, dtype=torch.bool)}
    with torch.inference_mode():
        pooled = model.audio_model(**(four if fuses else {"input_features": spectrograms})).pooler_output
        torch.testing.assert_close(trunk.features(spectrograms), model.audio_projection(pooled), atol=1e-5, rtol=1e-5)


def test_the_chain_can_be_cut_and_trained(clap: tuple[Path, Any]) -> None:
    trunk = encoder_of(clap[0]).trunk
    with torch.inference_mode():
        check_cuts(trunk, torch.randn(2, 1, 501, 32), torch.randn(2, 1, 501, 32))
    check_gradients(trunk.train(), torch.randn(2, 1, 501, 32))
    top: Trunk = encoder_of(clap[0], tune="top1").trunk
    trained = {name.split(".layers.")[-1][:1] for name, value in top.named_parameters() if value.requires_grad}
    assert trained == {"1", "a"}  # the last of two stages; audio_model...norm and audio_projection


@pytest.mark.parametrize("truncation", ["rand_trunc", "fusion"])
def test_bands_are_those_of_the_library(clap: tuple[Path, Any], truncation: str) -> None:
    extractor = transformers.ClapFeatureExtractor(**HEARD)
    wanted = extractor.mel_filters if truncation == "fusion" else extractor.mel_filters_slaney
    spectrograms = replace(spectrograms_of(PretrainedModel(str(clap[0]))), slaney=truncation != "fusion")
    np.testing.assert_allclose(spectrograms.bands(), wanted, atol=1e-12)


@pytest.mark.parametrize("seconds", [5.0, 2.4, 1.2, 3.4])
def test_stored_sound_becomes_what_the_network_was_trained_on(clap: tuple[Path, Any], seconds: float) -> None:
    """Of 501 steps of 10 ms; short sound is repeated as often as it fits."""
    samples = noise(seconds)
    wanted = expected(samples)
    difference = heard(encoder_of(clap[0]), samples).numpy() - wanted
    assert wanted.shape == difference.shape == (501, 32)
    assert (
        np.median(np.abs(difference)) < 0.8
    )  # of noise that windows of 25 and 21 ms see; a step late, it is 1.6 or more
    assert np.abs(difference).mean() < 1.2
    assert np.abs(difference.mean()) < 0.3
    silent = np.all(wanted == SILENCE, axis=1)
    assert silent.any() == (seconds < 4)
    assert np.array_equal(difference[silent][1:] == 0, np.ones_like(difference[silent][1:], bool))


def test_of_longer_sound_the_middle_is_heard(clap: tuple[Path, Any]) -> None:
    samples = noise(9.0)
    found = heard(encoder_of(clap[0]), samples, replace(FINE, seconds=9.0)).numpy()
    difference = found - expected(samples[2 * RATE : 7 * RATE])
    assert np.array_equal(found, heard(encoder_of(clap[0]), samples))  # in ten seconds, of which one is empty
    assert np.abs(difference[2:-2]).mean() < 1.0


def test_silence_is_silence(clap: tuple[Path, Any]) -> None:
    assert torch.equal(heard(encoder_of(clap[0]), np.zeros(RATE)), torch.full((501, 32), SILENCE))


def test_quiet_bands_of_a_step_with_sound_are_at_the_floor_of_the_store(clap: tuple[Path, Any]) -> None:
    tone = 0.5 * np.sin(2 * np.pi * 440 * np.arange(5 * RATE) / RATE)
    assert heard(encoder_of(clap[0]), tone)[5:-5].min() > -90


def test_sound_that_ends_too_early_is_mentioned(clap: tuple[Path, Any], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "microlens"):
        encoder = encoder_of(clap[0])
        assert not caplog.records
        encoder = encoder_of(clap[0], SoundSettings())
    assert "up to 14000 Hz and the dataset's ends at 8000; prepare it with: --sample-rate 48000" in caplog.text
    bands = heard(encoder, noise(5.0)[::3], SoundSettings())[100]
    assert bands[0] > -60
    assert bands[-1] == SILENCE


@pytest.mark.parametrize(
    ("changes", "settings", "message"),
    [
        ({}, SoundSettings(sample_rate=RATE, hop_milliseconds=5.0), "every 10 ms; the dataset has one every 5 ms"),
        ({"padding": "repeat"}, FINE, "padding is 'repeat'; accepted is 'repeatpad'"),
        ({"hop_length": None}, FINE, "hop_length is None; accepted is a number above 0"),
    ],
)
def test_what_does_not_suit_is_refused(
    clap: tuple[Path, Any], tmp_path: Path, changes: dict[str, Any], settings: SoundSettings, message: str
) -> None:
    for file in clap[0].iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "preprocessor_config.json").unlink()
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(HEARD | changes))
    with pytest.raises(InputError, match=message):
        encoder_of(tmp_path, settings)


@pytest.mark.real_data
def test_real_sound_becomes_what_the_network_was_trained_on(clap: tuple[Path, Any], shared_data: Path) -> None:
    path = shared_data / "videos" / "microlens" / "1002.mp4"
    settings = replace(FINE, seconds=5.0)
    values = torch.from_numpy(read_log_mel(path, settings))
    batch = ItemBatch(items=torch.ones(1, dtype=torch.long), content={"sound": values[None]})
    found = encoder_of(clap[0], settings).content(batch)[0, 0].numpy()
    wanted = expected(read_sound(path, 5.0, RATE).mix[: 5 * RATE].astype(np.float64))
    assert np.abs(found - wanted)[2:-2].mean() < 2.0
    assert np.corrcoef(found.ravel(), wanted.ravel())[0, 1] > 0.98
