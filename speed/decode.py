"""What it costs to turn videos into stored clips, ours beside its peers, printed as JSON.

    python speed/decode.py [--smoke] [--repeats 3] [VIDEO ...]

Without files it encodes two 12 s clips (540x960, 30 frames/s, about 2.7 Mb/s), one with a keyframe every 250 frames
and one with a keyframe every 30; 365 frames, so that the wanted ones lie at many distances from their keyframes. Two
of 40 s, in H.264 and in HEVC, have the length of a usual micro-video.
Peers that are not installed (opencv-python-headless, decord2) are listed as absent.
Each way decodes in a process of its own, in turn. Every figure is the least of the repeats. CPU seconds count all
threads; peers run with the threads they choose.
"""

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
from contestants import Turns, contestant, in_turns
from measure import Line, cpu_seconds, print_result

from microlens.media.packing import pack_images, unpack_images
from microlens.media.reading import ClipSettings, read_clip
from microlens.media.sound import SoundSettings, read_log_mel

FRAMES, SIZE = 5, 224
# Five frames of 3 x 224 x 224 float32, as the original research code stores a clip.
ORIGINAL_BYTES = 3_010_560


CLIP_TIMES_SMALLER, KEYFRAMES_SHARE = 25.0, 0.25
# The exact ways that take the same frames as ``microlens spread``.
SAME_FRAMES = ("pyav, everything, spread", "opencv sequential, spread", "decord2, spread")


@dataclass(frozen=True)
class Example:
    """A video to encode: frames from keyframe to keyframe, frames in all, and FFmpeg's encoder."""

    keyframe_every: int
    count: int
    encoder: str = "libx264"


EXAMPLES = {
    "keyframe-every-250.mp4": Example(250, 365),
    "keyframe-every-30.mp4": Example(30, 365),
    "40-seconds-h264.mp4": Example(250, 1200),
    "40-seconds-hevc.mp4": Example(250, 1200, "libx265"),
}
FRAMES_SECONDS, CLIP_MEGABYTES = 0.2, 0.12  # of a video of 40 s, whose frames are taken as the original code takes them


