"""Damaged run folders, through the commands that read them; what they still say has to be what they said before."""

import json
from pathlib import Path
from typing import Any

from microlens.config.run_config import RunConfig
from microlens.runs.train import train
from tests.fuzz.damage_files import copy, damage_one
from tests.fuzz.datasets import write_tables_only
from tests.fuzz.mutations import Random
from tests.fuzz.target import Target, command

# Words before and after the run folder.
COMMANDS = ((["evaluate"], ["--json"]), (["recommend"], ["--user", "1"]), (["report"], []))
CONFIG = (
    'dataset = "{dataset}"\noutput = "{output}"\n[model]\nname = "sasrec"\ndim = 8\n[encoder]\nname = "id"\n'
    '[train]\nepochs = 2\nbatch_size = 16\nlr = 1e-2\ndevice = "cpu"\n'
)


class Checkpoint(Target):
    """A trained run, one or two files of which are damaged; a third of the cases are a run that was stopped."""

    name = "checkpoint"

    def prepare(self, folder: Path) -> None:
        """Train a run, and note what it says."""
        write_tables_only(folder)
        text = CONFIG.format(dataset=folder / "dataset", output=folder / "run")
        (folder / "config.toml").write_text(text)
        train(RunConfig.load(folder / "config.toml"))
        (folder / "said.json").write_text(
            json.dumps([command(*words, folder / "run", *more) for words, more in COMMANDS])
        )

    def open(self, folder: Path) -> None:
        """Remember what it says."""
        super().open(folder)
        self.said = json.loads((folder / "said.json").read_text())
        self.metrics = _metrics(folder / "run")

    def make(self, folder: Path, random: Random) -> str:
        """Copy the run and damage it."""
        run = folder / "run"
        copy(self.seeds / "run", run)
        (folder / "config.toml").write_text(CONFIG.format(dataset=self.seeds / "dataset", output=run))
        stopped = random.random() < 0.3
        if stopped:
            for name in ("report.json", "ranks.npy"):
                (run / name).unlink()
        done = [damage_one(run, random) for _ in range(int(random.integers(1, 3)))]
        return f"{'stopped; ' if stopped else ''}{'; '.join(done)}"

    def read(self, folder: Path, random: Random) -> str | None:
        """One of the commands: it says what it said before the damage, or why not."""
        run, way = folder / "run", int(random.integers(len(COMMANDS) + 1))
        if way == len(COMMANDS):
            if command("train", folder / "config.toml") is None:
                return "refused"
            assert _metrics(run) == self.metrics, "the run ends with other numbers than before the damage"
            return None
        words, more = COMMANDS[way]
        said = command(*words, run, *more)
        if said is None:
            return "refused"
        assert said == self.said[way], f"{words[0]} says something else than before the damage"
        return None


def _metrics(run: Path) -> Any:
    return json.loads((run / "report.json").read_text())["metrics"]
