"""The fusion of recommenders, and new items among known ones."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from microlens.cli import app
from microlens.config.run_config import RunConfig
from microlens.data.new_items import NewItem
from microlens.data.prepare import prepare
from microlens.data.split import Part
from microlens.encoders.id import IdEncoder
from microlens.errors import InputError
from microlens.evaluation.ranking import rank_targets
from microlens.recommenders import fitted
from microlens.recommenders.fitted import Fitted
from microlens.recommenders.fusion import Fusion, best_listed, log_ranks
from microlens.recommenders.fusion import Part as TrainedPart
from microlens.recommenders.sasrec import SASRec
from microlens.runs import new_items
from microlens.runs.added_items import EncodedItem, encode_new_item
from microlens.runs.assembly import open_experiment
from microlens.runs.new_items import new_item_curve
from microlens.runs.recommend import Ranker
from microlens.runs.run import Run, load
from microlens.runs.train import train
from microlens.testing import worlds
from microlens.testing.models import build_recommender
from tests.conftest import write_pairs
from tests.training.test_trainer import train_in_two_processes

KINDS, OLD, NEW = 6, 25, 3  # kinds of items; old and new items of each


def item(kind: int, number: int) -> int:
    return 1 + kind * (OLD + NEW) + number


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users watch items of one kind, which the titles name; some of the last two items are new."""
    folder = tmp_path_factory.mktemp("kinds")
    rng = np.random.default_rng(0)
    sequences = []
    for user in range(600):
        kind = user % KINDS
        items = rng.permutation(OLD)[:7]
        if user % 5 == 0:  # every fifth user's validation item or test item is new
            items[-2 + user % 2] = OLD + rng.integers(NEW)
        sequences.append([item(kind, int(number)) for number in items])
    write_pairs(folder / "release", sequences)
    titles = [
        (item(kind, number), f"kind{kind} word{number} {'odd' if number % 2 else 'even'}")
        for kind in range(KINDS)
        for number in range(OLD + NEW)
    ]
    pl.DataFrame(titles, schema=["item", "title"], orient="row").write_csv(folder / "release" / "tiny_titles.csv")
    prepare(folder / "release", folder / "dataset", workers=1)
    return folder / "dataset"


def config_of(dataset: Path, output: Path, **options: object) -> RunConfig:
    sasrec = {"model": {"name": "sasrec", "dim": 8, "blocks": 1}, "encoder": {"name": "id"}}
    training = {"epochs": 3, "batch_size": 64, "lr": 1e-2, "device": "cpu"}
    parts = [{**sasrec, "train": training}, {"model": {"name": "co_visitation"}}, {"model": {"name": "text_knn"}}]
    table = {"dataset": str(dataset), "output": str(output), "model": {"name": "fusion", **options}, "parts": parts}
    return RunConfig.of({**table, "train": {"device": "cpu"}})


