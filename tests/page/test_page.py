"""The page that compares runs: its numbers, its pictures, its refusals."""

import json
import re
import shutil
from html import escape
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import polars as pl
import pytest
import simplejpeg

from microlens.config.run_config import RunConfig
from microlens.data.dataset import Dataset
from microlens.data.prepare import prepare
from microlens.data.protocol import Protocol
from microlens.errors import InputError
from microlens.evaluation.report import COHORTS, read_ranks
from microlens.evaluation.significance import difference
from microlens.media.decoding import Settings
from microlens.media.packing import pack_images
from microlens.media.store import StoreWriter
from microlens.page.bars import Bar, percent
from microlens.page.charts import Curve, bar_chart, line_chart
from microlens.page.comparison import chance, open_data, read_runs
from microlens.page.examples import choose_examples, first_items
from microlens.page.pictures import Pictures
from microlens.page.run_page import write_page
from microlens.runs.assembly import open_experiment
from microlens.runs.recommend import Ranker
from microlens.runs.train import train
from tests.conftest import random_sequences, write_pairs
from tests.data.test_prepare import run_command
from tests.test_layers import modules_after

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
    train(config)
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
    write_page(str(path), [str(run) for run in runs])  # as a script names them
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
            assert f"<b>{best.name}</b> has the right one" in text
            assert f"<b>{percent(value)}&nbsp;%</b>" in text
        else:
            assert "no run has the right one" in text
    assert f"chance: {percent(chance(open_data(compared[0])[1])['HR@10'])}&nbsp;%" in new


def test_page_loads_nothing_and_runs_nothing(page: str) -> None:
    assert not re.findall(r"https?://", page)
    assert not re.findall(r"<(script|link|iframe|object|embed)\b", page)
    assert not re.findall(r"\burl\(|@import", page)
    assert all(source.startswith("data:image/jpeg;base64,") for source in re.findall(r'src="([^"]*)', page))


def test_titles_are_escaped(page: str) -> None:
    assert "&lt;script&gt;alert(&quot;7&quot;)&lt;/script&gt; &amp; more" in page
    assert "<script" not in page


def svg_part(svg: str, name: str) -> tuple[str, str, np.ndarray]:
    """One part of a drawing: its title, its markup, and the points (P, 2) of its path."""
    ((title, drawn),) = re.findall(rf'<g id="{name}"><title>(.*?)</title>(.*?)</g>', svg, re.DOTALL)
    return title, drawn, np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", drawn), float).reshape(-1, 2)


def value_ticks(svg: str) -> list[float]:
    return [float(tick) for tick in re.findall(r"text-anchor: end[^>]*>([\d.]+)[ %]*<", svg)]


def grid_heights(svg: str) -> list[float]:
    lines = re.findall(r'<path d="M [\d.]+ ([\d.]+) \nL [\d.]+ ([\d.]+) \n" style="[^"]*stroke: #dde2e7', svg)
    assert all(left == right for left, right in lines)
    return [float(left) for left, _ in lines]


def values_at(svg: str, heights: np.ndarray) -> np.ndarray:
    """What a reader sees at heights of a drawing, by the grid and the labels beside it."""
    ticks, grid = value_ticks(svg), grid_heights(svg)
    assert len(ticks) == len(grid) >= 4
    return np.interp(-heights, -np.array(grid), ticks)


def test_curves_show_every_run_in_its_colour(page: str, runs: list[Path]) -> None:
    loss, valid, _ = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    compared = read_runs(runs)
    for number, run in enumerate(compared, 1):
        title, drawn, points = svg_part(valid, f"valid-curve-{number}")
        shares = [line["valid"]["HR@10"] for line in run.epochs] or [run.report.metrics["valid"]["all"]["HR@10"]] * 2
        np.testing.assert_allclose(values_at(valid, points[:, 1]), 100 * np.array(shares), atol=0.01)
        assert title == run.name
        assert f"stroke: {run.colour.lower()};" in drawn
        assert ("stroke-dasharray" in drawn) == (not run.epochs)
        assert f">{run.name}</text>" in svg_part(valid, f"valid-name-{number}")[1]
    trained = [run for run in compared if run.epochs]
    assert loss.count('<g id="loss-curve-') == len(trained) == 1
    for number, run in enumerate(trained, 1):
        title, drawn, points = svg_part(loss, f"loss-curve-{number}")
        losses = [line["loss"] for line in run.epochs]
        np.testing.assert_allclose(values_at(loss, points[:, 1]), losses, atol=0.001)
        np.testing.assert_allclose(np.diff(points[:, 0], 2), 0, atol=0.001)
        assert title == run.name
        assert f"stroke: {run.colour.lower()};" in drawn
        assert f">{run.name}</text>" in svg_part(loss, f"loss-name-{number}")[1]


