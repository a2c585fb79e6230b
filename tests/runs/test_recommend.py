"""Recommendations for people: the right items, in order, with titles, and a new video in its place."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from microlens.cli.terminal_tables import recommendation_table
from microlens.config.run_config import RunConfig
from microlens.data.dataset import Dataset
from microlens.data.new_items import NewItem
from microlens.data.prepare import prepare
from microlens.errors import InputError
from microlens.evaluation.report import check_run
from microlens.files.writing import lock_folder
from microlens.media.decoding import Settings
from microlens.media.reading import ClipSettings
from microlens.release.synthetic import write_release
from microlens.runs import write_lists
from microlens.runs.added_items import encode_new_item
from microlens.runs.assembly import Experiment, build_experiment, open_experiment
from microlens.runs.folder import VECTORS, clear_run_folder
from microlens.runs.recommend import Ranker
from microlens.runs.run import load
from microlens.runs.train import train
from tests.conftest import random_sequences, write_pairs
from tests.data.test_prepare import run_command

ITEMS = 14
ODD_TITLE = '[/b] 100 % :smile: "[red]quoted[/red]"'


def train_run(folder: Path, name: str, encoder: str, **options: Any) -> Path:
    settings: dict[str, Any] = {
        "dataset": folder / "dataset",
        "output": folder / name,
        "model": {"name": "sasrec", "dim": 8},
        "encoder": {"name": encoder, **options},
        "train": {"epochs": 1, "batch_size": 8, "lr": 1e-2, "encoder_lr": 1e-3, "device": "cpu"},
    }
    train(RunConfig.model_validate(settings))
    return folder / name


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of 12 users and 14 videos, prepared with tiny clips; titles as people write them."""
    folder = tmp_path_factory.mktemp("recommend")
    write_release(folder / "release", users=12, items=ITEMS, seed=1, workers=1)  # every item occurs
    titles = "".join(f"{item},{ODD_TITLE if item == 3 else f'Title of {item}'}\r\n" for item in range(1, ITEMS + 1))
    (folder / "release" / "synthetic_titles.csv").write_text("item,title\r\n" + titles)
    settings = Settings(clips=ClipSettings(num_frames=2, size=32))
    prepare(folder / "release", folder / "dataset", settings, workers=1)
    return folder


@pytest.fixture(scope="module")
def video_run(folder: Path) -> Path:
    return train_run(folder, "video", "x3d_xs")


@pytest.fixture(scope="module")
def id_run(folder: Path) -> Path:
    return train_run(folder, "id", "id")


def history_of(folder: Path, user: int) -> list[int]:
    events = pl.read_parquet(folder / "dataset" / "interactions.parquet").filter(pl.col("user") == user)
    return events["item"].to_list()[-13:]


def test_a_user_gets_every_unseen_item_once_in_order_of_score(folder: Path, id_run: Path) -> None:
    run = load(id_run)
    for user in (1, 7, 12):
        found = run.recommend([user], k=100)
        history = history_of(folder, user)
        assert run.history(user) == history
        assert found.columns == ["user", "item", "rank", "score", "title"]
        assert set(found["user"]) == {user}
        assert set(found["item"]) == set(range(1, ITEMS + 1)) - set(history)
        assert len(found) == ITEMS - len(history)
        assert found["rank"].to_list() == list(range(1, len(found) + 1))
        assert found["score"].is_sorted(descending=True)


def test_the_scores_are_those_of_the_model(id_run: Path) -> None:
    """Said again without the ranker: encode the whole catalogue, read the history, multiply."""
    run = open_experiment(id_run)
    table = run.model.item_encoder.table
    history = [5, 2, 9]
    vectors = table[history][None]
    states = run.model.encode_users(None, vectors.new_tensor([history]).long(), vectors)
    expected = (states[0, -1] @ table.T).detach().numpy()
    found = load(id_run).recommend(history=history, k=100)
    assert len(found) == ITEMS - 3
    for item, score in found.select("item", "score").iter_rows():
        assert score == pytest.approx(expected[item], abs=1e-5)


def test_a_history_has_an_order_and_only_its_end_is_read(id_run: Path) -> None:
    run = load(id_run)
    one, other = (run.recommend(history=history, k=100) for history in ([5, 2, 9], [9, 2, 5]))
    assert set(one["item"]) == set(other["item"])
    assert one["score"].to_list() != other["score"].to_list()
    end = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]
    long, short = run.recommend(history=[11, *end], k=100), run.recommend(history=end, k=100)
    scores = dict(short.select("item", "score").iter_rows())
    assert all(score == pytest.approx(scores[item]) for item, score in long.select("item", "score").iter_rows())
    assert 11 in scores
    assert 11 not in set(long["item"])


