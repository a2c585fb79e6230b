"""The configuration of a run, read from TOML and strictly validated."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, get_args

import tomli_w
from pydantic import BaseModel, Field, ValidationError
from pydantic_core import ErrorDetails

from microlens.building import nearest_option
from microlens.config.assignments import assign
from microlens.config.dataset_paths import moved_paths
from microlens.config.former_options import hashed_as_before, translate_former_options
from microlens.config.sections import (
    ModelSection,
    NamedPath,
    NamedSection,
    PartSection,
    ProtocolSection,
    Range,
    Section,
    Seed,
    TrackSection,
    TrainSection,
)
from microlens.config.toml_files import check_values, read_toml
from microlens.errors import InputError, shown
from microlens.files.writing import digest_of

# Paths and the distribution of work do not affect results.
UNIMPORTANT = {"workers", "checkpoint_minutes", "micro_batch"}
NOT_IN_HASH: dict[str, Any] = {
    "output": True,
    "dataset": True,
    "tune": True,
    "track": True,
    "train": UNIMPORTANT,
    "parts": {"__all__": {"train": UNIMPORTANT}},
}


# Fields added later; left out of the hash at their default, so that old runs keep theirs.
ADDED_LATER: dict[str, dict[str, Any]] = {
    "protocol": {"split": "leave-one-out", "masked": "history", "min_item_count": 0, "seed": 0},
    "train": {"start_from": None},
}


class RunConfig(Section):
    """The configuration of a run; ``tune`` maps dotted option names to what ``microlens tune`` tries.

    ``parts`` are the recommenders that the model ``fusion`` combines.
    """

    dataset: NamedPath
    output: NamedPath
    seed: Seed = 42
    protocol: ProtocolSection = ProtocolSection()
    model: ModelSection
    encoder: NamedSection | None = None
    train: TrainSection = TrainSection()
    parts: tuple[PartSection, ...] = ()
    track: TrackSection = TrackSection()
    tune: dict[str, Range] = Field(default_factory=dict)

    @classmethod
    def load(cls, path: str | Path, overrides: list[str] | None = None, *, of_run: bool = False) -> Self:
        """Read a TOML file and apply ``key=value`` overrides.

        Args:
            path: the file.
            overrides: assignments to dotted keys.
            of_run: a run wrote the file, perhaps in an earlier version, whose options are then translated.

        Raises:
            InputError: the file is missing or not TOML, a key is unknown (the message names the nearest), or a value is
                invalid.
        """
        path = Path(path)
        table = read_toml(path)
        translate_former_options(table, of_run=of_run)
        for override in overrides or []:
            assign(table, override)
        check_values(path, table)
        try:
            return cls.of(table)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    @classmethod
    def of(cls, table: Mapping[str, Any]) -> Self:
        """The configuration of a table as TOML gives it.

        Raises:
            InputError: a key is unknown or has a wrong value; names the nearest key.
        """
        try:
            # Through JSON, because there strict types still let a list be a tuple and a string be a path.
            return cls.model_validate_json(json.dumps(table, default=str), strict=True)
        except ValidationError as error:
            raise InputError(_first_fault(error)) from None

    def check_output(self) -> None:
        """Check that the output folder does not mix with other files; called before anything is written.

        Raises:
            InputError: the output is a file, is inside the dataset, or contains the working or the home folder.
        """
        output, dataset = (Path(os.path.realpath(folder)) for folder in (self.output, self.dataset))
        if output.exists() and not output.is_dir():
            raise InputError(f"output is {self.output}, which is a file; name a folder for this run.")
        if output.is_relative_to(dataset):
            raise InputError(f"output is {self.output}, which is inside the dataset; name a folder for this run.")
        for taken in (Path.cwd(), Path(os.path.expanduser("~"))):  # noqa: PTH111 - there may be no home
            if Path(os.path.realpath(taken)).is_relative_to(output):
                raise InputError(
                    f"output is {self.output}, which contains the working or home folder; name a folder for this run."
                )

    def part_configs(self) -> list["RunConfig"]:
        """The configurations of the parts, whose run folders are in that of this run."""
        return [
            RunConfig(
                dataset=self.dataset,
                output=self.output / "parts" / f"{number}-{part.model.name}",
                seed=self.seed,
                protocol=self.protocol,
                model=part.model,
                encoder=part.encoder,
                train=part.train,
            )
            for number, part in enumerate(self.parts)
        ]

    def on_dataset(self, dataset: str | Path, formerly: str | Path | None = None) -> Self:
        """The same run on a dataset in another folder; paths inside the dataset are adapted, however they are spelled.

        Args:
            dataset: folder of the dataset.
            formerly: absolute path of the folder where the run was trained, if known.
        """
        before = None if formerly is None else Path(formerly)
        content = moved_paths(self.model_dump(mode="json"), self.dataset, before, Path(dataset))
        return self.model_validate_json(json.dumps(content), strict=True).model_copy(update={"dataset": Path(dataset)})

    def toml(self) -> str:
        """The resolved configuration as TOML."""
        empty = {name for name in ("tune", "track", "parts") if not self.model_dump(exclude_none=True)[name]}
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True, exclude=empty))

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits of the SHA-256 of everything that affects results."""
        content = self.model_dump(mode="json", exclude=NOT_IN_HASH)
        for section, added in ADDED_LATER.items():
            for name, value in added.items():
                if content[section][name] == value:
                    del content[section][name]
        for train in [content["train"], *(part["train"] for part in content["parts"])]:
            hashed_as_before(train)
        if not self.parts:
            del content["parts"]
        return digest_of(content)[:12]


def _first_fault(error: ValidationError) -> str:
    """The first validation error, with the dotted name of its key."""
    faults = error.errors()
    first = faults[0]
    key = _key_of(first)
    name = ".".join(map(str, key)) or "the configuration"
    if first["type"] == "extra_forbidden":
        table = ".".join(map(str, key[:-1]))
        return f"{name} is unknown; {nearest_option(str(key[-1]), _accepted(key[:-1]), table)}"
    if first["type"] == "missing":
        return f"{name} is missing."
    accepted = dict.fromkeys(_accepts(fault) for fault in faults if _key_of(fault) == key)
    return f"{name} is {shown(first['input'])}; it must be {' or '.join(accepted)}."


def _key_of(fault: ErrorDetails) -> tuple[int | str, ...]:
    """The path of keys to an error, without pydantic's name of the type tried where several are accepted."""
    loc = fault["loc"]
    return loc[:-1] if len(loc) > 3 and loc[-1] in ("int", "float", "str", "bool") else loc


def _accepts(fault: ErrorDetails) -> str:
    """The accepted values, in TOML's terms."""
    text = fault["msg"].removeprefix("Value error, ").removeprefix("Input should be ").removeprefix("a valid ")
    if fault["type"] == "too_short":
        return f"at least {fault['ctx']['min_length']} long"
    return {"an object": "a table", "array": "a list"}.get(text, text)


def _accepted(key: tuple[int | str, ...]) -> list[str]:
    """The keys accepted in the table at ``key``."""
    section: type[BaseModel] = RunConfig
    for name in key:
        field = section.model_fields.get(str(name))
        of_field = (field.annotation, *get_args(field.annotation)) if field else ()
        section = next((part for part in of_field if isinstance(part, type) and issubclass(part, Section)), section)
    return list(section.model_fields)
