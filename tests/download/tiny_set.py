"""A small set of official shape, and the command line with a registry that holds it.

python -m tests.download.tiny_set data download tiny OUT --mirror URL
"""

import random
import struct
import sys
from hashlib import sha256
from typing import Any
from unittest import mock

from microlens.download import registry, retrying
from tests.download.zip_files import split_zip

ITEMS = range(1, 13)
PART_SIZE = 40_000
FOLDER = "Tiny-Dataset"


def video(item: int, size: int = 20_000) -> bytes:
    """The boxes of an mp4 file with random content."""
    content = random.Random(item).randbytes(size + 100 * item)
    return b"\0\0\0\x10ftypisom\0\0\0\0" + struct.pack(">L", 8 + len(content)) + b"mdat" + content


def cover(item: int) -> bytes:
    """A file with the beginning and the end of a JPEG picture."""
    return b"\xff\xd8\xff\xe0" + random.Random(-item).randbytes(2000 + item) + b"\xff\xd9"


def pairs() -> bytes:
    """Each of six users with six items."""
    draw = random.Random(0)
    rows = [
        f"{user},{item},{10**12 + time}" for user in range(1, 7) for time, item in enumerate(draw.sample(ITEMS, 10))
    ]
    return "\n".join(["user,item,timestamp", *rows, ""]).encode()


def served(*, singles: bool = True, archives: bool = True, video_size: int = 20_000) -> dict[str, bytes]:
    """The files of the set by address: tables, and media as single files, in zips, or both."""
    videos = {f"Tiny_videos/{item}.mp4": video(item, video_size) for item in ITEMS}
    covers = {f"Tiny_covers/{item}.jpg": cover(item) for item in ITEMS}
    titles = "".join(f"{item},title {item}\n" for item in ITEMS).encode()
    files = {"Tiny_pairs.csv": pairs(), "Tiny_titles.csv": titles, "readme.txt": b"read me\n"}
    if singles:
        files |= videos | covers
    if archives:
        parts = split_zip(videos, max(PART_SIZE, 2 * video_size))
        files |= {f"Tiny_videos.z{number:02}": part for number, part in enumerate(parts[:-1], 1)}
        files |= {"Tiny_videos.zip": parts[-1], "Tiny_covers.zip": split_zip(covers, 10**9)[0]}
    return {f"{FOLDER}/{name}": content for name, content in files.items()}


def content(video_size: int = 20_000) -> dict[str, Any]:
    """The registry's tables."""
    parts = sum(name.startswith(f"{FOLDER}/Tiny_videos.z") for name in served(video_size=video_size))
    files = [
        {"path": "Tiny_pairs.csv", "kind": "pairs", "size": len(pairs()), "sha256": sha256(pairs()).hexdigest()},
        {"path": "Tiny_titles.csv", "kind": "titles"},
        {"path": "readme.txt", "kind": "readme"},
    ]
    media = [
        {"folder": "Tiny_covers", "kind": "covers", "suffix": ".jpg", "archive": "Tiny_covers.zip"},
        {"folder": "Tiny_videos", "kind": "videos", "suffix": ".mp4", "archive": "Tiny_videos.zip", "parts": parts},
    ]
    counts = {"users": 6, "items": len(ITEMS), "interactions": 60}
    tiny = {"title": "Tiny", "folder": FOLDER, **counts, "files": files, "media": media}
    return {"base": "https://127.0.0.1/", "sets": {"tiny": tiny}}


def released(video_size: int = 20_000) -> dict[str, bytes]:
    """The files of the complete release, by path."""
    files = served(archives=False, video_size=video_size)
    return {name.removeprefix(f"{FOLDER}/"): content for name, content in files.items()}


def main() -> None:
    """Run the command line with this set in place of the official ones."""
    from microlens import cli

    table = content(int(sys.argv.pop(1)))
    with mock.patch.object(registry, "_content", return_value=table), mock.patch.object(retrying, "FIRST_PAUSE", 0.01):
        cli.main()


if __name__ == "__main__":
    main()