def test_everyone_gets_what_each_gets_alone(folder: Path, id_run: Path) -> None:
    run = load(id_run)
    everyone = run.recommend(k=3)
    assert everyone["user"].to_list() == [user for user in range(1, 13) for _ in range(3)]
    for user in range(1, 13):
        alone = run.recommend([user], k=3)
        together = everyone.filter(pl.col("user") == user)
        assert together["item"].to_list() == alone["item"].to_list()
        assert together["score"].to_list() == pytest.approx(alone["score"].to_list(), abs=1e-6)
        by_history = run.recommend(history=history_of(folder, user), k=3)
        assert by_history.columns == ["item", "rank", "score", "title"]
        assert by_history["item"].to_list() == alone["item"].to_list()
    some = run.recommend([7, 2], k=3)
    assert some["user"].to_list() == [7, 7, 7, 2, 2, 2]  # in the order that was asked for


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_lists_are_written_chunk_by_chunk(
    id_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr(write_lists, "CHUNK", 5)
    run, path = load(id_run), tmp_path / f"lists{suffix}"
    assert run.write_recommendations(path, k=3) == 12
    read = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}[suffix]
    found, expected = read(path), run.recommend(k=3)
    assert found.columns == expected.columns
    assert found.drop("score").rows() == expected.drop("score").rows()
    assert found["score"].to_list() == pytest.approx(expected["score"].to_list(), abs=1e-5)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_brackets_in_a_folder_are_no_pattern(tmp_path: Path) -> None:
    for name in ("a1", "a[1]"):
        write_pairs(tmp_path / name / "release", random_sequences(12, 14))
        titles = "".join(f"{item},{name} {item}\n" for item in range(1, 15))
        (tmp_path / name / "release" / "tiny_titles.csv").write_text(f"item,title\n{titles}")
        prepare(tmp_path / name / "release", tmp_path / name / "dataset", Settings(), workers=1)
    run, out = load(train_run(tmp_path / "a[1]", "run", "id")), tmp_path / "out[1]" / "lists.parquet"
    out.parent.mkdir()
    assert run.write_recommendations(out, k=3) == 12
    table = pl.read_parquet(out, glob=False)
    assert table["title"].str.starts_with("a[1] ").all()
    assert Dataset(tmp_path / "a[1]" / "dataset").events().collect().height > 0


def test_a_file_of_another_kind_is_refused_before_anything_is_computed(id_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"ends in '\.xlsx'; accepted: \.parquet, \.csv, \.jsonl\."):
        load(id_run).write_recommendations(tmp_path / "lists.xlsx")
    status, _, told = run_command("recommend", id_run, "--users", "all", "--out", tmp_path / "nowhere" / "x.csv")
    assert status == 2
    assert "is not a folder; create it first" in told


def test_the_command_writes_the_lists_of_many_users(id_run: Path, tmp_path: Path) -> None:
    out, wanted = tmp_path / "lists.parquet", tmp_path / "users.txt"
    status, told, _ = run_command("recommend", id_run, "--users", "all", "--out", out, "-k", "2")
    assert status == 0
    assert "up to 2 items for each of 12 users" in told
    assert pl.read_parquet(out).equals(load(id_run).recommend(k=2))
    wanted.write_text("3\n\n9\n")
    assert run_command("recommend", id_run, "--users", wanted, "--out", out, "-k", "2")[0] == 0
    assert pl.read_parquet(out)["user"].to_list() == [3, 3, 9, 9]
    wanted.write_text("9\n3\n", encoding="utf-8-sig")  # as editors on Windows save it
    assert run_command("recommend", id_run, "--users", wanted, "--out", out, "-k", "2")[0] == 0
    assert pl.read_parquet(out)["user"].to_list() == [9, 9, 3, 3]


