"""Lazy import of the transformers library, and trunks around its models."""

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from microlens.encoders.trunk import Trunk
from microlens.errors import InputError

NEEDED_VERSION = (5, 23)


def transformers_library(network: str) -> ModuleType:
    """Import the transformers library to build ``network``.

    Raises:
        InputError: the library is not installed, or older than NEEDED_VERSION.
    """
    hint = "install it with: pip install 'microlens[encoders]'"
    try:
        library = import_module("transformers")
    except ModuleNotFoundError:
        raise InputError(f"{network} needs the transformers library; {hint}") from None
    if tuple(map(int, library.__version__.split(".")[:2])) < NEEDED_VERSION:
        needed = ".".join(map(str, NEEDED_VERSION))
        raise InputError(f"{network} needs transformers {needed} or later, not {library.__version__}; {hint}")
    return library


@contextmanager
def quiet(library: ModuleType) -> Iterator[None]:
    """Silence the library's warnings and progress bars."""
    logging_of_library = library.utils.logging
    verbosity, progress = logging_of_library.get_verbosity(), logging_of_library.is_progress_bar_enabled()
    logging_of_library.set_verbosity_error()
    logging_of_library.disable_progress_bar()
    try:
        yield
    finally:
        logging_of_library.set_verbosity(verbosity)
        if progress:
            logging_of_library.enable_progress_bar()


class HuggingFaceTrunk(Trunk):
    """A trunk around a model of the transformers library, with the parameter names of the official weight files.

    The library renames parameters between versions and translates official files when it loads them. ``renamed``
    describes this translation as pairs of (library name part, official name part): state dicts of this trunk use the
    official names, so that official files load, and ours load in any version of the library. Official names are
    replaced in the order of the pairs. ``native`` is the size of the pictures that the preprocessing of a pretrained
    model makes, 0 if unknown.
    """

    renamed: tuple[tuple[str, str], ...] = ()
    native: int = 0

    def __init__(self) -> None:
        super().__init__()
        self.register_state_dict_post_hook(_name_officially)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(_name_as_installed)  # type: ignore[no-untyped-call]

    def adapted(self) -> list[str]:
        """The linear layers of attention blocks."""
        linear = (name for name, module in self.named_modules() if isinstance(module, nn.Linear))
        return [name for name in linear if ".attention." in name or ".self_attn." in name]


def _name_officially(module: nn.Module, state: dict[str, Tensor], prefix: str, _metadata: dict[str, Any]) -> None:
    assert isinstance(module, HuggingFaceTrunk)
    _rename(state, prefix, module.renamed)


def _name_as_installed(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    assert isinstance(module, HuggingFaceTrunk)
    _rename(state, prefix, [(official, installed) for installed, official in module.renamed])


def _rename(state: dict[str, Tensor], prefix: str, pairs: Iterable[tuple[str, str]]) -> None:
    entries = list(state.items())
    state.clear()
    for full_name, value in entries:
        name = full_name.removeprefix(prefix)
        if full_name.startswith(prefix):
            for old, new in pairs:
                name = name.replace(old, new)
            state[prefix + name] = value
        else:
            state[full_name] = value


def with_prefix(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Prepend ``prefix`` to all names unless one has it already: files of a model without its heads leave it out."""
    if any(name.startswith(prefix) for name in state):
        return state
    return {prefix + name: value for name, value in state.items()}


def check_patches(network: str, size: int, *, patch: int, native: int) -> None:
    """Check that pictures divide into whole patches; log a warning if positions have to be interpolated.

    Raises:
        ValueError: the size is not a multiple of the patch size.
    """
    if size < patch or size % patch:
        raise ValueError(f"pictures are {size} pixels wide; {network} accepts multiples of {patch}.")
    if size != native:
        logging.getLogger("microlens").warning(
            "%s was trained on pictures of %d pixels; these have %d: positions are interpolated", network, native, size
        )
