"""What a training epoch costs, ours beside RecTools and RecBole on the same interactions, printed as JSON.

    python speed/peer_libraries.py --rectools-python PYTHON --recbole-python PYTHON [--dataset FOLDER] [--epochs 2]

The peers live in environments of their own, one each, since no SciPy suits both: see speed/peers/rectools.txt and
recbole.txt. The cases of a peer whose Python is not given are left out. Peer and ours train in turn, each in a process
of its own with one thread of the processor, epoch by epoch; figures are the least of the epochs.

Everything trains at d = 64 with the same loss over the same targets: SASRec (2 blocks, 2 heads, histories of 10) and
GRU4Rec (1 layer) with the softmax over the whole catalogue, SASRec with BCE and one negative, and LightGCN (2 layers)
with BPR. Batches hold the same number of targets: RecBole makes a row of every prefix of a history, 2,048 rows a batch;
ours are as many users as give 2,048 targets. RecBole's GRU4Rec and ours differ in a linear layer.
"""

import argparse
import json
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from contestants import Turns, command_of, contestant, in_turns
from measure import SMOKE, Line, Shape, long_tailed_sequences, print_result, write_release

THREADS = 1
MADE = Shape(users=50_000, items=19_220, interactions=359_708)
TARGETS_A_BATCH = 2048
SASREC: dict[str, Any] = {"name": "sasrec", "dim": 64, "blocks": 2, "heads": 2, "dropout": 0.1}
FULL_SOFTMAX: dict[str, Any] = {"loss": "full-softmax"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A peer's module and its argument, ours beside it, and how many times as fast ours is to be.

    ``batch_size`` None means as many users as give ``TARGETS_A_BATCH`` targets.
    """

    program: str
    argument: dict[str, str]
    model: dict[str, Any]
    train: dict[str, Any]
    batch_size: int | None
    reach: float = 2.0


CASES = {
    "RecTools SASRec, full softmax": Case(
        program="rectools_epoch", argument={"loss": "softmax"}, model=SASREC, train=FULL_SOFTMAX, batch_size=128,
        reach=3.0,
    ),
    "RecTools SASRec, BCE": Case(
        program="rectools_epoch", argument={"loss": "BCE"}, model=SASREC, train={"loss": "bce", "num_negatives": 1},
        batch_size=128,
    ),
    "RecBole SASRec": Case(
        program="recbole_epoch", argument={"name": "SASRec"}, model=SASREC, train=FULL_SOFTMAX, batch_size=None
    ),
    "RecBole GRU4Rec": Case(
        program="recbole_epoch", argument={"name": "GRU4Rec"}, model={"name": "gru4rec", "dim": 64}, train=FULL_SOFTMAX,
        batch_size=None,
    ),
    "RecBole LightGCN, BPR": Case(
        program="recbole_epoch", argument={"name": "LightGCN"}, model={"name": "lightgcn", "dim": 64, "layers": 2},
        train={"loss": "bpr", "num_negatives": 1}, batch_size=TARGETS_A_BATCH,
    ),
}  # fmt: skip


def train_ours(turns: Turns, case: str, dataset: str) -> None:
    """Our epochs, making the batches included."""
    import torch
    from training import trainer_of

    from microlens.config.run_config import RunConfig
    from microlens.data.dataset import Dataset
    from microlens.data.protocol import Protocol
    from microlens.runs.assembly import build_experiment

    torch.set_num_threads(THREADS)
    settings = CASES[case]
    split = Dataset(Path(dataset)).split(Protocol())
    targets = len(split.train_events[0]) - split.num_users
    batch_size = settings.batch_size or max(1, round(TARGETS_A_BATCH * split.num_users / targets))
    with tempfile.TemporaryDirectory() as folder:
        configuration = {
            "dataset": dataset,
            "output": folder,
            "model": settings.model,
            "encoder": {"name": "id"},
            "train": {**settings.train, "batch_size": batch_size, "device": "cpu"},
        }
        trainer = trainer_of(build_experiment(RunConfig.model_validate(configuration)), Path(folder))

        def train() -> None:
            for batch in trainer.batches():
                float(trainer.step(batch))

        turns.take(train, targets=sum(batch.num_targets for batch in trainer.batches()), batch_size=batch_size)


def write_pairs(dataset: Path, folder: Path) -> None:
    """What our protocol keeps of the interactions as RecBole's atomic file; the order stands for the time."""
    import numpy as np

    from microlens.data.dataset import Dataset
    from microlens.data.protocol import Protocol

    split = Dataset(dataset).split(Protocol())
    users = np.repeat(np.arange(1, split.num_users + 1), np.diff(split.offsets))
    (folder / "bench").mkdir()
    rows = (f"{user}\t{item}\t{place}\n" for place, (user, item) in enumerate(zip(users, split.sequences, strict=True)))
    text = "user:token\titem:token\ttimestamp:float\n" + "".join(rows)
    (folder / "bench" / "bench.inter").write_text(text)


def compare(case: Case, name: str, folder: Path, dataset: Path, python: Path, epochs: int) -> dict[str, Any]:
    """Epochs of the peer and of ours, in turn."""
    of_peer = {"folder": folder, "epochs": epochs, "threads": THREADS}
    commands = {
        "peer": command_of(f"peers.{case.program}", "train", str(python), **case.argument, **of_peer),
        "microlens": contestant(train_ours, case=name, dataset=dataset.resolve()),
    }
    turned = in_turns(commands, epochs)
    theirs, ours = turned["peer"].least, turned["microlens"].least
    return {
        **{way: {"an_epoch": of_way.least, **of_way.facts} for way, of_way in turned.items()},
        "times_faster": round(theirs["cpu_seconds"] / ours["cpu_seconds"], 2),
    }


def peer_versions(python: Path) -> dict[str, str]:
    """Versions in a peer's environment, of what is installed there."""
    names = ("recbole", "rectools", "torch", "numpy", "scipy", "pytorch-lightning")
    code = "import json; from importlib.metadata import distributions; "
    code += "print(json.dumps({package.name.lower(): package.version for package in distributions()}))"
    versions = json.loads(subprocess.run([str(python), "-c", code], check=True, stdout=subprocess.PIPE).stdout)
    return {name: versions[name] for name in names if name in versions}


def main() -> None:
    """Compare every case of the peers that are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rectools-python", type=Path, help="the Python of an environment with speed/peers/rectools.txt"
    )
    parser.add_argument("--recbole-python", type=Path, help="the Python of an environment with speed/peers/recbole.txt")
    parser.add_argument("--dataset", type=Path, help="a prepared dataset; made interactions without it")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help="tiny data")
    options = parser.parse_args()
    pythons = {"rectools_epoch": options.rectools_python, "recbole_epoch": options.recbole_python}
    pythons = {program: python for program, python in pythons.items() if python is not None}
    if not pythons:
        parser.error("--rectools-python or --recbole-python is needed: an environment of speed/peers/*.txt")
    cases = {name: case for name, case in CASES.items() if case.program in pythons}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        dataset = options.dataset or made_dataset(folder, SMOKE if options.smoke else MADE)
        write_pairs(dataset, folder)
        results = {
            name: compare(case, name, folder, dataset, pythons[case.program], options.epochs)
            for name, case in cases.items()
        }
    lines = [
        Line(
            what=f"training epoch, CPU time, times as fast as {name}", measured=results[name]["times_faster"], unit="x",
            bound="at least", reach=case.reach,
        )
        for name, case in cases.items()
    ]  # fmt: skip
    versions = {program.removesuffix("_epoch"): peer_versions(python) for program, python in pythons.items()}
    options.rectools_python = options.recbole_python = None
    options.dataset = options.dataset and options.dataset.name
    print_result("peer_libraries", options, [THREADS], {"peers": versions, "cases": results}, lines)


def made_dataset(folder: Path, shape: Shape) -> Path:
    """A dataset prepared from made interactions."""
    from microlens.data.prepare import prepare
    from microlens.media.decoding import Settings

    prepare(write_release(folder / "release", long_tailed_sequences(shape), "tsv"), folder / "dataset", Settings())
    return folder / "dataset"


if __name__ == "__main__":
    main()