def test_k_items_with_their_titles(id_run: Path) -> None:
    run = load(id_run)
    found = run.recommend(history=[5], k=4)
    assert len(found) == 4
    assert found.equals(run.recommend(history=[5], k=100).head(4))
    for item, title in found.select("item", "title").iter_rows():
        assert title == (ODD_TITLE if item == 3 else f"Title of {item}")


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({"users": [1], "history": [1]}, "recommend takes users or a history, not both."),
        ({"users": [13]}, "user 13 is not among the 12 users with at least 5 items."),
        ({"users": [1, -1]}, "user -1 is not among the 12 users"),
        ({"users": 7}, "users is 7; it takes a list of ids, such as users=[7]."),
        ({"history": "1,2"}, "history is '1,2'; it takes a list of ids"),
        ({"history": [1, 99]}, "item 99 is not among the 14 items of this run."),
        ({"history": [0]}, "item 0 is not among the 14 items"),
        ({"history": [1], "k": 0}, "k is 0; it must be a whole number, at least 1."),
        ({"history": [1], "k": 2.5}, "k is 2.5; it must be a whole number, at least 1."),
        ({"history": [1], "k": True}, "k is True; it must be a whole number, at least 1."),
        ({"users": 7.5}, "users is 7.5; it takes a list of ids"),
        ({"history": [1], "new_items": NewItem(title="a")}, "it takes a list such as [NewItem(title='...')]."),
        ({"history": [1], "new_items": ["a"]}, "new_items is ['a']; it takes a list"),
    ],
)
def test_whom_nobody_knows_is_refused(id_run: Path, request_: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        load(id_run).recommend(**request_)
    assert sentence in str(refused.value)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="a folder in which nobody can write")
@pytest.mark.parametrize(
    "command", [("vectors", "--out", "/proc/v.parquet"), ("recommend", "--users", "all", "--out", "/proc/v.parquet")]
)
def test_a_folder_that_cannot_be_written_is_said_in_a_sentence(id_run: Path, command: tuple[str, ...]) -> None:
    status, _, told = run_command(command[0], id_run, *command[1:])
    assert status == 2
    assert told.startswith("microlens: /proc/v.parquet cannot be used: ")
    assert told.count("\n") == 1


def test_nobody_gets_nothing(id_run: Path, tmp_path: Path) -> None:
    run = load(id_run)
    some, none = run.recommend(users=[1], k=3), run.recommend(users=[], k=3)
    assert none.is_empty()
    assert none.schema == some.schema
    for suffix, read in ((".csv", pl.read_csv), (".parquet", pl.read_parquet)):
        assert run.write_recommendations(tmp_path / f"none{suffix}", users=[], k=3) == 0
        assert read(tmp_path / f"none{suffix}").columns == some.columns
    assert run.recommend(users=np.array([1, 2]), k=np.int64(3)).height == 6


@pytest.mark.parametrize("k", [0, 1.5, True, "3"])
def test_similar_items_are_a_whole_number(id_run: Path, k: Any) -> None:
    with pytest.raises(InputError, match="it must be a whole number, at least 1"):
        load(id_run).similar(1, k=k)


@pytest.mark.parametrize("items", [10, "10", None])
def test_numbers_of_items_take_a_list(id_run: Path, items: Any) -> None:
    with pytest.raises(InputError, match="it takes a list of ids"):
        load(id_run).dataset.item_numbers(items)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "give one of --user ID, --users all, or --history 1,2,3."),
        (("--user", "1", "--history", "1"), "give one of --user ID"),
        (("--users", "all"), "--users and --out need each other"),
        (("--history", "1,,2"), "--history 1,,2: expected item ids separated by commas"),
        (("--history", ""), "--history : expected item ids separated by commas"),
        (("--history", '"1,2'), '--history "1,2: expected item ids separated by commas'),
        (("--history", '"1,2",3'), "item 1,2 is not among"),
        (("--user", "13"), "user 13 is not among the 12 users"),
    ],
)
def test_the_command_says_what_it_takes(id_run: Path, arguments: tuple[str, ...], sentence: str) -> None:
    status, _, told = run_command("recommend", id_run, *arguments)
    assert status == 2
    assert sentence in told


def test_similar_items_are_those_of_the_highest_cosine(id_run: Path) -> None:
    run = load(id_run)
    vectors = run.item_vectors()
    matrix = vectors["vector"].to_numpy()
    units = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    found = run.similar(4, k=5)
    cosines = units @ units[3]
    expected = [item for item in np.argsort(-cosines, kind="stable") + 1 if item != 4][:5]
    assert vectors["item"].to_list() == list(range(1, ITEMS + 1))
    assert found["item"].to_list() == expected
    assert found["score"].to_list() == pytest.approx([cosines[item - 1] for item in expected], abs=1e-6)
    assert found["title"][0] == (ODD_TITLE if expected[0] == 3 else f"Title of {expected[0]}")


