"""A package of somebody else adds a recommender and an encoder: found, tested, trained, opened, compared."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import microlens
from microlens.encoders import build_encoder
from microlens.recommenders import RECOMMENDER_REGISTRY
from microlens.recommenders.sasrec import SASRec
from microlens.testing import EncoderContract, RecommenderContract
from microlens.testing.worlds import constructor_arguments, small_split
from tests.conftest import REPOSITORY
from tests.data.test_prepare import run_command
from tests.processes import run_python

PACKAGE = Path(__file__).parent / "package"
CONFIG = """
dataset = {dataset}
output = "unset"
[model]
name = "window"
dim = 8
size = 3
[encoder]
name = "sum"
towers = [{{ name = "id" }}, {{ name = "cover_colours", cells = 2 }}]
[train]
epochs = 2
batch_size = 12
device = "cpu"
"""
PATHS = (
    "--set=model.name=example_models.recommenders:Window",
    '--set=encoder={name = "example_models.encoders:CoverColours"}',
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package, as in an environment's ``site-packages``."""
    folder = tmp_path_factory.mktemp("third-party") / "site"
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--no-deps", "--reinstall"]
    find_links = {"UV_FIND_LINKS": os.environ["PIP_FIND_LINKS"]} if "PIP_FIND_LINKS" in os.environ else {}
    done = subprocess.run(
        [*command, "--target", str(folder), str(PACKAGE)],
        env={**os.environ, **find_links},
        capture_output=True,
        text=True,
        check=False,
    )
    if "No module named uv" in done.stderr or "build-system.requires" in done.stderr:
        pytest.skip("uv or hatchling, which build the package, cannot be had here")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def installed(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package can be imported, here and by processes that are started, in an empty working folder."""
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, (site, Path(microlens.__file__).parents[1], REPOSITORY))))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)  # of this run, not of the author's
    monkeypatch.chdir(tmp_path)
    yield
    for name in [name for name in sys.modules if name.split(".")[0] == "example_models"]:
        del sys.modules[name]


@pytest.fixture
def config(installed: None, video_dataset: Path, tmp_path: Path) -> Path:
    (tmp_path / "window.toml").write_text(CONFIG.format(dataset=json.dumps(str(video_dataset))))
    return tmp_path / "window.toml"


def fresh_process(*arguments: str) -> str:
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def fresh_commands(*lines: str) -> list[str]:
    """What each ``microlens`` command line prints, all of them in one process that has not loaded the package."""
    script = (
        "import json, sys; from tests.data.test_prepare import run_command; "
        "print(json.dumps([run_command(*line.split()) for line in sys.argv[1:]]))"
    )
    done = run_python(["-c", script, *lines])
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert all(status == 0 for status, _, _ in results), results
    return [out for _, out, _ in results]


def test_its_authors_run_the_contract(installed: None, tmp_path: Path) -> None:
    shutil.copy(PACKAGE / "tests" / "test_models.py", tmp_path)
    told = fresh_process(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:schemathesis", "-W", "error", "test_models.py"
    )
    checks = [name for contract in (RecommenderContract, EncoderContract) for name in vars(contract)]
    tests = [name for name in checks if name.startswith("test_")]
    # The model depends on the seed and has no dropout, so the tests of models that do not, or have, are skipped.
    assert f"{len(tests) - 2} passed, 2 skipped in" in told


def test_lists_show_it_with_its_package(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    models, encoders = fresh_commands("list models", "list encoders")  # the width is read when a process starts
    assert "window (of example-models)" in models
    assert "The mean of the last items, through a linear layer." in models
    assert "cover_colours (of example-models)" in encoders
    assert len(re.findall(r"\bsasrec\b", models)) == 1


def test_a_name_of_microlens_stays_its_own(installed: None) -> None:
    assert RECOMMENDER_REGISTRY.find("sasrec", "model.name") is SASRec


def test_its_encoder_is_a_tower_of_fusions(installed: None) -> None:
    table = {"name": "concat", "towers": [{"name": "cover_colours"}, {"name": "example_models.encoders:CoverColours"}]}
    encoder = build_encoder(table, {**constructor_arguments(small_split())})
    assert encoder.needs == {"covers"}
    assert encoder.sees_content
    assert [type(tower).__name__ for tower in encoder.towers()] == ["CoverColours", "CoverColours"]


@pytest.mark.parametrize("choice", [(), PATHS], ids=["entry point", "import path"])
def test_it_is_trained_and_opened_again(config: Path, choice: tuple[str, ...]) -> None:
    status, _, told = run_command("train", config, "--set", "output=run", *choice)
    assert status == 0, told
    report = json.loads(Path("run/report.json").read_text())
    assert report["model"] == ("example_models.recommenders:Window" if choice else "window")
    assert report["cost"]["trainable_parameters"] > 0
    if choice:
        return
    measured, recommended = fresh_commands("evaluate run --json", "recommend run --user 1 --top 3")
    assert json.loads(measured)["metrics"] == report["metrics"]
    assert "rank" in recommended


def test_it_is_a_row_of_a_table(config: Path, video_dataset: Path, tmp_path: Path) -> None:
    folder = tmp_path / "configs"
    folder.mkdir()
    config.rename(folder / "dssm.toml")
    (folder / "popularity.toml").write_text('dataset = "x"\noutput = "y"\n[model]\nname = "popularity"\n')
    rows = ("--only", "DSSM", "--only", "Popularity", "--against", "Popularity")
    status, told, _ = run_command("bench", "baseline", "--dataset", video_dataset, "--configs", "configs", *rows)
    assert status == 0
    assert "DSSM" in told
    (report,) = Path("runs/bench").glob("*/dssm-*/report.json")
    assert json.loads(report.read_text())["model"] == "window"