def test_one_ring_marks_the_best_epoch(page: str, runs: list[Path]) -> None:
    loss, valid, _ = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    run = read_runs(runs)[1]
    best = run.report.cost["best_epoch"]
    assert loss.count('<g id="loss-best-') == valid.count('<g id="valid-best-') == 1
    for svg, place in ((loss, "loss-{}-1"), (valid, "valid-{}-2")):
        title, ring, _ = svg_part(svg, place.format("best"))
        assert title == f"{run.name}, best epoch {best}"
        at = re.search(r'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="[^"]*stroke: (#\w+)', ring)
        points = svg_part(svg, place.format("curve"))[2]
        assert [float(at[1]), float(at[2])] == points[best - 1].tolist()
        assert at[3] == run.colour.lower()


def test_bars_show_every_run_in_its_colour_with_its_interval(page: str, runs: list[Path]) -> None:
    groups = re.findall(r"<svg.*?</svg>", page, re.DOTALL)[2]
    compared = read_runs(runs)
    targets = compared[0].report.num_targets["test"]
    shown = [place for place, cohort in enumerate(COHORTS[2:], 1) if targets[cohort]]
    assert groups.count('<g id="groups-bar-') == len(compared) * len(shown) > 2
    for number, run in enumerate(compared, 1):
        for place in shown:
            cohort = COHORTS[1 + place]
            value = run.report.metrics["test"][cohort]["HR@10"]
            title, bar, outline = svg_part(groups, f"groups-bar-{place}-{number}")
            _, _, ends = svg_part(groups, f"groups-whisker-{place}-{number}")
            assert title.startswith(f"{run.name}: {percent(value)} % (")
            assert f"fill: {run.colour.lower()}" in bar
            heights = [*values_at(groups, outline[[0, 2], 1]), *np.sort(values_at(groups, ends[:, 1]))]
            expected = [0, value, *run.report.intervals["test"][cohort]["HR@10"]]
            np.testing.assert_allclose(heights, 100 * np.array(expected), atol=0.01)
            written = re.search(rf'<g id="groups-value-{place}-{number}">\s*<text [^>]*>([\d.]+)<', groups)
            assert written[1] == percent(value)
    assert all(f">{targets[cohort]:,} targets<" in groups for cohort in COHORTS[2:])


def test_the_dotted_line_is_chance(page: str, runs: list[Path]) -> None:
    groups = re.findall(r"<svg.*?</svg>", page, re.DOTALL)[2]
    guess = chance(open_data(read_runs(runs)[0])[1])["HR@10"]
    title, drawn, points = svg_part(groups, "groups-chance")
    assert title == f"chance: {percent(guess)} %"
    assert "stroke-dasharray" in drawn
    np.testing.assert_allclose(values_at(groups, points[:, 1]), 100 * guess, atol=0.01)


def test_drawings_have_ids_of_their_own_and_are_described(page: str) -> None:
    names = re.findall(r'\bid="([^"]*)"', page)
    assert len(names) == len(set(names)) > 10
    assert set(re.findall(r'href="#([^"]*)', page)) <= set(names)
    described = re.findall(r'<svg viewBox="0 0 [1-9]\d+ [1-9]\d+" role="img" aria-label="([^"]+)">', page)
    assert len(described) == len(set(described)) == page.count("<svg") == 3
    assert page.count("<style") == 1


