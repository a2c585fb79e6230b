"""A prepared dataset folder, opened for reading."""

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from microlens.data.interactions import Interactions
from microlens.data.protocol import Protocol
from microlens.data.split import Split, make_split
from microlens.errors import InputError

FORMAT_VERSION = 1


class Dataset:
    """What ``microlens data prepare`` wrote: a manifest, interactions, item and user tables, and content stores.

    Raises:
        InputError: the folder is no dataset, is unfinished, or has another format version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest = folder / "manifest.json"
        if not manifest.is_file():
            make = f"make one with: microlens data prepare RELEASE {folder}"
            looked = "manifest.json" if folder.is_absolute() else Path.cwd() / manifest
            raise InputError(f"{folder} is not a prepared dataset (no {looked}); {make}")
        try:
            self.manifest: dict[str, Any] = json.loads(manifest.read_text(encoding="utf-8"))
            version = self.manifest["format_version"]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{manifest} is not a manifest of a dataset; prepare the dataset again.") from None
        if version != FORMAT_VERSION:
            raise InputError(
                f"{folder} has dataset format version {version}; this microlens reads version {FORMAT_VERSION}: "
                f"prepare it again."
            )

    @property
    def name(self) -> str:
        """The release's name."""
        return str(self.manifest["name"])

    @property
    def checksum(self) -> str:
        """A digest of the sources and settings that the dataset was made of."""
        return str(self.manifest["checksum"])

    @cached_property
    def interactions(self) -> Interactions:
        """All events of the release, memory-mapped."""
        return Interactions.open(self.folder / "interactions")

    @cached_property
    def items(self) -> pl.DataFrame:
        """One row an item, in the order of item numbers: id, title, tag, likes, views, what content it has, faults."""
        return pl.read_parquet(self.folder / "items.parquet")

    def split(self, protocol: Protocol) -> Split:
        """Split the interactions as ``protocol`` says."""
        return make_split(self.interactions, protocol, self._without(protocol.require))

    def _without(self, kinds: tuple[str, ...]) -> npt.NDArray[np.bool_]:
        """Which item numbers lack one of ``kinds``, (N+1,)."""
        missing = np.zeros(self.interactions.num_items + 1, bool)
        for kind in kinds:
            if kind not in ("clips", "covers", "sound"):
                raise InputError(f"protocol.require names '{kind}'; accepted are clips, covers, sound.")
            missing[1:] |= ~self.items[kind].to_numpy()
        return missing
