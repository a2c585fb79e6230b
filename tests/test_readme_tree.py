"""The README's tree is the tree of the code."""

import subprocess

import pytest

from tests.conftest import REPOSITORY
from tests.readme_tree import BEGIN, BESIDE, END, README, purpose, rooms, tree, with_tree
from tests.test_layers import LAYER, PACKAGE


def test_the_readme_shows_the_tree_of_the_code() -> None:
    assert with_tree(README.read_text()) == README.read_text(), "run: make readme"


def test_every_room_and_module_is_a_line_with_its_purpose() -> None:
    lines = [line.split(maxsplit=1) for line in rooms()]
    assert {name.rstrip("/").removesuffix(".py") for name, _ in lines} == LAYER.keys() - {"__main__"}
    assert all(name.endswith("/") == (PACKAGE / name).is_dir() and what[0].isupper() for name, what in lines)


def test_every_folder_of_the_repository_is_a_line() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no clone of the repository")
    folders = {path.partition("/")[0] + "/" for path in listed.stdout.splitlines() if "/" in path}
    assert {folder for folder in folders if not folder.startswith(".")} == BESIDE.keys() | {"src/"}
    assert all(f"\n{folder}" in tree() for folder in BESIDE)


def test_a_changed_tree_is_noticed_and_what_is_around_it_kept() -> None:
    old = f"before\n{BEGIN}\nsomething else\n{END}\nafter\n"
    new = with_tree(old)
    assert new != old
    assert new.startswith(f"before\n{BEGIN}\n```text\nsrc/microlens/\n")
    assert new.endswith(f"```\n{END}\nafter\n")
    assert with_tree(new) == new


def test_the_purpose_is_the_first_sentence() -> None:
    assert purpose(PACKAGE / "encoders" / "__init__.py").startswith("Item encoders")
    assert "\n" not in purpose(PACKAGE / "cli" / "__init__.py")
