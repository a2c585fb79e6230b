"""Files at fsspec addresses."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from microlens.errors import InputError, sentence_of
from microlens.files import addresses
from microlens.files.addresses import StoredFile, files_below, is_address, list_folder, local_copy, read_bytes
from microlens.files.addresses import write_bytes as write

fsspec = pytest.importorskip("fsspec", reason="the extra [scale] is not installed")


@pytest.fixture
def memory() -> Iterator[Any]:
    system = fsspec.filesystem("memory")
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.mark.parametrize(
    ("name", "is_one"), [("s3://bucket/a", True), ("file:///a", True), ("a/b", False), ("C:\\a", False)]
)
def test_addresses_are_told_from_paths(name: str, is_one: bool) -> None:
    assert is_address(name) == is_one


@pytest.mark.parametrize("root", ["memory://bucket", "file://{tmp_path}", "{tmp_path}"])
def test_what_is_written_is_listed_and_read(memory: Any, tmp_path: Path, root: str) -> None:
    address = root.format(tmp_path=tmp_path)
    write(f"{address}/a/one.txt", b"one")
    write(f"{address}/a/b/two.txt", b"two!")
    write(f"{address}/a/one.txt", b"other")
    assert read_bytes(f"{address}/a/one.txt") == b"other"
    assert read_bytes(f"{address}/a/three.txt") is None
    assert list_folder(f"{address}/a") == [("b", None), ("one.txt", 5)]
    assert list(files_below(f"{address}/a")) == [
        ("b/two.txt", StoredFile(f"{address}/a/b/two.txt", 4)),
        ("one.txt", StoredFile(f"{address}/a/one.txt", 5)),
    ]


def test_a_local_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(str(tmp_path / "a.txt"), b"first")

    def fail(self: Path, target: Path) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="No space left") as raised:
        write(str(tmp_path / "a.txt"), b"second")
    assert raised.value.errno == errno.ENOSPC
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"first"


def test_a_copy_has_the_name_of_its_file_and_goes(memory: Any) -> None:
    write("memory://bucket/videos/7.mp4", b"film")
    with local_copy(StoredFile("memory://bucket/videos/7.mp4", 4)) as path:
        assert (path.name, path.read_bytes()) == ("7.mp4", b"film")
    assert not path.parent.exists()


def test_the_copy_of_a_missing_file_does_not_exist(memory: Any) -> None:
    with local_copy(StoredFile("memory://bucket/videos/8.mp4", 4)) as path:
        assert not path.exists()


def test_a_folder_that_does_not_exist_is_named(memory: Any) -> None:
    with pytest.raises(InputError, match="there is no folder memory://bucket/nowhere"):
        list_folder("memory://bucket/nowhere")


def test_failures_of_the_storage_are_one_sentence(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> bytes:
        raise KeyError("no credentials")

    monkeypatch.setattr(type(memory), "cat_file", fail)
    with pytest.raises(OSError, match="KeyError") as raised:
        read_bytes("memory://bucket/a")
    assert sentence_of(raised.value) == "memory://bucket/a cannot be used: KeyError: 'no credentials'."


@pytest.mark.parametrize("address", ["nosuchsystem://bucket/a"])
def test_an_unknown_protocol_is_named(address: str) -> None:
    with pytest.raises(InputError, match="nosuchsystem"):
        read_bytes(address)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'microlens\[scale\]'"):
        read_bytes("s3://bucket/a")
