"""A run writes into folders of its own, and a fresh start clears what a run wrote and nothing else."""

from pathlib import Path

import pytest

from microlens.config.run_config import RunConfig
from microlens.errors import InputError
from microlens.files.writing import LOCK, MARK, lock_folder
from microlens.runs.folder import WRITTEN, claim_run_folder, clear_run_folder, held_run_folder

CONFIG = 'dataset = "x"\noutput = "y"\n[model]\nname = "popularity"\n'


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name not in (MARK, LOCK))
    return {str(path.relative_to(folder)): path.read_text() for path in files}


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("mine")


RUN = [name.replace("*", "1700.host.1.0") for name in WRITTEN]
OTHERS = ["thesis.txt", "checkpoints/other.safetensors", "tensorboard/notes.txt", "tensorboard/mine/1", "log.txt", ".a"]


@pytest.mark.parametrize("name", RUN)
def test_a_file_of_somebody_else_with_the_name_of_a_runs_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    with pytest.raises(InputError, match="was not written by microlens; move it or choose another folder"):
        claim_run_folder(tmp_path)
    with pytest.raises(InputError, match="was not made by microlens"):
        clear_run_folder(tmp_path)
    assert contents(tmp_path) == {name: "mine"}


def test_a_fresh_start_clears_what_a_run_wrote_and_nothing_else(tmp_path: Path) -> None:
    write(tmp_path, *OTHERS)
    claim_run_folder(tmp_path)
    write(tmp_path, *RUN)
    claim_run_folder(tmp_path)
    clear_run_folder(tmp_path)
    assert contents(tmp_path) == dict.fromkeys(OTHERS, "mine")


def test_a_run_of_an_earlier_version_is_ours(tmp_path: Path) -> None:
    write(tmp_path, "report.json", "environment.json")
    (tmp_path / "config.toml").write_text("learning = 'deeply'")  # somebody's configuration of something
    with pytest.raises(InputError, match="was not written by microlens"):
        claim_run_folder(tmp_path)
    (tmp_path / "config.toml").write_text(CONFIG)
    assert RunConfig.load(tmp_path / "config.toml").model.name == "popularity"
    claim_run_folder(tmp_path)
    clear_run_folder(tmp_path)
    assert contents(tmp_path) == {}


def test_a_run_folder_is_held_by_one_process(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with held_run_folder(run), pytest.raises(InputError, match="another process"), lock_folder(run):
        pass
