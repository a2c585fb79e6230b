"""The presentation times of a video's frames, computed from its packets without decoding.

All packets of the video are read first, which takes milliseconds and gives all presentation times and keyframes. They
stay in memory, so a video needs about as much memory as its file size.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import TypeAlias

import av
import numpy as np
from av.container import InputContainer
from numpy.typing import NDArray

from microlens.media.streams import Film, Packet

Times: TypeAlias = NDArray[np.int64]

# Formats whose header states the length of each track.
_TRACKS_HAVE_LENGTHS = {"mov", "avi"}
# Formats without a header: each packet has a decode time, and the clock restarts where files were joined.
_STREAMS = {"mpegts", "mpeg", "mpegvideo"}
_WRAP = 1 << 33
# A longer step of that clock is also a restart.
_LONGEST_STEP_SECONDS = 10
# In other formats the clock restarts only at a keyframe earlier than the preceding frames by more than reordering.
_REORDERED_SECONDS = 1
# If only the length of the whole file is known, its tracks may end this much earlier.
_TRACKS_END_APART_SECONDS = Fraction(1, 2)
# In a truncated file, all tracks end within this time.
_INTERLEAVED_SECONDS = 2


@dataclass(frozen=True, kw_only=True)
class Timeline:
    """The N shown frames of a video in presentation order.

    Times are in the stream's time base. `positions[i]` is the packet index of frame i; packets at `key_positions` can
    be decoded without earlier ones. `counted` is true if the container stores no presentation times (AVI); frames are
    then identified by counting the decoder's output. `end` is the stated end of the video and `expected` the stated
    number of frames: more than N if the file is truncated. `part_starts` are the first packets of the parts of joined
    files, or just the first packet; `first_part_only` is true if parts are left out.
    """

    packets: list[Packet]
    times: Times
    positions: NDArray[np.int64]
    key_positions: NDArray[np.int64]
    key_times: Times
    end: int
    expected: int
    counted: bool
    part_starts: frozenset[int]
    first_part_only: bool

    def __len__(self) -> int:
        return len(self.times)


def read_timeline(container: InputContainer, film: Film) -> Timeline:
    """Compute the timeline of a film; empty if no packet can be read.

    After a restart of the film's clock, packets are shifted to later times, so that parts follow one another. Of joined
    Matroska files only the first can be decoded, because only its header is read.
    """
    packets = film.packets
    formats = set(container.format.name.split(","))
    units = 1 / (film.stream.time_base or Fraction(1))  # time base units per second
    counted = "avi" in formats or any(packet.pts is None for packet in packets)
    if counted:
        packets = [packet for packet in packets if packet.size > 1]  # DivX inserts filler packets of one byte
    if formats & _STREAMS:
        _unwrap(packets)
    starts = _clock_starts(packets, formats, units)
    first_part_only = "matroska" in formats and len(starts) > 1
    if first_part_only:
        packets = packets[: starts[1]]
        starts = starts[:1]
    _shift_parts(packets, starts)
    _repeat_settings(packets)
    shown = np.array([i for i, packet in enumerate(packets) if not packet.is_discard], np.int64)
    every_time = np.array(_packet_times(packets, counted), np.int64)
    order = np.argsort(every_time[shown], kind="stable")
    times = every_time[shown][order]
    keys = np.array([i for i, packet in enumerate(packets) if packet.is_keyframe or i in starts], np.int64)
    end, expected = 0, 0
    if len(shown):
        end, expected = int(times[-1]) + _last_duration(packets[shown[order][-1]], times), len(times)
        tolerance = 2 * max(_gap(times), end - int(times[-1]))
        claimed = _claimed_end(container, film, formats, units, end)
        if len(starts) == 1 and claimed > end + tolerance:
            by_time = round(expected * (claimed - int(times[0])) / (end - int(times[0])))
            end, expected = claimed, max(film.stream.frames or by_time, expected + 1)
    return Timeline(
        packets=packets,
        times=times,
        positions=shown[order],
        key_positions=keys,
        key_times=every_time[keys],
        end=end,
        expected=expected,
        counted=counted,
        part_starts=frozenset(starts),
        first_part_only=first_part_only,
    )


def _packet_times(packets: list[Packet], counted: bool) -> list[int]:
    """The time of each packet; if frames are counted and some packets have no time, evenly spaced."""
    if not counted:
        return [packet.pts for packet in packets if packet.pts is not None]
    times = [packet.dts for packet in packets if packet.dts is not None]
    if len(times) == len(packets):
        return times
    step = packets[0].duration or 1
    return list(range(0, step * len(packets), step))


def _unwrap(packets: list[Packet]) -> None:
    """Continue the packets' 33-bit clock where it wraps around to 0, which is not a restart."""
    latest: int | None = None
    for packet in packets:
        if packet.dts is not None:
            packet.dts -= 0 if latest is None else _WRAP * round((packet.dts - latest) / _WRAP)
            latest = packet.dts
            if packet.pts is not None:
                packet.pts -= _WRAP * round((packet.pts - latest) / _WRAP)


