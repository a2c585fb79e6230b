"""Official weights: download, and strict loading without running code from the file."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

import torch
from rich.console import Console
from rich.progress import wrap_file
from safetensors.torch import load_file
from torch import Tensor, nn

from microlens.encoders.finite import all_finite
from microlens.encoders.trunk import Trunk
from microlens.encoders.tuning import Tuning
from microlens.errors import InputError
from microlens.files.writing import atomic_write, sha256, write_text

PATIENCE = 30.0  # timeout in seconds of a silent server
CHUNK = 1 << 20


@dataclass(frozen=True)
class Official:
    """The location of a network's official weights: the URL of a state dict and, if known, the start of its SHA-256.

    torchvision's file names end with its first eight digits; most other publishers state none.
    """

    url: str
    sha256: str = ""

    @property
    def path(self) -> Path:
        """The path of the cached file: its URL as a path in the folder ``weights`` of the cache.

        The cache is the folder in the environment variable ``MICROLENS_CACHE``, by default ``~/.cache/microlens``.
        """
        address = urlsplit(self.url)
        cache = Path(os.environ.get("MICROLENS_CACHE") or "~/.cache/microlens").expanduser()
        return cache / "weights" / address.netloc / address.path.lstrip("/")


def bring_weights(trunk: Trunk, weights: str, official: Official, tuning: Tuning) -> None:
    """Load ``weights`` into ``trunk``: "random" leaves it unchanged, "default" is ``official``, else it is a path.

    Raises:
        InputError: the file cannot be obtained or does not fit, or weights are given although training is from scratch.
    """
    if tuning.regime == "scratch" and weights != "random":
        raise InputError(f'encoder.tune = "scratch" starts from random weights; encoder.weights is "{weights}".')
    if weights == "default":
        load_weights(trunk, download(official), ignored=trunk.foreign)
    elif weights != "random":
        load_weights(trunk, Path(weights).expanduser(), ignored=trunk.foreign)


def download(official: Official) -> Path:
    """Return the cached file of ``official``, downloading it if necessary; it may also be put into the cache by hand.

    A file with a known checksum is checked at every use. For other files, the SHA-256 of the first download is written
    beside the file (``NAME.sha256``) and checked at every later use; this detects damage of the cache, but not a wrong
    first download. Downloads are atomic, and processes that need the same file wait for a single download.

    Raises:
        InputError: the file cannot be downloaded (the message says where to put it), or it is damaged.
    """
    path = official.path
    if not path.exists():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _one_at_a_time(path):
                if not path.exists():
                    _fetch(official, path)
        except (OSError, HTTPException) as error:
            raise InputError(
                f"{official.url} could not be downloaded ({error}); get the file in another way and put it at {path}."
            ) from None
    _check(official, path)
    return path


@contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    with path.with_name(f".{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(official: Official, path: Path) -> None:
    with atomic_write(path) as temporary:
        _transfer(official.url, temporary)
        digest = sha256(temporary)
        if not digest.startswith(official.sha256):
            raise InputError(
                f"{official.url} gave a file with the SHA-256 {digest}, which should begin with {official.sha256}; "
                f"it was not kept."
            )
        if not official.sha256:
            write_text(_record(path), f"{digest}  {path.name}\n")


def _transfer(url: str, target: Path) -> None:
    # Not torch.hub.download_url_to_file, which takes an interrupted connection for the end of the file.
    request = Request(url, headers={"User-Agent": "microlens"})  # noqa: S310 - addresses are this package's own
    with urlopen(request, timeout=PATIENCE) as answer, target.open("wb") as file:  # noqa: S310
        console = Console(stderr=True, soft_wrap=True)
        with wrap_file(
            answer,
            answer.length or 0,
            description=Path(url).name,
            console=console,
            transient=True,
            disable=not console.is_terminal,
        ) as source:
            shutil.copyfileobj(source, file, CHUNK)
        if answer.length:
            raise ConnectionError(f"the transfer was interrupted {answer.length:,} bytes before the end")


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _check(official: Official, path: Path) -> None:
    record = _record(path)
    expected = official.sha256
    if not expected and record.exists():
        expected = record.read_text(encoding="utf-8").partition(" ")[0]
    if expected and not (digest := sha256(path)).startswith(expected):
        raise InputError(
            f"{path} is damaged: its SHA-256 is {digest} and should begin with {expected}; delete it and {record.name} "
            f"to have it downloaded again."
        )


def load_weights(network: nn.Module, path: Path, ignored: tuple[str, ...] = ()) -> None:
    """Load a ``.safetensors`` file, or a torch file such as PyTorchVideo's ``.pyth``, into ``network``.

    Names that begin with one of ``ignored`` are skipped, in the file and in ``network``. Values are converted to the
    network's precision. As in PyTorch, BatchNorm's batch counts may be missing, because old files have none. If
    anything else does not fit, ``network`` is unchanged.

    Raises:
        InputError: the file is missing or unreadable; a name, shape or number type does not fit; or a number is NaN or
            infinite.
    """
    state = {name: value for name, value in _read(path).items() if not name.startswith(ignored)}
    expected = {name: value for name, value in network.state_dict().items() if not name.startswith(ignored)}
    state = {name: value for name, value in expected.items() if name.endswith(".num_batches_tracked")} | state
    _check_names(path, state, expected)
    for name, value in state.items():
        if value.shape != expected[name].shape:
            raise InputError(
                f"{path}: '{name}' has shape {tuple(value.shape)}; this network has {tuple(expected[name].shape)}."
            )
        if value.is_floating_point() != expected[name].is_floating_point():
            raise InputError(f"{path}: '{name}' holds {value.dtype}; this network has {expected[name].dtype}.")
        if value.is_floating_point() and not all_finite(value):
            raise InputError(f"{path}: '{name}' holds NaN or infinity.")
    network.load_state_dict(state, strict=False)  # the names are checked above


def _check_names(path: Path, state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    strangers = [name for name in state if name not in expected]
    missing = [name for name in expected if name not in state]
    if strangers or missing:
        name, problem = (strangers[0], "has no place in") if strangers else (missing[0], "is missing for")
        raise InputError(
            f"{path}: '{name}' {problem} this network ({len(strangers)} unknown and {len(missing)} missing names)."
        )


def _read(path: Path) -> dict[str, Tensor]:
    if path.is_dir():
        raise InputError(f"{path} is a folder; weights are one file, either .safetensors or written by torch.save.")
    if not path.is_file():
        raise InputError(f"{path} does not exist; weights are 'random', 'default' or the path of a state dict.")
    try:
        content = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except UnpicklingError:
        raise InputError(f"{path} is not a state dict that can be read without running code from it.") from None
    except Exception:  # the exceptions for damaged files are not documented
        kind = "safetensors" if path.suffix == ".safetensors" else "torch"
        raise InputError(f"{path} is not a complete {kind} file; it is truncated, damaged or something else.") from None
    return _tensors(path, content)


def _tensors(path: Path, content: object) -> dict[str, Tensor]:
    """The state dict in ``content``; PyTorchVideo nests it under ``model_state``."""
    state = content.get("model_state", content) if isinstance(content, dict) else content
    if not isinstance(state, dict):
        raise InputError(f"{path} holds a {type(state).__name__}; accepted is a state dict, plain or in 'model_state'.")
    if not state:
        raise InputError(f"{path} holds no weights.")
    for name, value in state.items():
        if not isinstance(value, Tensor):
            raise InputError(
                f"{path}: '{name}' is a {type(value).__name__}; accepted is a state dict, plain or in 'model_state'."
            )
    return {str(name): value for name, value in state.items()}