@pytest.fixture(scope="module")
def run(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = config_of(dataset, tmp_path_factory.mktemp("run") / "fusion", listed=20, warm_loss=0.1)
    train(config)
    return load(config.output)


def score_loop(run: Run, history: list[int]) -> list[float]:
    """The formula of the docstring, item by item, from the scores of the parts' own runs."""
    model = run.experiment.model
    assert isinstance(model, Fusion)
    features = []
    for number, folder in enumerate(sorted((run.folder / "parts").iterdir())):
        part = open_experiment(folder, run.config.dataset)
        own = Ranker(part)
        scores = own.scores(np.array(history)).tolist()
        candidates = [value for item, value in enumerate(scores) if item and item not in history]
        if number:  # no gradients
            ranks = [sum(other >= value for other in candidates) for value in scores]
            features.append([math.log(21 / (min(rank, 20) + 1)) for rank in ranks])
        else:
            features.append(scores)
    counts = run.experiment.split.train_counts
    fused = []
    for number in range(len(counts)):
        new = counts[number] == 0
        weights = model.weights + new * model.new_weights
        fused.append(
            sum(float(w) * f[number] for w, f in zip(weights, features, strict=True)) + new * float(model.offset)
        )
    return fused


def test_scores_are_those_of_the_loop(run: Run) -> None:
    assert isinstance(run.experiment.model, Fusion)
    assert run.experiment.model.new_weights.abs().max() > 0
    for history in ([3], [1, 2, 30], [5, 70, 71, 9]):
        scores = Ranker(run.experiment).scores(np.array(history))
        expected = torch.tensor(score_loop(run, history))
        candidates = torch.ones(len(expected), dtype=torch.bool)
        candidates[[0, *history]] = False
        torch.testing.assert_close(scores[candidates].double(), expected[candidates].double(), rtol=1e-4, atol=1e-4)


def hits(run: Run, part: Part, *, new: bool) -> int:
    """The number of targets of known or new items among the first ten."""
    experiment = run.experiment
    ranks = rank_targets(experiment.model, experiment.content, experiment.split, part, experiment.device)
    of_new = experiment.split.train_counts[experiment.split.targets(part)] == 0
    return int((ranks[of_new == new] <= 10).sum())


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2])
def test_new_items_cost_known_ones_no_more_than_allowed(dataset: Path, run: Run, tmp_path: Path, share: float) -> None:
    shutil.copytree(run.folder / "parts", tmp_path / "run" / "parts")
    config = config_of(dataset, tmp_path / "run", listed=20, warm_loss=share)
    train(config)
    fused = load(config.output)
    model = fused.experiment.model
    assert isinstance(model, Fusion)
    offset = float(model.offset)
    with_new = hits(fused, "valid", new=False)
    model.offset.fill_(-1e6)
    without_new = hits(fused, "valid", new=False)
    assert without_new - with_new <= int(share * without_new)
    model.offset.fill_(offset + 2e-4)
    assert without_new - hits(fused, "valid", new=False) > int(share * without_new), "a larger offset costs more"


def test_new_items_are_found_where_ids_find_none(run: Run) -> None:
    ids = load(run.folder / "parts" / "0-sasrec")
    assert hits(run, "test", new=True) >= 20
    assert hits(ids, "test", new=True) <= 2
    assert hits(run, "test", new=False) > 0.95 * hits(ids, "test", new=False)


def test_trained_parts_are_not_trained_again(dataset: Path, run: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.is_file()}
    (run.folder / "report.json").unlink()
    train(run.config)
    after = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.is_file()}
    assert before.keys() == after.keys()
    assert [path for path in before if before[path] != after[path] and "parts" in path.parts] == []


def test_the_cost_includes_the_parts(run: Run) -> None:
    parts = [Run(folder) for folder in (run.folder / "parts").iterdir()]
    assert len(parts) == 3
    assert run.report.cost["seconds"] > sum(part.report.cost["seconds"] for part in parts)
    assert run.report.cost["parameters"] >= max(part.report.cost["parameters"] for part in parts)


def test_the_configuration_determines_the_hash(dataset: Path, tmp_path: Path) -> None:
    config = config_of(dataset, tmp_path / "run")
    table = config.model_dump(mode="json")
    assert RunConfig.of({**table, "parts": table["parts"][::-1]}).hash != config.hash
    table["parts"][0]["train"]["workers"] = 0
    assert RunConfig.of(table).hash == config.hash
    table["parts"][0]["train"]["lr"] = 0.5
    assert RunConfig.of(table).hash != config.hash


def test_a_fusion_without_parts_is_refused(dataset: Path, tmp_path: Path) -> None:
    table = config_of(dataset, tmp_path / "run").model_dump(mode="json")
    with pytest.raises(InputError, match=r"model\.name is 'fusion', which needs recommenders to combine"):
        train(RunConfig.of({**table, "parts": []}))
    with pytest.raises(InputError, match=r"model.name is 'markov', which combines no \[\[parts\]\]"):
        train(RunConfig.of({**table, "model": {"name": "markov"}}))
    with pytest.raises(InputError, match=r"warm_loss = 1\.5"):
        train(config_of(dataset, tmp_path / "run", warm_loss=1.5))
    with pytest.raises(InputError, match=r"model\.decays is unknown"):
        train(RunConfig.of({**table, "parts": [*table["parts"][:2], {"model": {"name": "text_knn", "decays": 1.0}}]}))
    assert not (tmp_path / "run").exists(), "no part was trained"


