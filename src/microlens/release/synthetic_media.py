"""Drawing and encoding of one synthetic micro-video: a coloured figure that moves to a tone in front of a backdrop.

Pictures are `(H, W, 3)` uint8 RGB, clips `(F, H, W, 3)`, sound `(T,)` float32 in [-1, 1]. Positions on the picture
are measured in picture widths from its centre, so that a cover is the same scene as the video, only larger.
"""

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from microlens.media.reading import media_url

Floats = NDArray[np.floating[Any]]
Pixels = NDArray[np.uint8]

VIDEO_SIZE = (256, 144)
COVER_SIZE = (512, 288)
FRAMES = 30
FRAMES_PER_SECOND = 12
SAMPLE_RATE = 16_000
COVER_MOMENT = 0.4
GRAIN_SHIFT = 32

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (226, 28, 38),
    "orange": (255, 130, 10),
    "yellow": (250, 214, 20),
    "green": (38, 166, 52),
    "turquoise": (20, 196, 196),
    "blue": (28, 84, 228),
    "purple": (146, 44, 208),
    "pink": (255, 96, 176),
}
"""Colour of the figure, red green blue."""

BACKDROPS: dict[str, tuple[int, int, int]] = {
    "night": (20, 20, 40),
    "snow": (236, 240, 246),
    "forest": (14, 70, 36),
    "sea": (12, 44, 120),
    "sand": (224, 196, 148),
    "plum": (92, 18, 78),
}
"""Colour of the backdrop, red green blue."""

PITCHES: dict[str, float] = {"deep": 146.8, "low": 220.0, "mellow": 329.6, "high": 493.9, "shrill": 740.0}
"""Fundamental frequency in Hz. The steps are fifths, so that no tone is an octave of another."""


def _circle(x: Floats, y: Floats) -> Floats:
    return np.hypot(x, y) - 1


def _square(x: Floats, y: Floats) -> Floats:
    return np.maximum(abs(x), abs(y)) - 0.88


def _triangle(x: Floats, y: Floats) -> Floats:
    slope = np.float32(np.sqrt(3) / 2)
    return np.maximum(y, slope * abs(x) - y / 2) - 0.66


def _cross(x: Floats, y: Floats) -> Floats:
    along, across = np.maximum(abs(x), abs(y)), np.minimum(abs(x), abs(y))
    return np.maximum(along - 1.05, across - 0.36)


def _star(x: Floats, y: Floats) -> Floats:
    """Fold the plane onto half an arm, whose edge is the straight line from the tip to the notch."""
    sector = np.float32(2 * np.pi / 5)
    angle = abs(np.mod(np.arctan2(x, -y) + sector / 2, sector) - sector / 2)
    radius = np.hypot(x, y)
    tip, notch = np.array([1.2, 0.0]), 0.52 * np.array([np.cos(sector / 2), np.sin(sector / 2)])
    outward = np.array([notch[1], tip[0] - notch[0]]) / np.linalg.norm(tip - notch)
    distance: Floats = radius * (np.cos(angle) * outward[0] + np.sin(angle) * outward[1]) - tip @ outward
    return distance


SHAPES: dict[str, Callable[[Floats, Floats], Floats]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
}
"""Distance to the outline at `(x, y)`, y downwards, of a figure whose radius is about 1; negative inside."""

MOTIONS: dict[str, Callable[[Floats], tuple[Floats, Floats]]] = {
    "drifting left": lambda t: (0.24 - 0.48 * t, 0 * t),
    "drifting right": lambda t: (0.48 * t - 0.24, 0 * t),
    "rising": lambda t: (0 * t, 0.44 - 0.88 * t),
    "falling": lambda t: (0 * t, 0.88 * t - 0.44),
    "circling": lambda t: (0.14 * np.sin(2 * np.pi * t), -0.3 * np.cos(2 * np.pi * t)),
    "resting": lambda t: (0 * t, 0 * t),
}
"""Centre of the figure at time t, which runs from 0 at the first frame to 1 at the last."""

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "colour": tuple(COLOURS),
    "backdrop": tuple(BACKDROPS),
    "shape": tuple(SHAPES),
    "motion": tuple(MOTIONS),
    "pitch": tuple(PITCHES),
}
"""The values of an item's attributes and of a user's favourites, always in this order."""