def _clock_starts(packets: list[Packet], formats: set[str], units: Fraction) -> list[int]:
    """The packet indices at which the film's clock starts: the first packet, and others where files were joined."""
    starts = [0]
    if formats & _TRACKS_HAVE_LENGTHS:
        return starts
    latest: int | None = None
    for i, packet in enumerate(packets):
        time = packet.dts if formats & _STREAMS else packet.pts
        if time is None:
            continue
        if latest is not None and _restarts(packet, time - latest, formats, units):
            starts.append(i)
            latest = time
        latest = time if latest is None else max(latest, time)
    return starts


def _restarts(packet: Packet, step: int, formats: set[str], units: Fraction) -> bool:
    if formats & _STREAMS:
        return not 0 <= step <= _LONGEST_STEP_SECONDS * units
    return packet.is_keyframe and step < -_REORDERED_SECONDS * units


def _shift_parts(packets: list[Packet], starts: list[int]) -> None:
    """Shift the packets after each restart of the clock to begin where the previous part ends."""
    end: int | None = None
    for first, stop in pairwise([*starts, len(packets)]):
        part = packets[first:stop]
        times = sorted(time for packet in part if (time := _time(packet)) is not None)
        if not times:
            continue
        shift = 0 if end is None else end - times[0]
        for packet in part if shift else ():
            packet.pts = None if packet.pts is None else packet.pts + shift
            packet.dts = None if packet.dts is None else packet.dts + shift
        end = times[-1] + shift + _last_duration(part[-1], times)


def _repeat_settings(packets: list[Packet]) -> None:
    """Attach the latest decoder settings to every keyframe if they change within the film."""
    settings = None
    for packet in packets:
        if packet.has_sidedata("new_extradata"):
            settings = packet.get_sidedata("new_extradata")
        elif settings is not None and packet.is_keyframe:
            packet.set_sidedata(settings)


def _time(packet: Packet) -> int | None:
    return packet.dts if packet.pts is None else packet.pts


def _last_duration(last: Packet, times: Sequence[int] | Times) -> int:
    """The duration of the last frame: as stated by its packet, or the median frame duration."""
    return max(1, last.duration or _gap(times))


def _gap(times: Sequence[int] | Times) -> int:
    return int(np.median(np.diff(times))) if len(times) > 1 else 0


def _claimed_end(container: InputContainer, film: Film, formats: set[str], units: Fraction, end: int) -> int:
    """The end of the film stated in the file's header, or the packets' own `end` if the header does not state it."""
    stream = film.stream
    if formats & _STREAMS:  # FFmpeg guesses these lengths from the packets
        return end
    if formats & _TRACKS_HAVE_LENGTHS and stream.duration is not None:
        return (stream.start_time or 0) + stream.duration
    if container.duration is None:
        return end
    file_end = Fraction((container.start_time or 0) + container.duration, av.time_base)
    tagged = _tagged_end(stream.metadata.get("DURATION", "")) if "matroska" in formats else None
    if tagged is not None and tagged <= file_end:
        return round(tagged * units)
    near = file_end - _TRACKS_END_APART_SECONDS
    goes_on = min(near, end / units + _INTERLEAVED_SECONDS)
    if end >= near * units or (film.others_end is not None and film.others_end >= goes_on):
        return end  # nothing is missing: only the other tracks continue
    return round(file_end * units)


def _tagged_end(text: str) -> Fraction | None:
    """Parse the duration tag of a Matroska track, such as 00:00:04.023000000, in seconds."""
    parts = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", text)
    return 3600 * int(parts[1]) + 60 * int(parts[2]) + Fraction(parts[3]) if parts else None
