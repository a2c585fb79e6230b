"""Copies of videos that every browser plays: H.264 and AAC in MP4, with the index first."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from microlens.files.writing import atomic_write
from microlens.media.faults import MediaFault, faults_of
from microlens.media.processes import Killed, work
from microlens.media.reading import VIDEO_FORMATS, open_media
from microlens.media.streams import picture_streams
from microlens.media.web_encoding import encode_for_browsers

WEB_SUFFIXES = (".mp4", ".m4v", ".mov", ".webm")
WEB_CODECS = ("h264", "vp8", "vp9", "av1")
"""Codecs that Chromium and Firefox play in files with these suffixes."""

_WEB_SOUND = ("aac", "mp3", "opus", "vorbis", "flac")
_EIGHT_BITS = ("yuv420p", "yuvj420p")


@dataclass(frozen=True)
class WebTask:
    """A video, and where its copy is written."""

    source: Path
    target: Path


@dataclass(frozen=True)
class WebOutcome:
    """What became of a video: ``plays`` without a copy, or was ``written``; ``faults`` says what is wrong with it."""

    plays: bool = False
    written: bool = False
    faults: tuple[str, ...] = ()


def copy_all(
    tasks: Sequence[WebTask], workers: int, on_progress: Callable[[int, int], None] | None = None
) -> dict[WebTask, WebOutcome]:
    """Write the copies of all videos that browsers do not play, in ``workers`` processes.

    A video that cannot be copied, or whose copying kills the process, has a fault and does not stop the others.

    Raises:
        InputError: worker processes do not start, or die independently of the task.
        OSError: the disk is full, or another system resource is exhausted; finished copies are kept.
    """
    outcomes: dict[WebTask, WebOutcome] = {}
    with closing(work(copy_if_needed, tasks, workers)) as results:
        for task, answer in results:
            outcomes[task] = WebOutcome(faults=(f"copying it {answer.how}",)) if isinstance(answer, Killed) else answer
            if on_progress:
                on_progress(len(outcomes), len(tasks))
    return outcomes


def copy_if_needed(task: WebTask) -> WebOutcome:
    """Write the copy of one video, unless browsers play the video itself."""
    try:
        with faults_of(task.source):
            if plays_in_browsers(task.source):
                return WebOutcome(plays=True)
            with atomic_write(task.target) as temporary:
                faults = encode_for_browsers(task.source, temporary)
            return WebOutcome(written=True, faults=faults)
    except MediaFault as fault:
        return WebOutcome(faults=(str(fault),))


def plays_in_browsers(path: Path) -> bool:
    """True if Chromium and Firefox play a file, judging by its container and by the formats of its streams.

    Raises:
        MediaFault: the file is not a video.
    """
    with open_media(path, VIDEO_FORMATS) as container:
        pictures = picture_streams(container)
        if path.suffix.lower() not in WEB_SUFFIXES or len(pictures) != 1:
            return False
        return _is_web_picture(pictures[0]) and all(map(_is_web_sound, container.streams.audio))


def _is_web_sound(stream: AudioStream) -> bool:
    return stream.codec_context is not None and stream.codec_context.codec.canonical_name in _WEB_SOUND


def _is_web_picture(stream: VideoStream) -> bool:
    context = stream.codec_context
    if context is None or context.codec.canonical_name not in WEB_CODECS:
        return False
    return context.codec.canonical_name != "h264" or context.pix_fmt in _EIGHT_BITS
