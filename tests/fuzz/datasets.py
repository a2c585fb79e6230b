"""The healthy dataset folders that targets damage."""

from pathlib import Path

from microlens.data.prepare import prepare
from microlens.media.decoding import Settings
from microlens.media.reading import ClipSettings
from microlens.media.sound import SoundSettings
from tests.conftest import random_sequences, write_pairs
from tests.fuzz.media import CLIPS, write_clip, write_covers

ITEMS = 12
SETTINGS = Settings(
    clips=ClipSettings(num_frames=2, size=16),
    cover_size=16,
    sound=SoundSettings(sample_rate=8000, num_mels=8, seconds=0.2),
)


def write_tables_only(folder: Path) -> None:
    """``dataset``, of interactions and titles."""
    release = write_pairs(folder / "release", random_sequences(30, ITEMS))
    titles = "".join(f'{item},"a title, {item}"\n' for item in range(1, ITEMS + 1))
    (release / "tiny_titles.csv").write_text(f"item,title\n{titles}")
    prepare(release, folder / "dataset", SETTINGS, workers=1)


def write_with_media(folder: Path) -> None:
    """``dataset``, with a clip, a cover and a sound of every item."""
    release = write_pairs(folder / "release", random_sequences(30, ITEMS))
    for name in ("videos", "covers"):
        (release / name).mkdir()
    write_covers(folder)
    cover = (folder / "plain.jpg").read_bytes()
    write_clip(folder / "clip.mp4", *CLIPS[0][1:])
    clip = (folder / "clip.mp4").read_bytes()
    for item in range(1, ITEMS + 1):
        (release / "videos" / f"{item}.mp4").write_bytes(clip)
        (release / "covers" / f"{item}.jpg").write_bytes(cover)
    prepare(release, folder / "dataset", SETTINGS, workers=1)
