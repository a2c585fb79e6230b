"""Recommendations for people: the right items, in order, with titles, and a new video in its place."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from microlens.cli.terminal_tables import recommendation_table
from microlens.config.run_config import RunConfig
from microlens.data.prepare import prepare
from microlens.errors import InputError
from microlens.media.decoding import Settings
from microlens.media.reading import ClipSettings
from microlens.release.synthetic import write_release
from microlens.runs.assembly import open_experiment
from microlens.runs.recommend import Ranker, Recommendation, Recommendations, recommend
from microlens.runs.train import train
from tests.data.test_prepare import run_command

ITEMS = 14
ODD_TITLE = '[/b] 100 % :smile: "[red]quoted[/red]"'


def train_run(folder: Path, name: str, encoder: str) -> Path:
    settings: dict[str, Any] = {
        "dataset": folder / "dataset",
        "output": folder / name,
        "model": {"name": "sasrec", "dim": 8},
        "encoder": {"name": encoder},
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
    for user in (1, 7, 12):
        found = recommend(id_run, user=user, k=100)
        history = history_of(folder, user)
        assert [item for item, _ in found.history] == history
        assert {entry.item_id for entry in found.items} == set(range(1, ITEMS + 1)) - set(history)
        assert len(found.items) == found.num_candidates == ITEMS - len(history)
        assert [entry.rank for entry in found.items] == list(range(1, len(found.items) + 1))
        scores = [entry.score for entry in found.items]
        assert scores == sorted(scores, reverse=True)
        assert found.added is None


def test_the_scores_are_those_of_the_model(id_run: Path) -> None:
    """Said again without the ranker: encode the whole catalogue, read the history, multiply."""
    run = open_experiment(id_run)
    table = run.model.item_encoder.table
    history = [5, 2, 9]
    vectors = table[history][None]
    states = run.model.encode_users(None, vectors.new_tensor([history]).long(), vectors)
    expected = (states[0, -1] @ table.T).detach().numpy()
    for entry in recommend(id_run, history="5,2,9", k=100).items:
        assert entry.item_id is not None
        assert entry.score == pytest.approx(expected[entry.item_id], abs=1e-5)


def test_a_history_has_an_order_and_only_its_end_is_read(id_run: Path) -> None:
    one, other = (recommend(id_run, history=text, k=100) for text in ("5,2,9", "9,2,5"))
    assert {entry.item_id for entry in one.items} == {entry.item_id for entry in other.items}
    assert [entry.score for entry in one.items] != [entry.score for entry in other.items]
    long, end = (recommend(id_run, history=text, k=100) for text in ("11,1,2,3,4,5,6,7,8,9,10", "1,2,3,4,5,6,7,8,9,10"))
    scores = {entry.item_id: entry.score for entry in end.items}
    assert all(entry.score == pytest.approx(scores[entry.item_id]) for entry in long.items)
    assert 11 in scores
    assert 11 not in {entry.item_id for entry in long.items}


def test_a_user_and_the_history_of_that_user_get_the_same(folder: Path, id_run: Path) -> None:
    text = ",".join(map(str, history_of(folder, 4)))
    assert recommend(id_run, user=4, k=3) == recommend(id_run, history=text, k=3)


def test_k_items_with_their_titles(id_run: Path) -> None:
    found = recommend(id_run, history="5", k=4)
    assert len(found.items) == 4
    assert found.items == recommend(id_run, history="5", k=100).items[:4]
    assert found.history == [(5, "Title of 5")]
    for entry in found.items:
        assert entry.title == (ODD_TITLE if entry.item_id == 3 else f"Title of {entry.item_id}")


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        ({}, "say for whom: either --user ID or --history 1,2,3."),
        ({"user": 1, "history": "1"}, "say for whom"),
        ({"user": 13}, "user 13 is not among the 12 users with at least 5 items."),
        ({"user": -1}, "user -1 is not among the 12 users"),
        ({"history": "1,99"}, "item 99 is not among the 14 items of this run."),
        ({"history": "0"}, "item 0 is not among the 14 items"),
        ({"history": "1;2"}, "--history 1;2: expected item ids separated by commas"),
        ({"history": ""}, "expected item ids separated by commas"),
    ],
)
def test_whom_nobody_knows_is_refused(id_run: Path, request_: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as refused:
        recommend(id_run, **request_)
    assert sentence in str(refused.value)


def test_a_known_video_added_again_scores_as_the_item_itself(folder: Path, video_run: Path) -> None:
    for item in (4, 13):
        others = [other for other in history_of(folder, 2) if other != item]
        history = ",".join(map(str, others))
        video = shutil.copy(folder / "release" / "videos" / f"{item}.mp4", folder / f"new-{item}.mp4")
        found = recommend(video_run, history=history, add_video=Path(video), k=100)
        known = next(entry for entry in found.items if entry.item_id == item)
        assert found.added is not None
        assert (found.added.item_id, found.added.title) == (None, str(video))
        assert found.added.score == pytest.approx(known.score, abs=1e-5)
        assert abs(found.added.rank - known.rank) == 1
        assert found.items[found.added.rank - 1] == found.added
        assert found.num_candidates == ITEMS - len(others) + 1
        spread = np.ptp([entry.score for entry in found.items])
        assert spread > 1e-3  # items differ, so that an equal score means the same video


def test_an_added_video_changes_nothing_about_the_others(folder: Path, video_run: Path) -> None:
    alone = recommend(video_run, user=2, k=100)
    added = recommend(video_run, user=2, k=100, add_video=folder / "release" / "videos" / "1.mp4")
    scores = {entry.item_id: entry.score for entry in added.items if entry.item_id is not None}
    assert scores == pytest.approx({entry.item_id: entry.score for entry in alone.items}, abs=1e-6)


def test_a_video_cannot_be_added_to_a_model_that_does_not_see_it(folder: Path, id_run: Path) -> None:
    video = folder / "release" / "videos" / "1.mp4"
    status, _, told = run_command("recommend", id_run, "--user", "1", "--add-video", video)
    assert status == 2
    assert told == "microlens: --add-video needs a run whose encoder sees videos and nothing else, such as x3d_xs.\n"


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


def test_the_catalogue_is_encoded_once_for_many_histories(video_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = open_experiment(video_run)
    read: list[int] = []
    original = run.content.read
    monkeypatch.setattr(run.content, "read", lambda items: (read.extend(items.tolist()), original(items))[1])
    ranker = Ranker(run)
    for user in range(1, 6):
        ranker.scores(ranker.user_history(user))
    assert sorted(read) == list(range(1, ITEMS + 1))


def test_titles_are_printed_as_they_are(id_run: Path) -> None:
    """Not as the terminal library's markup, which a bracket in a title would break."""
    status, told, _ = run_command("recommend", id_run, "--history", "5", "-k", "20")
    assert status == 0
    assert ODD_TITLE in told


def test_the_place_of_an_added_video_is_shown_below_a_short_list() -> None:
    entries = [Recommendation(rank=rank, item_id=rank - 1, title=f"t{rank}", score=-rank) for rank in (1, 2)]
    added = Recommendation(rank=7, item_id=None, title="mine.mp4", score=-9.0)
    table = recommendation_table(Recommendations(history=[(3, "x")], items=entries, added=added, num_candidates=1234))
    columns = [list(column.cells) for column in table.columns]
    assert columns[0] == ["1", "2", "7 of 1,234"]
    assert columns[1] == ["0", "1", "added"]  # 0 is an item id like any other
    assert columns[2] == ["t1", "t2", "mine.mp4"]
