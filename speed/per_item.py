"""What preparing one item and one interaction costs, as JSON: the figures that speed/sizing.py multiplies.

    python speed/per_item.py [--smoke] [--covers FOLDER] [VIDEO ...]

Each video is decoded as `microlens data prepare` does it, to a clip and its sound, each cover to its stored picture,
and each file is verified as `microlens data verify` does it, in this process; CPU seconds are the least of three. The
interactions are made (measure.py) and prepared as a whole.
Without files, a video of 12 s is made, which has no sound, and there are no covers.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import fmean
from typing import Any

from decode import cost, encode_example
from measure import MICROLENS_100K, SMOKE, Shape, long_tailed_sequences, print_result, side_by_side, write_release

from microlens.data.prepare import prepare
from microlens.media.decoding import Settings, Task, decode
from microlens.verification.media_files import MediaTask, check_file

REPEATS = 3


def measure_file(path: Path, kinds: tuple[str, ...], repeats: int) -> dict[str, Any]:
    """Bytes of the file, bytes stored for each kind, and CPU seconds for each kind alone and for verification."""
    figures: dict[str, Any] = {"file_bytes": path.stat().st_size, "stored_bytes": {}, "cpu_seconds": {}}
    for kind in kinds:
        task = Task(1, path, (kind,))
        ((outcome, value),) = decode(task, Settings())
        figures["stored_bytes"][kind] = len(value or b"")
        figures["cpu_seconds"][kind] = cost(lambda task=task: decode(task, Settings()), repeats)["cpu_seconds"]
        if outcome.info:
            figures["video"] = {key: outcome.info[key] for key in ("duration", "width", "height", "codec")}
    whole = MediaTask(kind=kinds[0], name=path.name, path=path)
    figures["verify_cpu_seconds"] = cost(lambda: check_file(whole), repeats)["cpu_seconds"]
    return figures


def mean_of(files: dict[str, dict[str, Any]], kind: str) -> dict[str, float] | None:
    """Means over the files of a kind."""
    of_kind = [figures for figures in files.values() if kind in figures["stored_bytes"]]
    if not of_kind:
        return None
    return {
        "files": len(of_kind),
        "stored_bytes": round(fmean(figures["stored_bytes"][kind] for figures in of_kind)),
        "cpu_seconds": round(fmean(figures["cpu_seconds"][kind] for figures in of_kind), 5),
        "verify_cpu_seconds": round(fmean(figures["verify_cpu_seconds"] for figures in of_kind), 5),
    }


def measure_interactions(folder: Path, shape: Shape) -> dict[str, float]:
    """Bytes on disk and CPU seconds of an interaction."""
    release = write_release(folder / "release", long_tailed_sequences(shape), "csv")
    seconds = side_by_side({"prepare": lambda: prepare(release, folder / "dataset")}, 1)["prepare"].cpu_seconds
    dataset = folder / "dataset"
    files = [*dataset.glob("interactions/*"), dataset / "interactions.parquet", dataset / "users.parquet"]
    return {
        "interactions": shape.interactions,
        "stored_bytes": round(sum(file.stat().st_size for file in files) / shape.interactions, 2),
        "cpu_seconds": seconds / shape.interactions,
    }


def main() -> None:
    """Measure the files named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--covers", type=Path)
    parser.add_argument("--smoke", action="store_true", help="tiny data, to see that the program works")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = options.videos
        if not videos:
            videos = [folder / "made.mp4"]
            encode_example(videos[0], 30, 20 if options.smoke else 365)
        covers = sorted(options.covers.iterdir()) if options.covers else []
        files = {path.name: measure_file(path, ("clips", "sound"), REPEATS) for path in videos}
        files |= {path.name: measure_file(path, ("covers",), REPEATS) for path in covers}
        results = {
            "files": files,
            "mean": {kind: mean_of(files, kind) for kind in ("clips", "sound", "covers")},
            "interaction": measure_interactions(folder, SMOKE if options.smoke else MICROLENS_100K),
        }
    options.videos, options.covers = [path.name for path in options.videos], None
    print_result("per_item", options, [1], results, [])


if __name__ == "__main__":
    main()
