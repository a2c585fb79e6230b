"""Blocks of lines: together they are what reading the file as a whole gives."""

import gzip
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from microlens.errors import InputError
from microlens.release.text_blocks import open_blocks
from microlens.release.text_files import read_text

PLAIN = "user,item\r\n1,2\r3,4\n\n5,\u00e9\u4f60\n6,7"


def blocks_of(path: Path, size: int) -> list[tuple[int, bytes]]:
    return list(open_blocks(path, size))


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(st.sampled_from("ab,\r\n\u00e9\u4f60\U0001f600\ufeff"), max_size=60),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    packed=st.booleans(),
    size=st.integers(1, 40),
)
def test_blocks_are_the_whole_text_with_the_numbers_of_its_lines(
    tmp_path_factory: pytest.TempPathFactory, text: str, encoding: str, packed: bool, size: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "x.csv"
    raw = text.encode(encoding)
    path.write_bytes(gzip.compress(raw) if packed else raw)
    whole = read_text(path)
    number = 1
    for begins, content in (blocks := blocks_of(path, size)):
        assert begins == number
        number += content.count(b"\n")
    assert b"".join(content for _, content in blocks) == whole.content
    assert all(content.endswith(b"\n") for _, content in blocks[:-1])
    assert open_blocks(path, size).notes == whole.notes


def test_only_text_that_is_not_utf_8_is_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text(PLAIN, encoding="utf-8")
    assert open_blocks(path, 5).whole is None
    path.write_bytes("\u4f60\u597d,\u5f88\u597d\n".encode("gb18030"))
    assert open_blocks(path, 5).notes == ["x.csv was read as GB18030, such as '\u4f60\u597d'"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"1,2\r\n3,\x004\n", r"x\.csv, line 2: a NUL byte"),
        (b"1,2\r3\r4,\x00\n", r"x\.csv, line 3: a NUL byte"),
        (b"1,2\nabc\xff\n", r"x\.csv, line 2: the byte 0xff is not UTF-8"),
        (b"PK\x03\x04", r"x\.csv is a zip archive"),
        (gzip.compress(b"1,2\n" * 1000, mtime=0)[:-12], r"x\.csv is a damaged gzip file"),
    ],
)
def test_what_is_no_text_is_refused_as_by_reading_it_whole(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    for read in (read_text, open_blocks):
        with pytest.raises(InputError, match=message):
            read(path)


def test_progress_ends_at_the_size_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "x.csv.gz"
    path.write_bytes(gzip.compress(b"1,2,3\n" * 500_000))
    blocks = open_blocks(path, 1 << 20)
    done = [blocks.progress for _ in blocks]
    assert done == sorted(done)
    assert done[-1] == (3, 3)
