"""What the documents show works."""

import importlib
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from microlens.building.registry import Registry
from microlens.config.run_config import RunConfig
from microlens.data.dataset import Dataset
from microlens.encoders import ENCODER_REGISTRY, ENCODERS
from microlens.errors import InputError
from microlens.recommenders import RECOMMENDER_REGISTRY, RECOMMENDERS
from microlens.runs.assembly import GIVEN
from microlens.runs.feature_files import write_features
from microlens.runs.train import train
from microlens.testing import EncoderContract, RecommenderContract
from microlens.testing.worlds import name_of
from tests.conftest import REPOSITORY


def blocks(document: str, heading: str, language: str) -> list[str]:
    """The blocks of a language that a document shows under a heading, with those of the headings below it."""
    text = (REPOSITORY / "docs" / document).read_text()
    section = text[text.index(f"\n{heading}\n") + 1 :]
    level = heading.partition(" ")[0]
    end = re.search(rf"^#{{1,{len(level)}}} ", section[len(heading) :], re.MULTILINE)
    section = section[: len(heading) + end.start()] if end else section
    return re.findall(rf"^```{language}\n(.*?)^```", section, re.DOTALL | re.MULTILINE)


RECOMMENDER = ("recommenders.md", "## A recommender of your own")
ENCODER = ("encoders.md", "## An encoder of your own")
NETWORK = ("encoders.md", "### A network with a frozen part")
# The files that documents name, and where the blocks are.
FILES = {
    "fading_mean": (*RECOMMENDER, 0),
    "test_fading_mean": (*RECOMMENDER, 1),
    "cover_colours": (*ENCODER, 0),
    "test_cover_colours": (*ENCODER, 1),
    "three_convolutions": (*NETWORK, 0),
}


@pytest.fixture(autouse=True)
def working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working folder with the files that the documents show."""
    for name, (document, heading, number) in FILES.items():
        (tmp_path / f"{name}.py").write_text(blocks(document, heading, "python")[number])
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.chdir(tmp_path)
    importlib.invalidate_caches()
    yield
    for name in FILES:
        sys.modules.pop(name, None)


def shown(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(tmp_path)
    return importlib.import_module(name)


class TestTheRecommenderOfTheDocument(RecommenderContract):
    @pytest.fixture
    def model_table(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
        written = shown("test_fading_mean", monkeypatch, tmp_path).TestFadingMean
        assert issubclass(written, RecommenderContract)
        return {"name": name_of(written.recommender), **written.options}


class TestTheEncoderOfTheDocument(EncoderContract):
    @pytest.fixture
    def encoder_table(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
        written = shown("test_cover_colours", monkeypatch, tmp_path).TestCoverColours
        assert issubclass(written, EncoderContract)
        return {"name": name_of(written.encoder), **written.options}


class TestTheNetworkOfTheDocument(EncoderContract):
    encoder = "three_convolutions:three_convolutions"


def train_shown(video_dataset: Path, tmp_path: Path, tables: dict[str, Any]) -> Any:
    settings = {"epochs": 1, "batch_size": 12, "device": "cpu"}
    written = {"model": {"name": "gru4rec", "dim": 8}, **tables, "train": settings}
    config = RunConfig.model_validate({"dataset": video_dataset, "output": tmp_path / "run", **written})
    return train(config)


@pytest.mark.parametrize("section", [RECOMMENDER, ENCODER], ids=["recommender", "encoder"])
def test_the_configurations_of_the_documents_train(
    section: tuple[str, str], video_dataset: Path, tmp_path: Path
) -> None:
    tables = tomllib.loads(blocks(*section, "toml")[0])
    report = train_shown(video_dataset, tmp_path, tables)
    assert report.model == tables.get("model", {"name": "gru4rec"})["name"]
    assert report.encoder == tables["encoder"]["name"]


@pytest.mark.parametrize("tune", ["frozen", "top1", "full"])
def test_the_network_of_the_document_trains(video_dataset: Path, tmp_path: Path, tune: str) -> None:
    tables = tomllib.loads(blocks(*NETWORK, "toml")[0])
    tables["encoder"]["tune"] = tune
    report = train_shown(video_dataset, tmp_path, tables)
    assert report.encoder == "three_convolutions:three_convolutions"
    assert report.cost["trainable_parameters"] > 64 * 8
    assert ("cached_bytes_per_item" in report.cost) == (tune != "full")


@pytest.mark.parametrize(
    ("section", "registry"),
    [(RECOMMENDER, RECOMMENDER_REGISTRY), (ENCODER, ENCODER_REGISTRY)],
    ids=["recommender", "encoder"],
)
def test_the_entry_points_of_the_documents_are_looked_up(section: tuple[str, str], registry: Registry[Any]) -> None:
    declared = tomllib.loads(blocks(*section, "toml")[1])["project"]["entry-points"]
    assert list(declared) == [registry.group]
    for path in declared[registry.group].values():
        assert registry.find(path, "name").__name__ == path.partition(":")[2]


def test_what_constructors_are_given_is_in_the_document() -> None:
    text = (REPOSITORY / "docs" / "recommenders.md").read_text()
    assert [name for name in GIVEN - {"towers"} if f"`{name}`" not in text] == []


def test_the_line_that_adds_a_network_to_the_package_fits_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (line,) = blocks("encoders.md", "## Adding an encoder to this package", "python")
    networks = shown("three_convolutions", monkeypatch, tmp_path).SMALL_NETWORKS
    table = eval(f"{{\n{line}}}", {"SMALL_NETWORKS": networks})
    assert list(table) == ["three_convolutions"]


def test_every_recommender_is_in_the_document() -> None:
    text = (REPOSITORY / "docs" / "recommenders.md").read_text()
    assert [name for name in RECOMMENDERS if f"`{name}`" not in text] == []


def test_every_encoder_is_in_the_document() -> None:
    text = (REPOSITORY / "docs" / "encoders.md").read_text()
    assert [name for name in ENCODERS if f"`{name}`" not in text] == []


def test_features_of_the_network_of_the_document(
    video_dataset: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shown("three_convolutions", monkeypatch, tmp_path)
    files = write_features(video_dataset, "three_convolutions:three_convolutions", out=tmp_path / "features")
    assert files.path.name.startswith("three_convolutions.three_convolutions-")
    items = Dataset(video_dataset).interactions.num_items
    assert np.load(files.path).shape == (items, 64)
    with pytest.raises(InputError, match="'cover_colours:CoverColours', which has no trunk whose features could be"):
        write_features(video_dataset, "cover_colours:CoverColours", out=tmp_path / "features")