TAGS: dict[str, str] = {
    "drifting left": "Transportation",
    "drifting right": "Transportation",
    "rising": "Sports",
    "falling": "Game",
    "circling": "Music",
    "resting": "Photography",
}
"""The tag of an item by its motion, from the official tags."""


@dataclass(frozen=True)
class Look:
    """The attributes of an item, a name from each table above, and the seed of its random variation."""

    colour: str
    backdrop: str
    shape: str
    motion: str
    pitch: str
    seed: tuple[int, ...]


class Scene(NamedTuple):
    """The random variation of an item, in which items with equal attributes differ."""

    radius: float
    tilt: float
    offset: tuple[float, float]
    pace: float
    background: Floats  # (2, 3) RGB in [0, 1] at the top and at the bottom
    blotches: Floats  # (6, 4) factors of brightness on a coarse grid


def draw_scene(look: Look) -> Scene:
    """Draw the random variation of an item from its seed."""
    rng = np.random.default_rng([*look.seed, 0])
    tone = np.array(BACKDROPS[look.backdrop]) / 255
    return Scene(
        radius=rng.uniform(0.31, 0.38),
        tilt=rng.uniform(-0.2, 0.2),
        offset=(rng.uniform(-0.05, 0.05), rng.uniform(-0.16, 0.16)),
        pace=rng.uniform(0.85, 1.1),
        background=np.clip(tone * rng.uniform(0.8, 1.2, (2, 1)), 0, 1).astype(np.float32),
        blotches=rng.uniform(0.88, 1.1, (6, 4)).astype(np.float32),
    )


def draw_clip(look: Look, moments: Floats, size: tuple[int, int]) -> Pixels:
    """Draw the frames at `moments` (F,) in [0, 1]: `(F, H, W, 3)` uint8; `size` is (H, W) in pixels."""
    scene = draw_scene(look)
    height, width = size
    sprite, lit = _draw_sprite(look, scene, width)
    background = _draw_background(scene, size)
    x, y = MOTIONS[look.motion]((moments - 0.5) * scene.pace + 0.5)
    left = np.rint((x + scene.offset[0] + 0.5) * width - len(sprite) / 2).astype(int)
    top = np.rint((y + scene.offset[1]) * width + (height - len(sprite)) / 2).astype(int)
    rng = np.random.default_rng([*look.seed, 1])
    grain = 3 * rng.standard_normal((height + GRAIN_SHIFT, width + GRAIN_SHIFT, 1), dtype=np.float32)
    shifts = rng.integers(0, GRAIN_SHIFT, (len(moments), 2))
    clip = np.empty((len(moments), height, width, 3), dtype=np.uint8)
    for frame, row, column, (down, aside) in zip(clip, top, left, shifts, strict=True):
        picture = background + grain[down : down + height, aside : aside + width]
        inside = picture[max(row, 0) : row + len(sprite), max(column, 0) : column + len(sprite)]
        visible = (
            slice(max(-row, 0), max(-row, 0) + inside.shape[0]),
            slice(max(-column, 0), max(-column, 0) + inside.shape[1]),
        )
        inside *= lit[visible]
        inside += sprite[visible]
        frame[...] = np.clip(picture, 0, 255, out=picture)
    return clip


def _draw_background(scene: Scene, size: tuple[int, int]) -> Floats:
    """A vertical gradient with soft blotches: `(H, W, 3)` in [0, 255]."""
    height, width = size
    rows, columns = scene.blotches.shape
    # einsum, because a matrix product's threads would compete with the other drawing processes.
    across = np.einsum("rc,wc->rw", scene.blotches, _smooth_steps(width, columns))
    blotches = np.einsum("hr,rw->hw", _smooth_steps(height, rows), across)
    gradient = np.einsum("ht,tc->hc", _smooth_steps(height, 2), scene.background)
    picture: Floats = np.clip(255 * gradient[:, None] * blotches[:, :, None], 0, 255)
    return picture


def _smooth_steps(pixels: int, knots: int) -> Floats:
    """Smooth interpolation weights between evenly spaced knots: `(pixels, knots)`."""
    distance = abs(np.linspace(0, knots - 1, pixels, dtype=np.float32)[:, None] - np.arange(knots, dtype=np.float32))
    weights: Floats = (1 + np.cos(np.pi * np.minimum(distance, 1))) / 2
    return weights