def test_drawings_do_not_depend_on_the_settings_of_matplotlib() -> None:
    def drawings() -> list[str]:
        curves = [Curve(name="one", colour="#0072B2", xs=[1, 2, 3], ys=[3.0, 2.0, 2.5], marked=1)]
        bars = [Bar(name="one", colour="#0072B2", value=0.2, low=0.1, high=0.3)]
        return [line_chart("a", curves, label="A"), bar_chart("b", [("new", "7 targets", bars)], chance=0.1, label="B")]

    before = drawings()
    with mpl.rc_context({"grid.linestyle": ":", "ytick.labelsize": 30, "font.family": "serif", "svg.fonttype": "path"}):
        kept = dict(mpl.rcParams)
        assert drawings() == before
        assert dict(mpl.rcParams) == kept


@pytest.mark.parametrize("run", ["$x_1$ costs", '<b id="a_1">&', "视频模型"])
def test_names_are_text_whatever_they_hold(run: str) -> None:
    drawn = line_chart("a", [Curve(name=run, colour="#0072B2", xs=[1, 2], ys=[1.0, 2.0])], label=run)
    assert f">{escape(run, quote=False)}</text>" in drawn
    assert f"<title>{escape(run)}</title>" in drawn
    assert f'aria-label="{escape(run)}"' in drawn


