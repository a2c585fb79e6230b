"""The content of items outside a dataset, against what the dataset stores of the same files."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from microlens.data.batches import ItemBatch
from microlens.data.content import KINDS, ItemContent
from microlens.data.dataset import Dataset
from microlens.data.new_items import NewItem, read_new_content
from microlens.errors import InputError
from microlens.release.folder import MEDIA, find_release
from microlens.release.media_files import find_media


def files_of(release: Path, item: int) -> dict[str, Path]:
    found = find_release(release)
    folders = {"clips": found.videos, "covers": found.covers}
    return {kind: find_media(folders[kind], MEDIA[kind][1], text_ids=False).by_item[item] for kind in folders}


def test_it_is_what_the_dataset_stores_of_the_same_files(video_dataset: Path) -> None:
    dataset = Dataset(video_dataset)
    kinds = frozenset(KINDS) - ({"sound"} if not dataset.items["sound"].all() else set())
    stored = ItemContent(dataset, dataset.interactions.item_ids, kinds)
    files = files_of(video_dataset.parent / "release", 4)
    read = read_new_content(NewItem(video=files["clips"], cover=str(files["covers"])), kinds, dataset.settings)
    for kind, values in stored.read(np.array([4])).items():
        assert torch.equal(read[kind], values), kind
        assert read[f"{kind}.missing"].tolist() == [False]
    assert kinds == frozenset(KINDS)


def test_what_is_missing_is_zeros_and_marked(video_dataset: Path, tmp_path: Path) -> None:
    settings = Dataset(video_dataset).settings
    read = read_new_content(NewItem(title="A title"), frozenset(KINDS), settings)
    assert read["clips"].shape == (1, 4, 32, 32, 3)
    assert read["covers"].shape == (1, 1, 32, 32, 3)
    assert not any(read[kind].any() for kind in KINDS)
    assert all(read[f"{kind}.missing"].tolist() == [True] for kind in KINDS)
    (tmp_path / "cover.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"cover\.jpg cannot be used: not a media file"):
        read_new_content(NewItem(cover=tmp_path / "cover.jpg"), frozenset({"covers"}), settings)


def test_what_an_encoder_misses_is_named_in_words() -> None:
    item = NewItem(title="A title", video="a.mp4")
    assert item.lacks({"title", "clips", "sound"}) == []
    assert item.lacks({"covers", "tag", "title"}) == ["tag", "cover"]
    assert NewItem().lacks({"clips", "sound", "title"}) == ["title", "video"]
    assert (item.name, NewItem(video="a.mp4").name) == ("A title", "a.mp4")


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"title": None}, "title of a new item is None; it must be a text"),
        ({"tag": 5}, "tag of a new item is 5; it must be a text"),
        ({"title": "a\ud800"}, r"title of a new item is 'a\ud800'; it must be a text in UTF-8"),
        ({"video": 5}, "video of a new item is 5; it must be the path of a file"),
        ({"cover": "a\0b"}, r"cover of a new item is 'a\x00b'; it must be the path of a file"),
    ],
)
def test_what_is_known_of_an_item_is_checked(known: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=re.escape(said)):
        NewItem(**known)


def test_descriptions_stay_with_their_items() -> None:
    new = tuple(NewItem(title=title) for title in "abcd")
    batch = ItemBatch(items=torch.zeros(4, dtype=torch.long), new=new).to(torch.device("cpu"))
    assert batch.at(torch.tensor([3, 0])).new == (new[3], new[0])
    assert batch.at(slice(1, 3)).new == new[1:3]
    assert ItemBatch(items=batch.items).at(slice(2)).new is None
