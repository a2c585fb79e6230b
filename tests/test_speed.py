"""The benchmarks run, say what they must, and compare like with like."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY

PROGRAMS = ("training", "evaluation", "interactions", "memory", "decode", "collaborative", "bench_runner", "verify")


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """What all programs wrote, run once at smoke size."""
    folder = tmp_path_factory.mktemp("results")
    command = [sys.executable, "speed/run_all.py", "--smoke", "--results", str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    documents = {path.stem: json.loads(path.read_text()) for path in folder.iterdir()}
    for document in documents.values():
        for line in document["lines"]:
            assert line["what"].split()[0] in done.stdout
    return documents


@pytest.mark.published
def test_run_all_writes_every_program_and_nothing_else(results: dict[str, dict[str, Any]]) -> None:
    assert set(results) == set(PROGRAMS)


@pytest.mark.published
@pytest.mark.parametrize("name", PROGRAMS)
def test_every_result_says_where_it_comes_from(results: dict[str, dict[str, Any]], name: str) -> None:
    document = results[name]
    assert set(document) == {"name", "environment", "arguments", "results", "lines"}
    assert document["name"] == name
    assert document["arguments"]["smoke"] is True
    assert {"device", "cores", "threads", "packages", "commit", "load_average"} <= set(document["environment"])
    assert str(REPOSITORY) not in json.dumps(document)


@pytest.mark.published
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_line_is_reached_on_its_own_side_only(results: dict[str, dict[str, Any]], name: str) -> None:
    assert results[name]["lines"]
    for line in results[name]["lines"]:
        if line["measured"] != line["reach"]:
            assert line["reached"] == ((line["measured"] > line["reach"]) == (line["bound"] == "at least"))


@pytest.mark.published
def test_training_is_measured_at_equal_mathematics(results: dict[str, dict[str, Any]]) -> None:
    cases = results["training"]["results"]["cases"]
    assert [case["dim"] for case in cases] == [64, 512]
    for case in cases:
        ours, theirs = case["loss"]["microlens"], case["loss"]["original algorithm"]
        assert ours == pytest.approx(theirs, rel=1e-4)
        assert ours > 1.0
        assert all(cost["cpu_seconds"] > 0 for cost in case["a_step"].values())


@pytest.mark.published
def test_evaluation_is_measured_at_equal_ranks(results: dict[str, dict[str, Any]]) -> None:
    (case,) = results["evaluation"]["results"]["cases"]
    assert case["same_ranks"] == {"users": 64, "share_equal": 1.0}
    assert case["original_algorithm_scaled_from_users"] == 64
    assert (case["users"], case["threads"]) == (300, 1)


@pytest.mark.published
def test_memory_is_what_comes_on_top_of_the_imports(results: dict[str, dict[str, Any]]) -> None:
    peaks = results["memory"]["results"]["peak_bytes"]["microlens"]
    beyond = results["memory"]["results"]["beyond_imports_bytes"]["microlens"]
    assert 0 < beyond == peaks["after_an_epoch"] - peaks["after_imports"]


@pytest.mark.published
def test_absent_peers_are_named(results: dict[str, dict[str, Any]]) -> None:
    (video,) = results["decode"]["results"]["videos"].values()
    for peer in ("opencv sequential, spread", "decord2, spread"):
        assert video["timings"][peer] == "absent" or video["timings"][peer]["cpu_seconds"] > 0


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a test import the programs."""
    monkeypatch.syspath_prepend(str(REPOSITORY / "speed"))


# A contestant of the protocol alone: notes its turns in a file, and takes as many seconds as it has had turns.
SCRIPT = """
import json, sys
name, file = sys.argv[1:3]
print(json.dumps({"name": name}), flush=True)
for number, _ in enumerate(iter(sys.stdin.readline, ""), 1):
    with open(file, "a") as notes: notes.write(name)
    if sys.argv[3:] == [str(number)]: sys.exit(7)
    print(json.dumps({"cpu_seconds": number, "wall_seconds": 2 * number, "peak_bytes": 10 * number}), flush=True)
with open(file, "a") as notes: notes.write(name.upper())
"""


@pytest.mark.usefixtures("programs")
def test_contestants_take_turns_and_the_first_are_not_measured(tmp_path: Path) -> None:
    import contestants

    notes = tmp_path / "notes"
    commands = {name: [sys.executable, "-c", SCRIPT, name, str(notes)] for name in "ab"}
    turned = contestants.in_turns(commands, 3, warm_up=1)
    assert notes.read_text()[:8] == "abababab"
    assert sorted(notes.read_text()[8:]) == ["A", "B"]  # both have ended
    assert turned["b"].facts == {"name": "b"}
    assert turned["a"].cpu_seconds == [2, 3, 4]
    assert (turned["a"].cost.cpu_seconds, turned["a"].cost.wall_seconds, turned["a"].peak_bytes) == (3, 6, 40)
    assert turned["a"].least == {"cpu_seconds": 2, "wall_seconds": 4}


