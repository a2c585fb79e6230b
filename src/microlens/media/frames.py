"""Frame selection and exact decoding of the selected frames.

A selected frame is decoded from the last keyframe at or before it. The decoder skips frames that no other frame
references unless they are selected, which leaves the selected ones exact to the bit.
"""

from collections.abc import Iterator
from itertools import islice

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext
from numpy.typing import NDArray

from microlens.media.timeline import Timeline, Times

# Byte of the HEVC configuration box (MPEG-4 part 14) whose bits 3..5 hold the number of temporal layers.
_HEVC_LAYERS_BYTE = 21


def _segment_centres(timeline: Timeline, number: int) -> Times:
    """Times of the centres of `number` equal parts of the video, shape (number,)."""
    start = int(timeline.times[0])
    span = timeline.end - start
    return np.array([start + (2 * i + 1) * span // (2 * number) for i in range(number)], np.int64)


def frames_at_centres(timeline: Timeline, number: int) -> NDArray[np.int64]:
    """The frame on screen at the centre of each of `number` equal parts of the video, shape (number,)."""
    on_screen = np.searchsorted(timeline.times, _segment_centres(timeline, number), side="right") - 1
    return np.clip(on_screen, 0, len(timeline) - 1)


def frames_in_the_middle(timeline: Timeline, number: int) -> NDArray[np.int64]:
    """Consecutive frames around the middle one, clamped into the video, shape (number,)."""
    first = timeline.expected // 2 - number // 2
    return np.clip(np.arange(first, first + number), 0, len(timeline) - 1)


class FrameDecoder:
    """Decodes selected frames of one video; `damaged` collects the indices of packets that cannot be decoded."""

    def __init__(self, context: VideoCodecContext, timeline: Timeline) -> None:
        self._context = context
        self._timeline = timeline
        self._may_skip = not timeline.counted and _marks_unreferenced_frames(context)
        self.damaged: set[int] = set()

    def exact(self, chosen: NDArray[np.int64]) -> list[av.VideoFrame]:
        """Decode the frames `chosen`, in that order; an undecodable frame is replaced by its nearest good neighbour.

        The neighbour is the last good frame before it, or the first one after it if there is none before. The list is
        empty if the video has no good frame.
        """
        distinct = np.unique(chosen)
        found: dict[int, av.VideoFrame] = {}
        starts = [self._start(int(index)) for index in distinct]
        for start in sorted(set(starts)):
            group = {int(index) for index, own in zip(distinct, starts, strict=True) if own == start}
            found |= self._decode_group(start, group)
        for index in (int(i) for i in distinct if int(i) not in found):
            rescue = self._neighbour(index)
            if rescue is not None:
                found[index] = rescue
        good = np.array(sorted(found), np.int64)  # frames without a good neighbour use the nearest of these
        before = np.maximum(np.searchsorted(good, chosen, side="right") - 1, 0)
        return [found[int(good[position])] for position in before] if found else []

    def every(self) -> Iterator[tuple[int, av.VideoFrame]]:
        """Decode all good frames, each with its number; after a damaged packet, from the next keyframe on."""
        timeline, start, last = self._timeline, 0, len(self._timeline.packets) - 1
        while True:
            self._context.skip_frame = "DEFAULT"
            for mark, frame in self._run(start, last, None):
                number = mark if timeline.counted else int(np.searchsorted(timeline.times, mark))
                if number < len(timeline):
                    yield number, frame
            later = [int(key) for key in timeline.key_positions if key > max(self.damaged, default=last)]
            if timeline.counted or not later or later[0] <= start:
                return
            start = later[0]

    def nearest_keyframes(self, number: int) -> list[av.VideoFrame]:
        """Decode only keyframes: the good keyframe nearest to the centre of each of `number` equal parts, if any."""
        keys = self._timeline.key_times
        distances = np.abs(keys[None, :] - _segment_centres(self._timeline, number)[:, None])  # (number, keyframes)
        decoded: dict[int, av.VideoFrame | None] = {}
        frames: list[av.VideoFrame] = []
        for row in distances:
            nearest_first = (int(key) for key in np.argsort(row, kind="stable"))
            frames.extend(islice(filter(None, (self._keyframe(key, decoded) for key in nearest_first)), 1))
        return frames

    def _keyframe(self, key: int, decoded: dict[int, av.VideoFrame | None]) -> av.VideoFrame | None:
        if key not in decoded:
            position = int(self._timeline.key_positions[key])
            self._context.skip_frame = "NONKEY"  # a packet wrongly marked as a keyframe yields nothing, not garbage
            decoded[key] = next((frame for _, frame in self._run(position, position, None)), None)
        return decoded[key]

    def _start(self, index: int) -> int:
        """The packet to start decoding at for a frame: the last keyframe neither decoded nor shown after it."""
        timeline = self._timeline
        if timeline.counted:
            return 0
        usable = (timeline.key_positions <= timeline.positions[index]) & (timeline.key_times <= timeline.times[index])
        return int(timeline.key_positions[usable][-1]) if usable.any() else 0

    def _decode_group(self, start: int, group: set[int]) -> dict[int, av.VideoFrame]:
        timeline = self._timeline
        wanted = {index if timeline.counted else int(timeline.times[index]): index for index in group}
        stop = len(timeline.packets) - 1 if timeline.counted else int(max(timeline.positions[list(group)]))
        found: dict[int, av.VideoFrame] = {}
        for mark, frame in self._run(start, stop, set(wanted)):
            if mark in wanted:
                found[wanted[mark]] = frame
                if len(found) == len(group):
                    break
        return found

    def _neighbour(self, index: int) -> av.VideoFrame | None:
        timeline = self._timeline
        mark = index if timeline.counted else int(timeline.times[index])
        stop = int(timeline.positions[index])
        before = [0] if timeline.counted else [int(key) for key in timeline.key_positions if key <= stop]
        for start in reversed(before):
            self._context.skip_frame = "DEFAULT"
            best = None
            for shown, frame in self._run(start, stop, None):
                best = frame if shown <= mark else best
            if best is not None:
                return best
        for start in (int(key) for key in timeline.key_positions if key > stop):
            for _, frame in self._run(start, len(timeline.packets) - 1, None):
                return frame
        return None

    def _run(self, start: int, stop: int, wanted: set[int] | None) -> Iterator[tuple[int, av.VideoFrame]]:
        """Yield the good frames of packets `start` to `stop`, each with its time (or its index if frames are counted).

        Stops at the first damaged packet, because the frames up to the next keyframe would depend on it. With `wanted`,
        frames that are neither wanted nor referenced may be skipped.
        """
        if self._context.is_open:
            self._context.flush_buffers()
        count = 0
        for position in [*range(start, stop + 1), None]:
            frames = self._end_of_part(wanted) if position in self._timeline.part_starts and position != start else []
            for frame in frames + self._decode(position, wanted):
                mark = count if self._timeline.counted else frame.pts
                count += 1
                if frame.is_corrupt:
                    self.damaged.add(stop if position is None else position)
                elif mark is not None:
                    yield mark, frame
            if position in self.damaged:
                for frame in self._decode(None, wanted):
                    if frame.pts is not None and not self._timeline.counted:
                        yield frame.pts, frame
                return

    def _end_of_part(self, wanted: set[int] | None) -> list[av.VideoFrame]:
        """Flush the decoder at the end of one part of joined files; no other part references its frames."""
        frames = self._decode(None, wanted)
        self._context.flush_buffers()
        return frames

    def _decode(self, position: int | None, wanted: set[int] | None) -> list[av.VideoFrame]:
        """The frames that the decoder returns for one packet, or at the end of the stream (None)."""
        packet = None if position is None else self._timeline.packets[position]
        if wanted is not None:
            skip = self._may_skip and packet is not None and packet.pts not in wanted
            self._context.skip_frame = "NONREF" if skip else "DEFAULT"
        try:
            if packet is not None and packet.is_corrupt:
                raise av.error.InvalidDataError(0, "the packet is incomplete")
            return self._context.decode(packet)
        except av.error.FFmpegError:
            if position is not None:
                self.damaged.add(position)
            return []


def _marks_unreferenced_frames(context: VideoCodecContext) -> bool:
    """True if frames that the decoder treats as NONREF are not referenced by any other frame.

    True for H.264. In HEVC the mark covers one temporal layer only, so there must be only one.
    """
    if context.codec.canonical_name == "h264":
        return True
    settings = context.extradata or b""
    single_layer = len(settings) > _HEVC_LAYERS_BYTE and settings[0] == 1 and settings[_HEVC_LAYERS_BYTE] >> 3 & 7 == 1
    return context.codec.canonical_name == "hevc" and single_layer
