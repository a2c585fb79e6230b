"""RecTools' training epochs of SASRec as a contestant; imported by RecTools' own Python only (rectools.txt)."""

from pathlib import Path
from typing import ClassVar

import pandas as pd
import torch
from contestants import Turns
from pytorch_lightning import Callback, Trainer
from rectools.dataset import Dataset
from rectools.models import SASRecModel


class TakesTurns(Callback):
    """Waits for a turn before every epoch; turns are the class's, since RecTools trains with a copy of its trainer."""

    turns: ClassVar[Turns]

    def on_train_epoch_start(self, trainer: Trainer, module: torch.nn.Module) -> None:
        """Wait."""
        self.turns.begin()

    def on_train_epoch_end(self, trainer: Trainer, module: torch.nn.Module) -> None:
        """Answer."""
        self.turns.end()


def train(turns: Turns, loss: str, folder: str, epochs: int, threads: int) -> None:
    """Epochs of SASRec with a loss, over ``bench/bench.inter`` in ``folder``.

    The last two items of a user are held out, as in our protocol.
    """
    TakesTurns.turns = turns
    torch.set_num_threads(threads)
    pairs = pd.read_csv(Path(folder, "bench", "bench.inter"), sep="\t")
    pairs.columns = ["user_id", "item_id", "datetime"]
    pairs["datetime"] = pd.to_datetime(pairs["datetime"], unit="s")
    pairs["weight"] = 1.0
    known = pairs[pairs.groupby("user_id").cumcount(ascending=False) >= 2]

    def trainer() -> Trainer:
        return Trainer(
            max_epochs=epochs, accelerator="cpu", callbacks=[TakesTurns()],
            logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip

    model = SASRecModel(
        n_blocks=2, n_heads=2, n_factors=64, session_max_len=10, dropout_rate=0.1, batch_size=128, loss=loss,
        n_negatives=1, get_trainer_func=trainer,
    )  # fmt: skip
    turns.ready(targets=len(known) - known["user_id"].nunique())
    model.fit(Dataset.construct(known))
