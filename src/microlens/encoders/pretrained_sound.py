"""The sound encoder of CLAP, over the log-mel spectrograms that datasets store.

Wu et al., "Large-Scale Contrastive Language-Audio Pretraining with Feature Fusion and Keyword-to-Caption Augmentation",
ICASSP 2023, arXiv 2211.06687; its network is HTS-AT (Chen et al., ICASSP 2022, arXiv 2202.00874). The layers are those
of the transformers library.
"""

import logging
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from microlens.data.batches import ItemBatch
from microlens.encoders.content import Missing
from microlens.encoders.huggingface import HuggingFaceTrunk, transformers_library, with_prefix
from microlens.encoders.pretrained import (
    Family,
    PretrainedModel,
    Weights,
    bring_pretrained,
    build_trunk,
    library_config,
)
from microlens.encoders.sound import SoundEncoder
from microlens.encoders.trunk import Hidden, Stage
from microlens.encoders.tuning import Tuning
from microlens.errors import InputError
from microlens.media.sound import FLOOR_DECIBELS, SoundSettings, mel_filterbank

LEAST_POWER = 1e-10  # of the library's spectrograms: -100 dB


class CLAP(HuggingFaceTrunk):
    """The audio tower of CLAP with its projection into the space shared with text, before its normalisation.

    Its input are spectrograms (M, 1, T, mels) in decibels. The branch for sound of over ten seconds, which models with
    feature fusion have, is not used.

    Args:
        config: a ClapAudioConfig of the transformers library.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.feature_dim = config.projection_dim
        self.fuses = config.enable_fusion
        model = transformers_library("CLAP").ClapAudioModelWithProjection(config)
        self.audio_model, self.audio_projection = model.audio_model, model.audio_projection
        indices = [name for name in self.state_dict() if name.endswith(".relative_position_index")]
        texts = ("text_model.", "text_projection.", "logit_scale_a", "logit_scale_t")
        self.foreign = (*texts, *indices)  # the indices can be derived from the window size

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add the prefix to names of files of the audio tower alone."""
        return with_prefix(state, "audio_model.")

    def stages(self) -> list[Stage]:
        """The normalisation of bands with the embedding of patches, and the four stages of windowed attention."""
        encoder = self.audio_model.audio_encoder
        embedding = Stage(lambda hidden: (self._embed(hidden[0]),), (encoder.batch_norm, encoder.patch_embed))
        sizes = encoder.input_resolutions
        return [embedding, *(_attention_stage(layer, size) for layer, size in zip(encoder.layers, sizes, strict=True))]

    def _embed(self, spectrograms: Tensor) -> Tensor:
        """Map (M, 1, T, mels) to tokens (M, patches, C)."""
        encoder = self.audio_model.audio_encoder
        normed = encoder.batch_norm(spectrograms.transpose(1, 3)).transpose(1, 3)
        longer = torch.empty(0, dtype=torch.long, device=spectrograms.device) if self.fuses else None
        tokens: Tensor = encoder.patch_embed(encoder.reshape_mel2img(normed), longer)
        return tokens

    def pool(self, hidden: Hidden) -> Tensor:
        """The projection of the mean over normalised tokens: (M, feature_dim)."""
        features: Tensor = self.audio_projection(self.audio_model.audio_encoder.norm(hidden[0]).mean(1))
        return features


def _attention_stage(layer: nn.Module, size: tuple[int, int]) -> Stage:
    return Stage(lambda hidden: (layer(hidden[0], size)[0],), (layer,))


