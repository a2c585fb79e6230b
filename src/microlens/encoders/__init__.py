"""Item encoders. To add one, write a file in this package and add a line to ``ENCODERS``."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from microlens.building import build
from microlens.building.registry import Registry
from microlens.encoders.attention_pool import AttentionPoolEncoder
from microlens.encoders.base import ItemEncoder
from microlens.encoders.frozen_features import FeaturesEncoder
from microlens.encoders.fusion import FUSIONS
from microlens.encoders.id import IdEncoder
from microlens.encoders.iisan import IISANEncoder
from microlens.encoders.image import IMAGE_ENCODERS
from microlens.encoders.layer_mix import LayerMixEncoder
from microlens.encoders.popularity_bins import PopularityBinsEncoder
from microlens.encoders.pretrained_image import image_model
from microlens.encoders.pretrained_sound import sound_model
from microlens.encoders.sound import SOUND_ENCODERS
from microlens.encoders.tag import TagEncoder
from microlens.encoders.text import TEXT_ENCODERS
from microlens.encoders.video import VIDEO_ENCODERS
from microlens.encoders.video.pretrained import video_model
from microlens.encoders.words import WordsEncoder
from microlens.encoders.yamnet import yamnet
from microlens.errors import InputError

CONTENT_ENCODERS: dict[str, Callable[..., ItemEncoder]] = {
    **VIDEO_ENCODERS,
    **IMAGE_ENCODERS,
    **TEXT_ENCODERS,
    **SOUND_ENCODERS,
    "yamnet": yamnet,
    "image": image_model,
    "video": video_model,
    "sound": sound_model,
}
ENCODERS: dict[str, Callable[..., ItemEncoder]] = {
    "id": IdEncoder,
    "features": FeaturesEncoder,
    "layer_mix": LayerMixEncoder,
    "attention_pool": AttentionPoolEncoder,
    "iisan": IISANEncoder,
    "popularity_bins": PopularityBinsEncoder,
    "tag": TagEncoder,
    "words": WordsEncoder,
    **FUSIONS,
    **CONTENT_ENCODERS,
}

ENCODER_REGISTRY: Registry[ItemEncoder] = Registry(
    own=ENCODERS, kind=ItemEncoder, word="item encoder", group="microlens.encoders", document="docs/encoders.md"
)


def build_encoder(table: Mapping[str, Any], given: Mapping[str, Any], where: str = "encoder") -> ItemEncoder:
    """Build the item encoder described by a config table; the ``towers`` of a fusion are tables of the same kind.

    Raises:
        InputError: the table names an unknown encoder or option, or one that cannot be imported.
    """
    options = dict(table)
    constructor = ENCODER_REGISTRY.find(options.pop("name", None), f"{where}.name")
    if "towers" in inspect.signature(constructor).parameters:
        tables = options.pop("towers", None)
        if not isinstance(tables, list) or len(tables) < 2:
            raise InputError(f"{where}.towers must be a list of at least two encoder tables.")
        for number, tower in enumerate(tables):
            if not isinstance(tower, Mapping):
                raise InputError(f'{where}.towers[{number}] must be an encoder table, such as {{ name = "id" }}.')
        towers = [build_encoder(tower, given, f"{where}.towers[{number}]") for number, tower in enumerate(tables)]
        return build(constructor, options, {**given, "towers": towers}, where)
    return build(constructor, options, given, where)
