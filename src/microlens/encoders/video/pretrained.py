"""Video encoders of pretrained models: V-JEPA 2, VideoMAE and VideoMAE v2, X-CLIP.

- V-JEPA 2: Assran et al., "V-JEPA 2: Self-Supervised Video Models Enable Understanding, Prediction and Planning", arXiv
  2506.09985.
- VideoMAE: see :mod:`microlens.encoders.video.videomae`; VideoMAE v2: Wang et al., "VideoMAE V2: Scaling Video Masked
  Autoencoders with Dual Masking", CVPR 2023, arXiv 2303.16727, which is the same network with other weights.
- X-CLIP: Ni et al., "Expanding Language-Image Pretrained Models for General Video Recognition", ECCV 2022, arXiv
  2208.02816.

The layers are those of the transformers library.
"""

from typing import Any

from torch import Tensor, nn

from microlens.encoders.content import Missing
from microlens.encoders.huggingface import transformers_library
from microlens.encoders.pretrained import (
    Family,
    PretrainedModel,
    PretrainedTrunk,
    Weights,
    bring_pretrained,
    build_trunk,
    library_config,
    set_pixel_statistics,
    top_of,
)
from microlens.encoders.trunk import Hidden, Stage
from microlens.encoders.tuning import Tuning
from microlens.encoders.video.clip import VideoEncoder
from microlens.encoders.video.videomae import VideoMAE
from microlens.errors import InputError

CLASSIFIER_OF_VJEPA2 = "VJEPA2ForVideoClassification"


class VJEPA2(PretrainedTrunk):
    """The encoder of V-JEPA 2, pooled by the attentive pooler of a fine-tuned model, else by the mean over tokens.

    Positions are rotary, by the row and column of a patch, so the configuration has to state the size of the clips.

    Args:
        config: a VJEPA2Config of the transformers library, with the size of the clips as ``crop_size``.
    """

    family = "V-JEPA 2"
    prefix = "vjepa2."
    foreign = ("vjepa2.predictor.", "classifier.")

    def __init__(self, config: Any) -> None:
        super().__init__(config.patch_size, config.num_hidden_layers)
        self.settings = config
        self.feature_dim = config.hidden_size
        library = transformers_library(self.family)
        config.pred_num_hidden_layers = 0  # the predictor, which belongs to pre-training, is left out
        fine_tuned = CLASSIFIER_OF_VJEPA2 in (config.architectures or ())
        model = getattr(library, CLASSIFIER_OF_VJEPA2 if fine_tuned else "VJEPA2Model")(config)
        self.vjepa2 = model.vjepa2 if fine_tuned else model
        del self.vjepa2.predictor
        self.pooler = model.pooler if fine_tuned else None

    def check_clip(self, frames: int, size: int) -> None:
        """Reject clips shorter than a tubelet, and sizes that are not a multiple of the patch size."""
        shortest = self.settings.tubelet_size
        if frames < shortest:
            raise ValueError(f"clips have {frames} frame; {self.family} accepts {shortest} and more.")
        super().check_clip(frames, size)

    def stages(self) -> list[Stage]:
        """The embedding of tubelets, and the layers."""
        encoder = self.vjepa2.encoder
        embedding = Stage(lambda hidden: (self._embed(hidden[0]),), (encoder.embeddings,))
        return [embedding, *map(_first_output_stage, encoder.layer)]

    def _embed(self, clips: Tensor) -> Tensor:
        """Map (M, 3, F, H, W) to tokens (M, tubelets * patches, feature_dim)."""
        if clips.shape[3] != self.settings.crop_size:  # its rotary positions would be wrong
            raise ValueError(
                f"clips are {clips.shape[3]} pixels wide; this network was built for {self.settings.crop_size}."
            )
        tokens: Tensor = self.vjepa2.encoder.embeddings(clips.transpose(1, 2))
        return tokens

    def pool(self, hidden: Hidden) -> Tensor:
        """The attentive pooler, or the mean, over the normalised tokens: (M, feature_dim)."""
        tokens: Tensor = self.vjepa2.encoder.layernorm(hidden[0])
        if self.pooler is None:
            return tokens.mean(1)
        features: Tensor = self.pooler(tokens)
        return features


