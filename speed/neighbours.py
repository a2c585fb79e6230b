"""Which halves of real videos find each other by frozen features, printed as JSON and drawn as a heat map.

    python speed/neighbours.py VIDEOS PICTURE [--encoder i3d_inception] [--weights default]

Every video below VIDEOS is cut in two in time, and each half becomes a clip of the network's own length and size. The
nearest neighbour of a half, by the cosine of the pooled features, should be the other half. Halves of a video share
their colours, too, so random weights are the measure of what this says: --weights random.
"""

import argparse
from dataclasses import replace
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from measure import Line, print_result
from numpy.typing import NDArray

from microlens.encoders.video.kinetics import kinetics_classes
from microlens.media.reading import Clip, ClipSettings, read_clip
from microlens.runs.classify import Classifier

LONGEST_NAME = 16


def halves(path: Path, settings: ClipSettings) -> list[Clip]:
    """The clips of the first and the second half of a video."""
    whole = read_clip(path, replace(settings, num_frames=2 * settings.num_frames))
    return [replace(whole, frames=frames) for frames in np.split(whole.frames, 2)]


def describe(classifier: Classifier, clip: Clip) -> tuple[NDArray[np.float32], str, float]:
    """The features (E,) of a clip scaled to length 1, its most probable class and the probability."""
    features = classifier.features([clip])
    probability, number = classifier.tower.trunk.classify(features)[0].softmax(0).max(0)
    name = kinetics_classes()[int(number)]
    return torch.nn.functional.normalize(features)[0].cpu().numpy(), name, float(probability)


def draw(names: list[str], classes: list[str], similarity: NDArray[np.float32], path: Path) -> None:
    """A heat map with a dot on the nearest neighbour of each row, and the class of each row on the right."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(9.5, 6.6), layout="constrained")
    shown = similarity.copy()
    np.fill_diagonal(shown, np.nan)
    image = axes.imshow(shown, cmap="Blues", vmin=0, vmax=1)
    rows = np.arange(len(names))
    axes.plot(np.nanargmax(shown, axis=1), rows, "o", color="#c2410c", markersize=5, label="nearest neighbour")
    axes.set_xticks(rows, names, rotation=60, ha="right", rotation_mode="anchor")
    axes.set_yticks(rows, names)
    right = axes.secondary_yaxis("right")
    right.set_yticks(rows, classes)
    right.tick_params(length=0)
    figure.colorbar(image, ax=axes, location="left", shrink=0.6, label="cosine of the features")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), frameon=False)
    figure.savefig(path, dpi=110, bbox_inches="tight")


def main() -> None:
    """Describe all halves, compare and draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="a folder of videos, with folders in it or without")
    parser.add_argument("picture", type=Path, help="the picture to write, .png or .svg")
    parser.add_argument("--encoder", default="i3d_inception", help="a video network with a Kinetics-400 classifier")
    parser.add_argument("--weights", default="default")
    options = parser.parse_args()
    classifier = Classifier(options.encoder, options.weights)
    paths = sorted(path for path in options.videos.rglob("*") if path.is_file())
    described = [describe(classifier, half) for path in paths for half in halves(path, classifier.settings)]
    vectors = np.stack([vector for vector, *_ in described])
    similarity = vectors @ vectors.T
    names = [f"{path.stem[:LONGEST_NAME]}, {half}" for path in paths for half in ("1st half", "2nd half")]
    draw(names, [f"{name} {probability:.0%}" for _, name, probability in described], similarity, options.picture)
    others = similarity - 2 * np.eye(len(names))
    nearest = others.argmax(axis=1)
    found = int((nearest == np.arange(len(names)) ^ 1).sum())
    rows = [
        {"clip": name, "nearest": names[near], "cosine": float(others[row, near]), "class": kind, "probability": share}
        for row, (name, near, (_, kind, share)) in enumerate(zip(names, nearest, described, strict=True))
    ]
    line = Line(
        what="halves whose nearest neighbour is the other half", measured=found / len(names), unit="of all",
        bound="at least", reach=1.0,
    )  # fmt: skip
    unrelated = others[np.arange(len(names))[:, None] // 2 != np.arange(len(names)) // 2]
    results = {"rows": rows, "mean_cosine_of_different_videos": float(unrelated.mean())}
    print_result("neighbours", options, [torch.get_num_threads()], results, [line])


if __name__ == "__main__":
    main()
