"""The local engine, and the choice of an engine."""

from functools import partial
from pathlib import Path

import pytest

from microlens.engines.choice import choose_engine
from microlens.engines.local import LocalEngine
from microlens.errors import InputError
from microlens.media.processes import Killed
from tests.data.test_prepare import run_command
from tests.engines.functions import deadly, logged, refuse, square


def test_items_come_with_their_results() -> None:
    assert sorted(LocalEngine(2).map_items(square, range(9))) == [(number, number**2) for number in range(9)]


def test_an_item_that_kills_its_process_is_named() -> None:
    results = dict(LocalEngine(1).map_items(deadly, [1, 3, 5]))
    assert results == {1: 1, 3: Killed("kills the process (exit status 9)"), 5: 5}


def test_shards_come_with_their_results() -> None:
    assert sorted(LocalEngine(2).map_shards(sum, [(1, 2), (3,), (4, 5)])) == [((1, 2), 3), ((3,), 3), ((4, 5), 9)]


def test_an_error_of_a_shard_ends_the_job() -> None:
    with pytest.raises(InputError, match="1 is refused"):
        list(LocalEngine(1).map_shards(refuse, [1]))


def test_shards_that_are_not_wanted_any_more_are_not_begun(tmp_path: Path) -> None:
    results = LocalEngine(1).map_shards(partial(logged, tmp_path / "log.txt"), range(50))
    next(results)
    results.close()
    assert len((tmp_path / "log.txt").read_text().splitlines()) < 5


def test_no_engine_is_the_local_one() -> None:
    assert choose_engine("local", None, workers=3) is None


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--engine", "ray", "--workers", "2"], "--workers belongs to --engine local"),
        (["--ray-address", "auto"], "--ray-address belongs to --engine ray"),
    ],
)
def test_options_of_the_other_engine_are_refused(tmp_path: Path, options: list[str], sentence: str) -> None:
    pytest.importorskip("ray", reason="the extra [scale] is not installed")
    status, _, told = run_command("data", "prepare", tmp_path, tmp_path / "dataset", *options)
    assert status == 2
    assert sentence in told


def test_ray_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("microlens.engines.ray_cluster.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"install it with: pip install 'microlens\[scale\]'"):
        choose_engine("ray", None)
