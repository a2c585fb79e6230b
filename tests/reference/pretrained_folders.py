"""Folders of small pretrained models with random weights, as the transformers library writes them."""

import json
from pathlib import Path
from typing import Any

import transformers
from safetensors.torch import load_file, save_file
from torch import nn

from tests.reference.huggingface import disturb

LAYERS: dict[str, Any] = {"hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL: dict[str, Any] = {**LAYERS, "intermediate_size": 32}
VISION: dict[str, Any] = {**SMALL, "image_size": 32, "patch_size": 8}
TEXT: dict[str, Any] = {**SMALL, "vocab_size": 20, "bos_token_id": 1, "eos_token_id": 2}
VJEPA2: dict[str, Any] = {
    **LAYERS, "mlp_ratio": 2, "crop_size": 32, "patch_size": 8, "frames_per_clip": 4, "pred_hidden_size": 12,
    "pred_num_attention_heads": 2, "pred_num_hidden_layers": 1, "num_pooler_layers": 1,
}  # fmt: skip
FRAMES: dict[str, Any] = {
    "num_frames": 4, "mit_hidden_size": 16, "mit_intermediate_size": 20, "mit_num_hidden_layers": 1,
    "mit_num_attention_heads": 2,
}  # fmt: skip
CLAP: dict[str, Any] = {
    "patch_embeds_hidden_size": 8, "depths": [2, 1], "num_attention_heads": [2, 2], "hidden_size": 16, "spec_size": 128,
    "num_mel_bins": 32, "window_size": 4, "projection_dim": 12,
}  # fmt: skip
PIXELS: dict[str, Any] = {
    "image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.25], "size": {"shortest_edge": 40},
    "crop_size": {"height": 32, "width": 32},
}  # fmt: skip
HEARD: dict[str, Any] = {
    "feature_size": 32, "sampling_rate": 48000, "fft_window_size": 1024, "hop_length": 480, "max_length_s": 5,
    "frequency_min": 50, "frequency_max": 14000, "padding": "repeatpad", "truncation": "rand_trunc",
}  # fmt: skip


def library_model(name: str) -> Any:
    """A model of the library with random weights; ``name`` is a model type, or one with "-classifier"."""
    t: Any = transformers
    dino = {**LAYERS, "mlp_ratio": 2, "image_size": 40, "patch_size": 8}
    made = {
        "dinov2": lambda: t.Dinov2Model(t.Dinov2Config(**dino)),
        "dinov2_with_registers": lambda: t.Dinov2WithRegistersModel(
            t.Dinov2WithRegistersConfig(**dino, num_register_tokens=2)
        ),
        "dinov3_vit": lambda: t.DINOv3ViTModel(t.DINOv3ViTConfig(**VISION, num_register_tokens=2)),
        "siglip": lambda: t.SiglipModel(t.SiglipConfig(vision_config=VISION, text_config=TEXT)),
        "siglip2": lambda: t.Siglip2Model(
            t.Siglip2Config(vision_config={**SMALL, "patch_size": 8, "num_patches": 9}, text_config=TEXT)
        ),
        "vjepa2": lambda: t.VJEPA2Model(t.VJEPA2Config(**VJEPA2)),
        "vjepa2-classifier": lambda: t.VJEPA2ForVideoClassification(t.VJEPA2Config(**VJEPA2)),
        "videomae": lambda: t.VideoMAEModel(t.VideoMAEConfig(**VISION, num_frames=4, use_mean_pooling=False)),
        "videomae-classifier": lambda: t.VideoMAEForVideoClassification(
            t.VideoMAEConfig(**VISION, num_frames=4, use_mean_pooling=True)
        ),
        "xclip": lambda: t.XCLIPModel(
            t.XCLIPConfig(
                vision_config={**VISION, **FRAMES}, text_config=TEXT, projection_dim=16, prompt_layers=1,
                prompt_num_attention_heads=2,
            )
        ),
        "clap": lambda: t.ClapModel(
            t.ClapConfig(audio_config=CLAP, text_config={**SMALL, "vocab_size": 20}, projection_dim=12)
        ),
    }[name]()  # fmt: skip
    disturb(made)
    return made.eval()


def write_folder(model: nn.Module, folder: Path, preprocessing: dict[str, Any] | None = None) -> Path:
    """Write a model of the library and its preprocessing into a folder."""
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PIXELS if preprocessing is None else preprocessing))
    return folder


def write_videomae2(model: Any, folder: Path) -> Path:
    """Write a VideoMAEForVideoClassification with the names and the configuration of the code of VideoMAE v2."""
    config = model.config
    theirs = {
        "model_type": "VideoMAEv2_Base",
        "model_config": {
            "img_size": config.image_size, "patch_size": config.patch_size, "num_frames": config.num_frames,
            "tubelet_size": config.tubelet_size, "embed_dim": config.hidden_size, "depth": config.num_hidden_layers,
            "num_heads": config.num_attention_heads, "mlp_ratio": config.intermediate_size / config.hidden_size,
            "qkv_bias": True, "layer_norm_eps": config.layer_norm_eps, "cos_attn": False, "init_values": 0.0,
            "use_learnable_pos_emb": False, "use_mean_pooling": True,
        },
    }  # fmt: skip
    write_folder(model, folder)
    (folder / "config.json").write_text(json.dumps(theirs))
    ours, state = load_file(folder / "model.safetensors"), {}
    patches = "videomae.embeddings.patch_embeddings.projection"
    for part in ("weight", "bias"):
        state[f"model.patch_embed.proj.{part}"] = ours[f"{patches}.{part}"]
        state[f"model.fc_norm.{part}"] = ours[f"fc_norm.{part}"]
        for number in range(config.num_hidden_layers):
            layer, block = f"videomae.encoder.layer.{number}", f"model.blocks.{number}"
            for their_name, name in (
                ("norm1", "layernorm_before"), ("norm2", "layernorm_after"), ("attn.proj", "attention.output.dense"),
                ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense"),
            ):  # fmt: skip
                state[f"{block}.{their_name}.{part}"] = ours[f"{layer}.{name}.{part}"]
    for number in range(config.num_hidden_layers):
        attention, block = f"videomae.encoder.layer.{number}.attention.attention", f"model.blocks.{number}.attn"
        state[f"{block}.q_bias"], state[f"{block}.v_bias"] = ours[f"{attention}.q_bias"], ours[f"{attention}.v_bias"]
        rows = [ours[f"{attention}.{part}.weight"] for part in ("query", "key", "value")]
        state[f"{block}.qkv.weight"] = rows[0].new_empty(3 * len(rows[0]), rows[0].shape[1])
        for index, matrix in enumerate(rows):
            state[f"{block}.qkv.weight"][index * len(matrix) : (index + 1) * len(matrix)] = matrix
    save_file(state, folder / "model.safetensors")
    return folder


def write_multilingual(folder: Path, words: list[str]) -> Path:
    """Write an XLM-RoBERTa with a tokenizer that knows these words, as files of multilingual sentence encoders are."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    special = ["<s>", "<pad>", "</s>", "<unk>"]
    pieces = [*special, *dict.fromkeys(f"\u2581{word}" for word in words)]
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=3))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    config = transformers.XLMRobertaConfig(**SMALL, vocab_size=len(pieces), max_position_embeddings=40)
    model = transformers.XLMRobertaModel(config)
    disturb(model)
    model.save_pretrained(folder)
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token"), special, strict=True))
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    return folder