def test_a_page_without_matplotlib_names_the_extra(
    runs: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microlens.page.find_spec", lambda name: None)
    sentence = r"^HTML pages need the package matplotlib; install it with: pip install 'microlens\[html\]'$"
    with pytest.raises(InputError, match=sentence):
        write_page(tmp_path / "page.html", runs)
    assert run_command("report", *runs, "--html", tmp_path / "page.html")[:2] == (2, "")
    arguments = ("bench", "baseline", "--dataset", tmp_path / "none", "--html")
    status, printed, said = run_command(*arguments)
    assert (status, printed) == (2, "")
    assert "microlens[html]" in said  # before anything is looked at, and long before anything is trained
    assert not list(tmp_path.iterdir())


def test_reading_reports_loads_no_matplotlib() -> None:
    assert "matplotlib" not in modules_after("import microlens.page.comparison")


def test_target_is_framed_wherever_it_is_shown(page: str, runs: list[Path]) -> None:
    compared = read_runs(runs)
    _, split = open_data(compared[0])
    reports = {run.name: run.report for run in compared}
    examples = choose_examples(split, np.stack([run.ranks for run in compared]), reports)
    blocks = re.findall(r'<section class="user">.*?</section>', page)
    assert len(blocks) == len(examples) == 3
    for block, example in zip(blocks, examples, strict=True):
        ranks = [int(run.ranks[example.target]) for run in compared]
        assert [int(rank) for rank in re.findall(r"rank <b>(\d+)</b>", block)] == ranks
        assert block.count('class="card target"') == 1 + sum(rank <= 5 for rank in ranks)
        for rank in ranks:
            assert (f"<b>{rank}, next item</b>" in block) == (rank <= 5)


def test_first_items_leave_out_the_history_and_agree_with_the_report(runs: list[Path]) -> None:
    for folder in runs:
        ranker = Ranker(open_experiment(folder))
        split, ranks = ranker.run.split, read_ranks(folder)["test"][0]
        for user in range(0, split.num_users, 7):
            history = split.history("test", np.array([user]))[0]
            history = history[history > 0].astype(np.int64)
            target = int(split.targets("test")[user])
            first, rank = first_items(ranker, history, target)
            assert rank == ranks[user]
            assert (target in first) == (rank <= 5)
            assert not set(first) & set(history.tolist())


def test_examples_are_a_new_hit_a_known_hit_and_a_miss(runs: list[Path]) -> None:
    compared = read_runs(runs)
    _, split = open_data(compared[0])
    reports = {run.name: run.report for run in compared}
    lengths = np.diff(split.offsets)
    cold = split.train_counts[split.targets("test")] == 0
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
    cold = np.flatnonzero(split.train_counts[split.targets("test")] == 0)
    ranks[:, cold[2]] = 6
    ranks[:, 50] = 10
    new, _, hardest = choose_examples(split, ranks, reports)
    assert (new.user, hardest.user) == (cold[2], 50)
    assert "comes nearest to" in new.heading


def test_items_are_shown_by_cover_then_clip_in_the_shape_of_the_video(runs: list[Path], tmp_path: Path) -> None:
    prepared = runs[0].parent.parent / "dataset"
    shutil.copy(prepared / "manifest.json", tmp_path)
    shutil.copytree(prepared / "interactions", tmp_path / "interactions")
    of_first = pl.when(pl.col("item_id") == 1)
    size = {name: of_first.then(pixels).cast(pl.Int64) for name, pixels in (("width", 360), ("height", 640))}
    items = Dataset(prepared).items.with_columns(**size)
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


def test_differences_are_paired() -> None:
    better = np.array([1] * 60 + [30] * 140)
    worse = np.array([1] * 50 + [30] * 150)
    found = difference([better], [worse], "HR@10")
    assert found["mean"] == pytest.approx(0.05)
    # The ten users that differ all differ in one direction; intervals of the two shares alone would overlap.
    assert 0 < found["low"] < 0.05 < found["high"] < 0.1
    assert difference([worse], [better], "HR@10")["mean"] == pytest.approx(-0.05)


def test_recall_is_shown_where_users_have_several_targets(tmp_path: Path) -> None:
    sequences = [[*range(1 + user % 7, 36 + user % 5)] for user in range(40)]
    random = {"split": "random", "max_length": 0, "max_history": 50}
    folders = train_runs(tmp_path, sequences, **random)
    popularity, sasrec = read_runs(folders)
    values = [f"{100 * run.report.metrics['test']['all']['Recall@20']:.2f}" for run in (popularity, sasrec)]
    write_page(tmp_path / "page.html", folders)
    accuracy = (tmp_path / "page.html").read_text()
    assert "Recall@20" in accuracy
    assert all(f"{value}<" in accuracy for value in values)
    _, split = open_data(popularity)
    users, counts = np.unique(split.target_users("test"), return_counts=True)
    assert counts.max() > 1
    candidates = split.num_items - split.history_lengths("test")[users]
    rng = np.random.default_rng(0)
    drawn = [rng.permutation(c)[:n] < 10 for _ in range(300) for c, n in zip(candidates, counts, strict=True)]
    assert chance(split)["Recall@10"] == pytest.approx(np.mean([found.mean() for found in drawn]), rel=0.03)
    for command in (("evaluate", folders[1]), ("report", *folders)):
        status, told, _ = run_command(*command)
        assert status == 0
        assert "Recall@20" in told
        assert values[1] in told
    status, told, _ = run_command("compare", *folders, "--metric", "Recall@20", "--json")
    assert [f"{100 * line['value']:.2f}" for line in json.loads(told)] == values


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
    drawn = line_chart("a", [Curve(name="run", colour="#000000", xs=[1, 2], ys=[low, high])], label="x")
    assert value_ticks(drawn) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("last", "expected"), [(1, [1]), (3, [1, 2, 3]), (15, [1, 5, 10, 15]), (22, [1, 10, 22]), (100, [1, 50, 100])]
)
def test_epoch_ticks_are_the_first_round_ones_and_the_last(last: int, expected: list[int]) -> None:
    epochs = list(range(1, last + 1))
    drawn = line_chart("a", [Curve(name="run", colour="#000000", xs=epochs, ys=[0.5] * last)], label="x")
    assert [int(tick) for tick in re.findall(r"text-anchor: middle[^>]*>(\d+)<", drawn)] == expected


@pytest.mark.parametrize("end", [0.0, 0.1, 0.199])
def test_curve_names_neither_overlap_nor_leave_the_chart(end: float) -> None:
    curves = [Curve(name=f"run {n}", colour="#000", xs=[1, 2], ys=[0.2, end + n / 10000]) for n in range(6)]
    drawn = line_chart("a", curves, label="x", shares=True)
    names = [svg_part(drawn, f"a-name-{number}")[1] for number in range(1, 7)]
    heights = np.array([float(re.search(r'<text [^>]*y="([\d.]+)"[^>]*>run', name)[1]) for name in names])
    assert np.abs(np.diff(heights)).min() >= 13.9
    assert (np.diff(heights) < 0).all()
    assert heights.min() >= min(grid_heights(drawn))
    assert heights.max() <= max(grid_heights(drawn)) + 6


@pytest.mark.parametrize(("share", "text"), [(0, "0"), (0.0031, "0.31"), (0.412, "41.2"), (1.0, "100.0")])
def test_percent(share: float, text: str) -> None:
    assert percent(share) == text
