"""The film of a media file: the picture stream that players would show, and its packets, undecoded."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from microlens.media.faults import MediaFault

Packet: TypeAlias = "av.Packet[Any]"

_STILLS = Disposition.attached_pic | Disposition.timed_thumbnails
# A stream with fewer pictures than this part of the richest one's is a cover or a preview.
_FEW = 0.1
# Formats of which the library quietly reads no more than the first of several files put together.
_FIRST_PART_ONLY = {"flv", "asf"}
_MOST_OF_FILE = 0.9
# Of several films, one nearly as long as the longest is as good.
_AS_LONG = 0.9


@dataclass(frozen=True, kw_only=True)
class Film:
    """A picture stream with its packets in file order, and what reading them told of the rest of the file.

    `others_end` is the second at which the other streams end, None if there are none; `unreadable` is why the file
    could not be read to its end, empty if it could; `first_part_only` whether parts of joined files were passed over.
    """

    stream: VideoStream
    packets: list[Packet]
    others_end: Fraction | None
    unreadable: str
    first_part_only: bool


def read_film(container: InputContainer) -> Film:
    """The film of an open file with picture streams, read to its end: moving, decodable, flagged as default, and long.

    Each of these counts only among the streams left by those before it, and only if any of them has it.

    Raises:
        MediaFault: there is no decoder for the film.
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
                packets[index].append(packet)
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
    """The streams of an open file that may be its film: no covers and no previews, where they are flagged as such."""
    return [stream for stream in container.streams.video if not stream.disposition & _STILLS]


def _all_packets(container: InputContainer) -> Iterator[Packet]:
    try:
        yield from (packet for packet in container.demux() if packet.size)
    except IndexError:  # PyAV would end a stream that appeared only after the file was opened; all was read before
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
    return prefer(lambda stream: lengths[stream.index] >= _AS_LONG * max(lengths.values()), streams)[0]


def _length(stream: VideoStream, packets: list[Packet]) -> float:
    """Seconds from the first packet to the end of the last."""
    starts = [_start(packet) for packet in packets]
    ends = [_start(packet) + (packet.duration or 0) for packet in packets]
    return float((max(ends, default=0) - min(starts, default=0)) * (stream.time_base or 0))


def _codec_name(container: InputContainer, stream: VideoStream) -> str:
    """What the container calls a codec that has no decoder, in brackets; empty if it gives no name."""
    level = av.logging.get_level()
    av.logging.set_level(av.logging.INFO)  # the description below is made of log messages
    try:
        description: str = container.dumps_format()  # type: ignore[attr-defined]
    finally:
        av.logging.set_level(level)
    named = re.search(rf"Stream #0:{stream.index}\b.*: Video: (?:none )?\(?([^,()\n]+)", description)
    return f" ({named[1].strip()})" if named and named[1] != "none" else ""