def test_log_ranks_are_those_of_a_loop() -> None:
    scores = torch.tensor([[9.0, 3.0, 5.0, 5.0, 0.0, 0.0, 7.0, 1.0], [0.0, 0.0, 0.0, 2.0, 0.0, 1.0, 0.0, 0.0]])
    found = log_ranks(scores, best_listed(scores, torch.tensor([[0, 6], [3, 3]]), 3), 3)
    expected = torch.zeros(2, 8)
    expected[0, [2, 3]] = math.log(4 / 3)  # tied for ranks 1 and 2
    expected[0, 1] = math.log(4 / 4)
    expected[1, 5] = math.log(4 / 2)
    torch.testing.assert_close(found, expected)


def test_the_curve_of_new_items_is_what_offsets_do(run: Run) -> None:
    curve = new_item_curve(run, "test")
    model, counts = run.experiment.model, run.experiment.split.train_counts[run.experiment.split.targets("test")]
    assert isinstance(model, Fusion)
    offset = float(model.offset)
    assert curve["offset"].is_sorted()
    assert len(curve) >= 6
    for added, loss, known, new in curve.iter_rows():
        model.offset.fill_(offset + max(added, -1e6) - 1e-4)
        found = [hits(run, "test", new=kind) / ((counts == 0) == kind).sum() for kind in (False, True)]
        assert [known, new] == pytest.approx(found, abs=0.02)
        assert loss == pytest.approx(1 - known / curve["known"][0])
    model.offset.fill_(offset)
    losses = curve.filter(pl.col("offset") > 0)["loss"]
    assert (losses <= 0.5).all()
    assert losses.max() > 0.3  # type: ignore[operator]


@pytest.mark.parametrize(
    ("choices", "said"), [({"part": "x"}, "part is 'x'; accepted: 'valid', 'test'"), ({"k": 0}, "k is 0; it must be")]
)
def test_the_curve_says_what_it_takes(run: Run, choices: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        new_item_curve(run, **choices)


def test_the_command_draws_the_curve(run: Run, tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["new-items", str(run.folder), "--figure", str(tmp_path / "curve.png"), "--json"])
    assert found.exit_code == 0, found.output
    curve = json.loads(found.stdout, parse_constant=pytest.fail)["fusion"]
    assert curve["known"] == new_item_curve(run)["known"].to_list()
    assert curve["offset"][0] is None  # minus infinity
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_curve_is_drawn_as_a_png_only(run: Run, tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["new-items", str(run.folder), "--figure", str(tmp_path / "curve.jpg")])
    assert isinstance(found.exception, InputError)
    assert "ends in '.jpg'; accepted: .png" in str(found.exception)
    assert not list(tmp_path.glob("curve*"))


def test_targets_that_never_leave_the_list_give_no_offset(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = np.array([1.0, 2.0, np.inf, np.inf, np.inf, np.inf]), np.array([0.5])
    monkeypatch.setattr(new_items, "_limits", lambda *arguments: limits)
    assert new_item_curve(run)["offset"].to_list() == [-np.inf, 0.0, np.nextafter(1.0, 0), np.nextafter(2.0, 0)]


def test_without_hits_nothing_is_lost(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_items, "_limits", lambda *_: (np.full(5, -np.inf), np.array([0.5])))
    assert new_item_curve(run)["loss"].to_list() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"model": {"name": "sasrek"}}, "model.name is 'sasrek'"),
        ({"model": {"name": "sasrec", "blockz": 2}, "encoder": {"name": "id"}}, "model.blockz is unknown"),
        ({"model": {"name": "sasrec"}}, "needs an item encoder"),
        (
            {"model": {"name": "sasrec"}, "encoder": {"name": "id"}, "train": {"lr": 1e30, "epochs": 2}},
            "try a smaller train.lr",
        ),
    ],
)
def test_errors_name_the_part(dataset: Path, tmp_path: Path, part: dict[str, object], said: str) -> None:
    table = {"dataset": str(dataset), "output": str(tmp_path / "run"), "model": {"name": "fusion"}}
    config = RunConfig.of({**table, "parts": [{"model": {"name": "co_visitation"}}, part]})
    with pytest.raises(InputError) as refused:
        train(config)
    name = part["model"]["name"]  # type: ignore[index]
    assert str(refused.value).startswith(f"part 2 of the fusion ({name}): ")
    assert said in str(refused.value)