@dataclass(frozen=True, kw_only=True)
class Spectrograms:
    """The spectrograms that a CLAP was trained on.

    Args:
        sample_rate: in Hz.
        fft_size: window length and size of the Fourier transform, in samples.
        hop: in samples.
        num_mels: bands, from ``lowest`` to ``highest`` Hz.
        slaney: bands on Slaney's mel scale, each of area 1 Hz times 2; else on that of HTK, of height 1.
        seconds: length of the sound.
    """

    sample_rate: int
    fft_size: int
    hop: int
    num_mels: int
    lowest: float
    highest: float
    slaney: bool
    seconds: float

    @property
    def steps(self) -> int:
        """The number of windows, which are centred at multiples of the hop, from the start to the end of the sound."""
        return int(self.seconds * self.sample_rate) // self.hop + 1

    def bands(self) -> NDArray[np.float64]:
        """The weights (fft_size // 2 + 1, num_mels) of triangular bands."""
        to_mel, to_hertz = (_to_slaney, _from_slaney) if self.slaney else (_to_htk, _from_htk)
        edges = to_hertz(np.linspace(to_mel(self.lowest), to_mel(self.highest), self.num_mels + 2))
        frequencies = self.frequencies()[:, None]
        rising, falling = (
            (frequencies - edges[:-2]) / np.diff(edges[:-1]),
            (edges[2:] - frequencies) / np.diff(edges[1:]),
        )
        weights: NDArray[np.float64] = np.maximum(0, np.minimum(rising, falling))
        return weights * 2 / (edges[2:] - edges[:-2]) if self.slaney else weights

    def frequencies(self) -> NDArray[np.float64]:
        """The frequencies of the Fourier transform in Hz: (fft_size // 2 + 1,)."""
        return np.arange(self.fft_size // 2 + 1) * self.sample_rate / self.fft_size


def spectrograms_of(model: PretrainedModel) -> Spectrograms:
    """The spectrograms that a model was trained on, by its preprocessing.

    Raises:
        InputError: the preprocessing does not state them, or is of another kind.
    """
    settings = model.preprocessing()
    padding = settings.get("padding", "repeatpad")
    if padding != "repeatpad":
        raise InputError(f"encoder.model '{model.name}': padding is {padding!r}; accepted is 'repeatpad'.")
    names = ("sampling_rate", "fft_window_size", "hop_length", "feature_size", "max_length_s", "frequency_max")
    for name in (*names, "frequency_min"):
        value = settings.get(name)
        if not isinstance(value, int | float) or value < (name in names):
            raise InputError(f"encoder.model '{model.name}': {name} is {value!r}; accepted is a number above 0.")
    return Spectrograms(
        sample_rate=int(settings["sampling_rate"]),
        fft_size=int(settings["fft_window_size"]),
        hop=int(settings["hop_length"]),
        num_mels=int(settings["feature_size"]),
        lowest=settings["frequency_min"],
        highest=settings["frequency_max"],
        slaney=settings.get("truncation", "fusion") != "fusion",
        seconds=settings["max_length_s"],
    )


class CLAPEncoder(SoundEncoder):
    """CLAP over stored log-mel bytes, with a linear projection to D and a GELU.

    Stored bands become those of CLAP by interpolating their energy per Hz; above the stored ones there is silence.
    Sound of less than half the length that CLAP hears is repeated as often as fits, then followed by silence, as in its
    training; of longer sound it hears the middle. A step that is at the floor of the store in all bands is silence.

    Args:
        trunk: the network.
        dim: D.
        spectrograms: what it was trained on.
        stored: how the dataset's sound was prepared.
        tuning: which part is trained.
        missing: see :class:`ContentEncoder`.

    Raises:
        InputError: the dataset's spectrograms have another hop.
    """

    bands: Tensor

    def __init__(
        self,
        trunk: CLAP,
        dim: int,
        *,
        spectrograms: Spectrograms,
        stored: SoundSettings,
        tuning: Tuning,
        missing: Missing = "error",
    ) -> None:
        super().__init__(trunk, dim, tuning=tuning, missing=missing)
        hop = 1000 * spectrograms.hop / spectrograms.sample_rate
        if not math.isclose(hop, 1000 * stored.hop / stored.sample_rate, rel_tol=1e-3):
            raise InputError(
                f"CLAP hears a step of sound every {hop:g} ms; the dataset has one every "
                f"{stored.hop_milliseconds:g} ms."
            )
        if stored.sample_rate / 2 < spectrograms.highest:
            logging.getLogger("microlens").warning(
                "CLAP hears sound up to %d Hz and the dataset's ends at %d; prepare it with: --sample-rate %d "
                "--num-mels 128",
                spectrograms.highest,
                stored.sample_rate // 2,
                spectrograms.sample_rate,
            )
        self.steps = spectrograms.steps
        self.lead = round(stored.window / 2 / stored.hop)  # CLAP's step at the centre of the first stored one
        matrix = energy_conversion(stored, spectrograms)
        self.register_buffer("bands", torch.from_numpy(matrix.astype(np.float32)), persistent=False)

    def content(self, items: ItemBatch) -> Tensor:
        """CLAP's spectrograms (M, 1, steps, mels) in dB of log-mel bytes (M, T, num_mels)."""
        values = items.content["sound"]
        audible = values.amax(2) > 0  # (M, T)
        energy = 10 ** (FLOOR_DECIBELS / 10 * (1 - values.float() / 255)) * audible.unsqueeze(2)
        decibels = 10 * torch.log10((energy @ self.bands).clamp(min=LEAST_POWER))
        source, heard = self._places(audible)
        placed = decibels.gather(1, source.unsqueeze(2).expand(-1, -1, decibels.shape[2]))
        silence = 10 * math.log10(LEAST_POWER)
        return torch.where(heard.unsqueeze(2), placed, silence).unsqueeze(1)

    def _places(self, audible: Tensor) -> tuple[Tensor, Tensor]:
        """For each of CLAP's steps the stored step (M, steps) that it shows, and whether there is one (M, steps)."""
        numbers = torch.arange(1, audible.shape[1] + 1, device=audible.device)
        whole = (audible * numbers).amax(1, keepdim=True).clamp(min=1)  # (M, 1) up to the last audible step
        length = whole.clamp(max=self.steps - 1 - 2 * self.lead)
        start = (whole - length) // 2
        period = length + 2 * self.lead
        repeats = (self.steps - 1) // period
        position = torch.arange(self.steps, device=audible.device).expand(len(audible), -1)
        source = (position % period - self.lead).clamp(min=0).minimum(length - 1)
        end = repeats * period  # the window at the very end is heard if silence does not follow
        source = torch.where(position == end, length - 1, source)
        return start + source, (position < end) | ((position == end) & (end == self.steps - 1))


def energy_conversion(stored: SoundSettings, wanted: Spectrograms) -> NDArray[np.float64]:
    """A matrix from the energies of stored bands to the power of CLAP's: (stored.num_mels, wanted.num_mels).

    Stored are energies relative to a full-scale sine; the library takes the power of unnormalised spectra. Energy per
    Hz is interpolated between the centres of the stored bands, linearly in mel, and 0 above the stored frequencies.
    """
    frequencies = np.arange(stored.fft_size // 2 + 1) * stored.sample_rate / stored.fft_size
    triangles = mel_filterbank(stored.sample_rate, stored.fft_size, stored.num_mels)  # (bins, stored.num_mels)
    centres = (frequencies @ triangles) / triangles.sum(axis=0)
    widths = triangles.sum(axis=0) * stored.sample_rate / stored.fft_size  # in Hz
    bins = wanted.frequencies()
    shares = np.stack([np.interp(_to_htk(bins), _to_htk(centres), row) for row in np.eye(stored.num_mels)])
    shares[:, bins > stored.sample_rate / 2] = 0
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(wanted.fft_size) / wanted.fft_size)
    full_scale = wanted.fft_size * np.sum(hann**2) / 4  # power of a full-scale sine, over all bins
    per_bin = full_scale * wanted.sample_rate / wanted.fft_size / widths
    matrix: NDArray[np.float64] = per_bin[:, None] * (shares @ wanted.bands())
    return matrix


def _to_htk(hertz: Any) -> NDArray[np.float64]:
    return np.asarray(2595 * np.log10(1 + np.asarray(hertz) / 700))


def _from_htk(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(700 * (10 ** (mel / 2595) - 1))


_STRAIGHT, _LOGARITHMIC = 1000 / 15, math.log(6.4) / 27  # Slaney 1998: 15 mel up to 1 kHz, 27 more up to 6.4 kHz


def _to_slaney(hertz: Any) -> NDArray[np.float64]:
    hertz = np.asarray(hertz, np.float64)
    above = 15 + np.log(np.maximum(hertz, 1000) / 1000) / _LOGARITHMIC
    return np.asarray(np.where(hertz < 1000, hertz / _STRAIGHT, above))


def _from_slaney(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.where(mel < 15, mel * _STRAIGHT, 1000 * np.exp((mel - 15) * _LOGARITHMIC)))


SOUND_FAMILIES = {
    "clap": Family(CLAP, library_config("ClapConfig", "audio_config")),
    "clap_audio_model": Family(CLAP, library_config("ClapAudioConfig")),
}


def sound_model(
    *,
    dim: int,
    tuning: Tuning,
    sound_settings: SoundSettings | None = None,
    model: str,
    weights: Weights = "default",
    missing: Missing = "error",
) -> SoundEncoder:
    """A CLAP over the sound: a folder, or a name on Hugging Face."""
    files = PretrainedModel(model)
    trunk = build_trunk(files, SOUND_FAMILIES)
    assert isinstance(trunk, CLAP)
    stored = sound_settings or SoundSettings()
    spectrograms = spectrograms_of(files)
    bring_pretrained(trunk, files, weights, tuning)
    return CLAPEncoder(trunk, dim, spectrograms=spectrograms, stored=stored, tuning=tuning, missing=missing)
