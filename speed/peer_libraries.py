"""What a training epoch costs, ours beside RecTools and RecBole on the same interactions, printed as JSON.

    python speed/peer_libraries.py --peers-python peers/bin/python [--dataset FOLDER] [--epochs 2] [--smoke]

The peers live in an environment of their own, see speed/peers/requirements.txt. Everything trains at d = 64 on the
processor, each way in a process of its own, with the same loss over the same targets: SASRec (2 blocks, 2 heads,
histories of 10) and GRU4Rec (1 layer) with the softmax over the whole catalogue, SASRec with BCE and one negative, and
LightGCN (2 layers) with BPR. Batches hold the same number of targets: RecBole makes a row of every prefix of a history,
2,048 rows a batch; ours are as many users as give 2,048 targets. RecBole's GRU4Rec and ours differ in a linear layer.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measure import SMOKE, Line, Shape, long_tailed_sequences, print_result, write_release

HERE = Path(__file__).resolve().parent
THREADS = 2
MADE = Shape(users=50_000, items=19_220, interactions=359_708)
TARGETS_A_BATCH = 2048
SASREC: dict[str, Any] = {"name": "sasrec", "dim": 64, "blocks": 2, "heads": 2, "dropout": 0.1}
FULL_SOFTMAX: dict[str, Any] = {"loss": "full-softmax"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A peer's program and argument, ours beside it, and how many times as fast ours is to be.

    ``batch_size`` None means as many users as give ``TARGETS_A_BATCH`` targets.
    """

    program: str
    argument: str
    model: dict[str, Any]
    train: dict[str, Any]
    batch_size: int | None
    reach: float = 2.0


CASES = {
    "RecTools SASRec, full softmax": Case(
        program="rectools_epoch", argument="softmax", model=SASREC, train=FULL_SOFTMAX, batch_size=128, reach=3.0
    ),
    "RecTools SASRec, BCE": Case(
        program="rectools_epoch", argument="BCE", model=SASREC, train={"loss": "bce", "num_negatives": 1},
        batch_size=128,
    ),
    "RecBole SASRec": Case(
        program="recbole_epoch", argument="SASRec", model=SASREC, train=FULL_SOFTMAX, batch_size=None
    ),
    "RecBole GRU4Rec": Case(
        program="recbole_epoch", argument="GRU4Rec", model={"name": "gru4rec", "dim": 64}, train=FULL_SOFTMAX,
        batch_size=None,
    ),
    "RecBole LightGCN, BPR": Case(
        program="recbole_epoch", argument="LightGCN", model={"name": "lightgcn", "dim": 64, "layers": 2},
        train={"loss": "bpr", "num_negatives": 1}, batch_size=TARGETS_A_BATCH,
    ),
}  # fmt: skip


def train_ours(case: Case, dataset: Path, epochs: int) -> dict[str, float]:
    """Seconds of the fastest of our epochs, making the batches included."""
    import torch
    from training import trainer_of

    from microlens.config.run_config import RunConfig
    from microlens.data.dataset import Dataset
    from microlens.data.protocol import Protocol
    from microlens.runs.assembly import build_experiment

    torch.set_num_threads(THREADS)
    split = Dataset(dataset).split(Protocol())
    events, users = len(split.train_events[0]), split.num_users
    batch_size = case.batch_size or max(1, round(TARGETS_A_BATCH * users / (events - users)))
    with tempfile.TemporaryDirectory() as folder:
        configuration = {
            "dataset": dataset,
            "output": folder,
            "model": case.model,
            "encoder": {"name": "id"},
            "train": {**case.train, "batch_size": batch_size, "device": "cpu"},
        }
        trainer = trainer_of(build_experiment(RunConfig.model_validate(configuration)), Path(folder))
        seconds = []
        for _ in range(epochs):
            start, targets = time.perf_counter(), 0
            for batch in trainer.batches():
                float(trainer.step(batch))
                targets += batch.num_targets
            seconds.append(time.perf_counter() - start)
    return {"seconds_per_epoch": min(seconds), "targets": targets, "batch_size": batch_size}


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


def answer_of(command: list[str]) -> dict[str, float]:
    """The JSON object among the lines that a program prints."""
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=tempfile.gettempdir()).stdout
    answer: dict[str, float] = json.loads(next(line for line in output.splitlines() if line.startswith("{")))
    return answer


def compare(case: Case, name: str, folder: Path, dataset: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Peer and ours, one after the other."""
    peer = HERE / "peers" / f"{case.program}.py"
    arguments = [case.argument, str(folder), str(options.epochs), str(THREADS)]
    theirs = answer_of([str(options.peers_python), str(peer), *arguments])
    command = [sys.executable, str(HERE / "peer_libraries.py"), "--ours", name, "--dataset", str(dataset.resolve())]
    ours = answer_of([*command, "--epochs", str(options.epochs)])
    faster = theirs["seconds_per_epoch"] / ours["seconds_per_epoch"]
    return {"peer": theirs, "microlens": ours, "times_faster": round(faster, 2)}


def peer_versions(python: Path) -> dict[str, str]:
    """Versions in the peers' environment."""
    names = ("recbole", "rectools", "torch", "numpy", "scipy", "pytorch-lightning")
    code = f"import json; from importlib.metadata import version as v; print(json.dumps({{n: v(n) for n in {names}}}))"
    versions: dict[str, str] = json.loads(subprocess.run([str(python), "-c", code], check=True, stdout=-1).stdout)
    return versions


def main() -> None:
    """Compare every case; or, with ``--ours``, train one of ours in this process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers-python", type=Path, help="the Python that has the peers")
    parser.add_argument("--dataset", type=Path, help="a prepared dataset; made interactions without it")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--smoke", action="store_true", help="tiny data")
    parser.add_argument("--ours", choices=list(CASES), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ours:
        print(json.dumps(train_ours(CASES[options.ours], options.dataset, options.epochs)))
        return
    if options.peers_python is None:
        parser.error("--peers-python is needed: the Python of an environment with speed/peers/requirements.txt")
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        dataset = options.dataset or made_dataset(folder, SMOKE if options.smoke else MADE)
        write_pairs(dataset, folder)
        results = {name: compare(case, name, folder, dataset, options) for name, case in CASES.items()}
    lines = [
        Line(
            what=f"training epoch, times as fast as {name}", measured=results[name]["times_faster"], unit="x",
            bound="at least", reach=case.reach,
        )
        for name, case in CASES.items()
    ]  # fmt: skip
    versions = peer_versions(options.peers_python)
    options.peers_python, options.dataset = None, options.dataset and options.dataset.name
    print_result("peer_libraries", options, [THREADS], {"peers": versions, "cases": results}, lines)


def made_dataset(folder: Path, shape: Shape) -> Path:
    """A dataset prepared from made interactions."""
    from microlens.data.prepare import prepare
    from microlens.media.decoding import Settings

    prepare(write_release(folder / "release", long_tailed_sequences(shape), "tsv"), folder / "dataset", Settings())
    return folder / "dataset"


if __name__ == "__main__":
    main()