def test_a_video_is_encoded_as_the_items_are(folder: Path, video_run: Path, tmp_path: Path) -> None:
    run = load(video_run)
    vectors = dict(run.item_vectors().iter_rows())
    video = folder / "release" / "videos" / "4.mp4"
    np.testing.assert_allclose(run.encode_video(video), vectors[4], atol=1e-5)
    out = tmp_path / "vectors.parquet"
    assert run_command("vectors", video_run, "--out", out, "--video", video)[0] == 0
    np.testing.assert_allclose(pl.read_parquet(out)["vector"][0], vectors[4], atol=1e-5)


@pytest.mark.parametrize("paths", [[], None, "a.mp4"])
def test_videos_to_encode_are_a_list(id_run: Path, paths: Any) -> None:
    with pytest.raises(InputError, match="it takes a list of video files, at least one"):
        load(id_run).encode_videos(paths)


def test_a_known_video_added_again_scores_as_the_item_itself(folder: Path, video_run: Path) -> None:
    run = load(video_run)
    for item in (4, 13):
        others = [other for other in history_of(folder, 2) if other != item]
        video = shutil.copy(folder / "release" / "videos" / f"{item}.mp4", folder / f"new-{item}.mp4")
        found = run.recommend(history=others, add_video=video, k=100)
        known = found.row(by_predicate=pl.col("item") == item, named=True)
        added = found.row(by_predicate=pl.col("item").is_null(), named=True)
        assert added["title"] == str(video)
        assert added["score"] == pytest.approx(known["score"], abs=1e-5)
        assert abs(added["rank"] - known["rank"]) == 1
        assert len(found) == ITEMS - len(others) + 1
        assert np.ptp(found["score"].to_numpy()) > 1e-3  # items differ, so that an equal score means the same video
        short = run.recommend(history=others, add_video=video, k=1)
        assert short.row(by_predicate=pl.col("item").is_null(), named=True)["rank"] == added["rank"]
        assert len(short) == 1 + (added["rank"] > 1)


def test_an_added_video_changes_nothing_about_the_others(folder: Path, video_run: Path) -> None:
    run, video = load(video_run), folder / "release" / "videos" / "1.mp4"
    alone, added = run.recommend([2, 5], k=100), run.recommend([2, 5], k=100, add_video=video)
    assert added.filter(pl.col("item").is_null())["user"].to_list() == [2, 5]
    others = added.filter(pl.col("item").is_not_null())
    for user in (2, 5):
        scores = [dict(f.filter(pl.col("user") == user).select("item", "score").iter_rows()) for f in (alone, others)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-6)


def test_a_video_cannot_be_added_to_a_model_that_does_not_see_it(folder: Path, id_run: Path) -> None:
    video = folder / "release" / "videos" / "1.mp4"
    status, _, told = run_command("recommend", id_run, "--user", "1", "--add-video", video)
    assert status == 2
    assert told.startswith(
        f"microlens: {video} cannot be ranked by this run: its encoder 'id' knows only the items of the"
    )


WORDS = {"name": "words", "min_items": 1}


@pytest.fixture(scope="module")
def words_run(folder: Path) -> Path:
    return train_run(folder, "words", "words", min_items=1)


def test_a_known_title_added_again_scores_as_the_item_itself(words_run: Path) -> None:
    run = load(words_run)
    new = [NewItem(title="Title of 4"), NewItem(title="Title of 9", video="unread.mp4")]
    found = run.recommend(history=[2, 5], new_items=new, k=100)
    for item, title in ((4, "Title of 4"), (9, "Title of 9")):
        twins = found.filter(pl.col("title") == title)
        assert twins["item"].to_list() == [item, None]
        assert twins["score"][0] == pytest.approx(twins["score"][1], abs=1e-6)
    alone = run.recommend(history=[2, 5], k=100)
    others = found.filter(pl.col("item").is_not_null())
    assert others["item"].to_list() == alone["item"].to_list()
    assert others["score"].to_list() == pytest.approx(alone["score"].to_list(), abs=1e-6)
    assert found["rank"].to_list() == list(range(1, ITEMS + 1))
    assert run.recommend(history=[2, 5], new_items=(item for item in new), k=100).equals(found)  # type: ignore[arg-type]
    short = run.recommend(history=[2, 5], new_items=new, k=1).filter(pl.col("item").is_null())
    ranks = dict(found.filter(pl.col("item").is_null()).select("title", "rank").iter_rows())
    assert dict(short.select("title", "rank").iter_rows()) == ranks
    with pytest.raises(InputError, match="which ranks new items by title: it has no title"):
        run.encode_video("unread.mp4")


