"""Pretrained models in a folder, or by their name on Hugging Face: their configuration, preprocessing and weights.

Only data is read: JSON, safetensors, and torch files without running code from them. Code that a model's files bring
along is never run.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from microlens.encoders.huggingface import HuggingFaceTrunk, quiet, transformers_library, with_prefix
from microlens.encoders.state_dicts import read_state_dict
from microlens.encoders.tuning import Tuning
from microlens.encoders.weights import fit_state_dict
from microlens.errors import InputError, shown

Weights = Literal["default", "random"]

CONFIG = "config.json"
PREPROCESSING = ("video_preprocessor_config.json", "preprocessor_config.json", "processor_config.json")
PARTS_OF_PROCESSOR = ("video_processor", "image_processor", "feature_extractor")
WEIGHTS = ("model.safetensors", "pytorch_model.bin")
INDEX = ".index.json"  # lists the files of weights that are split


class PretrainedModel:
    """The files of a model of the transformers library.

    Args:
        name: a folder, or a name on Hugging Face, from where files are fetched once.

    Raises:
        InputError: it has no readable ``config.json``, or cannot be fetched.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        folder = Path(name).expanduser()
        self._folder = folder if folder.is_dir() else None
        self.config = self._json(self._needed((CONFIG,)))

    @property
    def model_type(self) -> str:
        """The kind of network, as the library names it."""
        return str(self.config.get("model_type"))

    def preprocessing(self) -> dict[str, Any]:
        """The settings of the preprocessing.

        Raises:
            InputError: there are none, or they cannot be read.
        """
        settings = self._json(self._needed(PREPROCESSING))
        return next((settings[part] for part in PARTS_OF_PROCESSOR if isinstance(settings.get(part), dict)), settings)

    def weights(self) -> tuple[Path, dict[str, Tensor]]:
        """The state dict, and the path of its file, or of the file that lists its parts.

        Raises:
            InputError: there are no weights, or they cannot be read.
        """
        names = tuple(name + suffix for name in WEIGHTS for suffix in ("", INDEX))
        path = self._needed(names)
        if not path.name.endswith(INDEX):
            return path, read_state_dict(path)
        state: dict[str, Tensor] = {}
        for name in sorted(set(self._json(path).get("weight_map", {}).values())):
            if Path(name).name != name:
                raise InputError(f"{path}: '{name}' is no name of a file beside it.")
            state |= read_state_dict(self._needed((name,)))
        return path, state

    def _needed(self, names: tuple[str, ...]) -> Path:
        """The path of the first of these files that exists."""
        path = next(filter(None, map(self._file, names)), None)
        if path is not None:
            return path
        wanted = " or ".join(name for name in names if not name.endswith(INDEX)) or names[0]
        there = ""
        if self._folder is not None:
            files = sorted(file.name for file in self._folder.iterdir())
            there = (
                f"; it holds {', '.join(files[:5])}{', ...' if len(files) > 5 else ''}" if files else "; it is empty"
            )
        raise InputError(f"encoder.model '{self.name}' has no {wanted}{there}.")

    def _file(self, name: str) -> Path | None:
        if self._folder is not None:
            path = self._folder / name
            return path if path.is_file() else None
        try:
            library = transformers_library("encoder.model")
            # Without its configuration there is no model, or no network: the library says which.
            found = library.utils.cached_file(self.name, name, _raise_exceptions_for_missing_entries=name == CONFIG)
        except (OSError, ValueError) as error:
            raise InputError(
                f"encoder.model '{self.name}' is no folder here and cannot be fetched from Hugging Face "
                f"({_first_line(error)}); download its files ({CONFIG}, {PREPROCESSING[1]}, {WEIGHTS[0]}) in another "
                "way into a folder, and set encoder.model to that folder."
            ) from None
        return None if found is None else Path(found)

    def _json(self, path: Path) -> dict[str, Any]:
        try:
            settings = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read: {_first_line(error)}") from None
        if not isinstance(settings, dict):
            raise InputError(f"{path} holds {shown(settings)}; accepted is a JSON object.")
        return settings


@dataclass(frozen=True)
class Family:
    """The networks of one model type.

    Args:
        trunk: constructor of the trunk, from a configuration of the library; weights are random.
        config: makes that configuration of the content of ``config.json``.
    """

    trunk: Callable[[Any], HuggingFaceTrunk]
    config: Callable[[dict[str, Any]], Any]


def library_config(name: str, part: str | None = None) -> Callable[[dict[str, Any]], Any]:
    """The constructor of the library's configurations of class ``name``, or of their ``part``, such as one tower."""

    def construct(settings: dict[str, Any]) -> Any:
        config = getattr(transformers_library(name), name).from_dict(settings)
        return config if part is None else getattr(config, part)

    return construct


