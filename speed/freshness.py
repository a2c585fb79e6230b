"""Which stored results are older than the code that they measure.

    python speed/freshness.py [--results FOLDER]

Every result names the commit that it was measured at. It is current as long as the code of the files that its program
measures is the same; their comments, docstrings and line breaks may differ. A result from a tree with uncommitted
changes is never current. The status is 1 if any result is not current.
"""

import argparse
import ast
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import REPOSITORY, STORED, git
from rich.console import Console
from rich.table import Table

DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
SOURCE = "src/microlens"
STEP = (
    "training",
    "data/batches.py",
    "data/examples.py",
    "data/negatives.py",
    "data/split.py",
    "data/histories.py",
    "environment.py",
)
SASREC = (
    "recommenders/base.py",
    "recommenders/packed.py",
    "recommenders/attention.py",
    "recommenders/dropout.py",
    "recommenders/sasrec.py",
)
RANKING = (
    "evaluation/ranking.py",
    "evaluation/block_ranking.py",
    "evaluation/metrics.py",
    "data/split.py",
    "recommenders/base.py",
)
PREPARING = ("data/prepare.py", "data/source.py", "data/interactions_writer.py", "data/dataset_writer.py", "release")
READING = ("media/reading.py", "media/streams.py", "media/frames.py", "media/timeline.py", "media/packing.py")
VIDEOS = ("encoders/base.py", "encoders/content.py", "encoders/trunk.py", "encoders/video", "media/store.py")

# The files and folders of the package that each program measures.
MEASURED: dict[str, tuple[str, ...]] = {
    "bench_runner": ("bench/runner.py", "bench/worker.py", "bench/reading.py", "runs/train.py"),
    "best_items": ("feed/rounded_vectors.py",),
    "collaborative": (
        *STEP, *RANKING, "recommenders/dssm.py", "recommenders/graph.py", "recommenders/lightgcn.py",
        "recommenders/nfm.py", "recommenders/deepfm.py", "recommenders/factorization.py", "recommenders/bpr_mf.py",
    ),
    "decode": (*READING, "media/sound.py", "media/sound_track.py"),
    "download": ("download",),
    "dry_run": ("runs/dry_run.py",),
    "engines": ("engines", "data/prepare.py", "media/decoding.py"),
    "evaluation": (*RANKING, *SASREC),
    "families": ("encoders", *STEP),
    "feed": ("feed",),
    "feed_page": ("feed/page", "feed/server"),
    "gpu": (*STEP, *SASREC, *VIDEOS, *RANKING),
    "graph_edges": ("recommenders/adjacency.py",),
    "growth": (*STEP, *SASREC, *RANKING, "data/prepare.py"),
    "interactions": PREPARING,
    "interactions_scale": PREPARING,
    "many_users": (*STEP, *SASREC, *RANKING, "data/prepare.py"),
    "memory": (*STEP, *SASREC, *RANKING),
    "neighbours": ("encoders/video", "media/reading.py", "runs/classify.py"),
    "peer_libraries": (*STEP, *SASREC, "recommenders/gru4rec.py", "recommenders/graph.py", "recommenders/lightgcn.py"),
    "per_item": (*READING, "media/decoding.py", "verification/media_files.py", "data/prepare.py"),
    "recommend": ("cli", "runs/run.py", "runs/recommend.py", "runs/assembly.py", "evaluation"),
    "side_networks": (*STEP, "encoders/text.py", "encoders/frozen_sequences.py", "data/feature_sequences.py"),
    "step_shares": (*STEP, *SASREC, "encoders/base.py", "encoders/trunk.py", "encoders/video"),
    "step_options": (*STEP, *VIDEOS, "encoders/precision.py"),
    "subsets": ("subsets",),
    "training": (*STEP, *SASREC),
    "verify": ("verification/media_files.py", "verification/decoding.py", "media/processes.py"),
    "video": (*STEP, *SASREC, *VIDEOS, "media/packing.py", "cost"),
}  # fmt: skip
PEERS = {
    "training": ("original_algorithm.py",), "evaluation": ("original_algorithm.py",),
    "video": ("original_algorithm.py",), "peer_libraries": ("peers",), "verify": ("peers/plain_decoding.py",),
}  # fmt: skip


