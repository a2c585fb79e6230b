"""Members of split zips, beside zipfile and Info-ZIP's zip."""

import io
import random
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from microlens.download.failures import UnavailableError
from microlens.download.split_zip import LocalParts, extract, parse_directory, read_directory_bytes
from tests.download.zip_files import split_zip


class BytesParts:
    """Parts in memory."""

    def __init__(self, parts: list[bytes]) -> None:
        self.parts, self.sizes = parts, [len(part) for part in parts]

    def read(self, part: int, start: int, end: int, write) -> None:
        for at in range(start, end, 1000):
            write(self.parts[part][at : min(at + 1000, end)])


def unpacked(parts, folder: Path) -> dict[str, bytes]:
    contents = {}
    for member in parse_directory(read_directory_bytes(parts), parts.sizes):
        extract(parts, member, folder / "member")
        contents[member.info.filename] = (folder / "member").read_bytes()
    return contents


def videos(seed: int, number: int) -> dict[str, bytes]:
    draw = random.Random(seed)
    sizes = [draw.choice([0, 1, 300, 5000, 20_000]) for _ in range(number)]
    return {
        f"videos/{item}.mp4": draw.randbytes(size // 2) + bytes(size - size // 2) for item, size in enumerate(sizes)
    }


@pytest.mark.parametrize("zip64", [False, True])
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("part_size", [10**6, 4000, 700])
def test_members_come_out_as_they_went_in(tmp_path, zip64, stored, part_size):
    members = videos(0, 12)
    parts = split_zip(members, part_size, zip64=zip64, stored=stored, comment=b"with a comment")
    assert (len(parts) == 1) == (part_size == 10**6)
    assert unpacked(BytesParts(parts), tmp_path) == members


@given(
    st.dictionaries(st.text("abc", min_size=1, max_size=5), st.binary(max_size=400), min_size=1), st.integers(150, 600)
)
def test_members_of_any_size_come_out_as_they_went_in(members, part_size):
    parts = BytesParts(split_zip(members, part_size))
    entries = parse_directory(read_directory_bytes(parts), parts.sizes)
    whole = b"".join(parts.parts)
    assert {entry.info.filename for entry in entries} == members.keys()
    for entry in entries:
        assert whole[entry.start :].startswith(b"PK\x03\x04")
        assert entry.end - entry.start >= 30 + len(entry.info.filename) + entry.info.compress_size


def test_an_unsplit_zip_is_read_as_zipfile_reads_it(tmp_path):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in videos(1, 5).items():
            archive.writestr(name, data)
    assert unpacked(BytesParts([content.getvalue()]), tmp_path) == videos(1, 5)


@pytest.mark.skipif(shutil.which("zip") is None, reason="needs Info-ZIP's zip")
def test_a_zip_that_info_zip_has_split_is_read(tmp_path):
    members = {f"videos/{item}.mp4": random.Random(item).randbytes(20_000) for item in range(20)}
    (tmp_path / "videos").mkdir()
    for name, content in members.items():
        (tmp_path / name).write_bytes(content)
    subprocess.run(["zip", "-q", "-D", "-r", "-s", "64k", "videos.zip", "videos"], cwd=tmp_path, check=True)
    paths = [*sorted(tmp_path.glob("videos.z0*")), tmp_path / "videos.zip"]
    assert len(paths) > 4
    assert unpacked(LocalParts(tuple(paths)), tmp_path) == members


def test_a_wrong_crc_is_noticed(tmp_path):
    parts = BytesParts(split_zip(videos(0, 6), 4000, wrong_crc="videos/3.mp4"))
    with pytest.raises(UnavailableError, match=r"CRC-32 is .{8}, and .{8} in the directory"):
        unpacked(parts, tmp_path)


@pytest.mark.parametrize("at", range(60, 3000, 290))
def test_damage_is_noticed(tmp_path, at):
    [content] = split_zip({"videos/1.mp4": random.Random(0).randbytes(3000)}, 10**6)
    damaged = content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]
    with pytest.raises(UnavailableError):
        unpacked(BytesParts([damaged]), tmp_path)


@pytest.mark.parametrize("cut", [1, 21, 22, 60, 200])
def test_a_zip_that_is_cut_short_is_refused(tmp_path, cut):
    [content] = split_zip(videos(0, 6), 10**6)
    with pytest.raises(UnavailableError, match=r"cut short|damaged"):
        unpacked(BytesParts([content[:-cut]]), tmp_path)


def test_a_missing_part_is_noticed(tmp_path):
    parts = split_zip(videos(0, 6), 4000)
    with pytest.raises(UnavailableError, match=f"more than {len(parts) - 1} parts"):
        unpacked(BytesParts(parts[1:]), tmp_path)


def test_something_else_is_no_zip():
    with pytest.raises(UnavailableError, match="it is no zip"):
        read_directory_bytes(BytesParts([b"<html>" * 100]))


def test_a_member_that_is_a_web_page_is_refused(tmp_path):
    parts = BytesParts(split_zip({"covers/1.jpg": b"<!doctype html><title>Log in</title>"}, 10**6))
    with pytest.raises(UnavailableError, match="web page"):
        unpacked(parts, tmp_path)


def test_encrypted_members_are_named_so(tmp_path):
    [content] = split_zip({"1.mp4": b"secret"}, 10**6)
    encrypted = content.replace(
        b"PK\x01\x02" + content[content.find(b"PK\x01\x02") + 4 :][:4] + b"\0\0",
        b"PK\x01\x02" + content[content.find(b"PK\x01\x02") + 4 :][:4] + b"\1\0",
    )
    with pytest.raises(UnavailableError, match="encrypted"):
        unpacked(BytesParts([encrypted]), tmp_path)
