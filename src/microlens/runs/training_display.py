"""What a training run shows and logs while it runs."""

import time
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from microlens.files.progress_bar import progress_bar
from microlens.runs.terminal import Console

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

    from microlens.training import trainer as training


class TrainingDisplay(AbstractContextManager["TrainingDisplay"]):
    """Shows the progress of training on the terminal and logs it for TensorBoard.

    Args:
        trainer: trainer to show.
        folder: run folder.
        progress: show a bar and one line per epoch, and write TensorBoard logs.
    """

    def __init__(self, trainer: "training.Trainer", folder: Path, *, progress: bool) -> None:
        self.trainer = trainer
        self.console = Console(quiet=not progress)
        self.bar = progress_bar(self.console)
        self.board = _tensorboard(folder / "tensorboard", trainer.progress.epoch) if progress else None
        total = trainer.steps_per_epoch * trainer.settings.epochs
        done = trainer.steps_per_epoch * trainer.progress.epoch + trainer.progress.step
        self.task = self.bar.add_task("training", total=total, completed=done, note="")
        self.shown = 0.0

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.bar.stop()
        if self.board is not None:
            self.board.close()

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self.console.print(text)

    def step(self, progress: "training.Progress", loss: float) -> None:
        """Update the bar, at most ten times per second."""
        now = time.monotonic()
        if now - self.shown < 0.1 and progress.step < self.trainer.steps_per_epoch:
            return
        self.shown = now
        settings = self.trainer.settings
        users = progress.step * settings.batch_size / max(progress.epoch_seconds, 1e-9)
        self.bar.update(
            self.task,
            completed=self.trainer.steps_per_epoch * progress.epoch + progress.step,
            description=f"epoch {progress.epoch + 1} of at most {settings.epochs}",
            note=f"loss {loss:.4f}, {users:,.0f} users/s",
        )

    def epoch(self, line: dict[str, Any]) -> None:
        """Print and log the metrics of an epoch."""
        valid, best = line["valid"], self.trainer.progress.best_epoch == line["epoch"]
        values = "  ".join(f"{name} {100 * value:6.2f} %" for name, value in valid.items())
        note = f"{line['seconds']:.1f} s{'  best' if best else ''}"
        self.say(f"epoch {line['epoch']:3d}  loss {line['loss']:.4f}  valid {values}  {note}")
        if self.board is not None:
            self.board.add_scalar("loss/train", line["loss"], line["epoch"])
            for name, value in valid.items():
                self.board.add_scalar(f"valid/{name}", value, line["epoch"])


def _tensorboard(folder: Path, epochs_done: int) -> "SummaryWriter | None":
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:  # extra [track] not installed; metrics.jsonl holds the same numbers
        return None
    return SummaryWriter(str(folder), purge_step=epochs_done + 1)
