"""Kinetics-400 classification with video networks, to verify weights: classes of a video, accuracy over a folder."""

import difflib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from microlens.building import pick
from microlens.cores import available_cores
from microlens.data.batches import ItemBatch
from microlens.distributed import local_device
from microlens.encoders import ENCODERS
from microlens.encoders.trunk import Trunk
from microlens.encoders.tuning import Tuning
from microlens.encoders.video import VIDEO_NETWORKS
from microlens.encoders.video.clip import VideoEncoder
from microlens.encoders.video.kinetics import NUM_CLASSES, kinetics_classes
from microlens.encoders.weights import bring_weights
from microlens.errors import InputError
from microlens.media.reading import Clip, ClipSettings, MediaFault, read_clip

VIDEOS_AT_ONCE = 8
CUT_OFFS = (1, 5)

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class LabelledVideo:
    """A video file and its class number."""

    path: Path
    label: int


class Classifier:
    """A video network with its Kinetics-400 classifier, applied to clips of its native length and size.

    Args:
        encoder: name of a video encoder.
        weights: "random", "default" or a path.
        seed: seed of random weights.

    Raises:
        InputError: the encoder is unknown or has no classifier, or the weights do not fit.
    """

    def __init__(self, encoder: str, weights: str = "default", seed: int = 0) -> None:
        if encoder in ENCODERS and encoder not in VIDEO_NETWORKS:
            raise InputError(f"encoder is '{encoder}', which has no Kinetics-400 classifier; one that has is x3d_m.")
        network = pick(VIDEO_NETWORKS, encoder, "encoder")
        torch.manual_seed(seed)
        trunk = network.build()
        if not _knows_kinetics(trunk):
            raise InputError(f"encoder is '{encoder}', which has no Kinetics-400 classifier; one that has is x3d_m.")
        frozen = Tuning(tune="frozen")
        bring_weights(trunk, weights, network.official, frozen)
        self.name, self.weights = encoder, weights
        # Scale and center crop, as in the evaluation of these networks; they were not trained on squashed frames.
        self.settings = ClipSettings(num_frames=network.frames, size=network.size, crop="center")
        self.device = local_device("auto")
        tower = VideoEncoder(trunk, 1, tuning=frozen, head="kinetics", missing="error")
        self.tower = tower.eval().to(self.device)

    @torch.inference_mode()
    def features(self, clips: list[Clip]) -> Tensor:
        """The pooled features (M, feature_dim) of M clips, on the network's device."""
        frames = torch.from_numpy(np.stack([clip.frames for clip in clips]))
        items = ItemBatch(items=torch.arange(len(clips)), content={"clips": frames}).to(self.device)
        features: Tensor = self.tower.trunk.features(self.tower.content(items))
        return features

    @torch.inference_mode()
    def logits(self, clips: list[Clip]) -> Tensor:
        """The logits (M, 400) of M clips."""
        return self.tower.trunk.classify(self.features(clips)).float().cpu()

    def read(self, path: Path) -> Clip | MediaFault:
        """Read the clip of a file, or return the fault that prevents it."""
        try:
            return read_clip(path, self.settings)
        except MediaFault as fault:
            return fault


def _knows_kinetics(trunk: Trunk) -> bool:
    """True if the official weights include a Kinetics-400 classifier, so that no parameter of it is marked foreign."""
    own_head = not any(name.startswith(trunk.foreign) for name, _ in trunk.named_parameters())
    return trunk.num_classes == NUM_CLASSES and own_head


def classify_video(classifier: Classifier, path: Path, k: int = 5) -> dict[str, Any]:
    """Return the ``k`` most probable classes of one video, and the faults tolerated while reading it.

    Raises:
        InputError: the file cannot be decoded.
    """
    clip = classifier.read(path)
    if isinstance(clip, MediaFault):
        raise InputError(f"{path} cannot be used: {clip}.")
    values, classes = classifier.logits([clip])[0].softmax(0).topk(k)
    names = kinetics_classes()
    return {
        "encoder": classifier.name,
        "weights": classifier.weights,
        "file": str(path),
        "top": [
            {"class": names[number], "probability": value}
            for value, number in zip(values.tolist(), classes.tolist(), strict=True)
        ],
        "faults": _survived(path, clip),
    }


def classification_accuracy(
    classifier: Classifier, folder: Path, on_progress: OnProgress | None = None
) -> dict[str, Any]:
    """Compute top-1 and top-5 accuracy over all videos ``FOLDER/CLASS/FILE``.

    Ties count against the correct class. Files that cannot be decoded are listed with their fault and not counted; all
    others are counted.

    Args:
        classifier: network to evaluate.
        folder: folder with one folder per class, named after the class with spaces or underscores.
        on_progress: called with (done, total) files.

    Raises:
        InputError: a folder does not have the name of a class, or no file can be decoded.
    """
    videos = _labelled_videos(folder)
    ranks: list[Tensor] = []
    faults: list[dict[str, Any]] = []
    with ThreadPoolExecutor(available_cores()) as pool:
        for start in range(0, len(videos), VIDEOS_AT_ONCE):
            some = videos[start : start + VIDEOS_AT_ONCE]
            clips: list[Clip] = []
            labels: list[int] = []
            for video, clip in zip(some, pool.map(lambda video: classifier.read(video.path), some), strict=True):
                if isinstance(clip, MediaFault):
                    faults.append({"file": str(video.path), "fault": str(clip), "counted": False})
                    continue
                faults += _survived(video.path, clip)
                clips.append(clip)
                labels.append(video.label)
            if clips:
                ranks.append(ranks_of_labels(classifier.logits(clips), torch.tensor(labels)))
            if on_progress:
                on_progress(start + len(some), len(videos))
    if not ranks:
        raise InputError(f"{folder}: none of {len(videos):,} videos can be decoded ({faults[0]['fault']}).")
    rank = torch.cat(ranks)
    return {
        "encoder": classifier.name,
        "weights": classifier.weights,
        "folder": str(folder),
        "videos": len(rank),
        "classes": len({video.label for video in videos}),
        **{f"ACC@{k}": float((rank <= k).double().mean()) for k in CUT_OFFS},
        "faults": faults,
    }


def _survived(path: Path, clip: Clip) -> list[dict[str, Any]]:
    return [{"file": str(path), "fault": fault, "counted": True} for fault in clip.faults]


def ranks_of_labels(logits: Tensor, labels: Tensor) -> Tensor:
    """Rank (M,), from 1, of the labels (M,) in the logits (M, C); ties count against the label."""
    own = logits.gather(1, labels.unsqueeze(1))
    return (~(logits < own)).sum(1)  # a NaN logit ranks above every other


def _labelled_videos(folder: Path) -> list[LabelledVideo]:
    numbers = {name: number for number, name in enumerate(kinetics_classes())}
    videos = []
    for inside in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        name = inside.name.replace("_", " ")
        if name not in numbers:
            closest = difflib.get_close_matches(name, numbers, n=1, cutoff=0.0)[0]
            raise InputError(f"{inside} is not named after a class of Kinetics-400; the closest is '{closest}'.")
        files = sorted(path for path in inside.iterdir() if not path.name.startswith("."))
        videos += [LabelledVideo(path, numbers[name]) for path in files]
    if not videos:
        raise InputError(f"{folder} holds no videos; expected FOLDER/CLASS/FILE, such as archery/1.mp4.")
    return videos
