"""Several models: who gets which, interleaving, replacing one and going back."""

import gc
import os
import shutil
import sys
import weakref
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import microlens as ml
from microlens.errors import InputError
from microlens.feed import live, score_cache
from microlens.feed.score_cache import ScoreCache
from microlens.feed.served_model import ServedModel
from tests.feed.conftest import ITEMS, OpenFeed, Visitor, event_of, train_run

Serve = Callable[..., Any]


def test_people_are_assigned_by_a_hash_half_and_half(open_world: OpenFeed) -> None:
    feed = open_world("id", "other-id")
    arms = [feed.models.arm_of(f"person {number}") for number in range(2000)]
    assert arms == [feed.models.arm_of(f"person {number}") for number in range(2000)]
    assert 900 < arms.count("id") < 1100
    feed.close()


def test_each_person_is_served_by_one_model(world: Path, open_world: OpenFeed, serve: Serve) -> None:
    client, served = serve(open_world("id", "other-id")), Counter[str]()
    for _ in range(12):
        client.cookies.clear()
        visitor = Visitor(client)
        first = visitor.next(3)
        visitor.send(*(event_of(exposure, "like") for exposure in first))
        (model,) = {exposure["model"] for exposure in (*first, *visitor.next(3))}
        arm = model.partition("@")[0]
        listed = ml.load(world / arm).recommend(history=[exposure["item"] for exposure in first], k=6)
        assert visitor.next()[0]["item"] == str(listed["item"][3])
        served[arm] += 1
    assert set(served) == {"id", "other-id"}


def test_interleaved_models_take_turns_in_drawn_order(open_world: OpenFeed, serve: Serve) -> None:
    feed = open_world("id", "other-id", interleave=True)
    client, firsts = serve(feed), Counter[str]()
    for _ in range(16):
        client.cookies.clear()
        visitor = Visitor(client)
        visitor.send(event_of(visitor.next()[0], "like"))
        visitor.next(3)
        visitor.next(3)
        feed.store.flush()
        rows = feed.store.exposures(visitor.person)[1:]
        teams = [row["arm"] for row in rows]
        assert all(set(pair) == {"id", "other-id"} for pair in zip(teams[::2], teams[1::2], strict=True))
        assert all(row["model"].startswith(row["arm"] + "@") for row in rows)
        firsts.update(teams[::2])
    assert 12 < firsts["id"] < 36


def test_the_propensity_of_an_interleaved_choice_counts_both_models(open_world: OpenFeed, serve: Serve) -> None:
    feed = open_world("id", "other-id", interleave=True)
    visitor = Visitor(serve(feed))
    visitor.send(event_of(visitor.next()[0], "like"))
    history = feed.people._known[visitor.person].history
    best = {arm: model.scores(history).argmax() for arm, model in feed.models.serving.items()}
    (exposure,) = visitor.next()
    feed.store.flush()
    (row,) = feed.store.exposures(visitor.person)[1:]
    assert row["propensity"] == (1.0 if best["id"] == best["other-id"] else 0.5)
    assert feed.catalogue.number(exposure["item"]) == best[row["arm"]]


def test_a_replaced_model_serves_from_then_on_and_the_former_one_again(
    world: Path, open_world: OpenFeed, serve: Serve
) -> None:
    feed = open_world("id")
    client = serve(feed)
    visitor = Visitor(client)
    first = visitor.next(2)
    visitor.send(*(event_of(exposure, "like") for exposure in first))
    former = feed.models.serving["id"].id
    answer = client.post("/api/admin/model", json={"run": str(world / "other-id")})
    assert answer.json()["serving"]["id"].startswith("other-id@")
    listed = ml.load(world / "other-id").recommend(history=[exposure["item"] for exposure in first], k=1)
    (exposure,) = visitor.next()
    assert (exposure["item"], exposure["model"]) == (str(listed["item"][0]), answer.json()["serving"]["id"])
    assert client.post("/api/admin/model/back").json()["serving"] == {"id": former}
    assert visitor.next()[0]["model"] == former
    feed.store.flush()
    assert [row["model"] for row in feed.store.models()] == [former, answer.json()["serving"]["id"], former]


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ({"run": "/nowhere"}, "is not a run folder"),
        ({"run": "{world}/id", "arm": "nobody"}, "there is no model 'nobody'"),
        ({"run": "{world}/release"}, "is not a run folder"),
        ({}, "run: Field required"),
    ],
)
def test_a_model_that_cannot_be_served_changes_nothing(
    world: Path, open_world: OpenFeed, serve: Serve, body: dict[str, str], sentence: str
) -> None:
    feed = open_world("id")
    before = dict(feed.models.serving)
    sent = {name: value.replace("{world}", str(world)) for name, value in body.items()}
    answer = serve(feed).post("/api/admin/model", json=sent)
    assert answer.status_code == 422
    assert sentence in answer.json()["detail"]
    assert feed.models.serving == before


def test_there_is_nothing_to_go_back_to_at_first(open_world: OpenFeed, serve: Serve) -> None:
    answer = serve(open_world("id")).post("/api/admin/model/back")
    assert (answer.status_code, "has not been replaced" in answer.json()["detail"]) == (409, True)