class XCLIP(PretrainedTrunk):
    """The video tower of X-CLIP: frames that exchange messages, and a transformer over frames, pooled by the mean.

    Features are those that X-CLIP compares with text, before their normalisation. Clips have the number of frames that
    the model was trained on.

    Args:
        config: an XCLIPConfig of the transformers library.
    """

    family = "X-CLIP"
    prefix = ""
    foreign = (
        "text_model.",
        "text_projection.",
        "logit_scale",
        "prompts_visual_layernorm.",
        "prompts_visual_projection",
        "prompts_generator.",
        "vision_model.embeddings.position_ids",
    )

    def __init__(self, config: Any) -> None:
        vision = config.vision_config
        super().__init__(vision.patch_size, vision.num_hidden_layers)
        self.num_frames = vision.num_frames
        self.feature_dim = config.projection_dim
        model = transformers_library(self.family).XCLIPModel(config)
        self.vision_model, self.visual_projection, self.mit = model.vision_model, model.visual_projection, model.mit

    def check_clip(self, frames: int, size: int) -> None:
        """Reject other numbers of frames, and sizes that are not a multiple of the patch size."""
        if frames != self.num_frames:
            raise ValueError(f"clips have {frames} frames; this {self.family} accepts {self.num_frames}.")
        super().check_clip(frames, size)

    def stages(self) -> list[Stage]:
        """The embedding with its norm, and the layers; hidden states are tokens (M, F, 1 + patches, width)."""
        model = self.vision_model
        embedding = Stage(lambda hidden: (self._embed(hidden[0]),), (model.embeddings, model.pre_layernorm))
        return [embedding, *map(_frame_layer_stage, model.encoder.layers)]

    def _embed(self, clips: Tensor) -> Tensor:
        frames = clips.transpose(1, 2).flatten(0, 1)  # (M * F, 3, H, W)
        tokens: Tensor = self.vision_model.embeddings(frames, interpolate_pos_encoding=True)
        normed: Tensor = self.vision_model.pre_layernorm(tokens)
        return normed.view(len(clips), self.num_frames, *normed.shape[1:])

    def pool(self, hidden: Hidden) -> Tensor:
        """The mean over frames of the transformer over their projected class tokens: (M, feature_dim)."""
        frames = self.visual_projection(self.vision_model.post_layernorm(hidden[0][:, :, 0]))  # (M, F, feature_dim)
        features: Tensor = self.mit(frames).pooler_output
        return features


class VideoMAEv2(VideoMAE):
    """VideoMAE v2 without classifier, pooled as by its authors: the norm of the mean over tokens.

    Official files have the names of the authors' code; see :meth:`translate`.

    Args:
        config: a VideoMAEConfig of the transformers library with ``use_mean_pooling``.
    """

    foreign = (*VideoMAE.foreign, "classifier.")

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.num_classes = 0
        self.paper_top = top_of(config.num_hidden_layers)
        self.classifier = nn.Identity()

    def pool(self, hidden: Hidden) -> Tensor:
        """The normalised mean over all tokens: (M, feature_dim)."""
        features: Tensor = self.fc_norm(super().pool(hidden))
        return features

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Translate the authors' names; they keep queries, keys and values in one matrix."""
        translated: dict[str, Tensor] = {}
        for full_name, value in state.items():
            name = full_name.removeprefix("model.")
            if name.endswith(".attn.qkv.weight"):
                layer = _official(name.removesuffix(".attn.qkv.weight"))
                for part, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
                    translated[f"{layer}.attention.attention.{part}.weight"] = rows
            else:
                translated[_official(name)] = value
        return translated