@pytest.mark.usefixtures("programs")
def test_a_contestant_that_ends_early_is_named_and_the_others_end(tmp_path: Path) -> None:
    import contestants

    notes = tmp_path / "notes"
    commands = {
        name: [sys.executable, "-c", SCRIPT, name, str(notes), *fails] for name, fails in [("a", ()), ("b", "2")]
    }
    with pytest.raises(RuntimeError, match="'b' ended with status 7 before its last turn"):
        contestants.in_turns(commands, 3)
    assert notes.read_text() == "abab"


@pytest.mark.usefixtures("programs")
def test_a_contestant_answers_what_its_turns_take_whatever_it_prints(tmp_path: Path) -> None:
    import contestants

    (tmp_path / "way.py").write_text(
        "def noisy(turns, number):\n print('ready?')\n turns.take(lambda: print(sum(range(number))), number=number)\n"
    )
    command = contestants.command_of("way", "noisy", number=1_000_000)
    command[1:2] = ["-c", f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(REPOSITORY / 'speed')!r}]\n"
                    "import contestants; contestants.main()"]  # fmt: skip
    turned = contestants.in_turns({"noisy": command}, 2)["noisy"]
    assert turned.facts == {"number": 1_000_000}
    assert all(0 < seconds < 10 for seconds in (*turned.cpu_seconds, *turned.wall_seconds))
    assert len(turned.cpu_seconds) == 2
    assert turned.peak_bytes > 1_000_000


@pytest.mark.usefixtures("programs")
def test_a_result_is_current_until_what_it_measures_changes(tmp_path: Path) -> None:
    import freshness
    from measure import git

    def commit(name: str, text: str | None = None) -> str:
        before = (tmp_path / name).read_text() if (tmp_path / name).exists() else ""
        (tmp_path / name).write_text(f"{before}x" if text is None else text)
        git(tmp_path, "add", name)
        git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "--message", name)
        return git(tmp_path, "rev-parse", "HEAD")

    git(tmp_path, "init", "--quiet")
    measured = commit("code.py")
    commit("other.py")
    (tmp_path / "other.py").write_text("changed")

    def age(of: str) -> freshness.Age:
        return freshness.age_of(of, ["code.py", "more"], tmp_path)

    assert age(measured) == freshness.Age(commits=0, dirty=False, changed=False)
    assert (age(measured).is_current, str(age(measured))) == (True, "current")
    assert str(age(f"{measured}+")) == "OLD: measured with uncommitted changes"
    (tmp_path / "code.py").write_text("changed")
    assert str(age(measured)) == "OLD: uncommitted changes now"
    last = commit("code.py")
    assert str(age(measured)) == "OLD: 1 commit since"
    assert age(last).is_current
    commit("code.py", f'"""What it does."""\n{(tmp_path / "code.py").read_text()}  # why\n')
    assert age(last).is_current
    (tmp_path / "more").write_text("a new file")
    assert not age(last).is_current
    assert str(age("0" * 40)) == "OLD: its commit is not in the history"


@pytest.mark.usefixtures("programs")
def test_every_stored_result_has_sources_that_exist() -> None:
    import freshness

    results = freshness.stored_results(freshness.STORED)
    assert {path.name for path in freshness.STORED.glob("*.json")} - set(results) == {"sizing.json"}  # is computed
    for document in results.values():
        for source in freshness.sources_of(document["name"]):
            assert (REPOSITORY / source).exists(), source


