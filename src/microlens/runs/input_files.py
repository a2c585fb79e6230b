"""Files that a run reads beside its dataset whenever it is opened: features, codes, texts."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from microlens.config.run_config import RunConfig
from microlens.errors import InputError
from microlens.files.json_files import read_json
from microlens.files.run_manifest import ENVIRONMENT, check
from microlens.files.writing import digest_of, sha256

INPUTS = "inputs"
"""The field of ``environment.json`` that holds :func:`input_digests`."""


def named_files(config: RunConfig) -> dict[str, Path]:
    """The matrices and other files that options of a run and of its parts name, by the dotted name of the option.

    Weights are left out, because those of a trained run are in its checkpoint.
    """
    return dict(_files("", config.model_dump(include={"model", "encoder", "parts"})))


def input_digests(config: RunConfig) -> dict[str, str]:
    """A digest of the content of each of :func:`named_files` that is there, with the ids beside a matrix."""
    return {name: _digest(path) for name, path in named_files(config).items() if path.is_file()}


def check_inputs(folder: Path, config: RunConfig) -> None:
    """Check that a run reads the files that it was trained with.

    Args:
        folder: the run folder; a run of an earlier version has no digests to compare with.
        config: its configuration, with paths as they are now.

    Raises:
        InputError: a file has another content.
    """
    files = named_files(config)
    recorded = recorded_inputs(folder) if files else {}
    for name, path in files.items():
        if name in recorded and path.is_file() and recorded[name] != _digest(path):
            raise InputError(
                f"{path} has changed since {folder} was trained with it ({name}); restore it, or train again with "
                "fresh=True or in another folder."
            )


def recorded_inputs(folder: Path) -> dict[str, str]:
    """The digests of the files that a run was trained with; empty for a run of an earlier version.

    Raises:
        InputError: the record is damaged or was changed.
    """
    if not (folder / ENVIRONMENT).is_file():
        return {}
    check(folder, ENVIRONMENT)
    recorded: dict[str, str] = read_json(folder / ENVIRONMENT, dict[str, Any], "train the run again").get(INPUTS, {})
    return recorded


def _digest(path: Path) -> str:
    return digest_of([sha256(one) for one in (path, path.with_suffix(".ids.npy")) if one.is_file()])


def _files(name: str, value: Any) -> Iterator[tuple[str, Path]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key == "weights":
                continue
            yield from _files(f"{name}.{key}" if name else str(key), inner)
    elif isinstance(value, (list, tuple)):
        for number, inner in enumerate(value):
            yield from _files(f"{name}.{number}", inner)
    elif isinstance(value, str | Path) and _is_file(Path(value)):
        yield name, Path(value)


def _is_file(path: Path) -> bool:
    return path.suffix == ".npy" or (path.suffix != "" and path.is_file())
