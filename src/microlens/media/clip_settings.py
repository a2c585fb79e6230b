"""How videos are converted to clips; apart from the reading itself, whose libraries are slow to import."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from microlens.errors import InputError

Crop: TypeAlias = Literal["squash", "center"]
Sampling: TypeAlias = Literal["spread", "middle", "keyframes", "shots"]


@dataclass(frozen=True, kw_only=True)
class ClipSettings:
    """How a video is converted to a clip.

    frames: `spread` selects the frame on screen at the centre of each of F equal parts of the video's duration;
    `middle` F consecutive frames around the middle one, as the original research code; `keyframes` the keyframes
    nearest to the centres, without decoding anything else; `shots` frames of as many shots as possible, see
    :mod:`microlens.media.shots`, for which the whole video is decoded. num_frames: F. size: H = W in pixels. crop:
    `squash` scales the whole picture to a square; `center` scales the short side and crops the centre.

    Raises:
        InputError: a value is not accepted.
    """

    frames: Sampling = "spread"
    num_frames: int = 5
    size: int = 224
    crop: Crop = "squash"

    def __post_init__(self) -> None:
        if self.frames not in get_args(Sampling):
            raise InputError(f"clip settings: frames is {self.frames!r}; accepted are {', '.join(get_args(Sampling))}")
        if self.crop not in get_args(Crop):
            raise InputError(f"clip settings: crop is {self.crop!r}; accepted are {', '.join(get_args(Crop))}")
        if not 1 <= self.num_frames <= 1024:
            raise InputError(f"clip settings: num_frames is {self.num_frames}; accepted are 1 to 1024")
        if not 8 <= self.size <= 4096:
            raise InputError(f"clip settings: size is {self.size}; accepted are 8 to 4096 pixels")
