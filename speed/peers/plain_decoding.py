"""A file decoded by PyAV and nothing else, in a module that worker processes can import."""

from pathlib import Path

import av


def decode_plainly(path: Path) -> int:
    """Decode every frame of the first video and sound track with one thread; the number of frames."""
    frames = 0
    with av.open(str(path), metadata_errors="ignore") as container:
        tracks = [*container.streams.video[:1], *container.streams.audio[:1]]
        for track in tracks:
            track.codec_context.thread_count = 1
        for packet in container.demux(tracks):
            frames += len(packet.decode())
    return frames
