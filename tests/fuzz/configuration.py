"""Configurations: damaged TOML files and odd ``--set`` values, as far as the model that they describe."""

import json
import os
import tomllib
from pathlib import Path
from typing import Any

import tomli_w

from microlens.config.run_config import RunConfig
from microlens.errors import InputError
from microlens.runs.assembly import build_experiment
from tests.fuzz.datasets import write_tables_only
from tests.fuzz.mutations import Random, damage_json, misspelt, odd_value
from tests.fuzz.target import Target, command
from tests.fuzz.text_mutations import damage_text

MODELS = (
    '[model]\nname = "popularity"',
    '[model]\nname = "ease"\nregularization = 50.0',
    '[model]\nname = "gru4rec"\ndim = 8\n[encoder]\nname = "id"',
    '[model]\nname = "lightgcn"\ndim = 8\n[encoder]\nname = "id"\n[train]\nloss = "bpr"\nnum_negatives = 1',
    '[model]\nname = "sasrec"\ndim = 8\n[encoder]\nname = "sum"\ntowers = [{ name = "id" }, { name = "popularity" }]',
    """
    seed = 3
    protocol = { require = [], min_length = 5, max_length = 13, split = "leave-one-out" }
    model = { name = "sasrec", dim = 8, dropout = 0.1 }
    encoder = { name = "id" }
    train = { epochs = 1, batch_size = 16, lr = 1e-3, device = "cpu", precision = "fp32", select = "HR@10" }
    [tune]
    "train.lr" = { low = 1e-4, high = 1e-2, log = true }
    "model.dim" = { choices = [8, 16] }
    """,
)
NAMES = (
    "seed",
    "train.lr",
    "train.epochs",
    "model.dim",
    "model.name",
    "encoder.name",
    "protocol.max_history",
    "dataset",
    "x",
)
TEXTS = (
    "inf", "-inf", "nan", "1e999", "10**9", "1000000000", "9223372036854775808", "-1", "0", "true", "[]", "[[", "{",
    '"', "", " ", "1\ntrain.epochs = 1000000", "'", '"\\u0000"', "2020-01-01", "0x10", "cuda", "\x1b[31m",
    "{ low = 1, high = 1 }",
)  # fmt: skip


class Configuration(Target):
    """A configuration and assignments to it."""

    name = "configuration"

    def prepare(self, folder: Path) -> None:
        """A dataset of interactions alone."""
        write_tables_only(folder)

    def make(self, folder: Path, random: Random) -> str:
        """Write ``config.toml`` and ``assignments.json``."""
        config = {"dataset": str(self.seeds / "dataset"), "output": str(folder / "run")}
        config |= tomllib.loads(MODELS[int(random.integers(len(MODELS)))])
        way = int(random.integers(6))  # the last leaves it as it is
        for _ in range(int(random.integers(1, 3)) if way in (0, 1) else 0):
            config = damage_json(config, random)
        text = as_toml(config)
        data = damage_text(text.encode(), random) if way == 2 else text.encode()
        if way == 3:
            data = nested(random) + data
        (folder / "config.toml").write_bytes(data)
        assignments = [assignment(random) for _ in range(int(random.integers(1, 3)))] if way == 4 else []
        (folder / "assignments.json").write_text(json.dumps(assignments))
        return f"way {way}, {assignments}"

    def read(self, folder: Path, random: Random) -> str | None:
        """Load it, write it, load that, and build what it says; now and then train it."""
        path, assignments = folder / "config.toml", json.loads((folder / "assignments.json").read_text())
        (folder / "here").mkdir()
        os.chdir(folder / "here")
        config = RunConfig.load(path, assignments)
        again = folder / "again.toml"
        again.write_text(config.toml(), encoding="utf-8")
        loaded = RunConfig.load(again)
        assert loaded.hash == config.hash, f"written and read again it is another configuration: {config.toml()}"
        try:
            build_experiment(config)
            whole = True
        except InputError:
            raise
        except Exception:  # the command line may know a sentence for it, such as that the memory does not suffice
            whole = False
        if not whole or random.random() < 0.2:
            last = ["train.epochs=1", 'train.device="cpu"']
            said = command("train", path, *(f"--set={value}" for value in [*assignments, *last]))
            assert whole or said is None, "it trains, and cannot be built"
        written = {entry.name for entry in Path.cwd().iterdir()}
        assert written <= set(config.output.parts[:1]), f"{sorted(written)} were written into the working folder"
        return None if whole else "refused"


def as_toml(config: Any) -> str:
    """TOML of what may not be a table, or hold what TOML does not know."""
    try:
        return tomli_w.dumps(config)
    except (TypeError, AttributeError, ValueError):
        return "".join(f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in dict(config).items())


def nested(random: Random) -> bytes:
    """Lists, tables or keys within each other, three thousand deep, or very many."""
    forms = (
        b"x = " + b"[" * 3000 + b"]" * 3000, b"x = " + b"{a=" * 3000 + b"1" + b"}" * 3000,
        b".".join([b"a"] * 3000) + b" = 1", b"x = [" + b"1," * 100_000 + b"]", b"seed = " + b"9" * 5000,
        b"[" + b".".join([b"a"] * 3000) + b"]", b"x = \"\"\"" + b"y" * 10**6 + b"\"\"\"",
    )  # fmt: skip
    return forms[int(random.integers(len(forms)))] + b"\n"


def assignment(random: Random) -> str:
    """What somebody might give to ``--set``."""
    name = NAMES[int(random.integers(len(NAMES)))]
    if random.random() < 0.3:
        name = misspelt(name, random)
    text = TEXTS[int(random.integers(len(TEXTS)))] if random.random() < 0.7 else json.dumps(odd_value(random))
    return f"{name}={text}" if random.random() < 0.95 else name
