"""Kinetics-400 classes of videos, and accuracy over a labelled folder."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from microlens.encoders.video import VIDEO_NETWORKS
from microlens.encoders.video.kinetics import kinetics_classes
from microlens.media.reading import ClipSettings, read_clip
from microlens.release.synthetic import write_release
from microlens.runs.classify import Classifier, ranks_of_labels
from tests.data.test_prepare import run_command

NAMES = kinetics_classes()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Synthetic videos, more than are classified at once."""
    folder = tmp_path_factory.mktemp("videos") / "release"
    write_release(folder, users=12, items=12, seed=2, workers=1)
    return sorted((folder / "videos").iterdir())


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of x3d_xs whose logits lie far apart."""
    torch.manual_seed(1)
    state = VIDEO_NETWORKS["x3d_xs"].build().state_dict()
    state["blocks.5.proj.weight"] *= 300
    path = tmp_path_factory.mktemp("weights") / "x3d_xs.safetensors"
    save_file(state, path)
    return path


@pytest.fixture(scope="module")
def order(videos: list[Path], weights: Path) -> dict[Path, list[int]]:
    """The classes of each video from the most probable on, said again from frames and network."""
    trunk = VIDEO_NETWORKS["x3d_xs"].build().eval()
    trunk.load_state_dict(load_file(weights))
    found = {}
    for path in videos:
        frames = read_clip(path, ClipSettings(num_frames=4, size=160, crop="center")).frames
        clip = (torch.from_numpy(frames).permute(3, 0, 1, 2)[None] / 255 - 0.45) / 0.225
        with torch.inference_mode():
            logits = trunk(clip)[0]
        found[path] = logits.argsort(descending=True).tolist()
        assert logits.sort().values.diff().min() > 0  # no ties
    return found


def told_in_json(*arguments: object) -> dict[str, Any]:
    status, told, _ = run_command("features", "--json", *arguments)
    assert status == 0
    found: dict[str, Any] = json.loads(told)
    return found


def refusal(*arguments: object) -> str:
    """The one sentence that ``microlens features --classify`` refuses with."""
    status, _, told = run_command("features", "--classify", *arguments)
    assert status == 2
    assert told.startswith("microlens: ")
    assert told.count("\n") == 1
    return told


def test_the_classes_are_those_of_the_official_weights() -> None:
    assert len(NAMES) == len(set(NAMES)) == 400
    assert list(NAMES) == sorted(NAMES)
    known = {"abseiling": 0, "archery": 5, "bench pressing": 19, "changing wheel": 53, "eating ice cream": 115}
    known |= {"sharpening knives": 290, "zumba": 399}
    assert {name: NAMES.index(name) for name in known} == known


def test_the_first_five_classes_of_a_video(videos: list[Path], weights: Path, order: dict[Path, list[int]]) -> None:
    for path in videos[:2]:
        found = told_in_json("--classify", path, "--encoder", "x3d_xs", "--weights", weights)
        assert [entry["class"] for entry in found["top"]] == [NAMES[number] for number in order[path][:5]]
        probabilities = [entry["probability"] for entry in found["top"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert 5 * probabilities[0] >= sum(probabilities) > 5 / 400
        assert sum(probabilities) <= 1
        assert (found["file"], found["weights"], found["faults"]) == (str(path), str(weights), [])
    status, told, _ = run_command("features", "--classify", path, "--encoder", "x3d_xs", "--weights", weights)
    assert status == 0
    assert told.splitlines() == [f"{100 * entry['probability']:6.2f} %  {entry['class']}" for entry in found["top"]]


def test_random_weights_are_said_to_be_random(videos: list[Path]) -> None:
    arguments = ("features", "--classify", videos[0], "--encoder", "x3d_xs", "--weights", "random")
    first, again, other = (run_command(*arguments, "--seed", seed) for seed in (0, 0, 1))
    assert first[1].startswith("weights: random, so the classes below are chance\n")
    assert first == again != other


def label(folder: Path, path: Path, name: str) -> None:
    (folder / name).mkdir(exist_ok=True, parents=True)
    shutil.copy(path, folder / name)


def test_accuracy_over_a_labelled_folder(
    videos: list[Path], weights: Path, order: dict[Path, list[int]], tmp_path: Path
) -> None:
    """Nine videos, three of which are named rightly, two by their fifth class, and four by their sixth."""
    for path, place in zip(videos[:9], [0, 0, 0, 4, 4, 5, 5, 5, 5], strict=True):
        label(tmp_path, path, NAMES[order[path][place]].replace(" ", "_"))
    arguments = ("--classify", tmp_path, "--encoder", "x3d_xs", "--weights", weights)
    found = told_in_json(*arguments)
    assert (found["videos"], found["faults"]) == (9, [])
    assert found["ACC@1"] == pytest.approx(3 / 9)
    assert found["ACC@5"] == pytest.approx(5 / 9)
    inside = next(tmp_path.iterdir())
    (inside / "0.mp4").write_bytes(b"")
    (inside / "notes.txt").write_text("Not a video at all.\n" * 50)
    (inside / ".DS_Store").write_bytes(b"hidden")
    damaged = told_in_json(*arguments)
    assert {key: damaged[key] for key in ("videos", "ACC@1", "ACC@5")} == {
        key: found[key] for key in ("videos", "ACC@1", "ACC@5")
    }
    assert [(Path(fault["file"]).name, fault["counted"]) for fault in damaged["faults"]] == [
        ("0.mp4", False),
        ("notes.txt", False),
    ]
    told = run_command("features", *arguments)[1]
    assert f"fault: {inside / '0.mp4'}, not counted: the file is empty" in told
    assert told.endswith(f"9 videos of {found['classes']} classes: ACC@1 33.33 %, ACC@5 55.56 %\n")


def test_classes_that_score_the_same_count_against_the_network() -> None:
    logits = torch.tensor([[1.0, 3.0, 2.0], [1.0, 1.0, 1.0], [2.0, 1.0, 2.0], [float("nan"), 1.0, 0.0]])
    assert ranks_of_labels(logits, torch.tensor([2, 0, 2, 1])).tolist() == [2, 3, 2, 2]


def test_a_clip_keeps_its_shape_and_is_as_long_as_the_network_knows() -> None:
    for name in ("x3d_xs", "slow_r50"):
        network = VIDEO_NETWORKS[name]
        settings = ClipSettings(num_frames=network.frames, size=network.size, crop="center")
        assert Classifier(name, "random").settings == settings


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--encoder", "x3d_xxs"), "encoder is 'x3d_xxs', which is unknown; did you mean 'x3d_xs'?"),
        (
            ("--encoder", "swin_t"),
            "encoder is 'swin_t', which has no Kinetics-400 classifier; one that has is x3d_m.",
        ),
        (("--encoder", "mvit_b_16"), "encoder is 'mvit_b_16', which has no Kinetics-400 classifier"),
        (
            ("--encoder", "x3d_xs", "--missing", "skip"),
            "--missing, --layers and --per-frame need a DATASET",
        ),
    ],
)
def test_wrong_arguments_are_refused(videos: list[Path], arguments: tuple[str, ...], sentence: str) -> None:
    assert sentence in refusal(videos[0], *arguments)


@pytest.mark.slow
def test_a_video_network_without_a_classifier_is_refused(videos: list[Path]) -> None:
    pytest.importorskip("transformers")
    assert "'videomae', which has no Kinetics-400 classifier" in refusal(videos[0], "--encoder", "videomae")


def test_neither_a_dataset_nor_a_video_is_refused() -> None:
    status, _, told = run_command("features", "--encoder", "x3d_xs")
    assert status == 2
    assert "give either a DATASET or --classify PATH." in told


def test_videos_that_cannot_be_classified_are_refused(videos: list[Path], weights: Path, tmp_path: Path) -> None:
    encoder = ("--encoder", "x3d_xs", "--weights", "random")
    assert f"{tmp_path / 'no.mp4'} cannot be used: there is no such file." in refusal(tmp_path / "no.mp4", *encoder)
    assert f"{tmp_path} holds no videos; expected FOLDER/CLASS/FILE" in refusal(tmp_path, *encoder)
    label(tmp_path, videos[0], "acherry")
    assert "acherry is not named after a class of Kinetics-400; the closest is 'archery'." in refusal(
        tmp_path, *encoder
    )
    shutil.rmtree(tmp_path / "acherry")
    (tmp_path / "archery").mkdir()
    (tmp_path / "archery" / "1.mp4").write_bytes(b"")
    assert "none of 1 videos can be decoded (the file is empty)." in refusal(tmp_path, *encoder)
    told = refusal(videos[0], "--encoder", "r3d_r18", "--weights", weights)
    assert "has no place in this network" in told


@pytest.mark.real_data
def test_real_videos_of_known_classes_are_read_without_a_fault(shared_data: Path, tmp_path: Path) -> None:
    for name in ("archery", "arm_wrestling"):
        label(tmp_path, shared_data / "videos" / "other" / f"{name}.mp4", name)
    found = told_in_json("--classify", tmp_path, "--encoder", "x3d_xs", "--weights", "random")
    assert (found["videos"], found["classes"], found["faults"]) == (2, 2, [])
    assert 0 <= found["ACC@1"] <= found["ACC@5"] <= 1