NAMES_OF_VIDEOMAE2 = (
    ("patch_embed.proj.", "videomae.embeddings.patch_embeddings.projection."),
    ("blocks.", "videomae.encoder.layer."),
    (".norm1.", ".layernorm_before."),
    (".norm2.", ".layernorm_after."),
    (".attn.proj.", ".attention.output.dense."),
    (".attn.", ".attention.attention."),
    (".mlp.fc1.", ".intermediate.dense."),
    (".mlp.fc2.", ".output.dense."),
    ("head.", "classifier."),
)


def _official(name: str) -> str:
    for theirs, ours in NAMES_OF_VIDEOMAE2:
        name = name.replace(theirs, ours, 1)
    return name


def _first_output_stage(layer: nn.Module) -> Stage:
    return Stage(lambda hidden: (layer(hidden[0])[0],), (layer,))


def _frame_layer_stage(layer: nn.Module) -> Stage:
    def run(hidden: Hidden) -> Hidden:
        tokens = hidden[0]
        return (layer(tokens.flatten(0, 1), attention_mask=None).view(tokens.shape),)

    return Stage(run, (layer,))


def _videomae(config: Any) -> VideoMAE:
    trunk = VideoMAE(config)
    trunk.paper_top = top_of(config.num_hidden_layers)
    trunk.drop_classifier()
    trunk.foreign = (*VideoMAE.foreign, "fc_norm.", "classifier.")
    return trunk


def _videomae2_config(settings: dict[str, Any]) -> Any:
    """The configuration of a VideoMAE v2, whose authors' code has other names.

    Raises:
        InputError: it is of a kind that VideoMAE does not have.
    """
    theirs = settings["model_config"]
    for name in ("cos_attn", "use_learnable_pos_emb", "init_values"):
        if theirs.get(name):
            raise InputError(f"encoder.model is a VideoMAE v2 with {name} = {theirs[name]}, which is not supported.")
    return transformers_library("VideoMAE v2").VideoMAEConfig(
        image_size=theirs["img_size"],
        patch_size=theirs["patch_size"],
        num_frames=theirs["num_frames"],
        tubelet_size=theirs["tubelet_size"],
        hidden_size=theirs["embed_dim"],
        num_hidden_layers=theirs["depth"],
        num_attention_heads=theirs["num_heads"],
        intermediate_size=int(theirs["embed_dim"] * theirs["mlp_ratio"]),
        qkv_bias=theirs["qkv_bias"],
        layer_norm_eps=theirs.get("layer_norm_eps", 1e-6),
        use_mean_pooling=True,
    )


VIDEOMAE2 = Family(VideoMAEv2, _videomae2_config)
VIDEO_FAMILIES = {
    "vjepa2": Family(VJEPA2, library_config("VJEPA2Config")),
    "videomae": Family(_videomae, library_config("VideoMAEConfig")),
    **{f"VideoMAEv2_{size}": VIDEOMAE2 for size in ("Base", "Large", "Huge", "Giant", "giant")},
    "xclip": Family(XCLIP, library_config("XCLIPConfig")),
}


def video_model(
    *,
    dim: int,
    tuning: Tuning,
    clip_shape: tuple[int, int] | None = None,
    model: str,
    weights: Weights = "default",
    missing: Missing = "error",
) -> VideoEncoder:
    """A V-JEPA 2, VideoMAE, VideoMAE v2 or X-CLIP over the clips: a folder, or a name on Hugging Face."""
    files = PretrainedModel(model)
    sized = {"crop_size": clip_shape[1]} if clip_shape and files.model_type == "vjepa2" else {}
    trunk = build_trunk(files, VIDEO_FAMILIES, **sized)
    set_pixel_statistics(trunk, files)
    if clip_shape is not None:
        trunk.check_clip(*clip_shape)
    bring_pretrained(trunk, files, weights, tuning)
    return VideoEncoder(trunk, dim, tuning=tuning, head="features", missing=missing)