def _draw_sprite(look: Look, scene: Scene, width: int) -> tuple[Floats, Floats]:
    """The figure to add, `(P, P, 3)`, and the fraction of the background to keep, with its shadow, `(P, P, 1)`."""
    radius = scene.radius * width
    side = int(3.2 * radius)
    y, x = (np.mgrid[:side, :side].astype(np.float32) - (side - 1) / 2) / np.float32(radius)
    cosine, sine = np.float32(np.cos(scene.tilt)), np.float32(np.sin(scene.tilt))
    outline = SHAPES[look.shape]
    inside = np.clip(0.5 - outline(cosine * x + sine * y, cosine * y - sine * x) * radius, 0, 1)[:, :, None]
    xs, ys = x - np.float32(0.05), y - np.float32(0.1)
    shadow = np.clip(0.5 - 4 * outline(cosine * xs + sine * ys, cosine * ys - sine * xs), 0, 1)[:, :, None]
    light = 1.04 - 0.12 * (x + y)[:, :, None]
    figure = np.clip(np.array(COLOURS[look.colour], dtype=np.float32) * light, 0, 255)
    return inside * figure, (1 - inside) * (1 - 0.4 * shadow)


def play_sound(look: Look, seconds: float) -> Floats:
    """The item's tone as `(T,)` float32 at `SAMPLE_RATE`; timbre, beat and loudness vary randomly."""
    rng = np.random.default_rng([*look.seed, 2])
    time = np.arange(round(seconds * SAMPLE_RATE), dtype=np.float32) / SAMPLE_RATE
    frequency = PITCHES[look.pitch] * 2 ** rng.uniform(-1 / 60, 1 / 60)
    overtones = np.array([1, *rng.uniform(0, 0.45, 3) / np.arange(1, 4)])
    tone = sum(
        strength * np.sin(2 * np.pi * frequency * number * time) for number, strength in enumerate(overtones, start=1)
    )
    beats_per_second = rng.choice([0, 2, 3, 4])
    phase = np.mod(time * beats_per_second, 1)
    envelope = np.minimum(phase * 30, 1) * np.exp(-2.5 * phase) if beats_per_second else np.ones_like(time)
    fade = np.minimum(1, 25 * np.minimum(time, seconds - time))
    hiss = rng.normal(0, 0.004, len(time))
    sound: Floats = (rng.uniform(0.35, 0.6) * tone * envelope * fade / overtones.sum() + hiss).astype(np.float32)
    return sound


def write_item(folder: Path, number: int, look: Look) -> None:
    """Write `videos/NUMBER.mp4`, `covers/NUMBER.jpg` and `audios/NUMBER.m4a` into existing folders."""
    moments = np.linspace(0, 1, FRAMES, dtype=np.float32)
    clip = draw_clip(look, moments, VIDEO_SIZE)
    sound = play_sound(look, FRAMES / FRAMES_PER_SECOND)
    _encode(folder / "videos" / f"{number}.mp4", sound, clip)
    _encode(folder / "audios" / f"{number}.m4a", sound)
    cover = draw_clip(look, np.array([COVER_MOMENT], dtype=np.float32), COVER_SIZE)[0]
    (folder / "covers" / f"{number}.jpg").write_bytes(simplejpeg.encode_jpeg(cover, quality=90))


def _encode(path: Path, sound: Floats, clip: Pixels | None = None) -> None:
    with av.open(media_url(path), "w") as container:
        if clip is not None:
            video = container.add_stream("libx264", rate=FRAMES_PER_SECOND)
            video.height, video.width = clip.shape[1:3]
            video.pix_fmt = "yuv420p"
            video.options = {"preset": "ultrafast", "crf": "27"}
            video.codec_context.thread_count = 1
        audio = container.add_stream(
            "aac", rate=SAMPLE_RATE, layout="mono", bit_rate=48_000, options={"aac_coder": "fast"}
        )
        if clip is not None:
            for picture in clip:
                container.mux(video.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(video.encode())
        block = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        block.sample_rate = SAMPLE_RATE
        block.pts, block.time_base = 0, Fraction(1, SAMPLE_RATE)
        container.mux(audio.encode(block))
        container.mux(audio.encode())
