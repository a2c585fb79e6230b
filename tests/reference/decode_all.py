"""The obvious way to sample a video: decode every frame, sort, choose. Slow, and easy to believe."""

from functools import lru_cache
from pathlib import Path

import av
import numpy as np

from microlens.media.reading import ClipSettings


def counted_times(path: Path) -> list[int]:
    """AVI stores decode times only, so frame i gets the i-th of them; a one-byte packet is a filler, not a frame."""
    with av.open(str(path), metadata_errors="ignore") as container:
        return sorted(packet.dts for packet in container.demux(video=0) if packet.size > 1)


@lru_cache(maxsize=1)
def all_frames(path: Path, size: int) -> tuple[list[float], float, np.ndarray]:
    """Every shown frame: their times, the end of the last one, and pixels (N, size, size, 3), not turned upright."""
    counted = counted_times(path) if path.suffix == ".avi" else []
    times, ends, pixels = [], [], []
    with av.open(str(path), metadata_errors="ignore") as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for number, frame in enumerate(container.decode(stream)):
            times.append(counted[number] if counted else frame.pts)
            ends.append(times[-1] + frame.duration)
            small = frame.reformat(width=size, height=size, format="rgb24", interpolation="BILINEAR")
            pixels.append(np.rot90(small.to_ndarray(), round(frame.rotation / 90) % 4))
    order = np.argsort(times, kind="stable")
    return [times[i] for i in order], ends[order[-1]], np.stack([pixels[i] for i in order])


def decode_all(path: Path, settings: ClipSettings) -> np.ndarray:
    """What read_clip must return for a sound file with `spread` or `middle` and crop `squash`."""
    times, end, pixels = all_frames(path, settings.size)
    F, N = settings.num_frames, len(times)
    chosen = []
    for i in range(F):
        if settings.frames == "middle":
            chosen.append(min(max(N // 2 - F // 2 + i, 0), N - 1))
        else:
            centre = times[0] + (end - times[0]) * (2 * i + 1) / (2 * F)
            chosen.append(max(k for k in range(N) if times[k] <= centre))
    return pixels[chosen]
