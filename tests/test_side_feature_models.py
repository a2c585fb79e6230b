"""Popularity bins and tags in whole models: from a dataset's files to every recommender that takes an item tower."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from microlens.building import build
from microlens.config import RunConfig
from microlens.data.batches import ItemBatch
from microlens.data.dataset import Dataset
from microlens.data.decoding import Settings
from microlens.data.prepare import prepare
from microlens.data.split import Protocol
from microlens.encoders import build_encoder
from microlens.encoders.base import ItemEncoder
from microlens.encoders.popularity_bins import PopularityBinsEncoder
from microlens.encoders.tag import TagEncoder
from microlens.recommend import recommend
from microlens.recommenders import RECOMMENDERS
from microlens.run import build_run, content_world, open_run, train
from tests.conftest import random_sequences, write_pairs
from tests.contracts.test_recommenders import TRAINABLE, B, D, L, N, encode, histories
from tests.reference.side_features import bins_loop, mean_loop, tags_loop
from tests.test_prepare import run_command

TAGS = ["Game", "", "Anime", "Game, Anime", "", "Music"] * 5
TOWERS: list[dict[str, Any]] = [{"name": "id"}, {"name": "popularity_bins"}, {"name": "tag"}]
FUSED = {"sum": {"name": "sum", "towers": TOWERS}, "mean": {"name": "mean", "towers": TOWERS}}
ALL_ITEMS = ItemBatch(items=torch.arange(1, N + 1))


def world() -> dict[str, Any]:
    return {
        "dim": D,
        "num_items": N,
        "num_users": B + 2,
        "train_pairs": (torch.arange(3 * B) % B, torch.arange(3 * B) % N + 1),
        "history_length": L,
        "train_counts": torch.arange(N + 1) ** 2,
        "item_ids": np.arange(N + 1),
        "tags": TAGS,
    }


def tower(encoder: ItemEncoder, kind: type[ItemEncoder]) -> Any:
    (only,) = (part for part in encoder.towers() if isinstance(part, kind))
    return only


def test_the_mean_of_the_towers_equals_the_same_item_by_item() -> None:
    encoder = build_encoder(FUSED["mean"], world())
    rows = [
        [tower(encoder, PopularityBinsEncoder).table[number].tolist() for number in bins_loop(counts(), 10)[1:]],
        tags_loop(tower(encoder, TagEncoder).table.tolist(), TAGS),
        next(encoder.towers())(ALL_ITEMS).tolist(),
    ]
    torch.testing.assert_close(encoder(ALL_ITEMS), torch.tensor(mean_loop(rows)))
    added = build_encoder(FUSED["sum"], world())
    added.load_state_dict(encoder.state_dict())
    torch.testing.assert_close(encoder(ALL_ITEMS), added(ALL_ITEMS) / 3)


def counts() -> list[int]:
    numbers: list[int] = world()["train_counts"].tolist()
    return numbers


@pytest.mark.parametrize("bins", [2, 7, 10, 1000])
def test_bins_equal_those_counted_one_by_one(bins: int) -> None:
    encoder = build_encoder({"name": "popularity_bins", "bins": bins}, world())
    assert tower(encoder, PopularityBinsEncoder).bin_of_item.tolist() == bins_loop(counts(), bins)


@pytest.mark.parametrize("fusion", FUSED)
@pytest.mark.parametrize("name", TRAINABLE)
def test_every_recommender_takes_them_and_trains_them(name: str, fusion: str) -> None:
    given = world()
    given["item_encoder"] = build_encoder(FUSED[fusion], given)
    model = build(RECOMMENDERS[name], {}, given, "model").train()
    catalogue, states = encode(model, histories())
    scores = model.score(states[:, -1], catalogue[1:])
    (scores * torch.randn_like(scores)).sum().backward()
    for kind in (PopularityBinsEncoder, TagEncoder):
        table = tower(model.item_encoder, kind).table
        assert table.grad is not None
        assert table.grad.any(1).tolist() == used(kind, len(table))


def used(kind: type[ItemEncoder], rows: int) -> list[bool]:
    """Which rows of a table stand for an item at all."""
    filled = set(bins_loop(counts(), rows)[1:]) if kind is PopularityBinsEncoder else set(range(rows))
    return [row in filled for row in range(rows)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 users and 12 items with ids of their own, every third one without a tag."""
    folder = tmp_path_factory.mktemp("side")
    sequences = [[item * 7 for item in items] for items in random_sequences(20, 12)]
    release = write_pairs(folder / "release", sequences)
    lines = [f'{item * 7},"{TAGS[item]}"' for item in range(1, 13) if item % 3 and TAGS[item]]
    (release / "tiny_tags.csv").write_text("\n".join(reversed(lines)) + "\n99999,Stranger\n")
    prepare(release, folder / "dataset", Settings())
    return folder / "dataset"


def configuration(dataset: Path, output: Path, encoder: dict[str, Any], model: str = "sasrec") -> RunConfig:
    settings: dict[str, Any] = {
        "dataset": dataset,
        "output": output,
        "model": {"name": model, "dim": 8},
        "encoder": encoder,
        "train": {"epochs": 2, "batch_size": 8, "lr": 1e-2, "device": "cpu"},
    }
    return RunConfig.model_validate(settings)


def tag_of(item_id: int) -> str:
    item = item_id // 7
    return TAGS[item] if item % 3 else ""


