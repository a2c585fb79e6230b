"""Selection of the video stream that a player would show, with its packets, not decoded."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias, cast

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from microlens.media.faults import MediaFault

Packet: TypeAlias = "av.Packet[Any]"

_STILLS = Disposition.attached_pic | Disposition.timed_thumbnails
# A stream with fewer pictures than this fraction of the largest stream's is a cover or a preview.
_FEW = 0.1
# Formats in which FFmpeg silently reads only the first of several concatenated files.
_FIRST_PART_ONLY = {"flv", "asf"}
_MOST_OF_FILE = 0.9
# A stream at least this fraction as long as the longest is considered equally long.
_NEARLY_AS_LONG = 0.9


@dataclass(frozen=True, kw_only=True)
class Film:
    """The selected video stream with its packets in file order, and what is known about the rest of the file.

    `others_end` is the end of the other streams in seconds, None if there are none; `unreadable` is the reason why the
    file could not be read to its end, or empty; `first_part_only` is true if parts of joined files were skipped.
    """

    stream: VideoStream
    packets: list[Packet]
    others_end: Fraction | None
    unreadable: str
    first_part_only: bool


@dataclass(slots=True)
class PacketHeader:
    """A packet without its data, which cannot be decoded but tells where the frame belongs."""

    size: int
    pts: int | None
    dts: int | None
    duration: int | None
    is_keyframe: bool
    is_discard: bool
    is_corrupt: bool

    @classmethod
    def of(cls, packet: Packet) -> Packet:
        """The header of ``packet``, typed as a packet, because it stands for one."""
        header = cls(
            size=packet.size,
            pts=packet.pts,
            dts=packet.dts,
            duration=packet.duration,
            is_keyframe=packet.is_keyframe,
            is_discard=packet.is_discard,
            is_corrupt=packet.is_corrupt,
        )
        return cast("Packet", header)

    def has_sidedata(self, kind: str) -> bool:
        """False: side data are part of what is left out."""
        return False


def read_film(container: InputContainer, *, headers_only: bool = False) -> Film:
    """Select the stream of an open file and read its packets: moving, decodable, flagged as default, and long.

    The criteria are applied in this order, each only if any of the remaining streams meets it. With ``headers_only``
    the packets are :class:`PacketHeader`, so that a long video takes little memory.

    Raises:
        MediaFault: there is no decoder for the selected stream.
    """
    streams = picture_streams(container)
    packets: dict[int, list[Packet]] = {stream.index: [] for stream in streams}
    ends: dict[int, int] = {}
    unreadable = ""
    read_to = 0
    try:
        for packet in _all_packets(container):
            index = packet.stream_index
            read_to = max(read_to, (packet.pos or 0) + packet.size)
            if index in packets:
                packets[index].append(PacketHeader.of(packet) if headers_only else packet)
            ends[index] = max(ends.get(index, 0), _start(packet) + (packet.duration or 0))
    except av.error.FFmpegError as error:
        unreadable = error.strerror or "damaged"
    first_part_only = container.format.name in _FIRST_PART_ONLY and read_to < container.size * _MOST_OF_FILE
    film = _choose(streams, packets)
    if film.codec_context is None:
        raise MediaFault(f"there is no decoder for its video codec{_codec_name(container, film)}")
    others = [end * (container.streams[index].time_base or 0) for index, end in ends.items() if index != film.index]
    return Film(
        stream=film,
        packets=packets[film.index],
        others_end=Fraction(max(others)) if others else None,
        unreadable=unreadable,
        first_part_only=first_part_only,
    )


def picture_streams(container: InputContainer) -> list[VideoStream]:
    """The video streams of an open file, without those flagged as covers or previews."""
    return [stream for stream in container.streams.video if not stream.disposition & _STILLS]


def _all_packets(container: InputContainer) -> Iterator[Packet]:
    try:
        yield from (packet for packet in container.demux() if packet.size)
    except IndexError:  # PyAV fails on a stream that appears after opening; by then all packets were read
        return


def _start(packet: Packet) -> int:
    start = packet.dts if packet.pts is None else packet.pts
    return start or 0


def _choose(streams: list[VideoStream], packets: dict[int, list[Packet]]) -> VideoStream:
    if len(streams) == 1:
        return streams[0]

    def prefer(wanted: Callable[[VideoStream], bool], among: list[VideoStream]) -> list[VideoStream]:
        return [stream for stream in among if wanted(stream)] or among

    most = max(len(packets[stream.index]) for stream in streams)
    streams = prefer(lambda stream: len(packets[stream.index]) > max(1, _FEW * most), streams)
    streams = prefer(lambda stream: stream.codec_context is not None, streams)
    streams = prefer(lambda stream: bool(stream.disposition & Disposition.default), streams)
    lengths = {stream.index: _length(stream, packets[stream.index]) for stream in streams}
    return prefer(lambda stream: lengths[stream.index] >= _NEARLY_AS_LONG * max(lengths.values()), streams)[0]


def _length(stream: VideoStream, packets: list[Packet]) -> float:
    """Seconds from the first packet to the end of the last one."""
    starts = [_start(packet) for packet in packets]
    ends = [_start(packet) + (packet.duration or 0) for packet in packets]
    return float((max(ends, default=0) - min(starts, default=0)) * (stream.time_base or 0))


def _codec_name(container: InputContainer, stream: VideoStream) -> str:
    """The container's name for a codec without decoder, in parentheses; empty if it has none."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)  # the description below is built from log messages
    try:
        description: str = container.dumps_format()  # type: ignore[attr-defined]
    finally:
        av.logging.set_level(level)
    named = re.search(rf"Stream #0:{stream.index}\b.*: Video: (?:none )?\(?([^,()\n]+)", description)
    return f" ({named[1].strip()})" if named and named[1] != "none" else ""
