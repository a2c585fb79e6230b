"""Whether the built wheel works where it is installed: with other versions of Python and of what the package needs.

    python -m tests.installed --python python3.12 --versions oldest

builds the wheel, installs its core into a fresh environment, takes an empty folder from a synthetic release to
recommendations, and checks the types of a module that uses the package, all in a temporary folder. Prints the versions
and what came out as JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
# What decides which versions are installed: the oldest that pyproject.toml declares, or those of a release's tests.
VERSIONS = {
    "oldest": ["--resolution", "lowest-direct"],
    "tested": ["--constraint", str(REPOSITORY / "constraints.txt")],
    "newest": ["--resolution", "highest"],
}
RUNS = {
    "popularity": '[model]\nname = "popularity"\n',
    "id": '[model]\nname = "sasrec"\ndim = 16\n[encoder]\nname = "id"\n[train]\nepochs = 2\nbatch_size = 32\n',
    "video": (
        '[model]\nname = "sasrec"\ndim = 16\n[encoder]\nname = "x3d_xs"\n'
        "[train]\nepochs = 1\nbatch_size = 16\nmicro_batch = 16\n"
    ),
}
TYPED = """
from pathlib import Path

from microlens.config.run_config import RunConfig
from microlens.data.dataset import Dataset


def size(config: RunConfig) -> float:
    return Dataset(config.dataset).interactions.num_events * config.train.lr


reveal_type(size(RunConfig.load(Path("run.toml"))))
"""
LISTED = (
    "import json, sys, importlib.metadata as m; print(json.dumps({'python': sys.version.split()[0], "
    "**{d.name.lower(): d.version for d in m.distributions() if d.name.lower() in sys.argv[1:]}}))"
)


def main() -> int:
    """Try one interpreter with one set of versions; the exit status says whether everything ran."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", default=sys.executable, help="An interpreter.")
    parser.add_argument("--versions", choices=VERSIONS, default="tested")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="microlens-installed-") as name:
        folder = Path(name)
        python = install(folder, chosen.python, chosen.versions)
        found: dict[str, Any] = {"versions": versions(python)}
        started = time.monotonic()
        try:
            found["runs"] = walk_through(python.with_name("microlens"), folder / "empty")
            check_types(python, folder)
        except subprocess.CalledProcessError as error:
            found["failed"] = {"command": error.cmd[1:], "status": error.returncode, "output": tail(error.stdout)}
        found["seconds"] = round(time.monotonic() - started, 1)
    print(json.dumps(found, indent=1))
    return int("failed" in found)


def install(folder: Path, python: str, chosen: str) -> Path:
    """Build the wheel and install it into a fresh environment in ``folder``; returns the environment's interpreter."""
    environment = folder / "environment"
    uv = [sys.executable, "-m", "uv"]
    run([*uv, "build", "--quiet", "--wheel", "--out-dir", str(folder), str(REPOSITORY)], folder)
    run([*uv, "venv", "--quiet", "--python", python, str(environment)], folder)
    (wheel,) = folder.glob("*.whl")
    inside = environment / "bin" / "python"
    install = [*uv, "pip", "install", "--quiet", "--python", str(inside)]
    # First what the package declares: as requirements of a wheel they would not be direct, and "oldest" the newest.
    run([*install, *VERSIONS[chosen], "--requirement", str(REPOSITORY / "pyproject.toml")], folder)
    run([*install, "--no-deps", str(wheel)], folder)
    run([*uv, "pip", "check", "--quiet", "--python", str(inside)], folder)
    return inside


def versions(python: Path) -> dict[str, str]:
    """The interpreter's version, and those of what the package declares."""
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["dependencies"]
    names = ["microlens", *(requirement.split(">=")[0] for requirement in declared)]
    listed: dict[str, str] = json.loads(run([str(python), "-c", LISTED, *names], python.parent))
    return listed


def walk_through(microlens: Path, folder: Path) -> dict[str, Any]:
    """From an empty folder to recommendations; HR@10 on test of every run."""
    folder.mkdir()

    def command(*arguments: str) -> str:
        return run([str(microlens), *arguments], folder)

    assert "sasrec" in command("list", "models")
    command("data", "synth", "release", "--users", "60", "--items", "24")
    command("data", "prepare", "release", "dataset", "--num-frames", "2", "--size", "32", "--workers", "2")
    found = {}
    for name, tables in RUNS.items():
        (folder / f"{name}.toml").write_text(f'dataset = "dataset"\noutput = "runs/{name}"\n{tables}')
        command("train", f"{name}.toml")
        measured = json.loads(command("evaluate", f"runs/{name}", "--json"))
        report = json.loads((folder / "runs" / name / "report.json").read_text())
        assert measured["metrics"] == report["metrics"], f"{name}: evaluate says something else than the report"
        assert "10" in command("recommend", f"runs/{name}", "--user", "1")
        found[name] = measured["metrics"]["test"]["all"]["HR@10"]
    command("recommend", "runs/video", "--history", "1,2,3", "--add-video", "release/videos/5.mp4")
    runs = [f"runs/{name}" for name in RUNS]
    command("report", *runs)
    with pytest.raises(subprocess.CalledProcessError) as refused:  # the core installation draws no charts
        command("report", *runs, "--html", "report.html")
    assert refused.value.stdout.strip().endswith("pip install 'microlens[html]'"), refused.value.stdout
    return found


def check_types(python: Path, folder: Path) -> None:
    """Type-check a module of someone else's against the installed package, which a ``py.typed`` marks as typed."""
    (folder / "typed.py").write_text(TYPED)
    mypy = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(folder / "mypy")]
    said = run([*mypy, "--python-executable", str(python), "typed.py"], folder)
    assert 'Revealed type is "float"' in said.replace("builtins.", ""), said


def run(arguments: list[str], folder: Path) -> str:
    """What a command prints; one that fails raises, with both of its streams as its output."""
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(arguments, cwd=folder, env=clean, capture_output=True, text=True, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, arguments, done.stdout + done.stderr)
    return done.stdout


def tail(text: str) -> list[str]:
    """The last lines."""
    return text.splitlines()[-20:]


if __name__ == "__main__":
    sys.exit(main())