def test_the_command_ranks_a_title(words_run: Path) -> None:
    status, told, _ = run_command("recommend", words_run, "--user", "1", "--add-title", "[/b] Title of 4", "-k", "1")
    assert status == 0
    assert "added" in told
    assert "[/b] Title of 4" in told


def test_the_command_says_what_the_run_does_not_read_of_a_new_item(words_run: Path) -> None:
    added = ("--add-title", "Title of 4", "--add-video", "none.mp4", "--add-cover", "none.jpg")
    status, told, _ = run_command("recommend", words_run, "--user", "1", *added)
    assert status == 0
    assert "--add-video and --add-cover not used: this run ranks new items by title." in told
    assert "not used" not in run_command("recommend", words_run, "--user", "1", *added[:2])[1]


def fused(*towers: dict[str, Any]) -> dict[str, Any]:
    return {"model": {"name": "sasrec", "dim": 8}, "encoder": {"name": "sum", "towers": list(towers)}}


BOTH = fused(WORDS, {"name": "x3d_xs"})
TITLE, VIDEO = NewItem(title="A title"), NewItem(video="x.mp4")


@pytest.mark.parametrize(
    ("tables", "item", "sentence"),
    [
        (BOTH, TITLE, "which ranks new items by title and video: it has no video."),
        (
            BOTH,
            VIDEO,
            "x.mp4 cannot be ranked by this run, which ranks new items by title and video: it has no title",
        ),
        (
            fused(WORDS, {"name": "id"}),
            TITLE,
            "its encoder 'id' knows only the items of the dataset; use a run that reads",
        ),
        (
            fused({"name": "popularity_bins"}, {"name": "id", "dropout": 0.5}),
            TITLE,
            "its encoder 'sum' reads nothing of an item outside the dataset; use a run that reads",
        ),
        (
            {"model": {"name": "sasrec", "dim": 8}, "encoder": {"name": "tag"}},
            TITLE,
            "which ranks new items by tag: it has no tag.",
        ),
        (
            {"model": {"name": "markov"}},
            TITLE,
            "run: 'markov' reads nothing of an item outside the dataset; use a run that",
        ),
        (
            {"model": {"name": "lightgcn"}, "encoder": WORDS},
            TITLE,
            "run: 'lightgcn' knows only the items of the dataset; use a run that",
        ),
        (
            {"model": {"name": "sasrec", "dim": 8}, "encoder": {"name": "x3d_xs", "missing": "mask"}},
            TITLE,
            "which ranks new items by video: it has no video.",
        ),
    ],
)
def test_what_a_run_misses_of_a_new_item_is_said(
    folder: Path, tables: dict[str, Any], item: NewItem, sentence: str
) -> None:
    config = RunConfig.model_validate({"dataset": folder / "dataset", "output": folder / "none", **tables})
    with pytest.raises(InputError) as refused:
        encode_new_item(build_experiment(config), item)
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("encoder", "options", "sentence"),
    [
        (
            "words",
            ("--add-video", "x.mp4"),
            "x.mp4 cannot be ranked by this run, which ranks new items by title: it has no title",
        ),
        ("words", ("--add-title", ""), "an item of which nothing is known cannot be ranked by this run"),
        ("words", ("--add-title", "  "), "an item of which nothing is known cannot be ranked by this run"),
        ("words", ("--add-tag", "cats"), "an item with the tag 'cats' cannot be ranked by this run"),
        (
            "video",
            ("--add-title", "A title"),
            "'A title' cannot be ranked by this run, which ranks new items by video: it has no video",
        ),
    ],
)
def test_the_command_says_what_a_run_misses_of_a_new_item(
    folder: Path, words_run: Path, video_run: Path, encoder: str, options: tuple[str, ...], sentence: str
) -> None:
    status, _, told = run_command("recommend", folder / encoder, "--user", "1", *options)
    assert status == 2
    assert told.startswith(f"microlens: {sentence}")
    assert told.count("\n") == 1