def test_tags_come_from_the_file_by_item_id_and_those_of_no_item_are_left_out(dataset: Path, tmp_path: Path) -> None:
    run = build_run(configuration(dataset, tmp_path, {"name": "tag"}))
    encoder, ids = tower(run.model.item_encoder, TagEncoder), run.item_ids()[1:].tolist()
    tags = [tag_of(item_id) for item_id in ids]
    assert "" in tags
    assert "Stranger" not in tags
    vectors = encoder(ItemBatch(items=torch.arange(1, len(ids) + 1)))
    assert vectors.tolist() == tags_loop(encoder.table.tolist(), tags)
    assert len(encoder.table) == len({tag for tag in tags if tag}) + 1


def test_tags_follow_the_items_that_a_protocol_keeps(dataset: Path) -> None:
    opened = Dataset(dataset)
    kept = np.array([0, 9, 2, 5])  # the dataset's numbers of items 1, 2, 3
    assert content_world(opened, kept)["tags"] == [tag_of(int(opened.interactions.item_ids[item])) for item in kept[1:]]


def test_popularity_is_that_of_the_train_part_alone(dataset: Path, tmp_path: Path) -> None:
    """Counted here from the pairs file: all items of a user but the last two, which validation and test ask for."""
    run = build_run(configuration(dataset, tmp_path, {"name": "popularity_bins", "bins": 5}))
    lines = (dataset.parent / "release" / "tiny_pairs.tsv").read_text().splitlines()
    users = [line.split("\t")[1].split() for line in lines]
    occurrences = [int(item) for items in users for item in items[-Protocol().max_length : -2]]
    seen = [occurrences.count(item_id) for item_id in run.item_ids()[1:]]
    everything = [sum(str(item_id) in items for items in users) for item_id in run.item_ids()[1:]]
    found = tower(run.model.item_encoder, PopularityBinsEncoder).bin_of_item[1:].tolist()
    assert found == bins_loop([0, *seen], 5)[1:]
    assert found != bins_loop([0, *everything], 5)[1:]  # held-out items would have made others of them


@pytest.mark.parametrize("model", ["sasrec", "lightgcn", "mmgcn", "nfm"])
def test_a_run_trains_and_comes_back_from_its_folder(dataset: Path, tmp_path: Path, model: str) -> None:
    report = train(configuration(dataset, tmp_path / "run", FUSED["mean"], model), quiet=True)
    assert report.encoder == "mean"
    scores = [{entry.item_id: entry.score for entry in recommend(tmp_path / "run", user=3).items} for _ in range(2)]
    assert scores[0] == scores[1]
    assert len(scores[0]) > 0
    assert tower(open_run(tmp_path / "run").model.item_encoder, TagEncoder).table.std() > 0


def test_recommendations_for_a_history_are_the_scores_of_the_model(dataset: Path, tmp_path: Path) -> None:
    train(configuration(dataset, tmp_path / "run", FUSED["sum"]), quiet=True)
    run = open_run(tmp_path / "run")
    ids = run.item_ids().tolist()
    history = torch.tensor([[4, 1]])
    with torch.inference_mode():
        vectors = run.model.item_encoder(ItemBatch(items=torch.arange(1, len(ids))))
        padded = torch.nn.functional.pad(history, (run.split.history_length - 2, 0))
        read = torch.cat([vectors.new_zeros(1, 8), vectors])[padded]
        expected = run.model.last_states(torch.zeros(1, dtype=torch.long), padded, read)[0] @ vectors.T
    found = recommend(tmp_path / "run", history=f"{ids[4]},{ids[1]}", k=100).items
    assert {entry.item_id for entry in found} == {*ids[1:]} - {ids[4], ids[1]}
    for entry in found:
        assert entry.score == pytest.approx(float(expected[ids.index(entry.item_id) - 1]), abs=1e-5)


@pytest.mark.parametrize("side", ["popularity_bins", "tag"])
def test_a_new_video_has_no_bin_and_no_tag(video_dataset: Path, tmp_path: Path, side: str) -> None:
    encoder = {"name": "sum", "towers": [{"name": "x3d_xs", "tune": "frozen"}, {"name": side}]}
    train(configuration(video_dataset, tmp_path / "run", encoder), quiet=True)
    video = video_dataset.parent / "release" / "videos" / "1.mp4"
    status, _, told = run_command("recommend", tmp_path / "run", "--user", "1", "--add-video", video)
    assert status == 2
    assert told == "microlens: --add-video needs a run whose encoder sees videos and nothing else, such as x3d_xs.\n"


def test_a_dataset_without_tags_is_one_sentence_and_status_2(
    make_dataset: Callable[[list[list[int]]], Path], tmp_path: Path
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(configuration(make_dataset(random_sequences(20, 12)), tmp_path / "run", FUSED["sum"]).toml())
    status, _, told = run_command("train", config)
    assert status == 2
    assert told == "microlens: encoder tag: no item of the dataset has a tag; prepare a release with a tags file.\n"


def test_other_tags_are_other_data(dataset: Path, tmp_path: Path) -> None:
    """A run is not opened with tags that it was not trained on, although as many."""
    train(configuration(dataset, tmp_path / "run", FUSED["sum"]), quiet=True)
    release = write_pairs(tmp_path / "release", [[item * 7 for item in items] for items in random_sequences(20, 12)])
    tags = (dataset.parent / "release" / "tiny_tags.csv").read_text()
    (release / "tiny_tags.csv").write_text(tags.replace("Music", "Musik"))
    prepare(release, tmp_path / "dataset", Settings())
    text = (tmp_path / "run" / "config.toml").read_text().replace(str(dataset), str(tmp_path / "dataset"))
    (tmp_path / "run" / "config.toml").write_text(text)
    status, _, told = run_command("recommend", tmp_path / "run", "--user", "3")
    assert status == 2
    assert "was trained on other data" in told
