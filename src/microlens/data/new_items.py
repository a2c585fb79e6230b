"""Items outside the dataset: what is known of them, and their content as a dataset stores it."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from microlens.errors import InputError, has_surrogates, shown
from microlens.media.decoding import Settings
from microlens.media.packing import pack_images, unpack_images

WHAT_IS_READ = {"title": "title", "tag": "tag", "clips": "video", "covers": "cover", "sound": "video"}
"""What a new item has to have, by what encoders read of it; see :attr:`ItemEncoder.reads_of_new`."""

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class NewItem:
    """An item outside the dataset, such as a video that was just uploaded, by what is known of it.

    Attributes:
        title: its title; "" if it has none.
        tag: its tag; "" if it has none.
        video: path of its video, which clip and sound are read from.
        cover: path of its cover.
    """

    title: str = ""
    tag: str = ""
    video: str | Path | None = None
    cover: str | Path | None = None

    def __post_init__(self) -> None:
        """Check the types and that everything can be stored as UTF-8.

        Raises:
            InputError: the title or the tag is no text, or the video or the cover no path.
        """
        for name, value in (("title", self.title), ("tag", self.tag)):
            if not isinstance(value, str) or has_surrogates(value):
                raise InputError(f'{name} of a new item is {shown(value)}; it must be a text in UTF-8, "" for none.')
        for name, path in (("video", self.video), ("cover", self.cover)):
            if path is not None and (not isinstance(path, (str, Path)) or "\0" in str(path)):
                raise InputError(
                    f"{name} of a new item is {shown(path)}; it must be the path of a file, None for none."
                )

    @property
    def name(self) -> str:
        """Its title, or else the path of its video or cover, or its tag."""
        tag = f"an item with the tag '{self.tag.strip()}'" if self.tag.strip() else "an item of which nothing is known"
        return self.title.strip() or str(self.video or self.cover or tag)

    def lacks(self, reads: Iterable[str]) -> list[str]:
        """What is missing of what encoders read, in words; see :attr:`ItemEncoder.reads_of_new`."""
        wanted = {WHAT_IS_READ[kind] for kind in reads}
        return [name for name in dict.fromkeys(WHAT_IS_READ.values()) if name in wanted and not self._has(name)]

    def _has(self, name: str) -> bool:
        value = getattr(self, name)
        return bool(value.strip() if isinstance(value, str) else value)


def read_new_content(item: NewItem, kinds: frozenset[str], settings: Settings) -> dict[str, Tensor]:
    """Read the content of a new item as :class:`microlens.data.content.ItemContent` reads that of the dataset.

    Args:
        item: the item.
        kinds: content to read, a subset of ``microlens.data.content.KINDS``.
        settings: how the media of the dataset were decoded.

    Returns:
        For each kind (1, ...), as a dataset stores it, and a mask ``KIND.missing`` (1,); what is missing is zeros.

    Raises:
        InputError: a file is missing or cannot be decoded.
    """
    content: dict[str, Tensor] = {}
    for kind in sorted(kinds):
        path = item.cover if kind == "covers" else item.video
        values = _empty(kind, settings) if path is None else _read(kind, Path(path), settings)
        content[kind] = torch.from_numpy(values[None])
        content[f"{kind}.missing"] = torch.tensor([path is None])
    return content


def _read(kind: str, path: Path, settings: Settings) -> Bytes:
    from microlens.media.reading import MediaFault, read_clip, read_cover  # slow to import
    from microlens.media.sound import read_log_mel

    try:
        if kind == "clips":
            return unpack_images(pack_images(read_clip(path, settings.clips).frames))
        if kind == "covers":
            return unpack_images(pack_images(read_cover(path, settings.cover_size, settings.cover_crop).pixels[None]))
        sound = read_log_mel(path, settings.sound)
    except MediaFault as fault:
        raise InputError(f"{path} cannot be used: {fault}.") from None
    padded = _empty(kind, settings)
    padded[: len(sound)] = sound
    return padded


def _empty(kind: str, settings: Settings) -> Bytes:
    clips, size = settings.clips, settings.cover_size
    shapes = {"clips": (clips.num_frames, clips.size, clips.size, 3), "covers": (1, size, size, 3)}
    return np.zeros(shapes.get(kind, settings.sound.shape), np.uint8)
