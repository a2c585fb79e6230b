"""Training: update steps, epochs with validation, checkpoints and resuming."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import FiniteFloat, NonNegativeInt
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode

from microlens.config.sections import TrainSection
from microlens.cost.counting import flop_counter
from microlens.data.batches import Batch, Process, prefetch, train_batches
from microlens.data.content import ItemContent
from microlens.data.examples import Examples
from microlens.data.split import Split
from microlens.distributed import any_process
from microlens.encoders.finite import broken_weight
from microlens.encoders.precision import HALF, keep_convolutions_in_float32, warn_where_half_precision_is_slow
from microlens.environment import keep_freed_memory
from microlens.errors import InputError
from microlens.evaluation.metrics import all_metrics
from microlens.evaluation.ranking import rank_targets
from microlens.evaluation.report import check_epochs
from microlens.files.run_manifest import BEST, EPOCHS, LAST, check, replace_text, replaced
from microlens.recommenders.base import Recommender
from microlens.training import checkpoint
from microlens.training.row_adamw import RowAdamW, clip_gradients
from microlens.training.step import TrainingStep, negatives_of

BATCHES_AHEAD = 2
SMALLER_STEPS = 'try a smaller train.lr or train.encoder_lr, or train.precision = "fp32".'


@dataclass
class Progress:
    """The progress of a run: the state, besides tensors, that a resumed run needs."""

    epoch: NonNegativeInt = 0
    step: NonNegativeInt = 0
    loss_sum: FiniteFloat = 0.0
    best: FiniteFloat = -1.0
    best_epoch: NonNegativeInt = 0
    train_seconds: FiniteFloat = 0.0
    epoch_seconds: FiniteFloat = 0.0
    flops_per_step: NonNegativeInt = 0
    log: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class _Facts:
    """The metadata that :meth:`Trainer.save` stores with the tensors."""

    progress: Progress
    scaler: dict[str, float]


class Trainer:
    """Trains a recommender and keeps the weights of the best validation epoch.

    Args:
        model: the recommender, on ``device``.
        split: training and validation data.
        content: source of the content that the item tower reads.
        settings: training options.
        seed: seed of the order of examples and of sampling.
        folder: the run folder, where checkpoints and ``metrics.jsonl`` are written.
        device: device of ``model``.
        identity: facts that a checkpoint must match to be resumed (hashes of configuration and data).
        process: rank and world_size of this process.
    """

    def __init__(
        self,
        model: Recommender,
        split: Split,
        content: ItemContent,
        settings: TrainSection,
        *,
        seed: int,
        folder: Path,
        device: torch.device,
        identity: dict[str, str],
        process: Process | None = None,
    ) -> None:
        self.model, self.split, self.content, self.settings = model, split, content, settings
        self.seed, self.folder, self.device, self.identity = seed, folder, device, identity
        self.process = process or Process()
        self.progress = Progress()
        self.sharing = self.process if settings.negatives == "all-processes" else Process()
        counts = torch.from_numpy(split.train_counts)
        self.negatives = negatives_of(settings, split)
        self.step_module: nn.Module = TrainingStep(model, counts, self.sharing, settings).to(device)
        if self.process.world_size > 1:
            self.step_module = DistributedDataParallel(self.step_module)
        # Other processes' gradients are averaged as dense arrays, and a GPU updates whole tables faster than rows.
        by_rows = device.type == "cpu" and self.process.world_size == 1
        self.scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
        # A scaler skips steps whose gradients overflow, which updates by rows do not know.
        self.optimizer = RowAdamW(self._parameter_groups(), by_rows=by_rows and not self.scaler.is_enabled())
        if device.type == "cpu" and not model.item_encoder.sees_content:
            keep_freed_memory()
        if device.type == "cpu" and settings.precision != "fp32":
            half = HALF[settings.precision]
            keep_convolutions_in_float32(model, half)
            if self.process.rank == 0:
                warn_where_half_precision_is_slow(f'train.precision = "{settings.precision}"', half, model)
        for tower in model.item_encoder.towers():
            if settings.channels_last:
                tower.use_channels_last()
            if settings.compile:
                tower.compile_trained_part()

    def _parameter_groups(self) -> list[dict[str, Any]]:
        settings = self.settings
        groups = [group for group in self.model.item_encoder.content_groups() if group.parameters]
        content_parameters = {id(parameter) for group in groups for parameter in group.parameters}
        others = [
            parameter
            for parameter in self.model.parameters()
            if parameter.requires_grad and id(parameter) not in content_parameters
        ]
        by_rate = [{"params": others, "lr": settings.lr, "weight_decay": settings.weight_decay}] if others else []
        return by_rate + [
            {"params": group.parameters, "lr": group.lr or settings.encoder_lr, "weight_decay": 0.0} for group in groups
        ]

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches per epoch."""
        return -(-len(Examples(self.split, self.model.examples)) // self.settings.batch_size)

    def step(self, batch: Batch) -> Tensor:
        """Update the weights once; return the detached loss of the whole batch.

        Rows of :class:`LookupTable` that a batch does not read lag behind until ``optimizer.catch_up()``.

        Raises:
            InputError: the loss is not finite.
        """
        self.model.train()
        precision = HALF.get(self.settings.precision)
        with torch.autocast(self.device.type, precision) if precision else nullcontext():
            loss = self.step_module(batch.to(self.device))
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        clip_gradients(self.model.parameters(), self.settings.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        detached: Tensor = loss.detach() / self.process.world_size
        if self.process.world_size > 1:
            distributed.all_reduce(detached)
        if not detached.isfinite():
            raise InputError(
                f"The loss is {float(detached)} in epoch {self.progress.epoch + 1}, step {self.progress.step + 1}; "
                f"{SMALLER_STEPS}"
            )
        return detached

    def fit(self, on_step: Callable[[Progress, float], None], on_epoch: Callable[[dict[str, Any]], None]) -> None:
        """Train until all epochs are done or validation has not improved for ``patience`` epochs.

        Args:
            on_step: called after every step with the progress and the epoch's mean loss so far.
            on_epoch: called with each line of ``metrics.jsonl``.

        Raises:
            InputError: the loss, a weight or a score of the validation targets is NaN or infinite; the files on disk
                keep their previous state.
        """
        progress, settings = self.progress, self.settings
        while progress.epoch < settings.epochs and progress.epoch - progress.best_epoch < settings.patience:
            loss = self._train_epoch(on_step)
            ranks = rank_targets(self.model, self.content, self.split, "valid", self.device, self.process)
            metrics = all_metrics(ranks, self.split.target_users("valid"))
            progress.epoch, progress.step, progress.loss_sum = progress.epoch + 1, 0, 0.0
            line = {
                "epoch": progress.epoch,
                "loss": loss,
                "valid": metrics,
                "seconds": round(progress.epoch_seconds, 3),
            }
            progress.epoch_seconds = 0.0
            progress.log.append(line)
            if metrics[settings.select] > progress.best:
                progress.best, progress.best_epoch = metrics[settings.select], progress.epoch
                self.save_best()
            self.save()
            on_epoch(line)
        self.optimizer.release()

    def _train_epoch(self, on_step: Callable[[Progress, float], None]) -> float:
        progress = self.progress
        saved = started = time.monotonic()
        for batch in self.batches():
            counting = flop_counter() if not progress.flops_per_step else nullcontext()
            with counting:
                loss = self.step(batch)
            if isinstance(counting, FlopCounterMode):
                progress.flops_per_step = counting.get_total_flops()
            progress.loss_sum += float(loss)
            progress.step += 1
            now = time.monotonic()
            progress.epoch_seconds, progress.train_seconds, started = (
                progress.epoch_seconds + now - started,
                progress.train_seconds + now - started,
                now,
            )
            due = now - saved > 60 * self.settings.checkpoint_minutes
            if any_process(due, self.process, self.device):
                self._check_weights()
                self.save()
                saved = now
            on_step(progress, progress.loss_sum / progress.step)
        self.optimizer.catch_up()
        self._check_weights()  # the loss does not show the effect of the last step
        return progress.loss_sum / progress.step

    def _check_weights(self) -> None:
        if (name := broken_weight(self.model)) is not None:
            raise InputError(
                f"The weights '{name}' are NaN or infinite in epoch {self.progress.epoch + 1}, after step "
                f"{self.progress.step}; {SMALLER_STEPS}"
            )

    def batches(self) -> Iterator[Batch]:
        """The batches of the present epoch that are left."""
        batches = train_batches(
            self.split,
            self.content,
            batch_size=self.settings.batch_size,
            seed=self.seed,
            epoch=self.progress.epoch,
            skip=self.progress.step,
            process=self.process,
            alone=self.settings.negatives == "own-process",
            examples=self.model.examples,
            negatives=self.negatives,
        )
        if self.device.type == "cuda":
            return prefetch((batch.pinned() for batch in batches), BATCHES_AHEAD)
        return prefetch(batches, BATCHES_AHEAD) if self.content.reads else batches

    def save_best(self) -> None:
        """Save the current weights as the best."""
        if self.process.rank == 0:
            facts = {"epoch": self.progress.epoch, **self.identity}
            with replaced(self.folder, BEST) as path:
                checkpoint.save(path, checkpoint.with_prefix("model", self.model.state_dict()), facts)

    def save(self) -> None:
        """Save the complete training state, from which :meth:`resume` continues, and ``metrics.jsonl``."""
        random_states = self._random_states()
        if self.process.rank:
            return
        tensors = {
            **checkpoint.with_prefix("model", self.model.state_dict()),
            **checkpoint.with_prefix("optimizer", checkpoint.optimizer_tensors(self.optimizer)),
            **checkpoint.with_prefix("random", random_states),
        }
        facts = {"progress": asdict(self.progress), "scaler": self.scaler.state_dict(), **self.identity}
        with replaced(self.folder, LAST) as path:
            checkpoint.save(path, tensors, facts)
        replace_text(self.folder, EPOCHS, "".join(json.dumps(line) + "\n" for line in self.progress.log))

    def resume(self) -> bool:
        """Resume from the last checkpoint; return False if there is none of the same configuration and data.

        Raises:
            InputError: a checkpoint of the run folder differs from the one that was written, is damaged, or was written
                by another number of processes.
        """
        check(self.folder, BEST, LAST)
        path = self.folder / LAST
        if not path.exists():
            return False
        tensors, facts = checkpoint.load(path)
        if any(facts.get(name) != value for name, value in self.identity.items()):
            return False
        checkpoint.load_model(self.model, tensors, path)
        checkpoint.load_optimizer(self.optimizer, checkpoint.under("optimizer", tensors), path)
        saved = checkpoint.checked(facts, _Facts, path)
        if saved.scaler.keys() != self.scaler.state_dict().keys():
            raise InputError(f"{path} is damaged (the state of the loss scale is incomplete); {checkpoint.FRESH}.")
        check_epochs([json.dumps(line) for line in saved.progress.log], saved.progress.epoch, path, checkpoint.FRESH)
        if saved.progress.best_epoch > saved.progress.epoch or saved.progress.step > self.steps_per_epoch:
            raise InputError(f"{path} is damaged (its progress is beyond an epoch's end); {checkpoint.FRESH}.")
        self.scaler.load_state_dict(facts["scaler"])
        self.progress = saved.progress
        checkpoint.load_random_states(checkpoint.under("random", tensors), self.process, self.device, path)
        return True

    def _random_states(self) -> dict[str, Tensor]:
        own = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            own["cuda"] = torch.cuda.get_rng_state(self.device)
        gathered: list[dict[str, Tensor]] = [own] * self.process.world_size
        if self.process.world_size > 1:
            distributed.all_gather_object(gathered, own)
        return {f"{rank}.{kind}": state for rank, states in enumerate(gathered) for kind, state in states.items()}
