"""Datasets of other packages are read alike whether their files are plain or packed with gzip."""

import gzip
from collections.abc import Mapping
from pathlib import Path

import pytest

from microlens.errors import InputError
from microlens.release.convert import convert
from microlens.release.folder import find_release
from tests.release.test_convert import INTER, MOVIELENS, RECBOLE_ITEMS, write

ROWS = "1\t5\t3\t978300760\n2\t6\t3\t978300761\n"
ITEMS = RECBOLE_ITEMS + "5\tFive\t\tWar\n6\tSix\t\tDrama\n"
SPLIT = {part: f"{INTER}{number}\t5\t3\t978300760\n" for number, part in enumerate(("train", "valid", "test"))}
MOVIES = {
    f"movielens {layout}": {name: text.encode() if isinstance(text, str) else text for name, text in files.items()}
    for layout, files in MOVIELENS.items()
}
# The file of interactions comes first.
DATASETS: dict[str, Mapping[str, bytes]] = {
    "recbole": {"a.inter": (INTER + ROWS).encode(), "a.item": ITEMS.encode(), "a.user": b"user_id:token\n1\n"},
    "recbole, split": {f"a.{part}.inter": text.encode() for part, text in SPLIT.items()} | {"a.item": ITEMS.encode()},
    "mmrec": {"a.inter": b"userID\titemID\tx_label\n1\t0\t0\n1\t1\t1\n1\t2\t2\n"},
    "s3rec": {"a.txt": b"1 5 6\n2 5\n"},
    **MOVIES,
}


def packed(files: Mapping[str, bytes], which: str, suffix: str = ".gz") -> dict[str, bytes]:
    first = next(iter(files))
    chosen = {"interactions": {first}, "companions": files.keys() - {first}, "all": files.keys()}[which]
    return {
        name + suffix if name in chosen else name: gzip.compress(text) if name in chosen else text
        for name, text in files.items()
    }


def converted(source: Path, out: Path) -> tuple[dict[str, bytes], list[str]]:
    """What is written, and the notes with the names of plain files."""
    done = convert(source, out)
    return {path.name: path.read_bytes() for path in out.iterdir()}, [note.replace(".gz", "") for note in done.notes]


@pytest.mark.parametrize("which", ["interactions", "companions", "all"])
@pytest.mark.parametrize("kind", DATASETS)
def test_packed_datasets_equal_plain_ones(tmp_path: Path, kind: str, which: str) -> None:
    files = DATASETS[kind]
    first = next(iter(files))
    plain = write(tmp_path / "plain", files).rename(tmp_path / "data")
    expected = converted(plain / first, tmp_path / "expected")
    of_folder = None if kind == "s3rec" else converted(plain, tmp_path / "expected-folder")
    plain.rename(tmp_path / "plain")
    given = packed(files, which)
    source = write(tmp_path / "data", given)  # of the same name, as MovieLens' sets are called like their folder
    assert converted(source / next(iter(given)), tmp_path / "out") == expected
    if of_folder is not None:
        assert converted(source, tmp_path / "out-folder") == of_folder


def test_titles_and_users_beside_packed_interactions(tmp_path: Path) -> None:
    source = write(tmp_path / "data", packed(DATASETS["recbole"], "interactions", ".GZ"))
    done = convert(source / "a.inter.GZ", tmp_path / "out")
    assert (done.titles, done.tags) == (2, 2)
    assert "not read: a.user" in done.notes
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a_pairs.csv", "a_tags.csv", "a_titles.csv"]
    assert convert(source, tmp_path / "again").titles == 2


def test_of_a_file_and_its_packed_copy_the_file_is_read(tmp_path: Path) -> None:
    files = dict(DATASETS["recbole"])
    copies = packed({name: text.replace(b"Five", b"5") for name, text in files.items()}, "all")
    done = convert(write(tmp_path / "data", files | copies), tmp_path / "out")
    assert b"Five" in (tmp_path / "out" / "a_titles.csv").read_bytes()
    assert "not read: a.inter.gz, a.item.gz, a.user, a.user.gz" in done.notes


def test_preparing_a_packed_source_names_the_command(tmp_path: Path) -> None:
    for kind, hinted in (("recbole", "RecBole's"), ("mmrec", "MMRec's"), ("movielens 1m", "MovieLens'")):
        with pytest.raises(InputError, match=f"microlens data convert reads {hinted}"):
            find_release(write(tmp_path / kind, packed(DATASETS[kind], "all")))


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("kind", DATASETS)
def test_a_format_is_recognised_in_every_encoding(tmp_path: Path, kind: str, encoding: str) -> None:
    first, text = next(iter(DATASETS[kind].items()))
    plain = convert(write(tmp_path / "plain", {"mine.txt": text}) / "mine.txt", tmp_path / "expected")
    written = text.decode().encode(encoding)
    for number, content in enumerate((written, gzip.compress(written))):
        for name in ("mine.txt", first):
            source = write(tmp_path / f"{number} {name}", {name: content}) / name
            done = convert(source, tmp_path / f"out {number} {name}")
            assert (done.format, done.interactions) == (plain.format, plain.interactions)


DAMAGES = {
    "only the mark": lambda whole: whole[:2],
    "cut in the header": lambda whole: whole[:7],
    "cut in the middle": lambda whole: whole[: len(whole) // 2],
    "cut at the end": lambda whole: whole[:-1],
    "no gzip": lambda whole: whole[:2] + b"no gzip",
    "another byte": lambda whole: whole[:20] + bytes([whole[20] ^ 255]) + whole[21:],
    "another checksum": lambda whole: whole[:-8] + bytes([whole[-8] ^ 1]) + whole[-7:],
    "more behind it": lambda whole: whole + b"more",
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", DATASETS)
def test_a_damaged_file_is_called_so(tmp_path: Path, kind: str, damage: str) -> None:
    first, text = next(iter(DATASETS[kind].items()))
    rows = text.splitlines(keepends=True)[-1] * 9000  # more than is looked at to recognise a format
    for number, content in enumerate((text, text + rows)):
        broken = DAMAGES[damage](gzip.compress(content))
        for name in (first, f"{first}.gz", "mine.txt", "mine.gz"):
            source = write(tmp_path / f"{number} {name}", {**packed(DATASETS[kind], "all"), name: broken}) / name
            with pytest.raises(InputError, match=r" is a damaged gzip file \(.+\); copy it again\.$") as caught:
                convert(source, tmp_path / "out")
            assert str(source) in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("which", [0, -1])
@pytest.mark.parametrize("kind", sorted(DATASETS.keys() - {"s3rec"}))
def test_a_damaged_file_of_a_folder_is_called_so(tmp_path: Path, kind: str, which: int, damage: str) -> None:
    files = packed(DATASETS[kind], "all")
    name = [name for name in files if not name.endswith(".user.gz")][which]
    source = write(tmp_path / "data", files | {name: DAMAGES[damage](files[name])})
    with pytest.raises(InputError, match=rf"{name} is a damaged gzip file"):
        convert(source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
