"""Tables of runs: what is trained, what is shown, what is refused."""

import json
import re
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from microlens.bench import Choices, Runner, collect, dataset_folder, markdown, read_bench, read_results, sheets
from microlens.bench import runner as runner_module
from microlens.bench.page import write_table_page
from microlens.bench.reading import NO_CONFIGURATION, table_names
from microlens.bench.results import feature_files
from microlens.bench.rows import Bench
from microlens.bench.sheets import fitting
from microlens.config.run_config import RunConfig
from microlens.data.prepare import prepare
from microlens.data.protocol import NAMED_PROTOCOLS
from microlens.errors import InputError
from microlens.evaluation.metrics import all_metrics
from microlens.evaluation.report import read_ranks
from microlens.evaluation.significance import difference
from microlens.files.run_manifest import BEYOND, REPORT, replace_text
from microlens.files.writing import lock_folder
from microlens.media.decoding import Settings
from tests.conftest import REPOSITORY, random_sequences, write_pairs
from tests.data.test_prepare import run_command

CONFIGS = {
    "popularity": 'name = "popularity"',
    "markov": 'name = "markov"',
    "co-visitation-recency": 'name = "co_visitation"',
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
    choices = Choices(configs=configs, output=configs.parent / "out", only=only, **options)
    return read_bench("baseline", dataset, choices)


def run_rows(bench: Bench, jobs: int = 1) -> dict[str, str]:
    return Runner(bench, jobs=jobs, on_row=lambda row, event: None).run()


def test_rows_are_trained_once_and_compared_on_the_same_users(dataset: Path, configs: Path, tmp_path: Path) -> None:
    arguments = ["bench", "baseline", "--dataset", str(dataset), "--configs", str(configs), "--output"]
    status, told, said = run_command(*arguments, str(tmp_path / "out"), "--jobs", "2")
    assert status == 2
    assert "1 rows failed (EASE of baseline)" in said
    assert "Popularity: finished after" in told
    bench = read(dataset, configs)
    reports = {row.name: row.config.output / "report.json" for row in bench.rows if row.name != "EASE"}
    written = {name: path.stat().st_mtime_ns for name, path in reports.items()}
    _, told, _ = run_command(*arguments, str(tmp_path / "out"))
    assert "Popularity: was there" in told
    assert {name: path.stat().st_mtime_ns for name, path in reports.items()} == written

    results = json.loads((tmp_path / "out" / "baseline.json").read_text())
    assert [row["name"] for row in results["rows"]] == [
        "Popularity",
        "Markov, first order",
        "Co-visitation, recency-weighted",
    ]
    assert "nonsense" in results["missing"]["EASE"]
    assert results["missing"]["DSSM"] == "no configuration"
    ranks = {row.name: read_ranks(row.config.output)["test"][0] for row in bench.rows if row.name in reports}
    for row in results["rows"]:
        assert row["test"]["all"] == pytest.approx(all_metrics(ranks[row["name"]]))
        if row["name"] == "Co-visitation, recency-weighted":
            assert row["difference"] is None
        else:
            ours, theirs = (np.mean(ranks[name] <= 20) for name in (row["name"], "Co-visitation, recency-weighted"))
            assert row["difference"]["HR@20"]["mean"] == pytest.approx(ours - theirs)
    text = (tmp_path / "out" / "baseline.md").read_text()
    assert text == markdown(sheets(results))
    assert f"| Popularity | {100 * np.mean(ranks['Popularity'] <= 10):.2f} (" in text
    assert "EASE is missing: " in text


def test_a_part_of_a_fusion_that_a_row_has_trained_is_not_trained_again(dataset: Path, configs: Path) -> None:
    part = 'model = { name = "sasrec", dim = 8 }\nencoder = { name = "id" }\ntrain = { epochs = 1, device = "cpu" }\n'
    counted = 'model = { name = "co_visitation" }\n'
    folders = 'dataset = "x"\noutput = "y"\n'
    (configs / "sasrec-id-dropout.toml").write_text(folders + part)
    fusion = f'{folders}model = {{ name = "fusion" }}\n[[parts]]\n{part}[[parts]]\n{counted}'
    (configs / "fusion.toml").write_text(fusion)
    choices = Choices(configs=configs, output=configs.parent / "out", only=("SASRec_ID, id dropout", "Fusion"), seeds=2)
    bench = read_bench("cold-among-warm", dataset, choices)
    assert not run_rows(bench)
    rows = {row.name: row for row in bench.rows}
    for ours, theirs in zip(rows["Fusion"].finished(), rows["SASRec_ID, id dropout"].finished(), strict=True):
        sequence, counts = (config.output for config in ours[0].config.part_configs())
        for name in ("report.json", "checkpoints/best.safetensors"):
            taken = sequence / name
            assert taken.stat().st_mtime_ns == (theirs[0].folder / name).stat().st_mtime_ns
        assert (counts / "report.json").exists()  # no row has trained it


def test_a_changed_configuration_is_another_run(dataset: Path, configs: Path) -> None:
    before = read(dataset, configs, "markov").rows[0]
    path = configs / "markov.toml"
    path.write_text("seed = 1\n" + path.read_text())
    after = read(dataset, configs, "markov").rows[0]
    assert before.config.output != after.config.output
    assert after.finished() == []


def test_a_damaged_report_is_named_and_the_others_stay(dataset: Path, configs: Path) -> None:
    bench = read(dataset, configs, "popularity", "markov")
    assert run_rows(bench, jobs=2) == {}
    (bench.rows[0].config.output / "report.json").write_text("{")
    failed = run_rows(bench)
    assert list(failed) == ["Popularity"]
    assert "report.json is not the file that microlens wrote" in failed["Popularity"]
    results = collect(bench, failed)
    assert [row["name"] for row in results["rows"]] == ["Markov, first order"]
    assert results["rows"][0]["difference"] is None


def test_a_run_of_another_version_is_trained_again(dataset: Path, configs: Path) -> None:
    bench = read(dataset, configs, "popularity", "markov")
    assert run_rows(bench) == {}
    folder = bench.rows[0].config.output
    document = json.loads((folder / "report.json").read_text())
    document["provenance"]["packages"]["microlens"] = "0.0.1"
    replace_text(folder, "report.json", json.dumps(document))
    assert bench.rows[0].finished() == []
    assert run_rows(bench) == {}
    assert len(bench.rows[0].finished()) == 1
    assert collect(bench, {})["missing"] == {}


def test_an_unfinished_run_of_other_data_is_trained_again(dataset: Path, configs: Path, tmp_path: Path) -> None:
    (configs / "sasrec-id.toml").write_text(
        'dataset = "x"\noutput = "y"\n[model]\nname = "sasrec"\ndim = 8\n[encoder]\nname = "id"\n'
        '[train]\nepochs = 1\nbatch_size = 32\ndevice = "cpu"\n'
    )
    copied = shutil.copytree(dataset, tmp_path / "copied")
    bench = read(copied, configs, "SASRec", "popularity")
    assert run_rows(bench) == {}
    (bench.rows[-1].config.output / "report.json").unlink()
    shutil.rmtree(copied)
    prepare(write_pairs(tmp_path / "release", random_sequences(50, 25, seed=5)), copied, Settings())
    again = read(copied, configs, "SASRec", "popularity")
    assert again.rows[-1].config.output == bench.rows[-1].config.output
    assert again.data_hash != bench.data_hash
    assert run_rows(again) == {}
    assert len(again.rows[-1].finished()) == 1


def test_the_files_of_a_part_of_a_table_are_not_those_of_the_table(dataset: Path, configs: Path) -> None:
    def path(**choices: Any) -> str:
        return read_bench("baseline", dataset, Choices(configs=configs, **choices)).path.name

    assert path() == "baseline"
    assert path(only=("popularity",)) == "baseline-some-rows"
    assert path(smoke=True) == "baseline-smoke"
    assert path(only=("popularity",), smoke=True, protocol="random") == "baseline-random-some-rows-smoke"


def test_a_run_that_ended_without_its_files_has_failed(dataset: Path, configs: Path) -> None:
    (configs / "sasrec-id.toml").write_text(
        'dataset = "x"\noutput = "y"\n[model]\nname = "sasrec"\ndim = 8\n[encoder]\nname = "id"\n'
        '[train]\nepochs = 1\nbatch_size = 32\ndevice = "cpu"\n'
    )
    bench = read(dataset, configs, "SASRec", "popularity")
    assert run_rows(bench) == {}
    (bench.rows[-1].config.output / "metrics.jsonl").unlink()
    failed = run_rows(bench)
    assert list(failed) == ["SASRec"]
    assert "metrics.jsonl" in failed["SASRec"]


def test_a_run_folder_of_somebody_else_is_named_and_not_touched(dataset: Path, configs: Path) -> None:
    bench = read(dataset, configs, "popularity")
    log = bench.rows[0].config.output / "log.txt"
    log.parent.mkdir(parents=True)
    log.write_text("four years")
    failed = run_rows(bench)
    assert failed == {"Popularity": f"{log} was not written by microlens; move it or choose another folder."}
    assert [path.name for path in log.parent.iterdir()] == ["log.txt"]
    assert log.read_text() == "four years"


def test_an_interrupted_table_leaves_no_process(dataset: Path, configs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    start = runner_module.worker.start

    def note(*arguments: Any, **options: Any) -> Any:
        started.append(start(*arguments, **options))
        return started[-1]

    def interrupt(_: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(runner_module.worker, "start", note)
    monkeypatch.setattr(runner_module, "_progress_of", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run_rows(read(dataset, configs, "popularity", "markov"))
    assert len(started) == 1
    assert started[0].exitcode is not None


def test_two_runners_do_not_share_a_folder(dataset: Path, configs: Path) -> None:
    bench = read(dataset, configs, "popularity")
    bench.output.mkdir()
    with lock_folder(bench.output), pytest.raises(InputError, match="is being written by another process"):
        run_rows(bench)


def test_what_is_refused(dataset: Path, configs: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no table 'base'; did you mean 'baseline'"):
        read_bench("base", dataset)
    with pytest.raises(InputError, match="only: Populrity is no row; did you mean 'Popularity'"):
        read(dataset, configs, "Populrity")
    with pytest.raises(InputError, match="against: easy is no row; did you mean 'ease'"):
        read(dataset, configs, against="easy")
    with pytest.raises(InputError, match="starts from another dataset; name it with source=DATASET"):
        read_bench("transfer", dataset, Choices(configs=REPOSITORY / "configs" / "demo"))
    with pytest.raises(InputError, match=r"empty holds no configuration of the table 'baseline'"):
        read(dataset, tmp_path / "empty")
    with (configs / "markov.toml").open("a") as file:
        file.write("[protocol]\nmax_history = 4\n")
    with pytest.raises(InputError, match=r"popularity\.toml and .*markov\.toml have different \[protocol\]"):
        read(dataset, configs)
    assert read(dataset, configs, mix=True).mixed
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


def test_a_tuned_row_without_configuration_is_not_missed(dataset: Path, configs: Path) -> None:
    left_out = read(dataset, configs).left_out
    assert left_out["NFM"] == NO_CONFIGURATION
    assert "NFM, tuned" not in left_out


def test_a_table_follows_the_protocol_that_it_is_told(dataset: Path, configs: Path) -> None:
    choices = Choices(configs=configs, output=dataset.parent / "other", protocol="cold-items")
    bench = read_bench("baseline", dataset, choices)
    bench = bench.only([row for row in bench.rows if row.name in ("Popularity", "Co-visitation, recency-weighted")])
    assert bench.path == dataset.parent / "other" / "baseline-cold-items"
    assert run_rows(bench, jobs=1) == {}
    results = collect(bench, {})
    (protocol,) = results["protocols"].values()
    assert protocol["split"] == "cold-items"
    for row in results["rows"]:
        assert row["num_targets"]["warm"] == 0
        ranks = read_ranks(next(one.config.output for one in bench.rows if one.name == row["name"]))["test"]
        assert row["test"]["all"] == pytest.approx(all_metrics(*ranks))
        assert row["published"] is None
    text = markdown(sheets(results))
    assert "protocol cold-items" in text
    assert "All interactions with a random tenth of the items" in text
    write_table_page(bench.path.with_suffix(".html"), bench, results)
    with pytest.raises(InputError, match="there is no protocol 'radnom'; did you mean 'random'"):
        read_bench("baseline", dataset, Choices(configs=configs, protocol="radnom"))


def test_paired_intervals_are_those_of_resampled_users() -> None:
    random = np.random.default_rng(1)
    ours = random.integers(1, 60, 300)
    theirs = np.where(random.random(300) < 0.7, ours, random.integers(1, 60, 300))
    for metric in ("HR@10", "NDCG@20"):
        found = difference([ours], [theirs], metric)
        resampled = []
        for _ in range(2000):
            users = random.integers(0, 300, 300)
            resampled.append(all_metrics(ours[users])[metric] - all_metrics(theirs[users])[metric])
        assert found["mean"] == pytest.approx(all_metrics(ours)[metric] - all_metrics(theirs)[metric])
        assert [found["low"], found["high"]] == pytest.approx(np.quantile(resampled, [0.025, 0.975]), abs=0.006)
    assert difference([ours[:0]], [theirs[:0]], "HR@10") == {}


def test_the_tables_in_the_docs_are_those_of_their_results() -> None:
    docs = (REPOSITORY / "docs" / "results.md").read_text()
    names = ("*-microlens-50k*.json", "*-ml-100k-posters*.json")
    stored = [path for name in names for path in (REPOSITORY / "results").glob(name)]
    shown = {sheet.title: markdown([sheet]) for path in stored for sheet in sheets(read_results(path))}
    titles = re.findall(r"^\*\*(.+)\*\*$", docs, re.MULTILINE)
    assert len(titles) >= len(stored) > 0
    for title in titles:
        assert shown[title] in docs


NOT_OF_THE_PAPER = {
    *("classical", "cold-among-warm", "cold-items", "covers", "fusion", "multimodal", "semantic-ids", "sequence"),
    "towers",
}


def test_every_table_loads_with_the_configurations_of_the_demonstration(dataset: Path) -> None:
    for name in table_names():
        choices = Choices(configs=REPOSITORY / "configs" / "demo", source=dataset, smoke=True)
        bench = read_bench(name, dataset, choices)
        assert len({row.name for row in bench.rows}) == len(bench.rows)
        assert all(row.against in {row.name for row in bench.rows} | set(bench.left_out) for row in bench.rows)
        assert {row.config.train.epochs for row in bench.rows} == {1}
        assert set(bench.published["faults"]) <= set(bench.published["rows"])
        paper = {row.paper for row in bench.rows} & set(bench.published["rows"])
        assert paper or name in NOT_OF_THE_PAPER


def test_seeds_are_averaged_user_by_user(dataset: Path, configs: Path) -> None:
    (configs / "sasrec-id.toml").write_text(
        'dataset = "x"\noutput = "y"\n[model]\nname = "sasrec"\ndim = 8\n[encoder]\nname = "id"\n'
        '[train]\nepochs = 1\nbatch_size = 32\ndevice = "cpu"\n'
    )
    bench = read(dataset, configs, "SASRec", "Co-visitation, recency-weighted", seeds=2)
    assert [job.name for job in bench.jobs()] == [
        "Co-visitation, recency-weighted",
        "SASRec",
        "SASRec, seed 43",  # and no other of the first, which is the same for every seed
    ]
    assert run_rows(bench, jobs=2) == {}
    (sasrec,) = [row for row in collect(read(dataset, configs, "SASRec"), {})["rows"] if row["name"] == "SASRec"]
    assert sasrec["seeds"] == [42, 43]
    of_seed = [np.mean(read_ranks(job.folder)["test"][0] <= 10) for job in bench.rows[1].jobs(2)]
    assert sasrec["test"]["all"]["HR@10"] == pytest.approx(np.mean(of_seed))
    assert sasrec["deviation"]["HR@10"] == pytest.approx(np.std(of_seed, ddof=1))
    assert sasrec["beyond"]["coverage@10"] > 0
    assert [one["seed"] for one in sasrec["curves"]] == [42, 43]
    assert all(len(one["loss"]) == len(one["HR@10"]) == one["epochs"] == 1 for one in sasrec["curves"])
    assert sasrec["depends_on_seed"]
    both = collect(bench, {})["rows"]
    assert [row["depends_on_seed"] for row in both] == [False, True]
    assert both[1]["difference"]["tested"] is False
    assert both[1]["difference"]["HR@10"]["p"] is None
    write_table_page(bench.path.with_suffix(".html"), bench, collect(bench, {}))
    text = bench.path.with_suffix(".html").read_text()
    assert "because SASRec (2) would need 3 seeds" in text
    assert "SASRec, best epoch 1" in text  # the ring of its training curve
    assert "<td>1<small>(1)†</small></td>" in text
    (bench.rows[1].jobs(2)[1].folder / "metrics.jsonl").write_text("")
    assert [len(row["seeds"]) for row in collect(bench, {})["rows"]] == [1, 1]


def test_changed_numbers_are_noticed(dataset: Path, configs: Path, tmp_path: Path) -> None:
    bench = read(dataset, configs, "popularity")
    run_rows(bench)
    folder = bench.rows[0].config.output
    report = json.loads((folder / REPORT).read_text())
    report["metrics"]["test"]["all"]["HR@10"] += 0.1
    whole = (folder / REPORT).read_text()
    (folder / REPORT).write_text(json.dumps(report))
    assert "report.json is not the file that microlens wrote" in collect(bench, {})["missing"]["Popularity"]
    replace_text(folder, REPORT, json.dumps(report))
    assert "changed by hand" in collect(bench, {})["missing"]["Popularity"]
    replace_text(folder, REPORT, whole)
    assert not collect(bench, {})["missing"].keys() & {"Popularity"}
    (folder / BEYOND).write_text("{}")
    results = collect(bench, {})
    assert "beyond.json is not the file that microlens wrote" in results["missing"]["Popularity"]
    table = tmp_path / "table.json"
    table.write_text(json.dumps({**results, "title": "Better"}))
    with pytest.raises(InputError, match=r"table\.json was changed after microlens bench wrote it"):
        read_results(table)
    table.write_text("[]")
    with pytest.raises(InputError, match="does not hold results"):
        read_results(table)
    with pytest.raises(InputError, match="does not exist"):
        read_results(tmp_path / "none.json")


def test_a_budget_stops_rows_that_go_on_later(dataset: Path, configs: Path) -> None:
    (configs / "sasrec-id.toml").write_text(
        'dataset = "x"\noutput = "y"\n[model]\nname = "sasrec"\ndim = 8\n[encoder]\nname = "id"\n'
        '[train]\nepochs = 100000\npatience = 100000\nbatch_size = 32\ndevice = "cpu"\n'
    )
    bench = read(dataset, configs, "SASRec", "popularity")
    events: list[tuple[str, str]] = []

    def note(row: str, event: str) -> None:
        events.append((row, event))
        if event.startswith("epoch "):
            runner.deadline = 0.0

    runner = Runner(bench, jobs=1, on_row=note, seconds=500)
    failed = runner.run()
    assert failed == {}
    assert ("Popularity", "finished") in events
    assert ("SASRec", "stopped") in events
    assert any(event.startswith("epoch ") and "min left" in event for _, event in events)
    assert collect(bench, failed)["missing"]["SASRec"] == "not trained yet"


def test_a_killed_row_is_named_and_trained_again(dataset: Path, configs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = read(dataset, configs, "popularity")
    start = runner_module.worker.start

    def killed(*arguments: Any, **options: Any) -> Any:
        process = start(*arguments, **options)
        process.kill()
        return process

    monkeypatch.setattr(runner_module.worker, "start", killed)
    assert "killed by signal 9" in run_rows(bench)["Popularity"]
    monkeypatch.undo()
    assert run_rows(bench) == {}
    assert len(collect(bench, {})["rows"]) == 1


def test_rows_end_with_a_table_that_is_killed(dataset: Path, configs: Path, tmp_path: Path) -> None:
    (configs / "sasrec-id.toml").write_text(
        'dataset = "x"\noutput = "y"\n[model]\nname = "sasrec"\ndim = 8\n[encoder]\nname = "id"\n'
        '[train]\nepochs = 1000000\npatience = 1000000\ndevice = "cpu"\n'
    )
    arguments = ["bench", "baseline", "--dataset", str(dataset), "--configs", str(configs), "--only", "SASRec"]
    command = [sys.executable, "-m", "microlens", *arguments, "--output", str(tmp_path / "out")]
    table = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out").rglob("metrics.jsonl")):
        assert table.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    rows = psutil.Process(table.pid).children(recursive=True)
    assert rows
    table.kill()
    table.wait()
    assert psutil.wait_procs(rows, timeout=30)[1] == []


def test_the_page_of_a_table_says_who_wins_and_loads_nothing(dataset: Path, configs: Path, tmp_path: Path) -> None:
    from microlens.bench.page import verdict, write_table_page

    bench = read(dataset, configs, "popularity", "markov", "co-visitation-recency")
    run_rows(bench, jobs=2)
    results = collect(bench, {})
    write_table_page(tmp_path / "table.html", bench, results)
    text = (tmp_path / "table.html").read_text()
    assert verdict(results) in text
    (winner,) = results["winners"].values()
    best = max(results["rows"], key=lambda row: row["test"]["all"]["HR@10"])
    assert winner["name"] == best["name"]
    assert f"{100 * best['test']['all']['HR@10']:.2f}&nbsp;%" in verdict(results)
    assert winner["difference"]["tested"]  # all three are deterministic
    real = winner["difference"]["HR@10"]["p"] < 0.05
    assert ("wins: it has" in verdict(results)) == real
    assert ("No clear winner" in verdict(results)) != real
    for row in results["rows"]:
        assert f"{row['name']}: {100 * row['test']['all']['HR@10']:.2f} %" in text  # in the forest
    assert not re.search(r"(?:src|href)=[\"'](?!data:|#)|@import|url\((?!data:)", text)


def test_a_narrow_terminal_gets_the_first_columns() -> None:
    whole = sheets(read_results(REPOSITORY / "results" / "baseline-microlens-50k.json"))[0]
    assert fitting(whole, 400) == whole
    narrow = fitting(whole, 100)
    assert narrow.columns == whole.columns[: len(narrow.columns)]
    assert 1 <= len(narrow.columns) < len(whole.columns)
    assert all(len(row) == len(narrow.columns) + 1 for rows in narrow.groups.values() for row in rows)
    assert narrow.notes[-1].startswith(f"{len(whole.columns) - len(narrow.columns)} more columns")


def test_work_is_shared_between_rows(video_dataset: Path, tmp_path: Path) -> None:
    """Rows of several tables over one frozen network: it runs once over the catalogue, and equal rows are one run."""
    folder = tmp_path / "dataset"
    shutil.copytree(video_dataset, folder, ignore=shutil.ignore_patterns("cache"))
    (tmp_path / "sasrec-v.toml").write_text(
        'dataset = "x"\noutput = "y"\n[model]\nname = "sasrec"\ndim = 8\n[encoder]\nname = "slowfast_r50"\n'
        'weights = "random"\ntune = "frozen"\n[train]\nepochs = 1\nbatch_size = 32\ndevice = "cpu"\n'
    )
    choices = Choices(configs=tmp_path, output=tmp_path / "out")
    trained: list[str] = []

    def note(row: str, event: str) -> None:
        if event == "started":
            trained.append(row)

    same = {"encoders": "SlowFast-r50, frozen", "cold-start": "SlowFast-r50", "warm": "Regular: SlowFast-r50"}
    for table, only in same.items():
        bench = read_bench(table, folder, replace(choices, only=(only,)))
        assert Runner(bench, jobs=1, on_row=note).run() == {}
        caches = {path.name: path.stat().st_mtime_ns for path in (folder / "cache").iterdir()}
        assert len(caches) == 1
    assert trained == ["SlowFast-r50, frozen"]  # the others are the same run
    wider = replace(choices, only=("SlowFast-r50, frozen",), smoke=True)  # another D over the same trunk
    assert Runner(read_bench("encoders", folder, wider), jobs=1, on_row=note).run() == {}
    assert len(trained) == 2
    assert {path.name: path.stat().st_mtime_ns for path in (folder / "cache").iterdir()} == caches


def test_the_help_names_every_protocol() -> None:
    said = "".join(run_command("bench", "--help")[1].split())  # lines break at hyphens, too
    listed = re.search(r"Protocolofallrows:(.*?)or(given-recbole)\.", said)
    assert listed
    assert {*listed[1].split(","), listed[2]} == set(NAMED_PROTOCOLS)


def test_an_unknown_table_is_named_before_anything_is_asked_for() -> None:
    status, _, said = run_command("bench", "clasical")
    assert status == 2
    assert "there is no table 'clasical'; did you mean 'classical'?" in " ".join(said.split())


def test_all_tables_have_a_name_of_their_own() -> None:
    assert run_command("bench", "all")[2] == "microlens: no dataset given; choose one with --dataset, or try --smoke.\n"
    assert "all" not in table_names()


def test_unknown_rows_are_told_names_that_can_be_told_apart(dataset: Path, configs: Path) -> None:
    with pytest.raises(InputError, match=r"accepted: .*; BPR-MF; BPR-MF, tuned; "):
        read(dataset, configs, "zzzzzzzzzzzz")


def test_files_of_parts_and_codes_are_listed(tmp_path: Path) -> None:
    for name, record in (("v", {"encoder": "x3d_xs"}), ("c", {"method": "rqvae", "levels": 3, "codes": 256})):
        np.save(tmp_path / f"{name}.npy", np.zeros((2, 2)))
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    knn = {"model": {"name": "content_knn", "features": str(tmp_path / "v.npy")}}
    tiger = {"model": {"name": "tiger", "codes": str(tmp_path / "c.npy")}}
    table = {"dataset": "d", "output": "o", "model": {"name": "fusion"}, "parts": [knn, tiger]}
    found = feature_files(SimpleNamespace(config=RunConfig.of(table)))  # type: ignore[arg-type]
    assert found == [{"file": "v.npy", "encoder": "x3d_xs"}, {"file": "c.npy", "codes": "rqvae"}]
