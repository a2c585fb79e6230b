"""What is built for others to install: everything the package needs, nothing else, and it works by itself."""

import os
import subprocess
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest

import microlens
from tests.conftest import REPOSITORY

NAME = f"microlens-{microlens.__version__}"
pytestmark = pytest.mark.published


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("built")
    command = [sys.executable, "-m", "uv", "build", "--out-dir", str(folder), str(REPOSITORY)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower(), done.stderr
    return folder


@pytest.fixture(scope="module")
def unpacked(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with ZipFile(built / f"{NAME}-py3-none-any.whl") as wheel:
        wheel.extractall(folder)
    return folder


def test_the_wheel_holds_the_package_and_nothing_else(unpacked: Path) -> None:
    ours = Path(microlens.__file__).parent
    expected = {path.relative_to(ours) for path in ours.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    assert {
        path.relative_to(unpacked / "microlens") for path in (unpacked / "microlens").rglob("*") if path.is_file()
    } == (expected)
    assert {path.name for path in unpacked.iterdir()} == {"microlens", f"{NAME}.dist-info"}
    assert (unpacked / "microlens" / "py.typed").is_file()
    assert (unpacked / f"{NAME}.dist-info" / "licenses" / "LICENSE").is_file()


def test_the_source_distribution_is_small(built: Path) -> None:
    with tarfile.open(built / f"{NAME}.tar.gz") as archive:
        entries = {Path(name).relative_to(NAME).parts[0] for name in archive.getnames()}
    assert entries >= {"src", "configs", "examples", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff"}
    assert not entries & {"tests", "results", "speed", "docs"}
    assert (built / f"{NAME}.tar.gz").stat().st_size < 2**20


def test_the_wheel_runs_from_an_empty_folder(unpacked: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(unpacked)}
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("-c", "import microlens; print(microlens.__file__)").strip().startswith(str(unpacked))
    assert "sasrec" in run("-m", "microlens", "list", "models")
    assert list(tmp_path.iterdir()) == []
