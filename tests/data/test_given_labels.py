"""A split that a release came with is stored with the interactions, or refused in one sentence."""

from pathlib import Path

import numpy as np
import pytest

from microlens.data.dataset import Dataset
from microlens.data.prepare import prepare
from microlens.data.protocol import NAMED_PROTOCOLS, Protocol
from microlens.errors import InputError
from microlens.release.given_split import PARTS

PAIRS = [("u2", "b"), ("u2", "a"), ("u2", "c"), ("u2", "e"), ("u2", "d"), ("u10", "c"), ("u10", "a")]
LABELS = [0, 2, 0, 1, 0, 0, 2]


def release(folder: Path, split: str, *, text: bool = True) -> Path:
    folder.mkdir()
    rows = [(user, item, 5 + row) for row, (user, item) in enumerate(PAIRS)]
    if not text:
        rows = [(int(user[1:]), ord(item), time) for user, item, time in rows]
    (folder / "mine_pairs.csv").write_text("user,item,timestamp\n" + "".join(f"{u},{i},{t}\n" for u, i, t in rows))
    if split:
        (folder / "mine_split.csv").write_text(split)
    return folder


def rows_of(*, text: bool, names: bool) -> list[str]:
    return [
        f"{user if text else user[1:]},{item if text else ord(item)},{PARTS[label] if names else label}"
        for (user, item), label in zip(PAIRS, LABELS, strict=True)
    ]


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("names", [True, False])
def test_labels_follow_their_interactions(tmp_path: Path, text: bool, names: bool) -> None:
    rows = rows_of(text=text, names=names)
    shuffled = np.random.default_rng(0).permutation(rows).tolist()
    folder = release(tmp_path / "release", "\n".join(["user,item,split", *shuffled, shuffled[0]]) + "\n", text=text)
    data = prepare(folder, tmp_path / "dataset")
    assert "mine_split.csv: a split of 4 train, 1 valid, 2 test interactions" in data.manifest["notes"]
    data = Dataset(tmp_path / "dataset")
    assert data.interactions.split is not None
    owners = np.repeat(np.arange(2), np.diff(data.interactions.offsets))
    stored = {
        (str(data.user_ids[int(user)]), str(data.item_ids[int(item) - 1])): int(label)
        for user, item, label in zip(owners, data.interactions.items, data.interactions.split, strict=True)
    }
    assert stored == {
        (user if text else user[1:], item if text else str(ord(item))): label
        for (user, item), label in zip(PAIRS, LABELS, strict=True)
    }
    split = data.split(Protocol(**NAMED_PROTOCOLS["given"]))
    assert (len(split.targets("valid")), len(split.targets("test"))) == (1, 2)


def test_a_dataset_without_a_split_is_what_it_was(tmp_path: Path) -> None:
    data = prepare(release(tmp_path / "release", ""), tmp_path / "dataset")
    assert data.interactions.split is None
    assert not (tmp_path / "dataset" / "interactions" / "split.npy").exists()
    given = prepare(
        release(tmp_path / "other", "\n".join(["user,item,split", *rows_of(text=True, names=True)])), tmp_path / "given"
    )
    assert given.checksum != data.checksum


ROWS = rows_of(text=True, names=True)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ("\n".join(["user,item,split", *ROWS[:-1]]), r"has no row for user u10 and item a; it must give a part"),
        ("\n".join(["user,item,split", *ROWS, "u10,b,test"]), r"a row for user u10 and item b, which is no"),
        ("\n".join(["user,item,split", *ROWS, "u3,b,test"]), r"a row for user u3 and item b, which is no"),
        ("\n".join(["user,item,split", ROWS[0], "u2,a,later"]), r"line 3: 'later' is no part; expected the columns"),
        ("\n".join(["user,item,split", ROWS[0], ",a,test"]), r"line 3: an id is empty"),
        ("\n".join(["user,item,split", "a,b,c,d,test"]), r"not every row has 3 columns"),
        ("\n".join(ROWS), r"is no split; expected the columns user,item,split"),
        ("user,item,split\n", r"holds no rows"),
    ],
)
def test_what_is_refused(tmp_path: Path, split: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(release(tmp_path / "release", split), tmp_path / "dataset")
    assert not (tmp_path / "dataset").exists()


def test_a_damaged_split_is_named(tmp_path: Path) -> None:
    prepare(release(tmp_path / "release", "\n".join(["user,item,split", *ROWS])), tmp_path / "dataset")
    for wrong in (np.zeros(3, np.int8), np.full(len(PAIRS), 3, np.int8)):
        np.save(tmp_path / "dataset" / "interactions" / "split.npy", wrong)
        with pytest.raises(InputError, match=r"split.npy is damaged: not 0, 1 or 2"):
            _ = Dataset(tmp_path / "dataset").interactions
