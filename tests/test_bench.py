"""Tables of runs: what is trained, what is shown, what is refused."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from microlens.bench import collect, markdown, read_bench, run_rows
from microlens.bench import runner as runner_module
from microlens.bench.rows import Bench, dataset_folder
from microlens.data.decoding import Settings
from microlens.data.prepare import prepare
from microlens.errors import InputError
from microlens.files import alone_in
from microlens.metrics import all_metrics, paired_differences
from microlens.report import read_ranks
from tests.conftest import REPOSITORY, random_sequences, write_pairs

CONFIGS = {
    "popularity": 'name = "popularity"',
    "markov": 'name = "markov"',
    "co-visitation": 'name = "co_visitation"',
    "ease": 'name = "ease"\nnonsense = 1',  # loads, but does not build
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bench")
    prepare(write_pairs(folder / "release", random_sequences(80, 40)), folder / "dataset", Settings())
    return folder / "dataset"


@pytest.fixture
def configs(tmp_path: Path) -> Path:
    folder = tmp_path / "configs"
    folder.mkdir()
    for name, model in CONFIGS.items():
        (folder / f"{name}.toml").write_text(f'dataset = "x"\noutput = "y"\n[model]\n{model}\n')
    return folder


def read(dataset: Path, configs: Path, *only: str, **options: Any) -> Bench:
    return read_bench("baseline", dataset, configs=configs, output=configs.parent / "out", only=list(only), **options)


def run_cli(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, "-m", "microlens", *arguments], capture_output=True, text=True, check=False)


def test_rows_are_trained_once_and_compared_on_the_same_users(dataset: Path, configs: Path, tmp_path: Path) -> None:
    arguments = ["bench", "baseline", "--dataset", str(dataset), "--configs", str(configs), "--output"]
    first = run_cli(*arguments, str(tmp_path / "out"), "--jobs", "2")
    assert first.returncode == 2
    assert "1 of 4 rows failed (EASE)" in first.stderr
    assert "Popularity: finished after" in first.stdout
    bench = read(dataset, configs)
    reports = {row.name: row.folder / "report.json" for row in bench.rows if row.name != "EASE"}
    written = {name: path.stat().st_mtime_ns for name, path in reports.items()}
    second = run_cli(*arguments, str(tmp_path / "out"))
    assert "Popularity: was there" in second.stdout
    assert {name: path.stat().st_mtime_ns for name, path in reports.items()} == written

    results = json.loads((tmp_path / "out" / "baseline.json").read_text())
    assert [row["name"] for row in results["rows"]] == ["Popularity", "Markov, first order", "Co-visitation"]
    assert "nonsense" in results["missing"]["EASE"]
    assert results["missing"]["DSSM"] == "no configuration"
    ranks = {row.name: read_ranks(row.folder)["test"] for row in bench.rows if row.name in reports}
    for row in results["rows"]:
        assert row["test"]["all"] == pytest.approx(all_metrics(ranks[row["name"]]))
        if row["name"] == "Co-visitation":
            assert row["difference"] is None
        else:
            ours, theirs = (np.mean(ranks[name] <= 20) for name in (row["name"], "Co-visitation"))
            assert row["difference"]["HR@20"][0] == pytest.approx(ours - theirs)
    text = (tmp_path / "out" / "baseline.md").read_text()
    assert text == markdown(results)
    assert f"| Popularity | {100 * np.mean(ranks['Popularity'] <= 10):.2f} (" in text
    assert "EASE is missing: " in text


def test_a_changed_configuration_is_another_run(dataset: Path, configs: Path) -> None:
    before = read(dataset, configs, "markov").rows[0]
    path = configs / "markov.toml"
    path.write_text("seed = 1\n" + path.read_text())
    after = read(dataset, configs, "markov").rows[0]
    assert before.folder != after.folder
    assert after.report("") is None


def test_a_damaged_report_is_named_and_the_others_stay(dataset: Path, configs: Path) -> None:
    bench = read(dataset, configs, "popularity", "markov")
    assert run_rows(bench, jobs=2, on_row=lambda row, event: None) == {}
    (bench.rows[0].folder / "report.json").write_text("{")
    failed = run_rows(bench, jobs=1, on_row=lambda row, event: None)
    assert list(failed) == ["Popularity"]
    assert "report.json is not a report" in failed["Popularity"]
    results = collect(bench, failed)
    assert [row["name"] for row in results["rows"]] == ["Markov, first order"]
    assert results["against"] is None


def test_an_interrupted_table_leaves_no_process(dataset: Path, configs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def start(*arguments: Any, **options: Any) -> "subprocess.Popen[bytes]":
        started.append(popen(*arguments, **options))
        return started[-1]

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner_module.subprocess, "Popen", start)
    monkeypatch.setattr(runner_module, "time", SimpleNamespace(sleep=interrupt))
    with pytest.raises(KeyboardInterrupt):
        run_rows(read(dataset, configs, "popularity", "markov"), jobs=1, on_row=lambda row, event: None)
    assert len(started) == 1
    assert started[0].poll() is not None


def test_two_runners_do_not_share_a_folder(dataset: Path, configs: Path) -> None:
    bench = read(dataset, configs, "popularity")
    bench.output.mkdir()
    with alone_in(bench.output), pytest.raises(InputError, match="is being written by another process"):
        run_rows(bench, jobs=1, on_row=lambda row, event: None)


def test_what_is_refused(dataset: Path, configs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no table 'base'; did you mean 'baseline'"):
        read_bench("base", dataset)
    with pytest.raises(InputError, match="--only Populrity is no row; did you mean 'Popularity'"):
        read(dataset, configs, "Populrity")
    with pytest.raises(InputError, match="--against easy is no row; did you mean 'ease'"):
        read(dataset, configs, against="easy")
    with pytest.raises(InputError, match=r"empty holds no configuration of the table 'baseline'"):
        read(dataset, tmp_path / "empty")
    with (configs / "markov.toml").open("a") as file:
        file.write("[protocol]\nmax_history = 4\n")
    with pytest.raises(InputError, match=r"popularity\.toml and .*markov\.toml have different \[protocol\]"):
        read(dataset, configs)
    with pytest.raises(InputError, match="is not a prepared dataset"):
        read(tmp_path, configs)


def test_a_dataset_is_a_folder_or_a_name(tmp_path: Path) -> None:
    assert dataset_folder(str(tmp_path)) == tmp_path
    assert dataset_folder("microlens-50k") == Path("datasets/microlens-50k")


def test_the_row_of_the_paper_is_beside_ours(dataset: Path, configs: Path, tmp_path: Path) -> None:
    named = tmp_path / "microlens-1m"
    named.symlink_to(dataset)
    bench = read(named.absolute(), configs)
    assert bench.published["dataset"] == "MicroLens-100K"  # what the folder is, not what a link to it is called
    assert bench.published["rows"]["SASRec"] == {"HR@10": 0.0909, "NDCG@10": 0.0517, "HR@20": 0.1278, "NDCG@20": 0.061}


def test_paired_intervals_are_those_of_resampled_users() -> None:
    random = np.random.default_rng(1)
    ours = random.integers(1, 60, 300)
    theirs = np.where(random.random(300) < 0.7, ours, random.integers(1, 60, 300))
    fast = paired_differences(ours, theirs)
    for metric in ("HR@10", "NDCG@20"):
        resampled = []
        for _ in range(2000):
            users = random.integers(0, 300, 300)
            resampled.append(all_metrics(ours[users])[metric] - all_metrics(theirs[users])[metric])
        assert fast[metric][0] == pytest.approx(all_metrics(ours)[metric] - all_metrics(theirs)[metric])
        assert fast[metric][1:] == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.006)
    assert paired_differences(ours[:0], theirs[:0]) == {}


def test_the_tables_in_the_docs_are_those_of_their_results() -> None:
    results = json.loads((REPOSITORY / "benchmarks" / "results" / "baseline-microlens-50k.json").read_text())
    assert markdown(results) in (REPOSITORY / "docs" / "results.md").read_text()