class PretrainedTrunk(HuggingFaceTrunk):
    """A trunk over pictures or clips of a pretrained model, with the parameter names of its official files.

    ``family`` is its name in messages and ``prefix`` what precedes all names of the network; official files of models
    with a head, or with several towers, have the prefix, others leave it out.

    Args:
        patch: height and width of a patch in pixels.
        layers: number of layers.
    """

    family: str
    prefix: str

    def __init__(self, patch: int, layers: int) -> None:
        super().__init__()
        self.patch = patch
        self.paper_top = top_of(layers)

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Add the prefix to names of files that leave it out."""
        return with_prefix(state, self.prefix)

    def check_clip(self, frames: int, size: int) -> None:
        """Reject sizes that are not a multiple of the patch size; log a warning if preprocessing makes another size."""
        if size < self.patch or size % self.patch:
            raise ValueError(f"pictures are {size} pixels wide; {self.family} accepts multiples of {self.patch}.")
        if self.native and size != self.native:
            logging.getLogger("microlens").warning(
                "this %s expects pictures of %d pixels; these have %d", self.family, self.native, size
            )


def top_of(layers: int) -> int:
    """The number of layers that "top1" trains: a sixth, which are the paper's two of a ViT-B or BERT-base."""
    return max(1, layers // 6)


def build_trunk(model: PretrainedModel, families: Mapping[str, Family], **changes: Any) -> HuggingFaceTrunk:
    """Build the trunk of a model with random weights.

    Args:
        model: its files.
        families: the accepted model types.
        changes: values that replace those of its configuration.

    Raises:
        InputError: its type is not accepted, or its configuration is invalid.
    """
    if model.model_type not in families:
        raise InputError(
            f"encoder.model '{model.name}' is a {model.model_type}; accepted here: {', '.join(sorted(families))}."
        )
    family = families[model.model_type]
    library = transformers_library(f"encoder.model '{model.name}'")
    try:
        with quiet(library):
            return family.trunk(family.config(model.config | changes))
    except InputError:
        raise
    except Exception as error:  # what the library raises for invalid values is not documented
        raise InputError(f"encoder.model '{model.name}' has a {CONFIG} that is invalid: {_first_line(error)}") from None


def bring_pretrained(trunk: HuggingFaceTrunk, model: PretrainedModel, weights: Weights, tuning: Tuning) -> None:
    """Load the weights of ``model`` into its trunk, unless ``weights`` is "random".

    Raises:
        InputError: they cannot be read or do not fit, or weights are given although training is from scratch.
    """
    if tuning.regime == "scratch" and weights != "random":
        raise InputError(f'encoder.tune = "scratch" starts from random weights; encoder.weights is "{weights}".')
    if weights != "random":
        path, state = model.weights()
        fit_state_dict(trunk, path, trunk.translate(state), trunk.foreign)
        trunk.pretrained = True


def set_pixel_statistics(trunk: HuggingFaceTrunk, model: PretrainedModel) -> None:
    """Set the pixel statistics and the native size of a trunk to those of its model's preprocessing.

    Pixels of the library are p * ``rescale_factor``, then (x - ``image_mean``) / ``image_std``; ours are in [0, 1].

    Raises:
        InputError: the preprocessing does not state them.
    """
    settings = model.preprocessing()
    scale = 255 * (_number(model, settings, "rescale_factor", 1 / 255) if settings.get("do_rescale", True) else 1.0)
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if settings.get("do_normalize", True):
        mean, std = _triple(model, settings, "image_mean"), _triple(model, settings, "image_std")
    trunk.mean, trunk.std = (_scaled(values, scale) for values in (mean, std))
    trunk.native = _native_size(settings)


def _native_size(settings: Mapping[str, Any]) -> int:
    """The height of preprocessed pictures, 0 if unknown."""
    size = settings.get("crop_size") if settings.get("do_center_crop", True) else None
    size = size or settings.get("size")
    if isinstance(size, dict):
        size = size.get("height", size.get("shortest_edge"))
    if not size and isinstance(settings.get("max_num_patches"), int):  # of SigLIP 2 with variable resolution
        size = int(settings["max_num_patches"] ** 0.5) * settings.get("patch_size", 16)
    return size if isinstance(size, int) else 0


def _scaled(values: Iterable[float], scale: float) -> tuple[float, float, float]:
    red, green, blue = (value / scale for value in values)
    return red, green, blue


def _number(model: PretrainedModel, settings: Mapping[str, Any], key: str, otherwise: float) -> float:
    value = settings.get(key, otherwise)
    if not isinstance(value, int | float) or not value > 0:
        raise InputError(f"encoder.model '{model.name}': {key} is {shown(value)}; accepted is a number above 0.")
    return value


def _triple(model: PretrainedModel, settings: Mapping[str, Any], key: str) -> tuple[float, float, float]:
    values = settings.get(key)
    if not isinstance(values, list) or len(values) != 3 or not all(isinstance(value, int | float) for value in values):
        raise InputError(f"encoder.model '{model.name}': {key} is {shown(values)}; accepted are three numbers.")
    return (values[0], values[1], values[2])


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
