"""What verification costs beside decoding the same videos and nothing else, printed as JSON.

    python speed/verify.py [--smoke] [--repeats 3] [--files 120] [--workers 2] [VIDEO ...]

The videos are linked as often as it takes to make up the number of files. Without any, it encodes two as decode.py
does.
Both ways run in worker processes of one thread each and read every frame and every sample; verification also
hashes the file, checks its timeline, computes perceptual hashes and writes its log. CPU seconds are the processes'.
"""

import argparse
import os
import resource
import tempfile
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from decode import encode_example
from measure import Cost, Line, print_result, side_by_side
from peers.plain_decoding import decode_plainly

from microlens.media.processes import work
from microlens.verification.media_files import MediaTask, check_files

REACH = 0.9


def linked(videos: list[Path], number: int, folder: Path) -> list[Path]:
    """``number`` links to the videos in turn."""
    links = [folder / f"{index}{video.suffix}" for index, video in enumerate(islice(cycle(videos), number))]
    for link, video in zip(links, cycle(videos), strict=False):
        link.symlink_to(video.resolve())
    return links


def measured(paths: list[Path], workers: int, repeats: int) -> dict[str, Cost]:
    """The costs of both ways, each repeat with an empty log."""
    tasks = [MediaTask(kind="clips", name=path.name, path=path) for path in paths]

    def verify() -> None:
        with tempfile.TemporaryDirectory() as folder:
            faults = [file for file in check_files(tasks, Path(folder), workers) if file.faults]
        assert not faults, faults

    def decode() -> None:
        assert all(frames for _, frames in work(decode_plainly, paths, workers))

    return side_by_side({"pyav, decoding only": decode, "microlens": verify}, repeats, resource.RUSAGE_CHILDREN)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path, metavar="VIDEO")
    parser.add_argument("--smoke", action="store_true", help="few short videos")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--files", type=int, default=120)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.smoke:
        options.repeats, options.files = 1, 4
    with tempfile.TemporaryDirectory() as folder:
        videos = options.videos or [Path(folder) / f"keyframe-every-{every}.mp4" for every in (250, 30)]
        if not options.videos:
            for video, every in zip(videos, (250, 30), strict=True):
                encode_example(video, every, count=30 if options.smoke else 365)
        (Path(folder) / "links").mkdir()
        paths = linked(videos, options.files, Path(folder) / "links")
        costs = measured(paths, options.workers, options.repeats)
        size = sum(path.stat().st_size for path in paths)
    options.videos = [video.name for video in options.videos]
    results: dict[str, Any] = {"files": len(paths), "bytes": size, "timings": costs}
    plain, ours = costs["pyav, decoding only"], costs["microlens"]
    lines = [
        Line(
            what=f"verify's rate beside decoding only, {unit}",
            measured=of_plain / of_ours,
            unit="x",
            bound="at least",
            reach=REACH,
        )
        for unit, of_plain, of_ours in (
            ("wall clock", plain.wall_seconds, ours.wall_seconds),
            ("CPU time", plain.cpu_seconds, ours.cpu_seconds),
        )
    ]
    print_result("verify", options, [1], results, lines)


if __name__ == "__main__":
    main()