@pytest.mark.slow
def test_two_processes_train_the_parts_one_after_the_other(dataset: Path, tmp_path: Path) -> None:
    """They stay in one group, and find what one process finds, up to the order of sums."""
    found = []
    for number, output in enumerate([tmp_path / "one", tmp_path / "two"]):
        table = config_of(dataset, output, listed=20).model_dump(mode="json")
        table["parts"][0]["model"]["dropout"] = 0.0
        config = RunConfig.of(table)
        if number:
            train_in_two_processes(config, tmp_path)
        else:
            train(config)
        found.append(load(config.output).report.metrics["test"]["all"])
    assert found[0] == pytest.approx(found[1], abs=0.01)


def test_where_every_target_is_new_the_likelihood_raises_new_items(dataset: Path, tmp_path: Path) -> None:
    config = config_of(dataset, tmp_path / "run", listed=20)
    protocol = {"split": "cold-items", "max_length": 0, "max_history": 50}
    train(RunConfig.of({**config.model_dump(mode="json"), "protocol": protocol}))
    fused = load(config.output)
    assert isinstance(fused.experiment.model, Fusion)
    assert float(fused.experiment.model.offset) > 0
    split = fused.experiment.split
    new = set((1 + np.flatnonzero(split.train_counts[1:] == 0)).tolist())
    scores = Ranker(fused.experiment).scores(split.inputs("valid", split.target_users("valid")[:1])[0])
    best = scores.topk(len(new) - 1).indices.tolist()
    assert len(new.intersection(best)) >= 0.9 * len(best)
    assert hits(fused, "test", new=True) > 5 * hits(load(config.output / "parts" / "0-sasrec"), "test", new=True)


def encoded(run: Run, *titles: str) -> list[EncodedItem]:
    return [
        EncodedItem(NewItem(title=title), encode_new_item(run.experiment, NewItem(title=title))) for title in titles
    ]


def outside_loop(run: Run, history: list[int], words: Tensor) -> float:
    """The score of an item outside the catalogue, from the scores of the parts' own runs for it and for the others."""
    model = run.experiment.model
    assert isinstance(model, Fusion)
    ids, counts, texts = (
        open_experiment(part, run.config.dataset) for part in sorted((run.folder / "parts").iterdir())
    )
    new = run.experiment.split.train_counts == 0
    new[0] = False
    state = Ranker(ids).state(np.array(history))
    features = [float(state @ Ranker(ids).catalogue[torch.from_numpy(new)].mean(0))]
    for part, own in ((counts, 0.0), (texts, float(words))):
        scores = Ranker(part).scores(np.array(history))
        features.append(math.log(21 / (min(1 + int((scores >= own).sum()), 20) + 1)))
    weights = (model.weights + model.new_weights).tolist()
    return sum(w * f for w, f in zip(weights, features, strict=True)) + float(model.offset)


def test_items_outside_the_catalogue_are_ranked_by_who_can_and_change_no_other_score(run: Run) -> None:
    ranker, texts = Ranker(run.experiment), Ranker(open_experiment(run.folder / "parts" / "2-text_knn"))
    new, found = encoded(run, "kind0 word2 even", "kind3 word5 another", "nobody knows"), set()
    grown = ranker.with_new(new[:1]).with_new(new[1:])
    known = len(ranker.catalogue)
    for history in ([3], [1, 90, 30], [5, 70, 71, 9]):
        scores = grown.scores(np.array(history))
        assert torch.equal(scores[:known], ranker.scores(np.array(history)))
        own = texts.with_new(new).scores(np.array(history))[known:]
        expected = [outside_loop(run, history, words) for words in own]
        assert scores[known:].tolist() == pytest.approx(expected, abs=1e-4)
        found.update(expected)
    assert len(found) > 4