def test_a_new_item_is_ranked_for_one_user(words_run: Path, tmp_path: Path) -> None:
    many = ("--users", "all", "--out", tmp_path / "lists.csv", "--add-title", "A title")
    assert run_command("recommend", words_run, *many) == (
        2,
        "",
        "microlens: a new item is ranked for one --user or --history, not for --users.\n",
    )


def test_a_video_that_cannot_be_read_is_refused(folder: Path, video_run: Path) -> None:
    (folder / "broken.mp4").write_bytes(b"")
    film = (folder / "release" / "videos" / "1.mp4").read_bytes()
    (folder / "undecodable.mp4").write_bytes(film.replace(b"avc1", b"drmi"))
    reasons = {
        "broken.mp4": "the file is empty",
        "missing.mp4": "there is no such file",
        "undecodable.mp4": "there is no decoder for its video codec (drmi / 0x696D7264)",
    }
    for name, reason in reasons.items():
        status, _, told = run_command("recommend", video_run, "--user", "1", "--add-video", folder / name)
        assert status == 2
        assert told == f"microlens: {folder / name} cannot be used: {reason}.\n"


@pytest.fixture(scope="module")
def opened(folder: Path, video_run: Path) -> Experiment:
    """A copy of the video run whose vectors nobody has stored."""
    return open_experiment(shutil.copytree(video_run, folder / "copy", ignore=shutil.ignore_patterns("vectors")))