def sources_of(program: str) -> list[str]:
    """The program, its peer, and what it measures, as paths in the repository."""
    own = "speed/gpu" if program == "gpu" else f"speed/{program}.py"
    peers = (f"speed/{name}" for name in PEERS.get(program, ()))
    return [own, *peers, *(f"{SOURCE}/{name}" for name in MEASURED[program])]


@dataclass(frozen=True)
class Age:
    """How a result stands to the present code.

    ``commits`` since the result that touch its sources, 0 if their code is the same, and None if its commit is not in
    the history; ``dirty`` if it was measured with uncommitted changes, ``changed`` if there are such changes to its
    sources now.
    """

    commits: int | None
    dirty: bool
    changed: bool

    @property
    def is_current(self) -> bool:
        """True if the result was measured with the present code."""
        return self.commits == 0 and not self.dirty and not self.changed

    def __str__(self) -> str:
        if self.commits is None:
            return "OLD: its commit is not in the history"
        reasons = [f"{self.commits} commit{'s' * (self.commits > 1)} since"] if self.commits else []
        reasons += ["uncommitted changes now"] if self.changed else []
        reasons += ["measured with uncommitted changes"] if self.dirty else []
        return f"OLD: {', '.join(reasons)}" if reasons else "current"


def age_of(commit: str, sources: Sequence[str], repository: Path = REPOSITORY) -> Age:
    """How old a result of ``commit`` is, which ends in "+" if there were uncommitted changes."""
    dirty, commit = commit.endswith("+"), commit.removesuffix("+")
    changed = bool(git(repository, "status", "--porcelain", "--", *sources))
    try:
        commits = int(git(repository, "rev-list", "--count", f"{commit}..HEAD", "--", *sources))
    except subprocess.CalledProcessError:
        return Age(None, dirty, changed)
    if not any(_code_differs(repository, commit, path) for path in _touched(repository, commit, sources)):
        return Age(0, dirty, changed=False)
    return Age(commits, dirty, changed)


def _touched(repository: Path, commit: str, sources: Sequence[str]) -> list[str]:
    """The files that are not as in the commit, and new ones."""
    known = git(repository, "diff", "--name-only", "--no-renames", commit, "--", *sources)
    new = git(repository, "ls-files", "--others", "--exclude-standard", "--", *sources)
    return [*known.splitlines(), *new.splitlines()]


def _code_differs(repository: Path, commit: str, path: str) -> bool:
    try:
        before, now = git(repository, "show", f"{commit}:{path}"), (repository / path).read_text(encoding="utf-8")
        return not path.endswith(".py") or _code(before) != _code(now)
    except (subprocess.CalledProcessError, FileNotFoundError, SyntaxError):  # not in the commit, removed, or no Python
        return True


def _code(text: str) -> str:
    """The syntax tree without docstrings."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, DOCUMENTED) and ast.get_docstring(node) is not None:
            del node.body[0]
    return ast.dump(tree)


def stored_results(folder: Path) -> dict[str, dict[str, Any]]:
    """The results in a folder by file name, but those that are computed from others and measure nothing."""
    documents = {path.name: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    return {name: document for name, document in documents.items() if "environment" in document}


def ages_of(folder: Path) -> dict[str, Age]:
    """The age of every stored result by file name."""
    return {
        name: age_of(document["environment"]["commit"], sources_of(document["name"]))
        for name, document in stored_results(folder).items()
    }


def table_of(ages: dict[str, Age]) -> Table:
    """The results that are not current first."""
    table = Table("stored result", "")
    for name, age in sorted(ages.items(), key=lambda item: item[1].is_current):
        table.add_row(name, str(age))
    return table


def main() -> None:
    """Print the age of all stored results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=STORED)
    ages = ages_of(parser.parse_args().results)
    Console(width=120).print(table_of(ages))
    sys.exit(not all(age.is_current for age in ages.values()))


if __name__ == "__main__":
    main()