def test_no_request_is_dropped_while_models_change(world: Path, open_world: OpenFeed, serve: Serve) -> None:
    feed = open_world("id", settings={"limits": {"requests_a_minute": 0}})
    client = serve(feed)
    visitor = Visitor(client)
    visitor.send(event_of(visitor.next()[0], "like"))
    with ThreadPoolExecutor(2) as pool:
        swaps = pool.submit(
            lambda: [client.post("/api/admin/model", json={"run": str(world / run)}) for run in ("other-id", "id") * 2]
        )
        served = [visitor.next()[0]["model"].partition("@")[0] for _ in range(60)]
        assert all(answer.status_code == 200 for answer in swaps.result())
        served += [visitor.next()[0]["model"].partition("@")[0]]
    assert set(served) <= {"id", "other-id"}
    assert served[-1] == "id"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a thread has no priority of its own")
def test_loading_a_model_leaves_the_cores_to_those_who_answer(
    world: Path, open_world: OpenFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    feed, loaded = open_world("id"), []

    def opened(folder: Path, former: ServedModel) -> ServedModel:
        loaded.append((os.nice(0), torch.get_num_threads()))
        return former

    monkeypatch.setattr(live, "_opened", opened)
    before = os.nice(0)
    for _ in range(2):
        feed.replace_model(world / "other-id")
    assert loaded == [(min(19, before + 5), 1)] * 2
    assert os.nice(0) == before
    feed.close()


def test_a_model_that_is_not_served_any_more_is_not_kept_by_what_it_has_scored(
    world: Path, open_world: OpenFeed, serve: Serve
) -> None:
    feed = open_world("id")
    visitor = Visitor(serve(feed))
    visitor.send(event_of(visitor.next()[0], "like"))
    visitor.next()
    first = weakref.ref(feed.models.serving["id"])
    for run in ("other-id", "id"):
        feed.replace_model(world / run, "id")
        visitor.next()
    feed.store.flush()
    gc.collect()
    assert first() is None


def test_runs_of_one_name_are_refused(world: Path, open_world: OpenFeed, tmp_path: Path) -> None:
    shutil.copytree(world / "id", tmp_path / "elsewhere" / "id")
    with pytest.raises(InputError, match="the same name"):
        open_world("id", str(tmp_path / "elsewhere" / "id"), dataset=world / "dataset")


def test_a_model_of_later_data_serves_the_items_that_it_shares(
    world: Path, open_world: OpenFeed, serve: Serve, tmp_path: Path, make_dataset: Callable[[list[list[int]]], Path]
) -> None:
    make_dataset([[18, 4, 9, 33, 2, 15], [4, 18, 2, 9, 34, 33], [2, 4, 15, 18, 33, 34]] * 3)
    other = train_run(tmp_path, "later", "id")
    feed = open_world("id")
    client = serve(feed)
    visitor = Visitor(client)
    opened = [visitor.next(item=item)[0] for item in ("9", "7", "4")]
    visitor.send(*(event_of(exposure, "like") for exposure in opened))
    assert client.post("/api/admin/model", json={"run": str(other)}).status_code == 200
    listed = ml.load(other).recommend(history=[9, 4], k=9).filter(pl.col("item") <= ITEMS)
    served = visitor.next(len(listed), why=True)
    assert [exposure["item"] for exposure in served] == listed["item"].cast(str).to_list()
    assert sorted(map(int, listed["item"])) == [2, 15, 18]
    assert [exposure["why"]["score"] for exposure in served] == listed["score"].to_list()
    assert visitor.next(why=True)[0]["why"]["reason"] == "popular"  # the model knows no other item


def test_a_model_of_other_items_is_refused(
    open_world: OpenFeed, tmp_path: Path, make_dataset: Callable[[list[list[int]]], Path]
) -> None:
    make_dataset([[101, 102, 103, 104, 105, 106], [102, 103, 104, 105, 106, 101]] * 3)
    other = train_run(tmp_path, "other-items", "id")
    with pytest.raises(InputError, match="none of the items"):
        open_world("id", str(other))


def test_the_best_items_are_kept_by_model_and_history(open_world: OpenFeed, monkeypatch: pytest.MonkeyPatch) -> None:
    feed, other = open_world("id"), open_world("other-id")
    models = [feed.models.serving["id"], other.models.serving["other-id"]]
    cache, computed = ScoreCache(), []
    expected = {model.id: [model.scores([1, 2]), model.scores([2, 1])] for model in models}
    original = ServedModel.scores
    monkeypatch.setattr(ServedModel, "scores", lambda *both: computed.append(both) or original(*both))
    for _ in range(3):
        for model in models:
            for history, scores in zip(([1, 2], [2, 1]), expected[model.id], strict=True):
                scored = cache.scored(model, history)
                np.testing.assert_array_equal(scored.scores, np.sort(scores[scores > -np.inf])[::-1])
    assert len(computed) == 4
    monkeypatch.setattr(score_cache, "_KEPT", 3)
    for item in range(1, 10):
        cache.scored(models[0], [item])
    assert len(cache._scored) <= 4
    feed.close()
    other.close()
