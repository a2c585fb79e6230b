"""The page that compares runs: its numbers, its pictures, its refusals."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import simplejpeg

from microlens.config import RunConfig
from microlens.data.dataset import Dataset
from microlens.data.decoding import Settings
from microlens.data.prepare import prepare
from microlens.data.split import Protocol
from microlens.data.store import StoreWriter, pack_images
from microlens.errors import InputError
from microlens.page import write_page
from microlens.page.charts import Curve, line_chart, nice_ticks, percent
from microlens.page.comparison import chance, lead, open_data, read_runs
from microlens.page.examples import choose_examples, first_items
from microlens.page.pictures import Pictures
from microlens.recommend import Ranker
from microlens.report import COHORTS, read_ranks
from microlens.run import open_run, train
from tests.conftest import random_sequences, write_pairs

TITLE = '<script>alert("7")</script> & more'
NEW_ITEM = 41


def train_runs(folder: Path, sequences: list[list[int]], **protocol: Any) -> list[Path]:
    release = write_pairs(folder / "release", sequences)
    (release / "tiny_titles.csv").write_text(f"1,{TITLE}\r\n2,Second\r\n")
    prepare(release, folder / "dataset", Settings())
    return [train_run(folder, name, protocol) for name in ("popularity", "sasrec")]


def train_run(folder: Path, name: str, protocol: dict[str, Any]) -> Path:
    settings = {
        "dataset": folder / "dataset",
        "output": folder / "runs" / f"{name}-run",
        "protocol": protocol,
        "model": {"name": name} if name == "popularity" else {"name": name, "dim": 8},
        "train": {"epochs": 3, "batch_size": 32, "lr": 1e-2, "device": "cpu"},
    }
    if name == "sasrec":
        settings["encoder"] = {"name": "id"}
    config = RunConfig.model_validate(settings)
    train(config, quiet=True)
    return config.output


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two finished runs; five of 60 users go to an item that nobody had before."""
    sequences = random_sequences(60, 40)
    sequences[0] = sequences[0][-5:]  # the first user is not the one with the longest history
    for user in range(5):
        sequences[user][-1] = NEW_ITEM
    return train_runs(tmp_path_factory.mktemp("page"), sequences)


@pytest.fixture(scope="module")
def page(runs: list[Path]) -> str:
    path = runs[0].parent / "reports" / "page.html"
    write_page(path, runs)
    return path.read_text()


def test_page_holds_every_number_of_the_reports(page: str, runs: list[Path]) -> None:
    accuracy = page[page.index("How accurate") : page.index("What it costs")]
    for run in read_runs(runs):
        for cohort in ("all", "warm", "cold"):
            for metric, value in run.report.metrics["test"][cohort].items():
                low, high = run.report.intervals["test"][cohort][metric]
                number = f"(<b>)?{100 * value:.2f}(</b>)?<small>{100 * low:.2f}&ndash;{100 * high:.2f}</small>"
                assert re.search(number, accuracy)
        assert f"<td>{run.report.cost['trainable_parameters']:,}</td>" in page
        assert run.report.provenance["config_hash"] in page
    assert run.report.provenance["data_hash"] in page
    assert run.report.protocol["hash"] in page


def test_best_values_are_bold(page: str, runs: list[Path]) -> None:
    accuracy = page[page.index("How accurate") : page.index("What it costs")]
    bold = re.findall(r"<b>([\d.]+)</b>", accuracy)
    reports = [run.report for run in read_runs(runs)]
    expected = []
    for cohort in ("all", "warm", "cold"):
        rows = [report.metrics["test"][cohort] for report in reports]
        best = {metric: max(row[metric] for row in rows) for metric in rows[0]}
        expected += [f"{100 * row[m]:.2f}" for row in rows for m in row if row[m] == best[m] > 0]
    assert bold == expected


def test_verdict_names_the_best_run_on_new_and_known_items(page: str, runs: list[Path]) -> None:
    verdict = re.search(r'<p class="verdict">(.*?)</p>', page)[1]
    new, known = verdict.split("; on items seen in training, ")
    compared = read_runs(runs)
    for text, cohort in ((new, "cold"), (known, "warm")):
        best = max(compared, key=lambda run: run.report.metrics["test"][cohort]["HR@10"])
        value = best.report.metrics["test"][cohort]["HR@10"]
        if value:
            assert f"<b>{best.name}</b> finds" in text
            assert f"<b>{percent(value)}&nbsp;%</b>" in text
        else:
            assert "no run finds" in text
    assert f"chance: {percent(chance(open_data(compared[0])[1])['HR@10'])}&nbsp;%" in new


def test_page_loads_nothing_and_runs_nothing(page: str) -> None:
    assert not re.findall(r"https?://", page)
    assert not re.findall(r"<(script|link|iframe|object|embed)\b", page)
    assert not re.findall(r"\burl\(|@import", page)
    assert all(source.startswith("data:image/jpeg;base64,") for source in re.findall(r'src="([^"]*)', page))


def test_titles_are_escaped(page: str) -> None:
    assert "&lt;script&gt;alert(&quot;7&quot;)&lt;/script&gt; &amp; more" in page
    assert "<script" not in page