@pytest.fixture
def items_read(opened: Experiment, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The items whose content has been read since, with no stored vectors at first."""
    shutil.rmtree(opened.config.output / VECTORS, ignore_errors=True)
    read: list[int] = []
    original = opened.content.read
    monkeypatch.setattr(opened.content, "read", lambda items: (read.extend(items.tolist()), original(items))[1])
    return read


def test_the_catalogue_is_encoded_once_for_many_histories(opened: Experiment, items_read: list[int]) -> None:
    ranker = Ranker(opened)
    for user in range(5):
        ranker.scores(ranker.histories[user].astype(np.int64))
    assert items_read == list(range(1, ITEMS + 1))


def test_vectors_are_encoded_once_for_many_processes_and_the_mapped_ones_are_the_same(
    opened: Experiment, items_read: list[int], tmp_path: Path
) -> None:
    encoded = Ranker(opened).catalogue
    assert items_read == list(range(1, ITEMS + 1))
    mapped = Ranker(opened).catalogue
    moved = replace(opened, config=opened.config.model_copy(update={"output": tmp_path / "moved"}))
    shutil.copytree(opened.config.output, tmp_path / "moved")
    for again in (mapped, Ranker(moved).catalogue):
        assert len(items_read) == ITEMS
        assert again.dtype == encoded.dtype
        assert torch.equal(again, encoded)
    stored = opened.config.output / VECTORS / "catalogue.npy"
    before = stored.read_bytes()
    mapped.zero_()
    assert stored.read_bytes() == before
    assert {path.name for path in stored.parent.iterdir()} <= {"catalogue.npy", "catalogue.json", ".lock"}


def flip_a_bit(stored: Path) -> None:
    content = bytearray(stored.read_bytes())
    content[-1] ^= 1
    stored.write_bytes(content)


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit,
        lambda stored: stored.write_bytes(stored.read_bytes()[:-4]),
        lambda stored: stored.write_text("not an array"),
        lambda stored: stored.unlink(),
        lambda stored: stored.with_suffix(".json").unlink(),
        lambda stored: stored.with_suffix(".json").write_text("{}"),
        lambda stored: np.save(stored, np.load(stored).astype(np.float64)),
    ],
)
def test_damaged_vectors_are_told_and_made_again(
    opened: Experiment, items_read: list[int], caplog: pytest.LogCaptureFixture, damage: Callable[[Path], object]
) -> None:
    encoded = Ranker(opened).catalogue
    damage(opened.config.output / VECTORS / "catalogue.npy")
    assert not caplog.records
    assert torch.equal(Ranker(opened).catalogue, encoded)
    assert [record.getMessage().partition(" is ")[2] for record in caplog.records] == [
        "damaged, or of other weights or content; all items are encoded again"
    ]
    assert torch.equal(Ranker(opened).catalogue, encoded)
    assert items_read == 2 * list(range(1, ITEMS + 1))
    assert len(caplog.records) == 1


@pytest.mark.parametrize("of", ["weights", "statistics", "items", "data", "options", "cache"])
def test_vectors_of_something_else_are_not_trusted(
    opened: Experiment, items_read: list[int], monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    Ranker(opened)
    run, state = opened, None
    if of in ("weights", "statistics"):
        tensors = opened.model.parameters() if of == "weights" else opened.model.buffers()
        state = [tensor for tensor in tensors if tensor.is_floating_point()][-1]
        state.data.view(-1)[0] += 1
    elif of == "items":
        run = replace(opened, split=replace(opened.split, items_kept=opened.split.items_kept[[0, 2, 1, *range(3, 15)]]))
    elif of == "data":
        monkeypatch.setattr(Dataset, "checksum", "0" * 64)
    else:
        change = {"train": opened.config.train.model_copy(update={"cache": False})}
        config = opened.config.model_copy(update=change if of == "cache" else {"seed": 9})
        run = replace(opened, config=config)
    Ranker(run)
    if state is not None:
        state.data.view(-1)[0] -= 1
    assert len(items_read) == 2 * ITEMS


def test_a_run_folder_that_cannot_be_written_is_left_as_it_is(
    opened: Experiment, items_read: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    (opened.config.output / VECTORS).write_text("in the way, as a folder that is read-only is")
    for times in (1, 2):
        assert len(Ranker(opened).catalogue) == ITEMS + 1
        assert len(items_read) == times * ITEMS
        assert len(caplog.records) == times
    assert "vectors cannot be written (File exists), so all items are encoded again next time" in caplog.text
    (opened.config.output / VECTORS).unlink()


def test_vectors_that_another_process_stores_are_left_to_it(opened: Experiment, items_read: list[int]) -> None:
    (opened.config.output / VECTORS).mkdir()
    with lock_folder(opened.config.output / VECTORS):
        assert len(Ranker(opened).catalogue) == ITEMS + 1
    assert {path.name for path in (opened.config.output / VECTORS).iterdir()} <= {".lock"}


def test_only_vectors_that_a_network_of_a_known_package_makes_are_stored(
    opened: Experiment, items_read: list[int], id_run: Path
) -> None:
    """Looking up a table is faster than a checksum of it; and code of others may change without a sign."""

    class OfOthers(nn.Identity):
        pass

    opened.model.add_module("others", OfOthers())
    Ranker(opened)
    del opened.model.others
    load(id_run).recommend(history=[5])
    assert not (opened.config.output / VECTORS).exists()
    assert not (id_run / VECTORS).exists()


def test_stored_vectors_go_with_the_run(opened: Experiment, items_read: list[int]) -> None:
    Ranker(opened)
    assert (opened.config.output / VECTORS / "catalogue.npy").exists()
    assert check_run(opened.config.output)[1] == []
    kept = opened.config.output.parent / "cleared"
    clear_run_folder(shutil.copytree(opened.config.output, kept))
    assert not list(kept.rglob("catalogue.*"))


def test_titles_are_printed_as_they_are(id_run: Path) -> None:
    """Not as the terminal library's markup, which a bracket in a title would break."""
    status, told, _ = run_command("recommend", id_run, "--history", "5", "-k", "20")
    assert status == 0
    assert ODD_TITLE in told


def test_the_rank_of_an_added_video_is_shown_below_a_short_list() -> None:
    recommended = pl.DataFrame(
        {
            "item": [0, 1, None],
            "rank": [1, 2, 1007],
            "score": [-1.0, -2.0, -9.0],
            "title": ["t1", "t2", "mine.mp4"],
        }
    )
    columns = [list(column.cells) for column in recommendation_table(recommended, [3]).columns]
    assert columns[0] == ["1", "2", "1,007"]
    assert columns[1] == ["0", "1", "added"]  # 0 is an item id like any other
    assert columns[2] == ["t1", "t2", "mine.mp4"]


@pytest.mark.parametrize("model", ["popularity", "markov"])
def test_models_of_counts_have_no_vectors(folder: Path, tmp_path: Path, model: str) -> None:
    """A count, or the number of an item, has no direction: everything would be equally similar."""
    settings = {"dataset": folder / "dataset", "output": tmp_path / "run", "model": {"name": model}}
    train(RunConfig.model_validate(settings))
    run = load(tmp_path / "run")
    for ask in (lambda: run.similar(3), run.item_vectors):
        with pytest.raises(InputError, match=f"{model} has no item vectors"):
            ask()
