"""Seconds of RecTools' training epochs of SASRec, printed as JSON; run by the peers' own Python.

python rectools_epoch.py LOSS FOLDER EPOCHS THREADS

``FOLDER`` holds ``bench/bench.inter``. The last two items of a user are held out, as in our protocol.
"""

import json
import sys
import time
from pathlib import Path
from typing import ClassVar

import pandas as pd
import torch
from pytorch_lightning import Callback, Trainer
from rectools.dataset import Dataset
from rectools.models import SASRecModel


class Clock(Callback):
    """Notes how long every epoch took; for the class, since RecTools trains with a copy of its trainer."""

    seconds: ClassVar[list[float]] = []

    def on_train_epoch_start(self, trainer: Trainer, module: torch.nn.Module) -> None:
        """Start."""
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Trainer, module: torch.nn.Module) -> None:
        """Stop."""
        self.seconds.append(time.perf_counter() - self.start)


def main() -> None:
    """Train and time."""
    loss, folder, epochs, threads = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    torch.set_num_threads(threads)
    pairs = pd.read_csv(folder / "bench" / "bench.inter", sep="\t")
    pairs.columns = ["user_id", "item_id", "datetime"]
    pairs["datetime"] = pd.to_datetime(pairs["datetime"], unit="s")
    pairs["weight"] = 1.0
    train = pairs[pairs.groupby("user_id").cumcount(ascending=False) >= 2]

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=epochs, accelerator="cpu", callbacks=[Clock()],
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip

    model = SASRecModel(
        n_blocks=2, n_heads=2, n_factors=64, session_max_len=10, dropout_rate=0.1, batch_size=128, loss=loss,
        n_negatives=1, get_trainer_func=trainer,
    )  # fmt: skip
    model.fit(Dataset.construct(train))
    targets = len(train) - train["user_id"].nunique()
    print(json.dumps({"seconds_per_epoch": min(Clock.seconds), "targets": targets}))


if __name__ == "__main__":
    main()