def test_charts_show_every_run_in_one_colour(page: str, runs: list[Path]) -> None:
    loss, valid, groups = re.findall(r"<svg.*?</svg>", page)
    for run in read_runs(runs):
        trained = bool(run.epochs)
        assert f'data-run="{run.name}"' in valid
        assert (f'data-run="{run.name}"' in loss) == trained
        drawn = len(re.findall(f'<g data-run="{run.name}">.*?<rect [^>]*fill="{run.colour}"', groups))
        assert drawn == sum(run.report.num_targets["test"][cohort] > 0 for cohort in COHORTS[2:])
        assert f'stroke="{run.colour}"' in valid
    assert loss.count("<circle") == valid.count("<circle") == 1
    assert f"best epoch {run.report.cost['best_epoch']}<" in loss
    assert len(re.search(r'points="([^"]*)"', loss)[1].split()) == run.report.cost["epochs"]
    targets = run.report.num_targets["test"]
    assert all(f">{targets[cohort]:,} targets<" in groups for cohort in COHORTS[2:])


def test_target_is_framed_wherever_it_is_shown(page: str, runs: list[Path]) -> None:
    compared = read_runs(runs)
    _, split = open_data(compared[0])
    reports = {run.name: run.report for run in compared}
    examples = choose_examples(split, np.stack([run.ranks for run in compared]), reports)
    blocks = re.findall(r'<section class="user">.*?</section>', page)
    assert len(blocks) == len(examples) == 3
    for block, example in zip(blocks, examples, strict=True):
        ranks = [int(run.ranks[example.user]) for run in compared]
        assert [int(rank) for rank in re.findall(r"rank <b>(\d+)</b>", block)] == ranks
        assert block.count('class="card target"') == 1 + sum(rank <= 5 for rank in ranks)
        for rank in ranks:
            assert (f"<b>{rank}, next item</b>" in block) == (rank <= 5)


def test_first_items_leave_out_the_history_and_agree_with_the_report(runs: list[Path]) -> None:
    for folder in runs:
        ranker = Ranker(open_run(folder))
        split, ranks = ranker.run.split, read_ranks(folder)["test"]
        for user in range(0, split.num_users, 7):
            history = split.history("test", np.array([user]))[0]
            history = history[history > 0].astype(np.int64)
            target = int(split.targets("test", np.array([user]))[0])
            first, rank = first_items(ranker, history, target)
            assert rank == ranks[user]
            assert (target in first) == (rank <= 5)
            assert not set(first) & set(history.tolist())


def test_examples_are_a_new_hit_a_known_hit_and_a_miss(runs: list[Path]) -> None:
    compared = read_runs(runs)
    _, split = open_data(compared[0])
    reports = {run.name: run.report for run in compared}
    lengths = np.diff(split.offsets)
    cold = split.train_counts[split.targets("test", np.arange(split.num_users))] == 0
    ranks = np.full((2, split.num_users), 50)
    ranks[:, cold] = 3
    ranks[:, np.flatnonzero(~cold)[:10]] = 5
    new, known, missed = choose_examples(split, ranks, reports)
    assert new.user == np.flatnonzero(cold)[np.argmax(lengths[cold])]
    assert f"for {cold.sum()} of the {cold.sum()} users" in new.why
    assert known.user in np.flatnonzero(~cold)[:10]
    assert "for 10 of the" in known.why
    assert lengths[missed.user] == lengths[(ranks > 10).all(axis=0)].max()
    assert (ranks[:, missed.user] > 10).all()


def test_examples_without_any_hit_or_miss_are_the_nearest(runs: list[Path]) -> None:
    compared = read_runs(runs)
    _, split = open_data(compared[0])
    reports = {run.name: run.report for run in compared}
    ranks = np.full((2, split.num_users), 8)
    cold = np.flatnonzero(split.train_counts[split.targets("test", np.arange(split.num_users))] == 0)
    ranks[:, cold[2]] = 6
    ranks[:, 50] = 10
    new, _, hardest = choose_examples(split, ranks, reports)
    assert (new.user, hardest.user) == (cold[2], 50)
    assert "comes nearest to" in new.heading


def test_items_are_shown_by_cover_then_clip_in_the_shape_of_the_video(runs: list[Path], tmp_path: Path) -> None:
    prepared = runs[0].parent.parent / "dataset"
    shutil.copy(prepared / "manifest.json", tmp_path)
    of_first = pl.when(pl.col("item_id") == 1)
    items = Dataset(prepared).items.with_columns(width=of_first.then(360), height=of_first.then(640))
    items.write_parquet(tmp_path / "items.parquet")
    colours = {"cover": (220, 20, 20), "first": (0, 0, 0), "middle": (20, 20, 220), "last": (255, 255, 255)}
    images = {name: np.full((32, 32, 3), colour, np.uint8) for name, colour in colours.items()}
    clip = pack_images(np.stack([images["first"], images["middle"], images["last"]]))
    with StoreWriter(tmp_path / "covers.lmdb") as covers, StoreWriter(tmp_path / "clips.lmdb") as clips:
        covers.put(1, pack_images(images["cover"][None]))
        clips.put(1, clip)
        clips.put(2, clip)
    pictures = Pictures(Dataset(tmp_path))
    cover, middle = (simplejpeg.decode_jpeg(pictures.jpeg(item)) for item in (1, 2))
    assert cover.shape == (128, 72, 3)
    assert middle.shape == (128, 128, 3)
    np.testing.assert_allclose(cover.mean(axis=(0, 1)), colours["cover"], atol=6)
    np.testing.assert_allclose(middle.mean(axis=(0, 1)), colours["middle"], atol=6)
    assert pictures.jpeg(3) is None