@pytest.mark.usefixtures("programs")
def test_results_are_stored_for_a_commit_only(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    import run_all

    monkeypatch.setattr(run_all, "uncommitted", lambda: "M src/microlens/errors.py")
    monkeypatch.setattr(run_all, "run", None)  # nothing is measured
    monkeypatch.setattr(sys, "argv", ["run_all.py"])
    with pytest.raises(SystemExit, match="2"):
        run_all.main()
    assert "these changes are not committed:\nM src/microlens/errors.py" in capsys.readouterr().err


def test_every_figure_of_speed_names_a_result() -> None:
    readme = (REPOSITORY / "README.md").read_text().partition("## Fast and small")[2].partition("\n## ")[0]
    rows = [line for line in readme.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 3
    for row in rows:
        assert any(
            (REPOSITORY / "speed" / "results" / name).exists() for name in re.findall(r"results/(\w+\.json)\)", row)
        ), row
    page = (REPOSITORY / "docs" / "speed.md").read_text()
    rows = [line for line in page.partition("\n## ")[0].splitlines() if line.startswith("|")][2:]
    assert len(rows) > 3
    for row in rows:
        assert (REPOSITORY / "speed" / "results" / row.split("|")[2].strip(" `")).is_file(), row
    for name in re.findall(r"(\w+\.json)`", page):
        assert (REPOSITORY / "speed" / "results" / name).is_file(), name


def test_a_smoke_run_never_overwrites_the_full_results() -> None:
    command = [sys.executable, "speed/run_all.py", "--smoke"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--results" in done.stderr


@pytest.mark.published
def test_the_gpu_program_measures_every_part_at_tiny_size(tmp_path: Path) -> None:
    file = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "speed.gpu", "--tiny", "--json", str(file), "--commit", "abc"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads(file.read_text())
    assert document["environment"]["commit"] == "abc"
    measured = {part: list(cases.values()) for part, cases in document["results"].items()}
    assert all("figures" in case for cases in measured.values() for case in cases)
    assert all(measured[part] for part in ("ceilings", "parity", "ids", "top1", "full", "transformers", "reading"))
    for case in measured["ids"] + measured["top1"] + measured["full"]:
        assert case["figures"]["gigaflops_per_step"] >= 0
        assert case["figures"]["steps_per_second"] > 0


def test_a_case_that_fails_is_recorded_and_the_next_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY))
    import time

    import torch

    from speed.gpu import __main__ as program
    from speed.gpu.bench import TINY, Bench

    def broken() -> dict[str, Any]:
        raise ValueError("no kernel")

    folder = Path("unused")
    bench = Bench(device=torch.device("cpu"), sizes=TINY, folder=folder, ends=time.monotonic() + 60, cores=1)
    cases = [("one", broken), ("other", lambda: {"seconds": 1})]
    results = dict(program.run_part(bench, lambda _: iter(cases)))
    assert results["one"]["failed"] == "ValueError: no kernel"
    assert results["other"]["figures"] == {"seconds": 1}
    bench.ends = time.monotonic()
    assert dict(program.run_part(bench, lambda _: iter(cases)))["other"] == {"skipped": "no time left"}


@pytest.mark.parametrize(("away", "on_cpu", "within"), [(9e-5, 0.0, True), (2e-4, 0.0, False), (2e-4, 1.1e-4, True)])
def test_a_gradient_may_differ_by_the_tolerance_or_by_what_a_cpu_differs_from_itself(
    away: float, on_cpu: float, within: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY))
    import time

    import torch

    from speed.gpu import parity
    from speed.gpu.bench import TINY, Bench

    gradients = iter([torch.ones(1), torch.ones(1) + on_cpu, torch.ones(1) + away])
    monkeypatch.setattr(parity, "loss_and_gradient", lambda *arguments: (1.0, next(gradients).double()))
    bench = Bench(device=torch.device("cpu"), sizes=TINY, folder=Path(), ends=time.monotonic() + 60, cores=1)
    if within:
        figures = parity.differences(bench, None, None, "fp32")  # type: ignore[arg-type]
        assert figures["gradient_difference"] == pytest.approx(away, rel=1e-2)
    else:
        with pytest.raises(AssertionError, match="beyond the tolerance"):
            parity.differences(bench, None, None, "fp32")  # type: ignore[arg-type]


def test_two_ways_on_the_cpu_leave_the_setting_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(REPOSITORY))
    import torch

    from speed.gpu.parity import without_onednn

    before = torch.backends.mkldnn.enabled
    with without_onednn():
        assert not torch.backends.mkldnn.enabled
    assert torch.backends.mkldnn.enabled == before


@pytest.mark.usefixtures("programs")
def test_made_interactions_have_the_shape_they_claim() -> None:
    import measure
    import numpy as np

    shape = measure.Shape(users=2000, items=500, interactions=14_388)
    made = measure.long_tailed_sequences(shape)
    lengths = np.diff(made.offsets)
    assert (len(lengths), len(made.items), lengths.min()) == (2000, 14_388, 5)
    assert np.array_equal(np.unique(made.items), np.arange(1, 501))
    users = np.repeat(np.arange(2000), lengths)
    assert len(np.unique(users * 501 + made.items)) == len(made.items)
    counts = np.sort(np.bincount(made.items)[1:])[::-1]
    assert counts[:50].sum() > 0.25 * counts.sum()


@pytest.mark.published
@pytest.mark.parametrize(
    "program", ["feed", "feed_page", "best_items", "dry_run", "growth", "recommend", "step_options"]
)
def test_programs_measure_at_tiny_size(program: str) -> None:
    if program == "feed_page" and not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        pytest.skip("Chromium is not installed (apt-get install chromium)")
    command = [sys.executable, f"speed/{program}.py", "--smoke"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["name"] == program
    assert all(line["measured"] >= 0 for line in document["lines"])
    errors = [line["measured"] for line in document["lines"] if line["what"] == "errors"]
    assert errors == ([0] if program == "feed" else [])
