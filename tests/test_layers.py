"""Imports go one way, and what has to start at once stays free of PyTorch."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import microlens
from tests.conftest import write_pairs

PACKAGE = Path(microlens.__file__).parent
# A module imports from its own package and from the layers above its own in this list.
LAYERS = [
    {"cores", "errors"},
    {"building", "counts", "files", "seeds"},
    {"config", "environment"},
    {"media"},
    {"engines"},
    {"release"},
    {"download", "subsets"},
    {"data"},
    {"distributed"},
    {"encoders"},
    {"recommenders"},
    {"evaluation", "cost"},
    {"training"},
    {"quantization"},
    {"runs"},
    {"page", "testing"},
    {"bench", "stats", "verification"},
    {"feed"},
    {"cli"},
    {"__main__"},
]
LAYER = {name: number for number, names in enumerate(LAYERS) for name in names}
NEVER = {
    "media": {"config", "building", "environment"},
    "engines": {"config", "building", "environment"},
    "release": {"config", "building", "environment"},
    "data": {"config", "building", "environment"},
    "encoders": {"config"},
    "recommenders": {"config"},
}
SOURCES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def part_of(path: Path) -> str:
    """The module or sub-package of ``microlens`` that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_parts(source: str) -> set[str]:
    """The modules and sub-packages of ``microlens`` that a source imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where an arrow goes"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    parts = {name.split(".")[1] for name in names if name.startswith("microlens.")}
    return parts & LAYER.keys()  # `from microlens import __version__` is no arrow


def test_every_module_has_its_layer() -> None:
    assert {part_of(path) for path in SOURCES} == LAYER.keys()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    part = part_of(path)
    imported = imported_parts(path.read_text())
    upwards = {other for other in imported if other != part and LAYER[other] >= LAYER[part]}
    assert not upwards, f"{part} imports {sorted(upwards)}"
    assert not imported & NEVER.get(part, set())


def test_imports_inside_functions_and_of_modules_by_name_are_seen() -> None:
    source = (
        "def f():\n    from microlens import training\n\nimport microlens.runs\nfrom microlens.media import store\n"
    )
    assert imported_parts(source) == {"training", "runs", "media"}


def modules_after(code: str) -> set[str]:
    """The top-level modules that are loaded when ``code`` has run in a process of its own."""
    report = "import atexit, sys; atexit.register(lambda: print('\\n' + ' '.join(sys.modules), file=sys.stderr)); "
    process = subprocess.run([sys.executable, "-c", report + code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in process.stderr.splitlines()[-1].split()}


def test_help_loads_next_to_nothing() -> None:
    loaded = modules_after("sys.argv = ['microlens', '--help']; from microlens.cli import main; main()")
    assert "typer" in loaded
    assert not loaded & {"torch", "numpy", "polars", "av", "pydantic", "matplotlib"}


def test_lists_and_tables_of_finished_runs_load_no_torch() -> None:
    loaded = modules_after(
        "from microlens.cli import main, terminal_tables; from microlens.feed import report; "
        "from microlens.page import comparison; sys.argv = ['microlens', 'list', 'models']; main()"
    )
    assert {"rich", "polars", "sqlalchemy"} <= loaded
    assert "torch" not in loaded


def test_preparing_loads_no_torch(tmp_path: Path) -> None:
    release = write_pairs(tmp_path / "release", [[1, 2, 3, 4, 5]])
    (release / "videos").mkdir()
    (release / "videos" / "1.mp4").write_bytes(b"")
    arguments = ["microlens", "data", "prepare", str(release), str(tmp_path / "dataset"), "--workers", "1"]
    loaded = modules_after(f"sys.argv = {arguments!r}; from microlens.cli import main; main()")
    assert {"polars", "lmdb"} <= loaded
    assert not loaded & {"torch", "av"}  # processes of their own decode


def test_reading_and_making_media_loads_no_torch() -> None:
    loaded = modules_after(
        "from microlens.media import decoding, reading, sound, store; from microlens.release import synthetic"
    )
    assert "av" in loaded
    assert "torch" not in loaded


def test_processes_that_decode_load_what_they_need() -> None:
    loaded = modules_after("from microlens.media import decoding, reading, sound")
    assert {"av", "numpy"} <= loaded
    assert not loaded & {"torch", "polars", "pydantic", "lmdb", "fsspec"}
