"""The synthetic demonstration datasets, created where they are missing."""

import shutil
from pathlib import Path

from microlens.data.prepare import prepare
from microlens.files.progress_bar import progress_bar
from microlens.media.decoding import Settings
from microlens.media.reading import ClipSettings
from microlens.release.synthetic import write_release
from microlens.runs.code_files import Method, write_codes
from microlens.runs.feature_files import write_features
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
CODES: dict[str, Method] = {"codes": "balanced-kmeans", "codes-random": "random"}
"""The codes of these features, 16 a level, by name."""


def demonstration(folder: Path, console: Console) -> Path:
    """Return ``folder``; if it is a missing demonstration dataset, create it with its features first."""
    if folder.parent != Path("datasets") or folder.name not in SHAPES:
        return folder
    users, items, seed, frames, size, cover = SHAPES[folder.name]
    release = Path("releases") / folder.name
    if not (folder / "manifest.json").is_file():
        if not release.exists():
            release.parent.mkdir(exist_ok=True)
            with progress_bar(console) as bar:
                task = bar.add_task("videos", total=items, note="")

                def show(done: int, _: int) -> None:
                    bar.update(task, completed=done)

                write_release(release, users=users, items=items, seed=seed, on_progress=show)
        clips = ClipSettings(num_frames=frames, size=size)
        prepare(release, folder, Settings(clips=clips, cover_size=cover))
        console.print(f"{folder} is made: {users:,} users, {items:,} synthetic videos.")
    _name_features(folder)
    _name_codes(folder)
    return folder


def _name_features(folder: Path) -> None:
    """Extract the features once, and copy them to the name that configurations use."""
    features = folder / "features"
    named = features / f"{FEATURES}.npy"
    if named.is_file():
        return
    _copy(write_features(folder, "x3d_xs", weights="random").path, named)


def _name_codes(folder: Path) -> None:
    """Quantise the features once, and copy the codes to the names that configurations use."""
    features = folder / "features"
    for name, method in CODES.items():
        if not (features / f"{name}.npy").is_file():
            made = write_codes(features / f"{FEATURES}.npy", method=method, codes=16)
            _copy(made.path, features / f"{name}.npy")


def _copy(made: Path, named: Path) -> None:
    for ending in (".ids.npy", ".json", ".npy"):  # the matrix last: its presence marks the set as complete
        shutil.copyfile(made.with_suffix(ending), named.with_suffix(ending))