def encode_example(path: Path, keyframe_every: int, count: int, encoder: str = "libx264") -> None:
    """A camera-like video of ``count`` frames: a textured scene that drifts, with moving objects and sensor noise."""
    W, H, TURN, rate = 540, 960, 800, 30
    random = np.random.default_rng(0)
    coarse = random.integers(30, 226, (H // 20 + 40, W // 20 + 40), np.uint8)
    scene = np.repeat(np.repeat(coarse, 20, 0), 20, 1).astype(np.int16)
    scene += random.integers(-12, 13, scene.shape, np.int16)
    with av.open(str(path), "w") as output:
        options = {"g": str(keyframe_every), "preset": "medium", "x265-params": "log-level=none"}
        stream = output.add_stream(encoder, rate=rate, options=options)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = W, H, "yuv420p", 2_700_000
        for i in range(count):
            at = TURN - abs(i % (2 * TURN) - TURN)  # there and back
            grey = scene[2 * at // 3 : 2 * at // 3 + H, at : at + W] + random.integers(-3, 4, (H, W), np.int16)
            top, left = 300 + int(200 * np.sin(i / 20)), 200 + int(150 * np.cos(i / 15))
            grey[top : top + 150, left : left + 120] = 255 - grey[top : top + 150, left : left + 120]
            picture = (grey.clip(0, 255)[..., None] * np.array([1.0, 0.85, 0.7])).astype(np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))


def decode_everything(path: Path) -> np.ndarray:
    """PyAV as its first tutorial page has it: every frame to RGB at full size, then choose; one thread."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        number = stream.frames
        wanted = {(2 * i + 1) * number // (2 * FRAMES) for i in range(FRAMES)}
        frames = [f.to_ndarray(format="rgb24") for i, f in enumerate(container.decode(stream)) if i in wanted]
    return np.stack([
        av.VideoFrame.from_ndarray(frame).reformat(SIZE, SIZE, "rgb24").to_ndarray() for frame in frames
    ])  # fmt: skip


def opencv_sequential(path: Path) -> np.ndarray:
    """OpenCV at its best for exact frames: grab everything, convert only the wanted ones."""
    import cv2

    video = cv2.VideoCapture(str(path))
    number = int(video.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted = {(2 * i + 1) * number // (2 * FRAMES) for i in range(FRAMES)}
    frames = []
    for i in range(max(wanted) + 1):
        video.grab()
        if i in wanted:
            frames.append(cv2.resize(cv2.cvtColor(video.retrieve()[1], cv2.COLOR_BGR2RGB), (SIZE, SIZE)))
    return np.stack(frames)


def original_style(path: Path) -> np.ndarray:
    """What the original research code does: read from frame 0 to the middle, converting all."""
    import cv2

    video = cv2.VideoCapture(str(path))
    middle = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) // 2
    frames = []
    for i in range(middle + FRAMES // 2 + 1):
        picture = video.read()[1]
        if i >= middle - FRAMES // 2:
            frames.append(cv2.resize(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), (SIZE, SIZE)))
    return np.stack(frames).transpose(0, 3, 1, 2).astype(np.float32) / 127.5 - 1


def decord_batch(path: Path) -> np.ndarray:
    """decord2's get_batch, one thread, scaled by the reader."""
    import decord

    reader = decord.VideoReader(str(path), width=SIZE, height=SIZE, num_threads=1)
    wanted = [(2 * i + 1) * len(reader) // (2 * FRAMES) for i in range(FRAMES)]
    return reader.get_batch(wanted).asnumpy()


def ways() -> dict[str, tuple[str | None, Callable[[Path], object]]]:
    """Every way to be timed: the module it needs (None: ours), and the function."""
    ours = {
        f"microlens {sampling}": (None, lambda path, s=sampling: read_clip(path, ClipSettings(frames=s)).frames)
        for sampling in ("spread", "middle", "keyframes")
    }
    return ours | {
        "microlens sound": (None, lambda path: read_log_mel(path, SoundSettings())),
        "pyav, everything, spread": (None, decode_everything),
        "opencv sequential, spread": ("cv2", opencv_sequential),
        "original code's way, middle": ("cv2", original_style),
        "decord2, spread": ("decord", decord_batch),
    }


def take_turns(turns: Turns, way: str, path: str) -> None:
    """Decode a video in one of the ways, once before the turns that are measured."""
    _, function = ways()[way]
    function(Path(path))
    turns.take(lambda: function(Path(path)))


def cost(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """The least CPU and wall seconds of one call."""
    cpu, wall = [], []
    for _ in range(repeats):
        begin_cpu, begin = cpu_seconds(), time.perf_counter()
        work()
        cpu.append(cpu_seconds() - begin_cpu)
        wall.append(time.perf_counter() - begin)
    return {"cpu_seconds": round(min(cpu), 4), "wall_seconds": round(min(wall), 4)}


def measure(path: Path, repeats: int) -> dict[str, Any]:
    """All figures of one video."""
    clip = read_clip(path, ClipSettings())
    timings: dict[str, object] = {}
    commands = {}
    for name, (module, _) in ways().items():
        if module and importlib.util.find_spec(module) is None:
            timings[name] = "absent"
        elif name == "microlens sound" and not clip.info.has_sound:
            timings[name] = "no sound"
        else:
            commands[name] = contestant(take_turns, way=name, path=path)
    timings |= {name: way.least for name, way in in_turns(commands, repeats).items()}
    value = pack_images(clip.frames)
    return {
        "video": {"codec": clip.info.codec, "width": clip.info.width, "height": clip.info.height,
                  "frames": clip.info.num_frames, "seconds": round(clip.info.duration, 2),
                  "bytes": path.stat().st_size},
        "timings": timings,
        "encode_clip": cost(lambda: pack_images(clip.frames), 10 * repeats),
        "decode_clip": cost(lambda: unpack_images(value), 10 * repeats),
        "clip_bytes": {"ours": len(value), "original": ORIGINAL_BYTES, "ratio": round(ORIGINAL_BYTES / len(value), 1)},
        "mean_absolute_error_of_255": round(float(np.abs(unpack_images(value).astype(int) - clip.frames).mean()), 2),
    }  # fmt: skip


def lines_of(name: str, figures: dict[str, Any]) -> list[Line]:
    """The lines of one video; a peer that is absent has none."""
    timings = {way: cost["cpu_seconds"] for way, cost in figures["timings"].items() if isinstance(cost, dict)}
    exact = timings["microlens spread"]
    peer = min((way for way in SAME_FRAMES if way in timings), key=timings.__getitem__)
    return [
        Line(
            what=f"{name}: bytes of a clip, the original code's over ours", measured=figures["clip_bytes"]["ratio"],
            unit="times", bound="at least", reach=CLIP_TIMES_SMALLER,
        ),
        Line(
            what=f"{name}: CPU time with frames=keyframes over exact frames",
            measured=timings["microlens keyframes"] / exact, unit="", bound="at most", reach=KEYFRAMES_SHARE,
        ),
        Line(
            what=f"{name}: CPU time of exact frames over the fastest present peer's ({peer})",
            measured=exact / timings[peer], unit="", bound="at most", reach=1.0,
        ),
        *(lines_of_40_seconds(name, figures) if name.startswith("40-seconds") else []),
    ]  # fmt: skip


def lines_of_40_seconds(name: str, figures: dict[str, Any]) -> list[Line]:
    """The frames that the original code takes, and their bytes; it took 1.56 s and 3.0 MB on a like machine."""
    return [
        Line(
            what=f"{name}: CPU time of consecutive frames around the middle",
            measured=figures["timings"]["microlens middle"]["cpu_seconds"],
            unit="s",
            bound="at most",
            reach=FRAMES_SECONDS,
        ),
        Line(
            what=f"{name}: bytes of a clip",
            measured=figures["clip_bytes"]["ours"] / 1e6,
            unit="MB",
            bound="at most",
            reach=CLIP_MEGABYTES,
        ),
    ]


def main() -> None:
    """Measures the files named on the command line, or two made for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", nargs="*", type=Path)
    parser.add_argument("--smoke", action="store_true", help="one short video, to see that the program works")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    repeats, examples = (1, {"smoke.mp4": Example(10, 20)}) if options.smoke else (options.repeats, EXAMPLES)
    with tempfile.TemporaryDirectory() as folder:
        videos = options.videos
        if not videos:
            videos = [Path(folder) / name for name in examples]
            for path, example in zip(videos, examples.values(), strict=True):
                encode_example(path, example.keyframe_every, example.count, example.encoder)
        results = {path.name: measure(path, repeats) for path in videos}
    lines = [line for name, figures in results.items() for line in lines_of(name, figures)]
    options.videos = [path.name for path in options.videos]
    print_result("decode", options, [1], {"videos": results}, lines)


if __name__ == "__main__":
    main()
