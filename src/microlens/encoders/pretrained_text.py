"""Loading of language models and tokenizers from a folder or Hugging Face, without running code or pickles."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from microlens.encoders.huggingface import quiet, transformers_library
from microlens.errors import InputError

POOLING = "1_Pooling/config.json"
ARCHITECTURES = ("bert", "roberta", "xlm-roberta")
# Models without safetensors are rejected; the library would otherwise ask a server to convert their pickle.
CONVERSION_SWITCH = "DISABLE_SAFETENSORS_CONVERSION"


def pretrained_model(name: str, *, with_weights: bool) -> Any:
    """Load the language model ``name``, a local folder or a name on Hugging Face, without pooler, in float32.

    Args:
        name: folder or name.
        with_weights: load its weights, ``model.safetensors``; otherwise they are random.

    Raises:
        InputError: there is no such model, its architecture is not supported, or its weights do not fit.
    """
    library = transformers_library("a text encoder")
    with _loading(name, library) as where:
        config = library.AutoConfig.from_pretrained(name, **where)
        if config.model_type not in ARCHITECTURES or config.is_decoder:
            raise InputError(f"encoder.model '{name}' is a {config.model_type}; accepted: {', '.join(ARCHITECTURES)}.")
        if not with_weights:
            return library.AutoModel.from_config(config, attn_implementation="sdpa", add_pooling_layer=False)
        model, found = library.AutoModel.from_pretrained(
            name,
            config=config,
            use_safetensors=True,
            dtype=torch.float32,
            attn_implementation="sdpa",
            add_pooling_layer=False,
            output_loading_info=True,
            **where,
        )
    if found["missing_keys"]:
        missing = sorted(found["missing_keys"])
        raise InputError(f"encoder.model '{name}': '{missing[0]}' is missing for it ({len(missing)} missing names).")
    return model.train()


def pretrained_tokenizer(name: str) -> Any:
    """Load the tokenizer of ``name``, a local folder or a name on Hugging Face.

    Raises:
        InputError: there is none.
    """
    library = transformers_library("a text encoder")
    with _loading(name, library) as where:
        return library.AutoTokenizer.from_pretrained(name, **where)


def own_pooling(name: str) -> str | None:
    """The pooling that the model ``name`` was trained with, if its files say so, as those of Sentence-Transformers do.

    Args:
        name: folder or name on Hugging Face.
    """
    library = transformers_library("a text encoder")
    with _loading(name, library):
        path = library.utils.cached_file(name, POOLING, _raise_exceptions_for_missing_entries=False)
    if path is None:
        return None
    settings = json.loads(Path(path).read_text(encoding="utf-8"))
    stated = settings.get("pooling_mode")
    if isinstance(stated, str):
        return stated
    modes = {"pooling_mode_cls_token": "cls", "pooling_mode_mean_tokens": "mean"}
    return next((pooling for mode, pooling in modes.items() if settings.get(mode)), None)


@contextmanager
def _loading(name: str, library: ModuleType) -> Iterator[dict[str, bool]]:
    """Silence the library while loading; yield the loading options (only local files if ``name`` is a folder)."""
    conversion = os.environ.get(CONVERSION_SWITCH)
    os.environ[CONVERSION_SWITCH] = "1"
    try:
        with quiet(library):
            yield {"local_files_only": Path(name).is_dir(), "trust_remote_code": False}
    except InputError:
        raise
    except (OSError, ValueError) as error:
        raise InputError(f"encoder.model '{name}' cannot be loaded: {str(error).splitlines()[0]}") from None
    finally:
        if conversion is None:
            del os.environ[CONVERSION_SWITCH]
        else:
            os.environ[CONVERSION_SWITCH] = conversion