def test_a_history_reads_items_outside_the_catalogue_as_new_ones_of_it(run: Run) -> None:
    """By their words, and without anything that follows them."""
    ranker = Ranker(run.experiment)
    cold = int(np.flatnonzero(run.experiment.split.train_counts[1:] == 0)[0]) + 1
    outside = len(ranker.catalogue)
    grown = ranker.with_new(encoded(run, str(ranker.titles[cold - 1])))
    assert grown.scores(np.array([3, outside]))[outside] == -torch.inf
    assert isinstance(grown.model, Fusion)
    for model, catalogue in grown.model.parts[1:]:
        states = [
            model.last_states(torch.zeros(1), history, catalogue[history])
            for history in (torch.tensor([[3, outside]]), torch.tensor([[3, cold]]))
        ]
        new, twin = (model.score(state, catalogue) for state in states)
        assert torch.equal(new, twin)
        assert new.any()


@torch.inference_mode()
def test_a_new_item_scores_as_its_twin_in_the_catalogue(run: Run) -> None:
    """One place behind it, because both are there."""
    ranker = Ranker(run.experiment)
    first, *cold = np.flatnonzero(run.experiment.split.train_counts[1:] == 0) + 1
    grown = ranker.with_new(encoded(run, *ranker.titles.gather(np.array(cold) - 1)))
    history = torch.tensor([[1, 90, first]])
    assert isinstance(grown.model, Fusion)
    features, outside = grown.model._features(torch.zeros(1, dtype=torch.long), history)
    twins = features[:, 0, cold]
    places = (21 / twins[2].exp()).round().clamp(max=20) + 1
    torch.testing.assert_close(outside[2, 0], (21 / places).log())
    assert len(places.unique()) > 2
    torch.testing.assert_close(outside[1, 0], twins[1])


@torch.inference_mode()
def test_more_items_do_not_round_the_scores_of_others_differently() -> None:
    """Of 169 columns the last is behind a block, which it is not with 17 more."""
    model = SASRec(item_encoder=IdEncoder(num_items=168, dim=8), dim=8, history_length=2).eval()
    fused = Fusion(parts=[TrainedPart(model, torch.randn(169, 8))], train_counts=torch.ones(169))
    grown, numbers = fused.with_new([NewItem()] * 17, torch.randn(17, 8))
    assert numbers[:, 0].tolist() == list(range(169, 186))
    for item in range(1, 40):
        states = torch.tensor([[0.0, item, 90.0]])
        scores = grown.scores(states)
        assert torch.equal(scores[:, :169], fused.scores(states))
        assert scores.shape == (1, 186)


def test_a_list_of_one_item_is_refused() -> None:
    with pytest.raises(ValueError, match="listed at least 2"):
        Fusion(parts=[], train_counts=torch.zeros(3), listed=1)
    counts = torch.tensor([[0.0, 3.0, 2.0, 1.0]])
    assert log_ranks(counts, best_listed(counts, torch.tensor([[0]]), 1), 1).eq(0).all()  # the reason


@pytest.mark.parametrize("name", ["bpr_mf", "fusion"])
def test_users_beyond_the_precision_of_states_are_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    split = worlds.small_split()
    monkeypatch.setattr(fitted, "LARGEST_EXACT", split.num_users - 1)
    if name == "bpr_mf":
        pytest.importorskip("implicit", reason="implicit is not installed (make setup)")
        model = build_recommender({"name": name}, split)
    else:
        part = TrainedPart(build_recommender({"name": "dssm"}, split), torch.zeros(split.num_items + 1, 64))
        model = Fusion(parts=[part, part], train_counts=torch.ones(split.num_items + 1))
    assert isinstance(model, Fitted)
    said = rf"model\.name is '{name}', which tells up to {split.num_users - 1} users apart; there are {split.num_users}"
    with pytest.raises(InputError, match=said):
        model.fit(split)
