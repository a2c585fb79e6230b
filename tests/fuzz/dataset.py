"""Damaged dataset folders, opened, split and read as training does."""

from pathlib import Path

import numpy as np

from microlens.data.content import KINDS, ItemContent
from microlens.data.dataset import Dataset
from microlens.data.protocol import Protocol
from microlens.runs.assembly import dataset_arguments
from tests.fuzz.damage_files import copy, damage_one
from tests.fuzz.datasets import SETTINGS, write_with_media
from tests.fuzz.mutations import Random
from tests.fuzz.target import Target


class DatasetFolder(Target):
    """A prepared dataset with clips, covers and sound, one or two files of which are damaged."""

    name = "dataset"

    def prepare(self, folder: Path) -> None:
        """Prepare it."""
        write_with_media(folder)

    def make(self, folder: Path, random: Random) -> str:
        """Copy it and damage it."""
        copy(self.seeds / "dataset", folder / "dataset")
        return "; ".join(damage_one(folder / "dataset", random) for _ in range(int(random.integers(1, 3))))

    def read(self, folder: Path, random: Random) -> str | None:
        """All that a run reads."""
        dataset = Dataset(folder / "dataset")
        require = (str(random.choice(KINDS)),) if random.random() < 0.3 else ()
        split = dataset.split(Protocol(min_length=5, require=require))
        item_ids = dataset.interactions.item_ids[split.items_kept]
        world = dataset_arguments(dataset, split.items_kept)
        assert len(world["titles"]) == len(world["tags"]) == split.num_items
        assert 1 <= int(split.sequences.min()) <= int(split.sequences.max()) <= split.num_items
        may_lack = frozenset(KINDS) if random.random() < 0.5 else frozenset()
        content = ItemContent(dataset, item_ids, frozenset(KINDS), 1, may_lack)
        items = np.arange(1, split.num_items + 1)
        read = content.read(items)
        clips, sound = SETTINGS.clips, dataset.settings.sound  # tracks may be shorter than the settings say
        assert tuple(read["clips"].shape) == (len(items), clips.num_frames, clips.size, clips.size, 3), read[
            "clips"
        ].shape
        assert tuple(read["covers"].shape) == (len(items), 1, SETTINGS.cover_size, SETTINGS.cover_size, 3), read[
            "covers"
        ].shape
        assert tuple(read["sound"].shape) == (len(items), *sound.shape), read["sound"].shape
