"""The synthetic demonstration datasets, created where they are missing."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

from microlens.data.prepare import prepare
from microlens.files.progress_bar import progress_bar
from microlens.media.decoding import Settings
from microlens.media.reading import ClipSettings
from microlens.release.synthetic import write_release
from microlens.runs.code_files import CodeFiles, Method, write_codes
from microlens.runs.feature_files import write_features
from microlens.runs.feature_record import FeatureFiles
from microlens.runs.terminal import Console

# Name: users, videos, seed, frames per clip, size of clips, size of covers.
SHAPES: dict[str, tuple[int, int, int, int, int, int]] = {
    "demo": (2000, 400, 0, 5, 112, 112),
    "demo-source": (2000, 400, 1, 5, 112, 112),
    "smoke": (200, 80, 0, 2, 32, 64),
    "smoke-source": (200, 80, 1, 2, 32, 64),
}
FEATURES = "video"
"""The features used by configurations of the demonstration: X3D-XS with random weights, frozen."""
FRAMES = "frames"
"""Those of single frames: ResNet18 with random weights, frozen."""
CODES: dict[str, Method] = {"codes": "balanced-kmeans", "codes-random": "random"}
"""The codes of these features, 16 a level, by name."""


def demonstration(folder: Path, console: Console, *, frames: bool = False, codes: bool = False) -> Path:
    """Return ``folder``; if it is a missing demonstration dataset, create it with its features first.

    Args:
        folder: a dataset folder.
        console: where what is made is said.
        frames: also create the features of single frames.
        codes: also quantise the features.
    """
    if folder.parent != Path("datasets") or folder.name not in SHAPES:
        return folder
    users, items, seed, num_frames, size, cover = SHAPES[folder.name]
    release = Path("releases") / folder.name
    if not (folder / "manifest.json").is_file():
        if not release.exists():
            release.parent.mkdir(exist_ok=True)
            with progress_bar(console) as bar:
                task = bar.add_task("videos", total=items, note="")

                def show(done: int, _: int) -> None:
                    bar.update(task, completed=done)

                write_release(release, users=users, items=items, seed=seed, on_progress=show)
        clips = ClipSettings(num_frames=num_frames, size=size)
        prepare(release, folder, Settings(clips=clips, cover_size=cover))
        console.print(f"{folder} is made: {users:,} users, {items:,} synthetic videos.")
    _name(folder, FEATURES, partial(write_features, folder, "x3d_xs", weights="random"))
    if frames:
        write = partial(write_features, folder, "resnet18", weights="random", options={"source": "frame"})
        _name(folder, FRAMES, partial(write, per_frame=True))
    if codes:
        _name_codes(folder)
    return folder


def _name_codes(folder: Path) -> None:
    for name, method in CODES.items():
        _name(folder, name, partial(write_codes, folder / "features" / f"{FEATURES}.npy", method=method, codes=16))


def _name(folder: Path, name: str, write: Callable[[], FeatureFiles | CodeFiles]) -> None:
    """Write features or codes once, and copy them to the name that configurations use."""
    features = folder / "features"
    if (features / f"{name}.npy").is_file():
        return
    made = write().path
    for ending in (".ids.npy", ".json", ".npy"):  # the matrix last: its presence marks the set as complete
        shutil.copyfile(made.with_suffix(ending), features / f"{name}{ending}")
