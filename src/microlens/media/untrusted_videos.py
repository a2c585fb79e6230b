"""Videos that strangers send: checked by decoding all of them, and copied for browsers, within limits.

What is served is the copy, so that nothing of the file itself gets out, such as the place that phones write into it.
The work is done in a process of its own; what a broken or malicious file does to that process stops nothing else.
"""

import errno
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import av
import simplejpeg

from microlens.files.writing import atomic_write
from microlens.media.faults import MediaFault, faults_of
from microlens.media.frames import FrameDecoder, frames_at_centres
from microlens.media.processes import Killed, run_alone
from microlens.media.reading import VIDEO_FORMATS, open_media
from microlens.media.streams import Film, picture_streams, read_film
from microlens.media.timeline import Timeline, read_timeline
from microlens.media.web_encoding import encode_for_browsers

MOST_MEMORY = 2 * 2**30
MOST_SECONDS = 1800.0
MOST_CPU_SECONDS = 600
_NICENESS = 10
_COVER_QUALITY = 85
_WHOLE = 0.9
_IS_POSIX = sys.platform != "win32"


@dataclass(frozen=True, kw_only=True)
class VideoLimits:
    """The greatest length in seconds, pixels of a picture, and bytes of the copy, and what making it may take."""

    seconds: float
    pixels: int
    copy_bytes: int
    cpu_seconds: int = MOST_CPU_SECONDS


@dataclass(frozen=True, kw_only=True)
class UntrustedVideo:
    """A video to check, and where its copy and its cover, a JPEG of the picture in the middle, are written."""

    source: Path
    copy: Path
    cover: Path
    limits: VideoLimits


@dataclass(frozen=True, kw_only=True)
class VideoCopy:
    """The size of a copy in pixels, and its length."""

    width: int
    height: int
    duration_ms: int


def copy_untrusted(video: UntrustedVideo, stopping: Event) -> VideoCopy:
    """Check a video and write its copy and its cover, in a process of its own.

    The process may take ``MOST_CPU_SECONDS`` of a core within ``MOST_SECONDS`` and, beyond what it needs to start,
    ``MOST_MEMORY`` bytes.

    Args:
        video: the video.
        stopping: ends the process when it is set.

    Raises:
        MediaFault: the file is not a video, is cut off or beyond a limit, or decoding it kills the process.
        InputError: the process does not start.
        OSError: the disk is full, or another system resource is exhausted.
    """
    answer = run_alone(_copy_within_limits, video, MOST_SECONDS, stopping)
    if isinstance(answer, Killed):
        raise MediaFault(f"decoding it {'takes too long' if 'SIGXCPU' in answer.how else answer.how}")
    if isinstance(answer, str):
        raise MediaFault(answer)
    return answer


def _copy_within_limits(video: UntrustedVideo) -> VideoCopy | str:
    """The copy, or what is wrong with the video."""
    if _IS_POSIX:
        _limit_process(video.limits)
    try:
        with faults_of(video.source):
            seconds = _check(video.source, video.limits)
            return _copy(video, seconds)
    except MediaFault as fault:
        return str(fault)


def _limit_process(limits: VideoLimits) -> None:
    import resource

    import psutil

    os.nice(_NICENESS)
    memory = psutil.Process().memory_info().vms + MOST_MEMORY
    for limit, value in (("AS", memory), ("CPU", limits.cpu_seconds), ("FSIZE", limits.copy_bytes), ("CORE", 0)):
        kind = getattr(resource, f"RLIMIT_{limit}")
        _, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _check(source: Path, limits: VideoLimits) -> float:
    """The length in seconds of a complete video within the limits; nothing is decoded."""
    with open_media(source, VIDEO_FORMATS) as container:
        thorough = not picture_streams(container)
    with open_media(source, VIDEO_FORMATS, thorough=thorough) as container:
        if not picture_streams(container):
            raise MediaFault("no video stream")
        film = read_film(container, headers_only=True)
        width, height = film.stream.codec_context.width, film.stream.codec_context.height
        if not width * height:  # the library has not dared to look at a picture
            raise MediaFault(f"the size of its pictures is unknown, or above {limits.pixels:,} pixels")
        if width * height > limits.pixels:
            raise MediaFault(f"its pictures have {width} x {height} pixels; accepted are up to {limits.pixels:,}")
        timeline = read_timeline(container, film)
    if not len(timeline):
        raise MediaFault("it holds no pictures")
    if film.unreadable or timeline.expected > len(timeline):
        raise MediaFault("it is cut off or damaged; the end is missing")
    seconds = _seconds(film, timeline)
    _limit_length(seconds, limits)
    return seconds


def _seconds(film: Film, timeline: Timeline) -> float:
    return float((timeline.end - int(timeline.times[0])) * (film.stream.time_base or 0))


def _limit_length(seconds: float, limits: VideoLimits) -> None:
    if seconds > limits.seconds:
        raise MediaFault(f"it is {seconds:,.0f} seconds long; accepted are up to {limits.seconds:g}")


def _copy(video: UntrustedVideo, seconds: float) -> VideoCopy:
    try:
        with atomic_write(video.copy) as temporary:
            encode_for_browsers(video.source, temporary)
    except av.error.FFmpegError as error:
        if error.errno == errno.EFBIG:
            raise MediaFault(f"a copy of it would have more than {video.limits.copy_bytes:,} bytes") from error
        raise
    with open_media(video.copy, VIDEO_FORMATS) as container:
        film = read_film(container)
        timeline = read_timeline(container, film)
        decoded = _seconds(film, timeline)
        _limit_length(decoded, video.limits)
        if decoded < _WHOLE * seconds:
            raise MediaFault(f"it is damaged; {decoded:.1f} of {seconds:.1f} seconds can be decoded")
        context = film.stream.codec_context
        context.thread_count = 1
        (frame,) = FrameDecoder(context, timeline).exact(frames_at_centres(timeline, 1))
    pixels = frame.to_ndarray(format="rgb24")
    with atomic_write(video.cover) as temporary:
        temporary.write_bytes(simplejpeg.encode_jpeg(pixels, _COVER_QUALITY, colorspace="RGB", colorsubsampling="420"))
    return VideoCopy(width=frame.width, height=frame.height, duration_ms=round(1000 * decoded))
