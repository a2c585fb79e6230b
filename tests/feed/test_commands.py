"""The commands on what people did in a feed."""

import json
from pathlib import Path

from tests.data.test_prepare import run_command
from tests.feed.conftest import OpenFeed, Served
from tests.feed.records import LIKED, SKIPPED, WATCHED, Records, did


def test_report_prints_writes_and_draws(records: Records, store_url: str, tmp_path: Path) -> None:
    for number in range(4):
        for arm, outcome in (("first", WATCHED), ("second", SKIPPED)):
            records.show(f"{arm}{number}", "1", did("impression"), outcome, arm=arm)
    json_file, figure = tmp_path / "report.json", tmp_path / "report.png"
    status, out, _ = run_command("feed", "report", store_url, "--json", json_file, "--figure", figure)
    assert status == 0
    assert "first: 4 people, 4 items seen" in out
    assert "watched: first - second 75.0 % (75.0 to 75.0)" in out
    assert [arm["name"] for arm in json.loads(json_file.read_text(encoding="utf-8"))["arms"]] == ["first", "second"]
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_report_estimates_what_a_run_would_have_got(
    world: Path, records: Records, store_url: str, tmp_path: Path
) -> None:
    for number in range(3):
        records.show(f"{number}", "4", LIKED, why="popular")
        records.show(f"{number}", "7", SKIPPED, second=2)
    run, json_file = world / "popularity", tmp_path / "report.json"
    status, out, _ = run_command("feed", "report", store_url, "--estimate", run, "--json", json_file)
    assert status == 0
    said = " ".join(out.split())
    assert "estimated from 6 decisions, effective sample size" in said
    assert "note: with an effective sample size below 150" in said
    (estimate,) = json.loads(json_file.read_text(encoding="utf-8"))["estimates"].values()
    assert estimate["values"]["liked"]["logged"]["mean"] == 0.5


def test_from_events_says_what_it_wrote_and_what_is_next(
    world: Path, records: Records, store_url: str, tmp_path: Path
) -> None:
    records.show("ann", "4", LIKED)
    records.show("ann", "777", LIKED)
    status, out, _ = run_command("data", "from-events", store_url, tmp_path / "out", "--release", world / "release")
    assert status == 0
    assert "left out are 1 positive items that the release does not have" in out
    assert "1 users, 1 items, 1 interactions, 1 of them from the feed" in " ".join(out.split())
    assert "Next: microlens data prepare" in " ".join(out.split())
    status, _, err = run_command("data", "from-events", store_url, tmp_path / "out")
    assert (status, "exists" in err) == (2, True)


def test_simulate_compares_with_an_earlier_simulation(
    world: Path, tmp_path: Path, open_world: OpenFeed, served: Served
) -> None:
    address, first = served(open_world("id")), tmp_path / "first.json"
    options = ("--url", address, "--people", "2", "--videos", "2")
    status, out, _ = run_command("feed", "simulate", world / "release", *options, "--json", first)
    assert (status, "at random" in out) == (0, True)
    figure = tmp_path / "rates.png"
    status, out, _ = run_command("feed", "simulate", world / "release", *options, "--before", first, "--figure", figure)
    assert (status, "like-rate of the same people against before" in out) == (0, True)
    assert figure.read_bytes().startswith(b"\x89PNG")
    first.write_text("{}", encoding="utf-8")
    status, _, err = run_command("feed", "simulate", world / "release", *options, "--before", first)
    assert (status, "is damaged" in err) == (2, True)