def test_page_shows_covers_where_the_dataset_has_them(runs: list[Path], tmp_path: Path) -> None:
    covers = runs[0].parent.parent / "dataset" / "covers.lmdb"
    with StoreWriter(covers) as writer:
        for item in range(1, NEW_ITEM + 1):
            writer.put(item, pack_images(np.full((1, 16, 16, 3), 5 * item, np.uint8)))
    try:
        write_page(tmp_path / "page.html", runs)
    finally:
        covers.unlink()
    text = (tmp_path / "page.html").read_text()
    assert text.count("<img") == text.count('<figure class="card') > 30
    assert len(text) < 1_500_000


def test_chance_is_what_random_ranks_give(runs: list[Path]) -> None:
    _, split = open_data(read_runs(runs)[0])
    rng = np.random.default_rng(0)
    candidates = split.num_items - (np.diff(split.offsets) - 1)
    ranks = rng.integers(1, candidates + 1, size=(4000, split.num_users))
    expected = chance(split)
    assert expected["HR@20"] == pytest.approx(np.mean(ranks <= 20), rel=0.02)
    assert expected["NDCG@10"] == pytest.approx(np.mean((ranks <= 10) / np.log2(ranks + 1)), rel=0.02)


def test_lead_is_paired() -> None:
    better = np.array([1] * 60 + [30] * 140)
    worse = np.array([1] * 50 + [30] * 150)
    mean, low, high = lead(better, worse)
    assert mean == pytest.approx(0.05)
    # The ten users that differ all differ in one direction; intervals of the two shares alone would overlap.
    assert 0 < low < 0.05 < high < 0.1
    assert lead(worse, better)[0] == pytest.approx(-0.05)


def test_runs_of_different_protocols_are_refused(runs: list[Path], tmp_path: Path) -> None:
    (other,) = train_runs(tmp_path, random_sequences(60, 40), max_history=4)[:1]
    with pytest.raises(InputError, match="protocol differs") as refused:
        write_page(tmp_path / "page.html", [runs[0], other])
    assert Protocol().hash in str(refused.value)
    assert Protocol(max_history=4).hash in str(refused.value)
    assert not (tmp_path / "page.html").exists()


def test_runs_on_different_data_are_refused(runs: list[Path], tmp_path: Path) -> None:
    (other,) = train_runs(tmp_path, random_sequences(60, 40, seed=1))[:1]
    checksums = [json.loads((run / "report.json").read_text())["provenance"]["data_hash"] for run in (runs[0], other)]
    with pytest.raises(InputError, match="data differs") as refused:
        write_page(tmp_path / "page.html", [runs[0], other])
    assert all(checksum in str(refused.value) for checksum in checksums)


def test_what_cannot_be_compared_is_refused(runs: list[Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one run"):
        write_page(tmp_path / "page.html", [])
    with pytest.raises(InputError, match="7 were given"):
        write_page(tmp_path / "page.html", [runs[0]] * 7)
    with pytest.raises(InputError, match=r"no report\.json"):
        write_page(tmp_path / "page.html", [runs[0], tmp_path])
    with pytest.raises(InputError, match="is a folder"):
        write_page(tmp_path, runs)


def test_one_run_that_trains_nothing_has_a_page(runs: list[Path], tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", runs[:1])
    text = (tmp_path / "page.html").read_text()
    assert "None of these runs has anything to train." in text
    assert text.count("<svg") == 1


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 0.41, [0, 0.2, 0.4, 0.6]), (5.2, 6.9, [5, 5.5, 6, 6.5, 7]), (0, 0, [0, 0.25, 0.5, 0.75, 1])],
)
def test_ticks_are_round_and_enclose_the_values(low: float, high: float, expected: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("end", [0.0, 0.1, 0.199])
def test_curve_names_neither_overlap_nor_leave_the_chart(end: float) -> None:
    curves = [Curve(name=f"run {n}", colour="#000", xs=[1, 2], ys=[0.2, end + n / 10000]) for n in range(6)]
    drawn = line_chart(curves, label="x", shares=True)
    names = np.sort(np.array(re.findall(r'<text x="[\d.]+" y="([\d.]+)">run', drawn), float))
    assert len(names) == 6
    assert np.diff(names).min() >= 13.9
    assert names[0] >= 12
    assert names[-1] <= 222


@pytest.mark.parametrize(("share", "text"), [(0, "0"), (0.0031, "0.31"), (0.412, "41.2"), (1.0, "100.0")])
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text
